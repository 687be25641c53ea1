"""A private Redis server."""

from __future__ import annotations

from collections.abc import Sequence

from .process import PrivateServer, find_program


class Redis(PrivateServer):
    """Redis that keeps nothing on disk: after a restart it is empty.

    Attributes:
        options: further command-line options, such as ``("--maxmemory", "1mb")``.
    """

    options: Sequence[str] = ()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> Sequence[str]:
        fixed = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.directory)]
        return [find_program("redis-server"), *fixed, "--save", "", "--appendonly", "no", *self.options]

    def answers(self) -> bool:
        with self.connect() as client:
            client.sendall(b"PING\r\n")
            return client.recv(100) == b"+PONG\r\n"
