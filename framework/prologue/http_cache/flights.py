"""Concurrent misses: one request asks the application, the others wait to see what becomes of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Hashable
from enum import Enum

from prologue.lifecycle import on_fork

__all__ = ["Flight", "Flights", "Verdict"]


class Verdict(Enum):
    """What those who waited learn."""

    STORED = "stored"
    """A response is in the store that may answer others: look."""
    GIVEN_UP = "given up"
    """Nothing came of it, as when its client goes away or its URL is purged: begin another."""
    UNCACHEABLE = "uncacheable"
    """The response is of no use to others: ask for yourself."""
    FAILED = "failed"
    """The application failed."""


class Flight:
    """One request to the application that others may wait for."""

    __slots__ = ("_event", "key", "thread", "verdict")

    def __init__(self, key: Hashable) -> None:
        self.key = key
        self.thread = threading.get_ident()
        self.verdict: Verdict | None = None
        self._event = threading.Event()

    def wait(self, seconds: float) -> Verdict | None:
        """Wait for the verdict; None when it takes too long, or the caller would wait for itself."""
        if self.thread == threading.get_ident():
            return None
        self._event.wait(max(0.0, seconds))
        return self.verdict

    def land(self, verdict: Verdict) -> None:
        """Let those who wait go on."""
        self.verdict = verdict
        self._event.set()


class Flights:
    """The flights of this process, and the URLs whose responses cannot be shared.

    Args:
        memory: seconds that an uncacheable URL is remembered: its requests never wait for each other.
        limit: how many are remembered.
    """

    __slots__ = ("__weakref__", "_limit", "_lock", "_memory", "_running", "_uncacheable")

    def __init__(self, memory: float = 120.0, limit: int = 10_000) -> None:
        # Invariant: _running has the flight of a key from join() until land(); _uncacheable is in order of
        # time.
        self._lock = threading.Lock()
        self._running: dict[Hashable, Flight] = {}
        self._uncacheable: dict[Hashable, float] = {}
        self._memory = memory
        self._limit = limit
        on_fork(self._after_fork)

    def join(self, key: Hashable) -> tuple[Flight, bool]:
        """Return the flight of a key, and whether the caller is to lead it, and land it."""
        with self._lock:
            flight = self._running.get(key)
            if flight is not None:
                return flight, False
            flight = self._running[key] = Flight(key)
            return flight, True

    def land(self, flight: Flight, verdict: Verdict) -> None:
        """End a flight; a second time does nothing."""
        with self._lock:
            if self._running.get(flight.key) is flight:
                del self._running[flight.key]
        if flight.verdict is None:
            flight.land(verdict)

    def is_uncacheable(self, key: Hashable) -> bool:
        """Return whether a URL was marked a short while ago."""
        end = self._uncacheable.get(key)
        return end is not None and time.monotonic() < end

    def mark(self, key: Hashable, cacheable: bool) -> None:
        """Remember whether the responses of a URL can be shared."""
        if cacheable and key not in self._uncacheable:
            return
        with self._lock:
            self._uncacheable.pop(key, None)
            if not cacheable:
                self._uncacheable[key] = time.monotonic() + self._memory
                while len(self._uncacheable) > self._limit:
                    del self._uncacheable[next(iter(self._uncacheable))]

    def _after_fork(self) -> None:
        self._lock = threading.Lock()
        self._running = {}
