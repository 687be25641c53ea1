"""A private Memcached server."""

from __future__ import annotations

from collections.abc import Sequence

from .process import PrivateServer, find_program


class Memcached(PrivateServer):
    """Memcached, with 64 MB and values of up to 1 MB, as it comes.

    Attributes:
        options: further command-line options, such as ``("-I", "2m")``.
    """

    options: Sequence[str] = ()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def command(self) -> Sequence[str]:
        return [find_program("memcached"), "-l", "127.0.0.1", "-p", str(self.port), "-U", "0", *self.options]

    def answers(self) -> bool:
        with self.connect() as client:
            client.sendall(b"version\r\n")
            return client.recv(100).startswith(b"VERSION")
