"""A private PostgreSQL server."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import psycopg

from .process import PrivateServer, find_program


class Postgres(PrivateServer):
    """PostgreSQL with the database and the superuser ``app``, password ``secret``; its data survive a kill.

    Attributes:
        options: further settings, such as ``("max_connections=20",)``.
    """

    user = "postgres"
    options: Sequence[str] = ()

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        password = directory / "password"
        password.write_text("secret\n")
        self._data = str(directory / "data")
        initdb = [find_program("initdb"), "--username=app", "--auth=scram-sha-256", "--no-sync"]
        encoding = ["--encoding=UTF8", "--locale=C.UTF-8"]
        self.run_tool(*initdb, *encoding, f"--pwfile={password}", "-D", self._data)

    @property
    def url(self) -> str:
        return f"postgresql://app:secret@127.0.0.1:{self.port}/postgres"

    def command(self) -> Sequence[str]:
        settings = [
            "listen_addresses=127.0.0.1",
            f"port={self.port}",
            "unix_socket_directories=",
            "fsync=off",
            "shared_buffers=16MB",
            "max_connections=100",
            *self.options,
        ]
        return [
            find_program("postgres"),
            "-D",
            self._data,
            *(part for one in settings for part in ("-c", one)),
        ]

    def answers(self) -> bool:
        try:
            with psycopg.connect(self.url, connect_timeout=5, autocommit=True) as connection:
                return connection.execute("SELECT 1").fetchone() == (1,)
        except psycopg.OperationalError:
            return False
