"""The state of a pool, and every decision about it.

Nothing here calls a driver, starts a thread, waits or logs. The methods run under the pool's lock, change the
state, and return the jobs that are to be started when the lock is free.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Final

from prologue.db.entry import Entry, Job, JobKind, Waiter
from prologue.db.stats import PoolStats
from prologue.errors import (
    PoolClosedError,
    PoolError,
    PoolFullError,
    PoolTimeoutError,
    PoolUnavailableError,
)

__all__ = ["PoolState"]

CLOSE_TIMEOUT: Final = 5.0  # seconds that closing one connection may hold its place in the pool
FAILURES_UNTIL_DOWN: Final = 5  # callers ride out shorter trouble: the pauses before are 0.75 s together
FIRST_PAUSE: Final = 0.05  # seconds after the first failed attempt to connect; it doubles …
LONGEST_PAUSE: Final = 1.0  # … up to this, so that a database that is back is noticed soon
SHORTEST_PERIOD: Final = 0.1  # seconds: the maintaining thread does not run more often without a reason
BACKGROUND_CHECK_AGE: Final = 1.0  # seconds: a connection idle for less is not checked in the background


class PoolState:
    """What :class:`~prologue.db.ConnectionPool` knows; its arguments are explained there."""

    def __init__(
        self,
        *,
        name: str,
        min_connections: int,
        max_connections: int,
        validation_interval: float,
        validation_timeout: float,
        connect_timeout: float,
        max_lifetime: float,
        idle_timeout: float,
        max_connecting: int,
        max_waiting: int | None,
        clock: Callable[[], float],
        random: Callable[[], float],
    ) -> None:
        _require_sizes(min_connections, max_connections)
        for what, value, least in (
            ("validation_interval", validation_interval, 0.0),
            ("max_connecting", max_connecting, 1),
            ("max_waiting", 1 if max_waiting is None else max_waiting, 1),
        ):
            if not value >= least:
                raise ValueError(f"{what} must be at least {least}, not {value!r}")
        for what, value in (
            ("validation_timeout", validation_timeout),
            ("connect_timeout", connect_timeout),
            ("max_lifetime", max_lifetime),
            ("idle_timeout", idle_timeout),
        ):
            if not value > 0:
                raise ValueError(f"{what} must be above 0 seconds, not {value!r}")
        self.name = name
        self._min = min_connections
        self._max = max_connections
        self._validation_interval = validation_interval
        self._time_limits = {
            JobKind.OPEN: connect_timeout,
            JobKind.CHECK: validation_timeout,
            JobKind.CLOSE: CLOSE_TIMEOUT,
        }
        self._max_lifetime = max_lifetime
        self._idle_timeout = idle_timeout
        self._max_connecting = max_connecting
        self._max_waiting = math.inf if max_waiting is None else max_waiting
        self._clock = clock
        self._random = random
        self._closed = False
        self._start_over()

    def _start_over(self) -> None:
        # Invariant: everything below changes under the lock only. A connection is in exactly one of `idle`,
        # `leased` and the jobs, and these three together never exceed the maximum (unless it was lowered).
        # While a caller waits, no idle connection is fresh. No code but the pool's own runs under the lock.
        self._lock = threading.Lock()
        self._idle: list[Entry] = []  # the one given back last is the last
        self._leased: set[Entry] = set()
        self._jobs: set[Job] = set()
        self._waiters: OrderedDict[Waiter, float] = OrderedDict()  # and since when they wait
        self._generation = 0
        self._suspect_before = -math.inf  # one last known to work no later must be checked
        self._failures = 0  # attempts to connect that failed since one succeeded
        self._failure: Exception | None = None
        self._failure_text = ""
        self._next_attempt = -math.inf
        self._emptied = threading.Event()  # closed, and nothing left
        self._maintained = False
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._lost: SimpleQueue[Entry] = SimpleQueue()  # reentrant: filled by finalizers
        self._acquires = self._waits = self._timeouts = self._refused = self._lost_count = 0
        self._opened = self._open_errors = self._checks = self._check_errors = 0
        self._closed_count = self._abandoned = 0
        self._wait_seconds = 0.0

    def __repr__(self) -> str:
        # Without the lock: whoever holds it may want to say which pool it is.
        state = " closed," if self._closed else ""
        return (
            f"<ConnectionPool {self.name!r}{state} {len(self._leased)} leased, {len(self._idle)} idle,"
            f" {len(self._waiters)} waiting of {self._max}>"
        )

    def _set_sizes(self, least: int, most: int) -> None:
        _require_sizes(least, most)
        self._min, self._max = least, most

    def _snapshot(self) -> PoolStats:
        opening = self._count(JobKind.OPEN)
        checking = self._count(JobKind.CHECK)
        return PoolStats(
            max_connections=self._max,
            min_connections=self._min,
            size=self._size(),
            idle=len(self._idle),
            leased=len(self._leased),
            opening=opening,
            checking=checking,
            closing=len(self._jobs) - opening - checking,
            waiting=len(self._waiters),
            available=not self._is_down(),
            acquires=self._acquires,
            waits=self._waits,
            wait_seconds=self._wait_seconds,
            timeouts=self._timeouts,
            refused=self._refused,
            opened=self._opened,
            open_errors=self._open_errors,
            checks=self._checks,
            check_errors=self._check_errors,
            closed=self._closed_count,
            abandoned=self._abandoned,
            lost=self._lost_count,
        )

    # A caller asks for a connection, or gives one back

    def _lend_at_once(self) -> Entry | None:
        if self._idle and not self._waiters:
            entry = self._idle[-1]
            now = self._clock()
            if not (
                self._needs_check(entry, now)
                or self._is_stale(entry, now)
                or now >= entry.idle_since + self._idle_timeout
            ):
                self._idle.pop()
                self._leased.add(entry)
                self._acquires += 1
                return entry
        return None

    def _refusal(self, now: float) -> PoolError | None:
        if self._closed:
            return PoolClosedError(f"{self!r}: borrow before it is closed")
        if self._is_down() and (now < self._next_attempt or self._count(JobKind.OPEN)):
            self._refused += 1
            return self._unavailable(f"the database is down: {self._failure_text}")
        if len(self._waiters) >= self._max_waiting:
            self._refused += 1
            return PoolFullError(f"{self!r}: {self._max_waiting} callers wait already: see max_waiting")
        return None

    def _disappointment(self, waiter: Waiter, since: float) -> PoolError:
        waited = self._clock() - since
        timed_out = self._waiters.pop(waiter, None) is not None
        if self._closed:
            return PoolClosedError(f"{self!r}: closed while waiting for a connection")
        self._waits += 1
        self._wait_seconds += waited
        if timed_out:
            self._timeouts += 1
        else:
            self._refused += 1
        in_use = len(self._leased)
        if not in_use or (self._failures and in_use < self._max):
            reason = (
                f"connecting fails: {self._failure_text}" if self._failures else "connecting takes too long"
            )
            return self._unavailable(f"no connection after {waited:.2f} s: {reason}")
        return PoolTimeoutError(
            f"{self!r}: {in_use} of {self._max} in use, waited {waited:.2f} s:"
            " hold connections for a shorter time, or raise max_connections"
        )

    def _take_back(self, entry: Entry, suspect: bool, broken: bool) -> list[Job]:
        self._leased.remove(entry)
        now = self._clock()
        if broken:
            self._suspect_before = now
            return [self._plan(JobKind.CLOSE, entry, now), *self._serve(now)]
        entry.suspect = suspect
        entry.idle_since = now
        if entry.last_ok > self._suspect_before:
            entry.last_ok = now
        self._idle.append(entry)
        # PERF: the common case changes nothing for anybody else.
        if self._waiters or self._closed or self._is_stale(entry, now) or self._size() > self._max:
            return self._serve(now)
        return []

    # What everybody needs now

    def _serve(self, now: float) -> list[Job]:
        """Give idle connections to those who wait, and plan the jobs that everything else needs."""
        jobs = self._retire(now)
        if self._closed:
            self._turn_away()
            if not self._size():
                self._emptied.set()
                self._wake.put(None)
            return jobs
        while self._waiters and (entry := self._newest_fresh(now)) is not None:
            self._idle.remove(entry)
            self._grant(entry, now)
        missing = len(self._waiters) - self._count(JobKind.OPEN) - self._count(JobKind.CHECK)
        while missing > 0 and self._idle:
            jobs.append(self._plan(JobKind.CHECK, self._idle.pop(), now))
            missing -= 1
        if now >= self._next_attempt:
            wanted = max(missing, self._min - self._living())
            at_once = (1 if self._failures else self._max_connecting) - self._count(JobKind.OPEN)
            for _ in range(min(wanted, at_once, self._max - self._size())):
                jobs.append(self._plan(JobKind.OPEN, None, now))
        if self._is_down() and not self._count(JobKind.OPEN):
            self._turn_away()
        return jobs

    def _retire(self, now: float) -> list[Job]:
        """Plan to close the idle connections that are not to be lent again, the least recently used first."""
        living = self._living()
        keep = []
        jobs = []
        for entry in self._idle:
            if (
                self._closed
                or living > self._max
                or self._is_stale(entry, now)
                or (living > self._min and now >= entry.idle_since + self._idle_timeout)
            ):
                jobs.append(self._plan(JobKind.CLOSE, entry, now))
                living -= 1
            else:
                keep.append(entry)
        self._idle = keep
        return jobs

    def _newest_fresh(self, now: float) -> Entry | None:
        return next((entry for entry in reversed(self._idle) if not self._needs_check(entry, now)), None)

    def _grant(self, entry: Entry, now: float) -> None:
        waiter, since = self._waiters.popitem(last=False)
        self._leased.add(entry)
        self._acquires += 1
        self._waits += 1
        self._wait_seconds += now - since
        waiter.entry = entry
        waiter.done.release()

    def _offer(self, entry: Entry, now: float) -> None:
        """Pass on a connection that has just proved to work."""
        entry.last_ok = entry.idle_since = now
        entry.suspect = False
        if self._waiters and not self._is_stale(entry, now):
            self._grant(entry, now)
        else:
            self._idle.append(entry)

    def _turn_away(self) -> None:
        while self._waiters:
            self._waiters.popitem(last=False)[0].done.release()

    def _plan(self, kind: JobKind, entry: Entry | None, now: float) -> Job:
        job = Job(kind, entry, self._generation, now + self._time_limits[kind])
        self._jobs.add(job)
        return job

    def _needs_check(self, entry: Entry, now: float) -> bool:
        return (
            entry.suspect
            or entry.last_ok <= self._suspect_before
            or now >= entry.last_ok + self._validation_interval
        )

    def _is_stale(self, entry: Entry, now: float) -> bool:
        return now >= entry.expires or entry.generation != self._generation

    def _is_down(self) -> bool:
        return self._failures >= FAILURES_UNTIL_DOWN and not (
            self._idle or self._leased or self._count(JobKind.CHECK)
        )

    def _count(self, kind: JobKind) -> int:
        return sum(job.kind is kind for job in self._jobs)

    def _size(self) -> int:
        return len(self._idle) + len(self._leased) + len(self._jobs)

    def _living(self) -> int:
        return self._size() - self._count(JobKind.CLOSE)

    # What became of the jobs

    def _note_failure(self, error: Exception, text: str, now: float, failures: int) -> None:
        self._open_errors += 1
        self._failure_text = text
        self._failure = error
        self._failures = failures
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(failures - 1, 10))
        self._next_attempt = now + pause * (0.8 + 0.4 * self._random())
        self._wake.put(None)

    def _unavailable(self, text: str) -> PoolUnavailableError:
        error = PoolUnavailableError(f"{self!r}: {text}")
        pause = self._next_attempt - self._clock()
        if pause > 0:
            error.retry_after = pause
        return error

    # What is due

    def _give_up(self, now: float) -> list[Job]:
        """Forget the jobs that are overdue."""
        overdue = [job for job in self._jobs if now >= job.deadline]
        for job in overdue:
            self._jobs.remove(job)
            if job.kind is JobKind.OPEN:
                text = f"no answer within connect_timeout, {self._time_limits[JobKind.OPEN]:.2f} s"
                failures = max(FAILURES_UNTIL_DOWN, self._failures + 1)
                self._note_failure(TimeoutError(text), text, now, failures)
                continue
            self._abandoned += 1
            if job.kind is JobKind.CHECK:
                # No answer at all: the others would take as long to check, so they go unchecked.
                self._checks += 1
                self._check_errors += 1
                self._generation += 1
        return overdue

    def _collect_lost(self, now: float) -> list[Job]:
        jobs: list[Job] = []
        while True:
            try:
                entry = self._lost.get_nowait()
            except Empty:
                return jobs
            if entry in self._leased:
                self._leased.remove(entry)
                self._lost_count += 1
                jobs.append(self._plan(JobKind.CLOSE, entry, now))

    def _background_check(self, now: float) -> list[Job]:
        """Plan a check of the idle connection that needs it most, one at a time."""
        if self._count(JobKind.CHECK):
            return []
        due = [
            entry
            for entry in self._idle
            if self._needs_check(entry, now)
            and (entry.suspect or now >= entry.last_ok + BACKGROUND_CHECK_AGE)
        ]
        if not due:
            return []
        entry = min(due, key=lambda entry: entry.last_ok)
        self._idle.remove(entry)
        return [self._plan(JobKind.CHECK, entry, now)]

    def _pause(self, now: float) -> float:
        interval = max(self._validation_interval, BACKGROUND_CHECK_AGE)
        period = min(interval, self._idle_timeout, self._max_lifetime, threading.TIMEOUT_MAX)
        due = now + max(period, SHORTEST_PERIOD)
        if self._next_attempt > now:
            due = min(due, self._next_attempt)
        return min([due, *(job.deadline for job in self._jobs)]) - now


def _require_sizes(least: int, most: int) -> None:
    if not 0 <= least <= most or most < 1:
        raise ValueError(
            f"min_connections={least!r}, max_connections={most!r}: must be 0 <= min <= max, and 1 <= max"
        )
