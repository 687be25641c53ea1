"""What a worker waits for: new connections, news of the connections it has, and being told to stop.

All request threads wait in one epoll. An event goes to one thread, the next event to another or to the same
one again, in the order in which they came: with more connections than threads nobody is served twice before
all others who wait. A connection is registered once, edge-triggered: between two requests of a connection
there is no call but the wait itself.

Listeners are in there too, exclusively: of the processes that share one, the kernel wakes one. After each
connection a worker goes to the end of the kernel's queue, so that all workers get their share.
"""

from __future__ import annotations

import os
import select
import socket
import threading
from collections.abc import Sequence
from typing import Any

from prologue.server.connection import Connection

__all__ = ["Poller"]

_NEWS = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET
_ACCEPTS = 16  # connections at once
_ARRIVAL = select.EPOLLIN | select.EPOLLET | select.EPOLLEXCLUSIVE


class Poller:
    """An epoll, and the connections of this worker.

    Made after the fork. Every method may be called from any thread.

    Args:
        listeners: sockets that do not block.
        capacity: how many connections there may be.
    """

    def __init__(self, listeners: Sequence[socket.socket], capacity: int) -> None:
        self.epoll = select.epoll()
        self.wait = self.epoll.poll
        self.listeners = {listener.fileno(): listener for listener in listeners}
        self._addresses = {listener.fileno(): listener.getsockname() for listener in listeners}
        self._capacity = capacity
        self._wakeup = os.eventfd(0)
        self.epoll.register(self._wakeup, select.EPOLLIN)
        self.connections: dict[int, Connection] = {}
        self._arriving = 0
        self._paused: list[int] = list(self.listeners)
        # Guards all of these: each listener is in the epoll or in `_paused`; each connection that was
        # accepted is in `connections` or counts as arriving, until it is closed.
        self._lock = threading.Lock()

    def listen(self) -> None:
        """Accept connections again on the listeners that were paused, if there is room."""
        with self._lock:
            self._listen()

    def _listen(self) -> None:
        if len(self.connections) < self._capacity:
            for fileno in self._paused:
                self.epoll.register(fileno, _ARRIVAL)
            self._paused = []

    def accept(self, fileno: int) -> list[tuple[socket.socket, Any, Any]]:
        """Accept connections from a listener; the next ones may go to another worker.

        Returns:
            Of each connection its socket, its client's and the listener's address. They are arriving until
            :meth:`arrived` is called.

        Raises:
            OSError: the system gives no more sockets; the listener rests until the next :meth:`listen`.
        """
        accepted: list[tuple[socket.socket, Any, Any]] = []
        with self._lock:
            listener = self.listeners.get(fileno)
            if listener is None:
                return accepted
            try:
                # One event is one turn in the queue: with many connections a turn must be worth it.
                while len(accepted) < _ACCEPTS and len(self.connections) + len(accepted) < self._capacity:
                    accepted.append((*listener.accept(), self._addresses[fileno]))
            except (BlockingIOError, ConnectionAbortedError):
                pass
            except OSError:
                self._rest(fileno)
                if not accepted:
                    raise
                self._arriving += len(accepted)
                return accepted
            self._arriving += len(accepted)
            # Out and in again: to the end of the kernel's queue, and what is there already is news.
            self._rest(fileno)
            if len(self.connections) + len(accepted) < self._capacity:
                self._listen()
        return accepted

    def arrived(self, count: int) -> None:
        """Say that so many accepted connections have been added, or closed."""
        with self._lock:
            self._arriving -= count

    def is_empty(self) -> bool:
        """Whether there is no connection, and none is arriving."""
        with self._lock:
            return not self.connections and not self._arriving

    def _rest(self, fileno: int) -> None:
        if fileno not in self._paused:
            self.epoll.unregister(fileno)
            self._paused.append(fileno)

    def watch(self, fileno: int) -> None:
        """Let one thread see each write to a descriptor."""
        self.epoll.register(fileno, select.EPOLLIN | select.EPOLLET)

    def stop_listening(self) -> list[socket.socket]:
        """Forget the listeners, and return them."""
        with self._lock:
            for fileno in self.listeners.keys() - set(self._paused):
                self.epoll.unregister(fileno)
            listeners = list(self.listeners.values())
            self.listeners, self._paused = {}, []
        return listeners

    def add(self, connection: Connection) -> None:
        """Take a connection in."""
        with self._lock:
            self.connections[connection.fileno] = connection

    def park(self, connection: Connection) -> None:
        """Wait for news of a connection; what is there already is news."""
        if not connection.registered:
            connection.registered = True
            # A handshake may have to wait until it can write.
            connection.watches_writing = connection.tls
            self.epoll.register(connection.fileno, _NEWS | (select.EPOLLOUT if connection.tls else 0))

    def park_until_read(self, connection: Connection) -> None:
        """Wait until a client has made room for the rest of its answer."""
        # Once is enough: told again, the epoll would make an event of what the client has sent meanwhile.
        if not connection.watches_writing:
            self.requeue(connection)

    def requeue(self, connection: Connection) -> None:
        """Let a connection that has more to do wait behind the others."""
        # It can be written to, which makes an event at once, at the end of the queue.
        connection.watches_writing = True
        if connection.registered:
            self.epoll.modify(connection.fileno, _NEWS | select.EPOLLOUT)
        else:
            connection.registered = True
            self.epoll.register(connection.fileno, _NEWS | select.EPOLLOUT)

    def forget(self, connection: Connection) -> None:
        """Count a connection no more, whose socket is still a thread's."""
        with self._lock:
            self._forget(connection)

    def _forget(self, connection: Connection) -> None:
        # Another one may have the number by now.
        if self.connections.get(connection.fileno) is connection:
            del self.connections[connection.fileno]

    def remove(self, connection: Connection) -> None:
        """Close a connection."""
        connection.open = False
        connection.drop_rest()
        with self._lock:
            self._forget(connection)
            try:
                connection.sock.close()  # which takes it out of the epoll
            except OSError:
                pass
            if self._paused:
                self._listen()

    def all_connections(self) -> list[Connection]:
        """Return the connections there are."""
        with self._lock:
            return list(self.connections.values())

    def wake_all(self) -> None:
        """Let every thread that waits, and every one that will, see an event of no connection."""
        os.eventfd_write(self._wakeup, 1)
