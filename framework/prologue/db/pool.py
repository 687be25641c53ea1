"""The connection pool: never more connections than asked, never a dead one, never stuck.

The rules, which the tests check:

1. Idle connections are lent last in, first out; callers are served first come, first served. A connection
   that comes back goes straight to the caller that waits longest.
2. Callers wait for the pool alone. Connecting, checking and closing are jobs: each is a call of the driver on
   a thread of its own, with a deadline after which the pool goes on without it.
3. A connection is checked before it is lent when it has been idle for ``validation_interval``, came back with
   an error, or was last known to work before another turned out to be broken. One that is fresh is lent at
   once.
4. A connection whose lifetime is over, or that was opened before :meth:`ConnectionPool.drain`, is never lent.
5. While connecting fails and no connection is left, callers are told at once, with the cause. One attempt
   at a time goes on, at growing intervals.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from random import random as random_fraction
from typing import Any, Self, TypeVar
from weakref import ref

from prologue.db.adapter import Adapter
from prologue.db.background import maintain, spawn_thread
from prologue.db.entry import Entry, Job, JobKind, Waiter
from prologue.db.lease import Lease, PooledConnection
from prologue.db.state import CLOSE_TIMEOUT, PoolState
from prologue.db.stats import PoolStats
from prologue.db.urls import adapter_from_url
from prologue.errors import LeaseError, PoolError, PoolUnavailableError
from prologue.lifecycle import abandon, on_fork

__all__ = ["ConnectionPool"]

T = TypeVar("T")

_logger = logging.getLogger("prologue.db")


class ConnectionPool(PoolState):
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
            clock=clock,
            random=random,
        )
        if not connection_timeout >= 0:
            raise ValueError(f"connection_timeout must be at least 0 seconds, not {connection_timeout!r}")
        self._adapter = connect if isinstance(connect, Adapter) else Adapter(connect)
        self._connection_timeout = connection_timeout
        self._spawn = spawn
        on_fork(self._after_fork)

    @classmethod
    def from_url(cls, url: str, **options: Any) -> Self:
        """Make a pool for a database URL: ``sqlite:///app.db``, ``sqlite:///:memory:``.

        Args:
            url: the address of the database; see :func:`~prologue.db.urls.adapter_from_url`.
            **options: as for the constructor.

        Raises:
            SettingsError: no adapter reads the URL.
            ValueError: a number is out of range.
        """
        return cls(adapter_from_url(url), **options)

    # What users call

    @property
    def connection_timeout(self) -> float:
        """Seconds that a caller who says nothing else waits for a connection."""
        return self._connection_timeout

    def connection(self, timeout: float | None = None) -> Lease:
        """Borrow a connection for a ``with`` block: commit at its end, roll back if it raises.

        Args:
            timeout: seconds to wait for it; ``None`` means the pool's ``connection_timeout``, 0 tries.

        Returns:
            A context manager that gives the driver's own connection. Entering it raises as
            :meth:`get_connection` does.
        """
        return Lease(self, timeout)

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
        return PooledConnection(self, self._acquire(timeout))

    def release_connection(self, connection: PooledConnection) -> None:
        """Give a connection back; what was not committed is rolled back.

        Raises:
            LeaseError: it is none of this pool's, or was given back already.
        """
        if not isinstance(connection, PooledConnection) or connection._pool is not self:
            raise LeaseError(f"{self!r}: {connection!r} was not borrowed from here with get_connection()")
        if connection._entry is None:
            raise LeaseError(f"{self!r}: this connection was given back already")
        connection.close()

    def resize(self, *, min_connections: int | None = None, max_connections: int | None = None) -> None:
        """Change how many connections the pool keeps and allows; those too many go when they are idle.

        Raises:
            ValueError: the minimum is above the maximum, or a number is out of range.
        """
        with self._lock:
            least = self._min if min_connections is None else min_connections
            most = self._max if max_connections is None else max_connections
            self._set_sizes(least, most)
            jobs = self._serve(self._clock())
        self._start(jobs)

    def drain(self) -> None:
        """Replace every connection: the idle now, those in use when they come back."""
        with self._lock:
            self._generation += 1
            jobs = self._serve(self._clock())
        self._start(jobs)

    def close(self, timeout: float = 5.0) -> None:
        """Lend nothing more, tell those who wait, close what is idle, and wait for what is in use.

        A connection that is still in use at the end is closed when it comes back. Calling again waits again.

        Args:
            timeout: seconds to wait (default 5).
        """
        with self._lock:
            self._closed = True
            jobs = self._serve(self._clock())
        self._start(jobs)
        if not self._emptied.wait(min(timeout, threading.TIMEOUT_MAX)):
            _logger.warning("%s: not empty %.2f s after it was closed", repr(self), timeout)

    def stats(self) -> PoolStats:
        """Return the numbers of this moment, all of the same moment."""
        with self._lock:
            return self._snapshot()

    # Borrowing and giving back, for the leases

    def _acquire(self, timeout: float | None) -> Entry:
        if timeout is None:
            timeout = self._connection_timeout
        elif not timeout >= 0:
            raise ValueError(f"timeout must be at least 0 seconds, not {timeout!r}")
        # PERF: the common case in one round of the lock, without a waiter.
        with self._lock:
            entry = self._lend_at_once()
        return self._wait(timeout) if entry is None else entry

    def _wait(self, timeout: float) -> Entry:
        waiter = Waiter()
        with self._lock:
            since = self._clock()
            if (error := self._refusal(since)) is not None:
                raise error from self._cause(error)
            self._waiters[waiter] = since
            jobs = self._serve(since)
        try:
            self._start(jobs)
            rest = since + timeout - self._clock()
            waiter.done.acquire(timeout=min(max(rest, 0.0), threading.TIMEOUT_MAX))
        except BaseException:
            with self._lock:
                self._waiters.pop(waiter, None)
            if waiter.entry is not None:
                self._give_back(waiter.entry, suspect=False)
            raise
        if waiter.entry is None:
            with self._lock:
                if waiter.entry is None:  # unless it was served while this thread woke up
                    failure = self._disappointment(waiter, since)
                    raise failure from self._cause(failure)
        return waiter.entry

    def _cause(self, error: PoolError) -> Exception | None:
        return self._failure if isinstance(error, PoolUnavailableError) else None

    def _holds(self, entry: Entry) -> bool:
        """Whether it is lent, by this process."""
        return entry in self._leased

    def _take(self, connection: PooledConnection) -> Entry | None:
        """End a lease, once whatever the number of threads; return what is to be given back."""
        with self._lock:
            entry = connection._entry
            object.__setattr__(connection, "_entry", None)
            return entry if entry in self._leased else None

    def _lose(self, entry: Entry) -> None:
        """Take note of a lease that nobody holds any more; a finalizer calls it, so it takes no lock."""
        self._lost.put(entry)
        self._wake.put(None)

    def _end(self, entry: Entry, failed: bool) -> None:
        """Commit or roll back, and take the connection back."""
        if entry not in self._leased:
            return  # it was lent before a fork
        suspect = True
        try:
            if not failed:
                self._adapter.commit(entry.connection)
                suspect = False
        finally:
            self._give_back(entry, suspect)

    def _give_back(self, entry: Entry, suspect: bool) -> None:
        broken = True
        try:
            self._adapter.reset(entry.connection)
            broken = False
        except Exception as error:
            _logger.warning("pool %r: a connection came back broken: %s", self.name, error)
        finally:
            with self._lock:
                jobs = self._take_back(entry, suspect, broken)
            self._start(jobs)

    # Jobs, each in a thread of its own

    def _start(self, jobs: Iterable[Job]) -> None:
        for job in jobs:
            self._ensure_maintained()
            try:
                self._spawn(partial(self._run, job), f"pool {self.name}: {job.kind.value}")
            except RuntimeError:  # no thread can be started: too many, or the interpreter ends
                self._run(job)

    def _ensure_maintained(self) -> None:
        with self._lock:
            missing, self._maintained = not self._maintained, True
        if not missing:
            self._wake.put(None)  # there is a deadline that the thread does not know of yet
            return
        watched = ref(self, lambda _, wake=self._wake: wake.put(None))  # type: ignore[misc]
        try:
            self._spawn(partial(maintain, watched, self._wake), f"pool {self.name}: maintain")
        except RuntimeError:
            with self._lock:
                self._maintained = False  # the next job tries again

    def _run(self, job: Job) -> None:
        if job.entry is None:
            self._open(job)
        elif job.kind is JobKind.CHECK:
            self._check(job, job.entry)
        else:
            self._close(job, job.entry.connection)

    def _open(self, job: Job) -> None:
        try:
            connection = self._adapter.connect()
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            with self._lock:
                if in_time := job in self._jobs:
                    self._jobs.remove(job)
                    now = self._clock()
                    self._note_failure(error, text, now, self._failures + 1)
                    jobs = self._serve(now)
            if in_time:
                self._start(jobs)
            _logger.warning("pool %r: connecting failed: %s", self.name, text)
            return
        with self._lock:
            if in_time := job in self._jobs:
                self._jobs.remove(job)
                now = self._clock()
                lifetime = self._max_lifetime * (1 - 0.1 * self._random())
                self._opened += 1
                self._failures, self._failure, self._next_attempt = 0, None, -math.inf
                self._offer(Entry(connection, job.generation, now + lifetime, now), now)
                jobs = self._serve(now)
        if in_time:
            self._start(jobs)
        else:
            self._close_quietly(connection)

    def _check(self, job: Job, entry: Entry) -> None:
        failure: Exception | None = None
        try:
            self._adapter.check(entry.connection)
        except Exception as error:
            failure = error
        with self._lock:
            if in_time := job in self._jobs:
                now = self._clock()
                self._checks += 1
                if failure is None:
                    self._jobs.remove(job)
                    self._offer(entry, now)
                else:
                    self._check_errors += 1
                    self._suspect_before = now
                    job.kind = JobKind.CLOSE
                    job.deadline = now + CLOSE_TIMEOUT
                jobs = self._serve(now)
        if in_time:
            self._start(jobs)
            self._wake.put(None)  # the next connection may be due
        if failure is not None:
            _logger.warning("pool %r: a connection is broken: %s", self.name, failure)
        if failure is not None or not in_time:
            self._close(job, entry.connection)

    def _close(self, job: Job, connection: Any) -> None:
        self._close_quietly(connection)
        with self._lock:
            if in_time := job in self._jobs:
                self._jobs.remove(job)
                self._closed_count += 1
                jobs = self._serve(self._clock())
        if in_time:
            self._start(jobs)

    def _close_quietly(self, connection: Any) -> None:
        try:
            self._adapter.close(connection)
        except Exception as error:
            _logger.warning("pool %r: closing a connection failed: %s", self.name, error)

    # What the maintaining thread does

    def _maintain(self) -> float | None:
        """Do what is due; return the seconds until the next time, or None when nothing is left to do."""
        with self._lock:
            now = self._clock()
            overdue = self._give_up(now)
            lost = self._collect_lost(now)
            jobs = [*lost, *self._serve(now), *self._background_check(now)]
            if self._closed and not self._size():
                self._maintained = False
                pause = None
            else:
                pause = self._pause(now)
        for job in overdue:
            _logger.warning("pool %r: a job took too long: %s", self.name, job.kind.value)
        if lost:
            _logger.warning(
                "pool %r: %d connections were dropped without being given back", self.name, len(lost)
            )
        self._start(jobs)
        return pause

    def _after_fork(self) -> None:
        abandon((self._idle, self._leased, self._jobs))
        self._start_over()
