"""Servers that the tests of the caches share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers import Memcached, Redis


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    """A Redis for tests that do not stop it; each takes a namespace of its own."""
    with Redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def memcached_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Memcached]:
    """A Memcached for tests that do not stop it; each takes a namespace of its own."""
    with Memcached(tmp_path_factory.mktemp("memcached")) as server:
        yield server
