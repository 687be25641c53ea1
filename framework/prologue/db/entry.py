"""The parts of a pool's state: connections, jobs, callers that wait. The pool's lock guards them."""

from __future__ import annotations

import enum
import threading
from typing import Any

__all__ = ["Entry", "Job", "JobKind", "Waiter"]


class Entry:
    """A connection of the pool.

    Attributes:
        connection: the driver's.
        generation: the pool's when it was asked for; the pool closes those of older generations.
        expires: when its lifetime ends, on the pool's clock.
        last_ok: when it was last known to work.
        idle_since: when it was last given back.
        suspect: whether it must be checked before it is lent again.
    """

    __slots__ = ("connection", "expires", "generation", "idle_since", "last_ok", "suspect")

    def __init__(self, connection: Any, generation: int, expires: float, now: float) -> None:
        self.connection = connection
        self.generation = generation
        self.expires = expires
        self.last_ok = now
        self.idle_since = now
        self.suspect = False


class JobKind(enum.Enum):
    """What a job does."""

    OPEN = "open"
    CHECK = "check"
    CLOSE = "close"


class Job:
    """A call of the driver on a thread of its own. It holds one place of the pool until its deadline.

    A job that is overdue is forgotten: its place is free, and what it brings is closed when it comes.
    """

    __slots__ = ("deadline", "entry", "generation", "kind")

    def __init__(self, kind: JobKind, entry: Entry | None, generation: int, deadline: float) -> None:
        self.kind = kind
        self.entry = entry
        self.generation = generation
        self.deadline = deadline


class Waiter:
    """A caller that waits, on a lock of its own that whoever serves it releases.

    Attributes:
        done: held until the caller has got an entry, or is told by a missing one that none will come.
        entry: the connection lent to it.
    """

    # PERF: a bare lock, not a Condition: the caller that wakes up need not take the pool's lock again.
    __slots__ = ("done", "entry")

    def __init__(self) -> None:
        self.done = threading.Lock()
        self.done.acquire()
        self.entry: Entry | None = None
