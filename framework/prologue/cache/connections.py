"""The connections of a shared store: lent to one exchange at a time, and kept only if the exchange was whole.

A connection on which anything was interrupted, by an error, a timeout or an exception thrown into the thread,
may still bring the reply to what was asked: whoever used it next would get the value of somebody else. Such a
connection is closed. Neither client library promises that for every kind of interruption, which is why their
own pools are not used.
"""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from prologue.lifecycle import abandon, on_fork

__all__ = ["Connections"]

C = TypeVar("C")


class Connections(Generic[C]):
    """Idle connections to one server, opened when they are needed: as many as threads use them at a time.

    The child of a fork leaves the parent's alone and opens its own.

    Args:
        connect: opens a connection; what it raises reaches the caller.
        disconnect: closes one, whatever its state.
        socket_of: its socket, or ``None`` if it has lost it.
    """

    __slots__ = ("__weakref__", "_connect", "_disconnect", "_idle", "_lock", "_socket_of")

    def __init__(
        self,
        connect: Callable[[], C],
        disconnect: Callable[[C], object],
        socket_of: Callable[[C], socket.socket | None],
    ) -> None:
        self._connect = connect
        self._disconnect = disconnect
        self._socket_of = socket_of
        # Invariant: all that was asked on a connection in _idle was answered; _idle is None once closed.
        self._lock = threading.Lock()
        self._idle: list[C] | None = []
        on_fork(self._after_fork)

    @contextmanager
    def lend(self) -> Iterator[C]:
        """Lend a connection to the block; keep it if the block ends, close it if the block raises."""
        connection = self._take()
        try:
            yield connection
        except BaseException:
            self._disconnect(connection)
            raise
        self._keep(connection)

    def _take(self) -> C:
        while True:
            with self._lock:
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                return self._connect()
            # The server may have closed it since, or sent what nobody asked for.
            if self._quiet(connection):
                return connection
            self._disconnect(connection)

    def _quiet(self, connection: C) -> bool:
        connected = self._socket_of(connection)
        if connected is None:
            return False
        poll = select.poll()
        poll.register(connected, select.POLLIN)
        return not poll.poll(0)

    def _keep(self, connection: C) -> None:
        with self._lock:
            if self._idle is not None:
                self._idle.append(connection)
                return
        self._disconnect(connection)

    def drop_idle(self) -> None:
        """Close the idle connections; those that are lent stay."""
        with self._lock:
            idle, self._idle = self._idle or [], None if self._idle is None else []
        for connection in idle:
            self._disconnect(connection)

    def close(self) -> None:
        """Close the idle connections now, and those that are lent when they come back."""
        with self._lock:
            idle, self._idle = self._idle or [], None
        for connection in idle:
            self._disconnect(connection)

    def _after_fork(self) -> None:
        self._lock = threading.Lock()
        if self._idle:
            abandon(self._idle)
            self._idle = []
