"""The parts of a pool: connections, the right to use one, jobs, callers that wait."""

from __future__ import annotations

import enum
import threading
from collections import deque
from queue import Empty, SimpleQueue
from types import CodeType
from typing import Any
from weakref import ref

__all__ = ["Claim", "Entry", "Home", "Job", "JobKind", "Waiter"]


class Entry:
    """A connection of the pool, and what is known about it.

    Whoever has its claim writes the attributes, nobody else; only `limit` and `suspect` are set by anybody,
    under the pool's lock.

    Attributes:
        connection: the driver's.
        commit: commits on it.
        generation: the pool's when it was asked for; the pool closes those of older generations.
        expires: when its lifetime ends, on the pool's clock.
        limit: until when it may be lent without a closer look: its lifetime, or earlier.
        last_ok: when it was last given back, or found to work.
        lent_at: when it was lent; None while it is not.
        suspect: whether it must be checked before it is lent again.
        uses: how often it was lent.
        checked: what `uses` was when it was last found to work, and since when it had been idle then.
        use_seconds: for how long, in all.
        long_uses: a count for each bucket of the histogram but the first.
        tracker: reports that its claim is lost; None if it has none, or none that counts.
        borrower: where it was borrowed, when the pool watches that.
        reported: `lent_at` of the lease that was last reported as too long.
    """

    __slots__ = (
        "borrower",
        "checked",
        "commit",
        "connection",
        "expires",
        "generation",
        "last_ok",
        "lent_at",
        "limit",
        "long_uses",
        "reported",
        "suspect",
        "tracker",
        "use_seconds",
        "uses",
    )

    def __init__(self, connection: Any, commit: Any, generation: int, expires: float, now: float) -> None:
        self.connection = connection
        self.commit = commit
        self.generation = generation
        self.expires = expires
        self.limit = expires
        self.last_ok = now
        self.lent_at: float | None = None
        self.suspect = False
        self.uses = 0
        self.checked = (-1, now)
        self.use_seconds = 0.0
        self.long_uses: list[int] | None = None
        self.tracker: ref[Claim] | None = None
        self.reported: float | None = None
        self.borrower: list[tuple[CodeType, int]] | None = None

    @property
    def idle_since(self) -> float:
        """When it was given back; a check is no use."""
        # PERF: worked out from what a lease has to write anyway.
        uses, since = self.checked
        return since if uses == self.uses else self.last_ok


class Home:
    """Where lost claims of one pool, in one process, are reported, and whoever needs the keeper calls it.

    It is filled by finalizers and signal handlers, at any point of any thread: its operations are atomic and
    take no lock.

    Attributes:
        calls: wakes the keeper; None, or what reports a lost claim.
        reports: the latter, as far as the keeper has them already.
    """

    __slots__ = ("calls", "reports")

    def __init__(self) -> None:
        self.calls: SimpleQueue[ref[Claim] | None] = SimpleQueue()
        self.reports: deque[ref[Claim]] = deque()

    def collect(self) -> list[ref[Claim]]:
        """Take all reports and calls; the keeper is about to see to them."""
        reports = []
        try:
            while True:
                if (report := self.calls.get_nowait()) is not None:
                    reports.append(report)
        except Empty:
            pass
        while self.reports:
            reports.append(self.reports.popleft())
        return reports


class Claim:
    """The right to use a connection: whoever has it, has the connection.

    There is one for each connection. It lies in one container of the pool or in one lease, and is moved by
    single atomic operations. So wherever a thread is interrupted, by a signal, an exception from another
    thread or a finalizer, the claim is still somewhere or nowhere: and then the loss is reported.
    """

    __slots__ = ("__weakref__", "entry", "home")

    def __init__(self, entry: Entry, home: Home) -> None:
        self.entry = entry
        self.home = home
        # Not a `__del__`: that would be code of Python's, which can be interrupted before it does anything.
        entry.tracker = ref(self, home.calls.put)


class JobKind(enum.Enum):
    """What a job does."""

    OPEN = "open"
    CHECK = "check"
    CLOSE = "close"


class Job:
    """A call of the driver on a thread of its own. It holds one place of the pool until its deadline.

    A job that is overdue is forgotten: its place is free, and what it brings is closed when it comes.
    """

    __slots__ = ("deadline", "entry", "generation", "kind", "since")

    def __init__(self, kind: JobKind, entry: Entry | None, generation: int, now: float, limit: float) -> None:
        self.kind = kind
        self.entry = entry
        self.generation = generation
        self.since = now
        self.deadline = now + limit


class Waiter:
    """A caller that waits, on a lock of its own that whoever serves it releases.

    Attributes:
        since: when it began to wait.
        served: the claim that it is given. Putting in and taking out are atomic: when the caller gives up in
            the moment in which it is served, one of the two takes the claim out again.
    """

    # PERF: a bare lock, not a Condition: the caller that wakes up need not take the pool's lock again.
    __slots__ = ("done", "served", "since")

    def __init__(self, since: float) -> None:
        self.done = threading.Lock()
        self.done.acquire()
        self.served: list[Claim] = []
        self.since = since
