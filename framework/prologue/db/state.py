"""What a pool knows, and every decision about it.

Nothing here calls a driver, starts a thread, waits or logs. The methods run under the pool's lock, change the
state, and return the jobs that are to be started when the lock is free. Borrowers change nothing here but
counters: what they may be interrupted in is the :mod:`~prologue.db.exchange`.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable
from typing import Final

from prologue.db.entry import Claim, Entry, Job, JobKind, Waiter
from prologue.db.exchange import Exchange
from prologue.db.histogram import BOUNDS, Counts, Histogram, bucket
from prologue.db.limits import require_at_least, require_positive, require_sizes
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
FAILURES_UNTIL_DOWN: Final = 12  # callers ride out shorter trouble: the pauses before are 0.84 s together
FIRST_PAUSE: Final = 0.04  # seconds after the first failed attempt to connect; it doubles …
LONGEST_PAUSE: Final = 0.08  # … up to this, so that a database that is back is noticed within 0.1 s
SHORTEST_PERIOD: Final = 0.1  # seconds: the keeper does not run more often without a reason
BACKGROUND_CHECK_AGE: Final = 1.0  # seconds: a connection idle for less is not checked in the background


class PoolState(Exchange):
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
        leak_threshold: float | None,
        clock: Callable[[], float],
        random: Callable[[], float],
    ) -> None:
        require_sizes(min_connections, max_connections)
        require_at_least(0, validation_interval=validation_interval)
        require_at_least(1, max_connecting=max_connecting, max_waiting=max_waiting)
        require_positive(
            validation_timeout=validation_timeout,
            connect_timeout=connect_timeout,
            max_lifetime=max_lifetime,
            idle_timeout=idle_timeout,
            leak_threshold=leak_threshold,
        )
        self.name = name
        self._min = min_connections
        self._max = max_connections
        # One that is idle for too long is not lent unseen either: the keeper closes it, unless it is one of
        # the minimum.
        self._fresh_for = min(validation_interval, idle_timeout)
        self._time_limits = {
            JobKind.OPEN: connect_timeout,
            JobKind.CHECK: validation_timeout,
            JobKind.CLOSE: CLOSE_TIMEOUT,
        }
        self._max_lifetime = max_lifetime
        self._idle_timeout = idle_timeout
        self._max_connecting = max_connecting
        self._max_waiting = math.inf if max_waiting is None else max_waiting
        self._leak_threshold = math.inf if leak_threshold is None else leak_threshold
        self._clock = clock
        self._random = random
        self._closed = self._forced = False
        self._suspended = False
        self._start_over()

    def _start_over(self) -> None:
        super()._start_over()
        # Invariant: everything below changes under the lock only. `entries` are the connections that are
        # idle, lent, or checked by a job; with the jobs that open and close they never exceed the maximum
        # (unless it was lowered).
        self._entries: set[Entry] = set()
        self._jobs: set[Job] = set()
        self._generation = 0
        self._failures = 0  # attempts to connect that failed since one succeeded
        self._failure: Exception | None = None
        self._failure_text = ""
        self._next_attempt = -math.inf
        self._watchers: list[tuple[Callable[[], bool], threading.Lock]] = []
        self._uses = self._timeouts = self._refused = self._lost_count = 0
        self._opened = self._open_errors = self._checks = self._check_errors = 0
        self._closed_count = self._abandoned = 0
        self._use_times = Counts()  # of the connections that are closed
        self._create_times = Counts()

    def __repr__(self) -> str:
        # Without the lock: whoever holds it may want to say which pool it is.
        state = " closed," if self._closed else " suspended," if self._suspended else ""
        overdue = len(self._overdue(self._clock()))
        return (
            f"<ConnectionPool {self.name!r}{state} {self._leased()} leased,"
            f"{f' {overdue} of them overdue,' if overdue else ''} {self._idle_count()} idle,"
            f" {len(self._waiters)} waiting of {self._max}>"
        )

    def _set_sizes(self, least: int, most: int) -> None:
        require_sizes(least, most)
        self._min, self._max = least, most

    def _snapshot(self) -> PoolStats:
        # Borrowers move claims meanwhile: the number of those that are lent follows from the others.
        idle = self._idle_count()
        opening = self._count(JobKind.OPEN)
        checking = self._count(JobKind.CHECK)
        closing = self._count(JobKind.CLOSE)
        acquires = self._uses + sum(entry.uses for entry in self._entries)
        wait_time = self._wait_times.freeze()
        return PoolStats(
            name=self.name,
            max_connections=self._max,
            min_connections=self._min,
            size=len(self._entries) + opening + closing,
            idle=idle,
            leased=len(self._entries) - idle - checking,
            opening=opening,
            checking=checking,
            closing=closing,
            waiting=len(self._waiters),
            overdue=len(self._overdue(self._clock())),
            available=not self._is_down(),
            suspended=self._suspended,
            acquires=acquires,
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
            wait_time=_with_short(wait_time, acquires),
            use_time=self._all_uses(),
            create_time=self._create_times.freeze(),
        )

    # A caller asks for a connection

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

    def _disappointment(self, waiter: Waiter, timed_out: bool) -> PoolError:
        if self._closed:
            return PoolClosedError(f"{self!r}: closed while waiting for a connection")
        waited = self._clock() - waiter.since
        self._waits += 1
        self._wait_seconds += waited
        if timed_out:
            self._timeouts += 1
        else:
            self._refused += 1
        in_use = self._leased()
        if self._suspended:
            return PoolTimeoutError(f"{self!r}: suspended, waited {waited:.2f} s: see resume()")
        if not in_use or (self._failures and in_use < self._max):
            reason = (
                f"connecting fails: {self._failure_text}" if self._failures else "connecting takes too long"
            )
            return self._unavailable(f"no connection after {waited:.2f} s: {reason}")
        return PoolTimeoutError(
            f"{self!r}: {in_use} of {self._max} in use, waited {waited:.2f} s:"
            " hold connections for a shorter time, or raise max_connections"
        )

    def _can_be_helped(self) -> bool:
        """Whether those who wait can get a connection that nobody has to give back first."""
        # PERF: the keeper is not called in vain: in a crowd it would be one more that wants the processor. A
        # job that runs looks after those who wait when it ends.
        return bool(self._doubtful) or (
            len(self._entries) + len(self._jobs) < self._max
            and self._count(JobKind.OPEN) < (1 if self._failures else self._max_connecting)
        )

    # What everybody needs now

    def _serve(self, now: float) -> list[Job]:
        """Serve those who wait as far as possible, and plan the jobs that everything else needs."""
        jobs = self._sort_out(now)
        if self._closed:
            self._turn_away()
            if self._forced:
                jobs += self._plan_by_force(now)
        elif not self._suspended:
            self._pair()
            missing = len(self._waiters) - self._count(JobKind.OPEN) - self._count(JobKind.CHECK)
            for claim in self._by_age(self._doubtful)[::-1][: max(missing, 0)]:
                jobs += self._plan_for(claim, JobKind.CHECK, now)
                missing -= 1
            if now >= self._next_attempt:
                wanted = max(missing, self._min - self._living())
                at_once = (1 if self._failures else self._max_connecting) - self._count(JobKind.OPEN)
                for _ in range(min(wanted, at_once, self._max - self._size())):
                    jobs.append(self._plan(JobKind.OPEN, None, now))
            if self._is_down() and not self._count(JobKind.OPEN):
                self._turn_away()
        self._tell_watchers()
        return jobs

    def _sort_out(self, now: float) -> list[Job]:
        """Plan to close the idle connections that are not to be lent again, the least recently used first.

        Of the others, those that may be lent unseen go to the idle, and those that may not to the doubtful.
        """
        living = self._living()
        jobs = []
        for claim in self._by_age([*self._doubtful, *self._idle]):
            entry = claim.entry
            if (
                self._closed
                or living > self._max
                or self._is_stale(entry, now)
                or (living > self._min and now >= entry.idle_since + self._idle_timeout)
            ):
                planned = self._plan_for(claim, JobKind.CLOSE, now)
                living -= len(planned)
                jobs += planned
                continue
            lendable = not self._suspended and not self._needs_check(entry, now)
            entry.limit = self._limit(entry)
            if lendable and _remove(self._doubtful, claim):
                self._shelve(claim)
            elif not lendable and _remove(self._idle, claim):
                self._doubtful.append(claim)
        return jobs

    def _offer(self, entry: Entry, now: float) -> None:
        """Pass on a connection that has just proved to work."""
        entry.checked = (entry.uses, entry.idle_since)
        entry.last_ok = now
        entry.suspect = False
        entry.limit = self._limit(entry)
        claim = Claim(entry, self._home)
        if now < entry.limit:
            self._hand_over(claim, now)
        else:
            self._doubtful.append(claim)

    def _turn_away(self) -> None:
        while True:
            try:
                waiter = self._waiters.popleft()
            except IndexError:
                return
            if waiter.done.locked():
                waiter.done.release()

    def _plan(self, kind: JobKind, entry: Entry | None, now: float) -> Job:
        job = Job(kind, entry, self._generation, now, self._time_limits[kind])
        self._jobs.add(job)
        return job

    def _plan_for(self, claim: Claim, kind: JobKind, now: float) -> list[Job]:
        """Plan a job for an idle connection, unless a borrower has just taken it."""
        if not (_remove(self._doubtful, claim) or _remove(self._idle, claim)):
            return []
        claim.entry.tracker = None
        if claim.entry not in self._entries:
            return []  # it was closed by force
        if kind is JobKind.CLOSE:
            self._forget(claim.entry)
        return [self._plan(kind, claim.entry, now)]

    def _plan_by_force(self, now: float) -> list[Job]:
        """Plan to close what is lent, under the hands of the borrowers."""
        lent = [entry for entry in self._entries if entry.lent_at is not None]
        for entry in lent:
            self._forget(entry)
        return [self._plan(JobKind.CLOSE, entry, now) for entry in lent]

    def _forget(self, entry: Entry) -> None:
        self._entries.discard(entry)
        self._uses += entry.uses
        self._use_times.merge(_use_counts(entry), entry.use_seconds)

    def _suspect_all(self) -> None:
        """Let every connection be checked before it is lent again: one has turned out to be broken."""
        for entry in self._entries:
            entry.suspect = True
            entry.limit = -math.inf

    def _look_at_all(self) -> None:
        """Let the keeper look at every connection before it is lent again."""
        for entry in self._entries:
            entry.limit = -math.inf

    def _needs_check(self, entry: Entry, now: float) -> bool:
        return entry.suspect or now - entry.last_ok >= self._fresh_for

    def _is_stale(self, entry: Entry, now: float) -> bool:
        return now >= entry.expires or entry.generation != self._generation or entry not in self._entries

    def _limit(self, entry: Entry) -> float:
        if self._suspended or self._closed or entry.generation != self._generation:
            return -math.inf
        if self._living() > self._min:
            return min(entry.expires, entry.idle_since + self._idle_timeout)
        return entry.expires

    def _is_down(self) -> bool:
        return self._failures >= FAILURES_UNTIL_DOWN and not self._entries

    def _count(self, kind: JobKind) -> int:
        return sum(job.kind is kind for job in self._jobs.copy())

    def _idle_count(self) -> int:
        # In this order: a borrower may move a claim from the idle to the doubtful meanwhile.
        return len(self._doubtful) + len(self._idle)

    def _leased(self) -> int:
        return len(self._entries) - self._idle_count() - self._count(JobKind.CHECK)

    def _size(self) -> int:
        return len(self._entries) + self._count(JobKind.OPEN) + self._count(JobKind.CLOSE)

    def _living(self) -> int:
        return len(self._entries) + self._count(JobKind.OPEN)

    def _by_age(self, claims: Iterable[Claim]) -> list[Claim]:
        return sorted(claims, key=lambda claim: claim.entry.idle_since)

    def _overdue(self, now: float) -> list[Entry]:
        return [
            entry
            for entry in self._entries.copy()
            if (since := entry.lent_at) is not None and now - since >= self._leak_threshold
        ]

    def _all_uses(self) -> Histogram:
        counts = Counts()
        counts.merge(self._use_times.counts, self._use_times.seconds)
        for entry in self._entries:
            counts.merge(_use_counts(entry), entry.use_seconds)
        return counts.freeze()

    def _note_long_use(self, entry: Entry, seconds: float) -> None:
        """Count a use that is over; whoever has its claim does it."""
        if number := bucket(seconds):
            if entry.long_uses is None:
                entry.long_uses = [0] * (len(BOUNDS) + 1)
            entry.long_uses[number] += 1

    # What became of the jobs

    def _add(self, entry: Entry, job: Job, now: float) -> None:
        """Welcome a connection that was opened in time."""
        self._opened += 1
        self._create_times.add(now - job.since)
        self._failures, self._failure, self._next_attempt = 0, None, -math.inf
        self._entries.add(entry)
        self._offer(entry, now)

    def _note_failure(self, error: Exception, text: str, now: float, failures: int) -> None:
        self._open_errors += 1
        self._failure_text = text
        self._failure = error
        self._failures = failures
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(failures - 1, 10))
        self._next_attempt = now + pause * (0.8 + 0.4 * self._random())

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
            if job.entry is None:
                text = f"no answer within connect_timeout, {self._time_limits[JobKind.OPEN]:.2f} s"
                failures = max(FAILURES_UNTIL_DOWN, self._failures + 1)
                self._note_failure(TimeoutError(text), text, now, failures)
                continue
            self._abandoned += 1
            if job.kind is JobKind.CHECK:
                # No answer at all: the others would take as long to check, so they go unchecked.
                self._forget(job.entry)
                self._checks += 1
                self._check_errors += 1
                self._generation += 1
                self._look_at_all()
        return overdue

    def _collect_lost(self, now: float) -> list[Job]:
        """Recover the connections whose claims were dropped."""
        jobs: list[Job] = []
        for report in self._home.collect():
            entry = next((entry for entry in self._entries if entry.tracker is report), None)
            if entry is None:
                continue
            if entry.lent_at is None:  # a thread was interrupted before it lent it, or while giving it back
                self._doubtful.append(Claim(entry, self._home))
            else:
                self._lost_count += 1
                self._forget(entry)
                jobs.append(self._plan(JobKind.CLOSE, entry, now))
        return jobs

    def _background_check(self, now: float) -> list[Job]:
        """Plan a check of the idle connection that needs it most, one at a time."""
        if self._suspended or self._count(JobKind.CHECK):
            return []
        due = [
            claim
            for claim in [*self._doubtful, *self._idle]
            if claim.entry.suspect or now - claim.entry.last_ok >= max(self._fresh_for, BACKGROUND_CHECK_AGE)
        ]
        due.sort(key=lambda claim: claim.entry.last_ok)
        return self._plan_for(due[0], JobKind.CHECK, now) if due else []

    def _pause(self, now: float) -> float:
        """Return how long the keeper may sleep."""
        period = min(
            max(self._fresh_for, BACKGROUND_CHECK_AGE),
            self._max_lifetime,
            self._leak_threshold,
            threading.TIMEOUT_MAX,
        )
        due = now + max(period, SHORTEST_PERIOD)
        if self._next_attempt > now:
            due = min(due, self._next_attempt)
        leases = (entry.lent_at for entry in self._entries if entry.lent_at != entry.reported)
        deadlines = [since + self._leak_threshold for since in leases if since is not None]
        return max(min([due, *deadlines, *(job.deadline for job in self._jobs)]) - now, 0.0)

    def _tell_watchers(self) -> None:
        """Wake those who watch for something that has come about."""
        for watcher in self._watchers.copy():
            condition, lock = watcher
            if condition():
                self._watchers.remove(watcher)
                lock.release()

    def _is_filled(self) -> bool:
        """Whether there is nothing to wait for any more until the minimum is there."""
        ready = len(self._entries) >= self._min
        return ready or self._closed or self._is_down()

    def _is_empty(self) -> bool:
        return not self._size()


def _remove(claims: list[Claim], claim: Claim) -> bool:
    """Take a claim out, unless somebody else has; one operation, so that only one can."""
    try:
        claims.remove(claim)
    except ValueError:
        return False
    return True


def _use_counts(entry: Entry) -> list[int]:
    """Return the histogram of the uses of a connection that are over."""
    counts = [0] * (len(BOUNDS) + 1) if entry.long_uses is None else entry.long_uses.copy()
    counts[0] = max(0, entry.uses - (entry.lent_at is not None) - sum(counts))
    return counts


def _with_short(histogram: Histogram, count: int) -> Histogram:
    """Return a histogram of so many durations: those that it does not know were short."""
    first, *others = histogram.counts
    return Histogram((first + max(0, count - histogram.count), *others), histogram.seconds)
