"""The connection pool: never more connections than asked, never a dead one, never stuck.

The rules, which the tests check:

1. Idle connections are lent last in, first out; callers are served first come, first served. A connection
   that comes back goes straight to the caller that waits longest.
2. Callers wait for the pool alone. Connecting, checking and closing are jobs: each is a call of the driver on
   a thread of its own, with a deadline after which the pool goes on without it.
3. A connection is checked before it is lent when it has been idle for ``validation_interval``, came back with
   an error (unless its reset is proof that it works), or was opened before another turned out to be broken
   or the pool was suspended. One that is fresh is lent at once.
4. A connection whose lifetime is over, or that was opened before :meth:`ConnectionPool.drain`, is never lent.
5. While connecting fails and no connection is left, callers are told at once, with the cause. One attempt
   at a time goes on, at growing intervals.
6. A thread may be interrupted at any point, by a signal, an exception or a finalizer that uses the pool too:
   none of its connections gets two holders, and none is lost for longer than somebody keeps the exception.
"""

from __future__ import annotations

import logging
import math
import sys
import threading
import time
from collections.abc import Callable
from random import random as random_fraction
from typing import Any, Literal, Self, TypeVar, overload

from prologue.db.adapter import Adapter
from prologue.db.background import spawn_thread
from prologue.db.borrowers import stack_of_borrower
from prologue.db.callbacks import Callback, WithCallbacks
from prologue.db.entry import Claim, Waiter
from prologue.db.keeper import Keeper
from prologue.db.lease import Lease, PooledConnection, QuickLease
from prologue.db.limits import require_at_least
from prologue.db.psycopg_engine import PsycopgPool
from prologue.db.state import CLOSE_TIMEOUT
from prologue.db.stats import PoolStats
from prologue.db.urls import adapter_from_url
from prologue.errors import LeaseError, PoolClosedError, PoolError, PoolUnavailableError, SettingsError
from prologue.lifecycle import on_fork

__all__ = ["ConnectionPool"]

T = TypeVar("T")

_logger = logging.getLogger("prologue.db")


class ConnectionPool(Keeper):
    """Lend a bounded number of database connections to any number of threads.

    Nothing is opened before the first use. In the child of a fork the pool starts over with connections of
    its own: those of the parent are neither used nor closed there, and leases held across the fork end
    without touching them.

    Args:
        connect: opens a connection of any DB-API 2.0 driver; or an :class:`~prologue.db.Adapter`.
        min_connections: how many the pool keeps open once it is in use (default 0).
        max_connections: how many there may be at most (default 10).
        connection_timeout: seconds that a caller waits for a connection, whatever it takes: queue, check,
            connecting (default 5). 0 tries.
        validation_interval: seconds for which a connection counts as alive after it was used or checked
            (default 30). 0 checks each time it is borrowed.
        validation_timeout: seconds that a check may take (default 2).
        connect_timeout: seconds that connecting may take (default 5).
        max_lifetime: seconds after which a connection is replaced (default 1800), less up to a tenth at
            random, so that they are not replaced all at once.
        idle_timeout: seconds after which an idle connection above the minimum is closed (default 600).
        max_connecting: how many connections may be in the making at once (default 2).
        max_waiting: how many callers may wait (default: any number).
        configure: called with each new connection, before it is lent; what it does is committed.
        check: checks a connection instead of the adapter; it raises if the connection is broken.
        reset: called with each connection that comes back, once it is rolled back or committed; what it does
            is committed. If it raises, the connection is closed.
        leak_threshold: seconds after which a lease is logged, with its age and the borrower's stack (default:
            never). Taking the stack makes borrowing a few times slower.
        slow_checkout: seconds of waiting for a connection from which on it is logged (default: never).
        name: what errors, logs and ``repr`` call it.
        clock: for tests: seconds, never going back.
        random: for tests: a fraction from 0 up to 1.
        spawn: for tests: runs a function in a thread of the given name.

    Raises:
        ValueError: a number is out of range.
    """

    def __init__(
        self,
        connect: Callable[[], Any] | Adapter,
        min_connections: int = 0,
        max_connections: int = 10,
        connection_timeout: float = 5.0,
        validation_interval: float = 30.0,
        *,
        validation_timeout: float = 2.0,
        connect_timeout: float = 5.0,
        max_lifetime: float = 1800.0,
        idle_timeout: float = 600.0,
        max_connecting: int = 2,
        max_waiting: int | None = None,
        configure: Callback | None = None,
        check: Callback | None = None,
        reset: Callback | None = None,
        leak_threshold: float | None = None,
        slow_checkout: float | None = None,
        name: str = "main",
        clock: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = random_fraction,
        spawn: Callable[[Callable[[], object], str], object] = spawn_thread,
    ) -> None:
        super().__init__(
            name=name,
            min_connections=min_connections,
            max_connections=max_connections,
            validation_interval=validation_interval,
            validation_timeout=validation_timeout,
            connect_timeout=connect_timeout,
            max_lifetime=max_lifetime,
            idle_timeout=idle_timeout,
            max_connecting=max_connecting,
            max_waiting=max_waiting,
            leak_threshold=leak_threshold,
            clock=clock,
            random=random,
        )
        require_at_least(0, connection_timeout=connection_timeout)
        adapter = connect if isinstance(connect, Adapter) else Adapter(connect)
        # PERF: only an adapter that looks at its connections is asked each time.
        self._looks = type(adapter).is_alive is not Adapter.is_alive
        if configure or check or reset:
            adapter = WithCallbacks(adapter, configure, check, reset)
        self._adapter = adapter
        self._watches_leases = leak_threshold is not None
        plain = adapter.reset_after_commit or self._watches_leases or self._looks
        self._lease_type = Lease if plain else QuickLease
        self._slow_checkout = math.inf if slow_checkout is None else slow_checkout
        self._connection_timeout = connection_timeout
        self._spawn = spawn
        on_fork(self._after_fork)

    @overload
    @classmethod
    def from_url(cls, url: str, *, engine: Literal["prologue"] = "prologue", **options: Any) -> Self: ...

    @overload
    @classmethod
    def from_url(cls, url: str, *, engine: Literal["psycopg_pool"], **options: Any) -> PsycopgPool: ...

    @classmethod
    def from_url(cls, url: str, *, engine: str = "prologue", **options: Any) -> Self | PsycopgPool:
        """Make a pool for a database URL, such as ``sqlite:///app.db`` or ``postgresql://user@host/database``.

        Args:
            url: the address of the database; see :func:`~prologue.db.urls.adapter_from_url`.
            engine: ``"prologue"``, this one, or ``"psycopg_pool"``, for PostgreSQL: a
                :class:`~prologue.db.psycopg_engine.PsycopgPool`.
            **options: as for the constructor of the engine.

        Raises:
            SettingsError: no adapter reads the URL; or the engine is unknown, or not for this database.
            MissingExtraError: the driver is not installed.
            ValueError: a number is out of range.
        """
        adapter = adapter_from_url(url)
        if engine == "psycopg_pool":
            return PsycopgPool(adapter, **options)
        if engine != "prologue":
            raise SettingsError(f"no pool engine {engine!r}: use 'prologue' or 'psycopg_pool'")
        return cls(adapter, **options)

    # What users call

    @property
    def connection_timeout(self) -> float:
        """Seconds that a caller who says nothing else waits for a connection."""
        return self._connection_timeout

    @property
    def available(self) -> bool:
        """False while every attempt to connect fails and no connection is left."""
        return not self._is_down()

    def connection(self, timeout: float | None = None) -> Lease:
        """Borrow a connection for a ``with`` block: commit at its end, roll back if it raises.

        Args:
            timeout: seconds to wait for it; ``None`` means the pool's ``connection_timeout``, 0 tries.

        Returns:
            A context manager that gives the driver's own connection. Entering it raises as
            :meth:`get_connection` does.

        Raises:
            ValueError: ``timeout`` is below 0.
        """
        if timeout is not None and not timeout >= 0:
            raise ValueError(f"timeout must be at least 0 seconds, not {timeout!r}")
        return self._lease_type(self, timeout)

    def with_connection(self, function: Callable[[Any], T], timeout: float | None = None) -> T:
        """Call a function with a borrowed connection, as in a ``with`` block, and return what it returns.

        Args:
            function: called with the driver's connection.
            timeout: as for :meth:`connection`.

        Raises:
            Exception: what the function raises; and as :meth:`get_connection`.
        """
        with self.connection(timeout) as connection:
            return function(connection)

    def get_connection(self, timeout: float | None = None) -> PooledConnection:
        """Borrow a connection until it is given back.

        Args:
            timeout: as for :meth:`connection`.

        Raises:
            PoolTimeoutError: all are in use, and none came back in time.
            PoolUnavailableError: no connection can be opened; the driver's error is the cause.
            PoolFullError: ``max_waiting`` callers wait already.
            PoolClosedError: the pool was closed.
            ValueError: ``timeout`` is below 0.
        """
        if timeout is not None and not timeout >= 0:
            raise ValueError(f"timeout must be at least 0 seconds, not {timeout!r}")
        return PooledConnection(self, self._acquire(timeout))

    def release_connection(self, connection: PooledConnection) -> None:
        """Give a connection back; what was not committed is rolled back.

        Raises:
            LeaseError: it is none of this pool's, or was given back already.
        """
        if not isinstance(connection, PooledConnection) or connection._pool is not self:
            raise LeaseError(f"{self!r}: {connection!r} was not borrowed from here with get_connection()")
        claim = connection._take()
        if claim is None:
            raise LeaseError(f"{self!r}: this connection was given back already, or lent before a fork")
        self._give_back(claim, None, passing=sys.exc_info()[1])

    def open(self, wait: bool = False, timeout: float | None = None) -> None:
        """Open the minimum now, instead of on first use.

        Args:
            wait: until the minimum is there.
            timeout: seconds to wait; ``None`` means the pool's ``connection_timeout``.

        Raises:
            PoolUnavailableError: the minimum was not there in time; the driver's error is the cause.
            PoolClosedError: the pool was closed.
        """
        if self._closed:
            raise PoolClosedError(f"{self!r}: open before it is closed")
        self._call_keeper()
        if not wait:
            return
        self._wait_until(self._is_filled, self._connection_timeout if timeout is None else timeout)
        with self._lock:
            if self._closed:
                raise PoolClosedError(f"{self!r}: closed while it was opened")
            if len(self._entries) < self._min:
                reason = self._failure_text or "connecting takes too long"
                raise PoolUnavailableError(
                    f"{self!r}: {len(self._entries)} of at least {self._min} connections opened: {reason}"
                ) from self._failure

    def resize(self, *, min_connections: int | None = None, max_connections: int | None = None) -> None:
        """Change how many connections the pool keeps and allows; those too many go when they are idle.

        Raises:
            ValueError: the minimum is above the maximum, or a number is out of range.
        """
        with self._lock:
            least = self._min if min_connections is None else min_connections
            most = self._max if max_connections is None else max_connections
            self._set_sizes(least, most)
            self._look_at_all()
        self._call_keeper()

    def drain(self) -> None:
        """Replace every connection: the idle now, those in use when they come back."""
        with self._lock:
            self._generation += 1
            self._look_at_all()
        self._call_keeper()

    def suspend(self) -> None:
        """Lend nothing until :meth:`resume` is called: callers wait, and what is in use may come back."""
        with self._lock:
            self._suspended = True
            self._look_at_all()
        self._call_keeper()

    def resume(self) -> None:
        """Lend again, each connection checked before: the database may be another. Who waited comes first."""
        with self._lock:
            self._suspended = False
            self._suspect_all()
        self._call_keeper()

    def close(self, timeout: float = 5.0, force: bool = False) -> None:
        """Lend nothing more, tell those who wait, close what is idle, and wait for what is in use.

        A connection that is still in use at the end is closed when it comes back; or at once, by force.
        Calling again waits again.

        Args:
            timeout: seconds to wait (default 5).
            force: then close what is still in use, whatever its borrower does with it.
        """
        with self._lock:
            self._closed = True
            self._look_at_all()
        self._settle()  # here: the keeper does nothing any more for a pool that is dropped after this
        if self._kept:
            self._call_keeper()
        empty = self._wait_until(self._is_empty, timeout)
        if not empty and force:
            self._forced = True
            self._act()
            empty = self._wait_until(self._is_empty, CLOSE_TIMEOUT)
        if not empty:
            _logger.warning("%s: not empty %.2f s after it was closed", repr(self), timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def stats(self) -> PoolStats:
        """Return the numbers of this moment, all of the same moment."""
        with self._lock:
            return self._snapshot()

    # Borrowing, for the leases

    def _acquire(self, timeout: float | None) -> Claim:
        claim = None
        if not self._waiters:
            claim = self._take_idle(self._clock())
        if claim is None or (self._looks and not self._looks_alive(claim)):
            claim = self._wait(self._connection_timeout if timeout is None else timeout)
        entry = claim.entry
        if self._watches_leases:
            entry.borrower = stack_of_borrower()
        entry.lent_at = self._clock()
        entry.uses += 1
        return claim

    def _looks_alive(self, claim: Claim) -> bool:
        """Look at a connection that is to be lent; if it is not alive it and all others are to be checked."""
        if self._adapter.is_alive(claim.entry.connection):
            return True
        with self._lock:
            self._suspect_all()
        self._doubtful.append(claim)
        return False

    def _wait(self, timeout: float) -> Claim:
        waiter = Waiter(self._clock())
        try:
            with self._lock:
                if (error := self._refusal(waiter.since)) is not None:
                    raise error from self._cause(error)
                self._waiters.append(waiter)
                helpless = not self._can_be_helped()
            # Only now: one who gave a connection back before did not see that somebody waits.
            if self._idle:
                self._pair()
            if not helpless or self._doubtful:
                self._call_keeper()
            rest = waiter.since + timeout - self._clock()
            waiter.done.acquire(timeout=min(max(rest, 0.0), threading.TIMEOUT_MAX))
            timed_out = not waiter.served and self._leave(waiter)
            if waiter.served:
                self._log_if_slow(waiter)
            try:
                return waiter.served.pop()
            except IndexError:
                pass
            with self._lock:
                failure = self._disappointment(waiter, timed_out)
            raise failure from self._cause(failure)
        except BaseException:
            # What it was given meanwhile goes back, even if it is given later: the claim is dropped then.
            self._leave(waiter)
            waiter.served.clear()
            raise

    def _log_if_slow(self, waiter: Waiter) -> None:
        if self._slow_checkout is not math.inf:
            waited = self._clock() - waiter.since
            if waited >= self._slow_checkout:
                _logger.warning("%r: waited %.2f s for a connection", self, waited)

    def _cause(self, error: PoolError) -> Exception | None:
        return self._failure if isinstance(error, PoolUnavailableError) else None

    def _wait_until(self, condition: Callable[[], bool], timeout: float) -> bool:
        """Wait for something that the keeper brings about; return whether it has come about."""
        lock = threading.Lock()
        lock.acquire()
        watcher = (condition, lock)
        with self._lock:
            if condition():
                return True
            self._watchers.append(watcher)
        try:
            return lock.acquire(timeout=min(timeout, threading.TIMEOUT_MAX))
        finally:
            with self._lock:
                if watcher in self._watchers:
                    self._watchers.remove(watcher)
