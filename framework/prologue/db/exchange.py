"""Where connections that are free meet the callers that wait.

Borrowing and giving back take no lock while connections are idle: the common case is one ``list.pop`` and one
``list.append``, which are atomic with and without a GIL. Whoever finds somebody waiting pairs the two under
the lock. The orders that make it right:

* A caller first joins the queue and then looks for idle connections; one who gives back first puts down the
  connection and then looks at the queue. So one of the two sees the other.
* A caller that sees somebody waiting joins the queue. So nobody is overtaken by one who came later.
* Whoever serves the first of the queue removes it at last. So a thread that is interrupted meanwhile leaves
  nothing that the next one cannot finish; it calls the keeper to be the next.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from prologue.db.entry import Claim, Home, Waiter
from prologue.db.histogram import Counts

__all__ = ["Exchange"]


class Exchange:
    """The idle connections and the callers of one pool."""

    # PERF: slots, for each lease reads these, and the attributes of an object that has so many are slower.
    __slots__ = (
        "__weakref__",
        "_clock",
        "_doubtful",
        "_fresh_for",
        "_home",
        "_idle",
        "_lease_type",
        "_lock",
        "_wait_seconds",
        "_wait_times",
        "_waiters",
        "_waits",
    )

    _clock: Callable[[], float]
    _fresh_for: float  # seconds after it was last known to work for which a connection is lent unseen

    def _start_over(self) -> None:
        # Invariant: the lock guards whatever is not changed by single atomic operations. It is reentrant,
        # because a finalizer or a signal handler may give a connection back in a thread that holds it. No
        # code of a user, a driver or a logger runs under it.
        self._lock = threading.RLock()
        self._home = Home()
        self._idle: list[Claim] = []  # the one given back last is the last
        self._doubtful: list[Claim] = []  # idle too, but to be looked at before they are lent
        self._waiters: deque[Waiter] = deque()
        self._wait_times = Counts()  # of those who had to wait, and were served
        self._waits = 0
        self._wait_seconds = 0.0  # of those who were not served, too

    def _pair(self) -> None:
        """Give idle connections to those who wait, first come, first served."""
        with self._lock:
            now = self._clock()
            while self._first_waiter(now) is not None and (claim := self._take_idle(now)) is not None:
                self._hand_over(claim, now)
                if not self._idle:  # PERF: the common case, three calls of twenty sooner
                    return

    def _take_idle(self, now: float) -> Claim | None:
        """Take the idle connection that was used last; put those aside that need a closer look."""
        while True:
            try:
                claim = self._idle.pop()
            except IndexError:
                return None
            entry = claim.entry
            if now - entry.last_ok < self._fresh_for and now < entry.limit:
                return claim
            self._doubtful.append(claim)

    def _hand_over(self, claim: Claim, now: float) -> None:
        """Give a claim to the caller that waits longest, or make it idle; the lock is held."""
        while (waiter := self._first_waiter(now)) is not None:
            waiter.served.append(claim)
            if self._dismiss(waiter, now):
                return
            try:  # it gave up meanwhile: unless it saw the claim, the claim is ours again
                claim = waiter.served.pop()
            except IndexError:
                return
        self._shelve(claim)

    def _shelve(self, claim: Claim) -> None:
        """Make a connection idle that nobody has just used: below those that were used later."""
        since = claim.entry.idle_since
        self._idle.insert(sum(other.entry.idle_since <= since for other in self._idle.copy()), claim)

    def _first_waiter(self, now: float) -> Waiter | None:
        """Return the caller that waits longest, and was not served by a thread that was interrupted then."""
        while True:
            try:
                waiter = self._waiters[0]
            except IndexError:
                return None
            if not waiter.served:
                return waiter
            self._dismiss(waiter, now)

    def _dismiss(self, waiter: Waiter, now: float) -> bool:
        """Wake a caller that was served; return false if it has given up meanwhile."""
        if waiter.done.locked():
            waiter.done.release()
        if not self._leave(waiter):
            return False
        self._waits += 1
        self._wait_times.add(now - waiter.since)
        self._wait_seconds += now - waiter.since
        return True

    def _leave(self, waiter: Waiter) -> bool:
        """Remove a caller from the queue; return whether it was still there."""
        try:
            self._waiters.remove(waiter)
        except ValueError:
            return False
        return True
