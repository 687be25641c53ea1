"""A TCP proxy between a client and a server that spoils what the server answers."""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

Toxic = Callable[[bytes], "tuple[bytes, bool]"]
"""From a piece of an answer to what the client gets, and whether the connection goes on."""


def cut_short(piece: bytes) -> tuple[bytes, bool]:
    """Disconnect in the middle of an answer."""
    return piece[: len(piece) // 2], False


def garbage(piece: bytes) -> tuple[bytes, bool]:
    """Answer with what is no protocol at all."""
    return random.Random(len(piece)).randbytes(len(piece)) + b"\r\n", True


def reset(piece: bytes) -> tuple[bytes, bool]:
    """Disconnect instead of an answer."""
    return b"", False


class Proxy:
    """Passes bytes on between whoever connects and a port of loopback, until told otherwise.

    Args:
        target: the port.
        largest: the most bytes to pass on at a time.

    Attributes:
        port: where it listens.
        toxic: what happens to answers; ``None``: nothing.
        accepted: connections so far.
    """

    def __init__(self, target: int, largest: int = 65536) -> None:
        self._target = target
        self._largest = largest
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.toxic: Toxic | None = None
        self.accepted = 0
        self._flowing = threading.Event()
        self._flowing.set()
        self._sockets: list[socket.socket] = []
        self._spawn(self._accept)

    def hold(self) -> None:
        """Keep answers back until :meth:`release`."""
        self._flowing.clear()

    def release(self) -> None:
        """Let answers through that were held, and those to come."""
        self._flowing.set()

    def close(self) -> None:
        self._flowing.set()
        # A listener that another thread waits on is woken by shutdown, not by close.
        self._end(self._listener)
        for one in list(self._sockets):
            self._end(one)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _spawn(self, function: Callable[..., None], *arguments: object) -> None:
        threading.Thread(target=function, args=arguments, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            try:
                server = socket.create_connection(("127.0.0.1", self._target), 5)
            except OSError:
                self._end(client)
                continue
            for one in (client, server):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._sockets.append(one)
            self._spawn(self._forward, client, server, None)
            self._spawn(self._forward, server, client, self._spoil)

    def _forward(
        self,
        source: socket.socket,
        target: socket.socket,
        spoil: Callable[[bytes], tuple[bytes, bool]] | None,
    ) -> None:
        try:
            goes_on = True
            while goes_on and (piece := source.recv(self._largest)):
                if spoil is not None:
                    piece, goes_on = spoil(piece)
                target.sendall(piece)
        except OSError:
            pass
        self._end(source)
        self._end(target)

    def _spoil(self, piece: bytes) -> tuple[bytes, bool]:
        self._flowing.wait()
        toxic = self.toxic
        return (piece, True) if toxic is None else toxic(piece)

    def _end(self, one: socket.socket) -> None:
        try:
            one.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        one.close()
