"""The private servers themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from .servers import MariaDB, Memcached, Postgres, PrivateServer, Redis


@pytest.mark.parametrize("kind", [MariaDB, Memcached, Postgres, Redis])
def test_a_server_answers_is_killed_and_answers_again(kind: type[PrivateServer], tmp_path: Path) -> None:
    with kind(tmp_path) as server:
        assert server.answers()
        server.kill()
        with pytest.raises(OSError):  # noqa: PT011
            server.connect()
        server.start()
        assert server.answers()
    with pytest.raises(OSError):  # noqa: PT011
        server.connect()
