"""A primary database and its read replicas behind the methods of one pool."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from prologue.db.lease import Lease, PooledConnection
from prologue.db.pool import ConnectionPool
from prologue.db.stats import PoolStats
from prologue.errors import LeaseError, PoolError
from prologue.lifecycle import on_fork

__all__ = ["ReplicatedPool"]

T = TypeVar("T")

CHOICES: Final = ("round-robin", "least-leased")

_logger = logging.getLogger("prologue.db")


class ReplicatedPool:
    """Lend connections of a primary, and for reading those of its replicas.

    A replica that is down or exhausted is passed over: the next one is asked, in the end the primary. One
    deadline covers them all; each replica may take half of what is left of it. One that is known to be down
    takes no time, and is tried again in the background.

    Args:
        primary: the pool for writing, and for reading when no replica is available.
        replicas: pools of databases that follow the primary; without any the primary serves all.
        choice: which replica is asked first: ``"round-robin"`` (default) or ``"least-leased"``.
        connection_timeout: seconds that a caller waits for a connection (default: the primary's).
        clock: seconds, never going back.

    Raises:
        ValueError: ``choice`` is neither, or two pools have one name.

    Thread safety: any number of threads. Fork safety: that of the pools.
    """

    def __init__(
        self,
        primary: ConnectionPool,
        replicas: Iterable[ConnectionPool],
        *,
        choice: str = "round-robin",
        connection_timeout: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if choice not in CHOICES:
            raise ValueError(f"choice must be one of {', '.join(CHOICES)}, not {choice!r}")
        self.primary = primary
        self.replicas = tuple(replicas)
        names = [pool.name for pool in self._pools]
        if len(set(names)) < len(names):
            raise ValueError(f"the pools need different names, these have {', '.join(map(repr, names))}")
        self._choice = choice
        self._clock = clock
        self.connection_timeout = (
            primary.connection_timeout if connection_timeout is None else connection_timeout
        )
        on_fork(self._after_fork)
        self._after_fork()

    def _after_fork(self) -> None:
        # Invariant: the two below change under the lock only, and nothing else is done under it.
        self._lock = threading.Lock()
        self._turn = 0  # whose turn it is among the replicas
        self._fell_back = False  # the last reader found no replica

    @property
    def name(self) -> str:
        """The primary's name."""
        return self.primary.name

    @property
    def _pools(self) -> tuple[ConnectionPool, ...]:
        return (self.primary, *self.replicas)

    def __repr__(self) -> str:
        return f"<ReplicatedPool {self.primary!r} and {', '.join(map(repr, self.replicas)) or 'no replica'}>"

    def connection(self, timeout: float | None = None, readonly: bool = False) -> Lease | ReplicaLease:
        """Borrow a connection for a ``with`` block: commit at its end, roll back if it raises.

        Args:
            timeout: seconds to wait for it; None means ``connection_timeout``, 0 tries.
            readonly: whether a replica will do.

        Returns:
            A context manager that gives the driver's own connection. Entering it raises as
            :meth:`get_connection` does.
        """
        if readonly:
            return ReplicaLease(self, timeout)
        return self.primary.connection(self.connection_timeout if timeout is None else timeout)

    def with_connection(
        self, function: Callable[[Any], T], timeout: float | None = None, readonly: bool = False
    ) -> T:
        """Call a function with a borrowed connection, as in a ``with`` block, and return what it returns.

        Args:
            function: called with the driver's connection.
            timeout: as for :meth:`connection`.
            readonly: as for :meth:`connection`.

        Raises:
            Exception: what the function raises; and as :meth:`get_connection`.
        """
        with self.connection(timeout, readonly) as connection:
            return function(connection)

    def get_connection(self, timeout: float | None = None, readonly: bool = False) -> PooledConnection:
        """Borrow a connection until it is given back by its ``close()``.

        Args:
            timeout: as for :meth:`connection`.
            readonly: as for :meth:`connection`.

        Raises:
            PoolError: as :meth:`ConnectionPool.get_connection`, of the primary: no replica was available.
            ValueError: ``timeout`` is below 0.
        """
        if readonly:
            return self._borrow(timeout, lambda pool, left: pool.get_connection(left))
        return self.primary.get_connection(self.connection_timeout if timeout is None else timeout)

    def stats(self) -> dict[str, PoolStats]:
        """Return the numbers of each pool by its name, those of one pool all of the same moment."""
        return {pool.name: pool.stats() for pool in self._pools}

    def drain(self) -> None:
        """Replace every connection of every pool; those in use when they come back."""
        for pool in self._pools:
            pool.drain()

    def close(self, timeout: float = 5.0) -> None:
        """Close every pool, as :meth:`ConnectionPool.close` does.

        Args:
            timeout: seconds to wait for connections that are in use, for all pools together (default 5).
        """
        end = self._clock() + timeout
        for pool in self._pools:
            pool.close(max(0.0, end - self._clock()))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _borrow(self, timeout: float | None, borrow: Callable[[ConnectionPool, float], T]) -> T:
        if timeout is None:
            timeout = self.connection_timeout
        elif not timeout >= 0:
            raise ValueError(f"timeout must be at least 0 seconds, not {timeout!r}")
        end = self._clock() + timeout
        for replica in self._in_order():
            # Asking one that is down makes it connect anew, which takes none of the caller's time.
            half = max(0.0, end - self._clock()) / 2 if replica.available else 0.0
            try:
                borrowed = borrow(replica, half)
            except PoolError as error:
                reason = str(error)
            else:
                self._note_fallback(None)
                return borrowed
        if self.replicas:
            self._note_fallback(reason)
        return borrow(self.primary, max(0.0, end - self._clock()))

    def _in_order(self) -> list[ConnectionPool]:
        if self._choice == "least-leased":
            return sorted(self.replicas, key=_load)
        with self._lock:
            turn = self._turn
            self._turn = (turn + 1) % max(1, len(self.replicas))
        return [*self.replicas[turn:], *self.replicas[:turn]]

    def _note_fallback(self, reason: str | None) -> None:
        """Log the first fall back to the primary, and the first reader that a replica serves again."""
        fell_back = reason is not None
        with self._lock:
            if fell_back is self._fell_back:
                return
            self._fell_back = fell_back
        if fell_back:
            _logger.warning(
                "pool %r: no replica is available, the primary serves readers: %s", self.name, reason
            )
        else:
            _logger.info("pool %r: a replica serves readers again", self.name)


def _load(pool: ConnectionPool) -> int:
    stats = pool.stats()
    return stats.leased + stats.waiting


class ReplicaLease:
    """A ``with`` block that borrows a connection of a replica, or of the primary; as :class:`Lease`."""

    __slots__ = ("_lease", "_pool", "_timeout")

    def __init__(self, pool: ReplicatedPool, timeout: float | None) -> None:
        self._pool = pool
        self._timeout = timeout
        self._lease: Lease | None = None

    def __enter__(self) -> Any:
        if self._lease is not None:
            raise LeaseError(f"{self._pool!r}: this lease is in use: call connection() for another")
        self._lease, connection = self._pool._borrow(self._timeout, _enter)
        return connection

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        lease, self._lease = self._lease, None
        if lease is not None:
            lease.__exit__(kind, error, traceback)


def _enter(pool: ConnectionPool, timeout: float) -> tuple[Lease, Any]:
    lease = pool.connection(timeout)
    return lease, lease.__enter__()
