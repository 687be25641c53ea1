"""A private Varnish that caches what an origin says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .process import PrivateServer, find_program


class Varnish(PrivateServer):
    """Varnish in front of an origin, with its built-in rules.

    Args:
        directory: an empty directory for its files.
        origin: the port of the origin on loopback.
    """

    def __init__(self, directory: Path, origin: int) -> None:
        super().__init__(directory)
        self._origin = origin

    def command(self) -> Sequence[str]:
        here, origin = f"127.0.0.1:{self.port}", f"127.0.0.1:{self._origin}"
        options = ["-F", "-j", "none", "-n", str(self.directory / "work"), "-s", "malloc,8m", "-T", "none"]
        # Without a grace, as the other two.
        return [find_program("varnishd"), *options, "-p", "default_grace=0", "-a", here, "-b", origin]

    def answers(self) -> bool:
        with self.connect() as client:
            client.sendall(b"GET /ready HTTP/1.0\r\n\r\n")
            return client.recv(100).startswith(b"HTTP/1.1 200")
