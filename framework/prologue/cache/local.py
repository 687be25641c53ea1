"""What a cache in one process keeps beside its entries: generations of tags, and locks."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence

__all__ = ["Generations", "LocalLocks"]

_MOST_TAGS = 100_000
_MOST_LOCKS = 1000


class Generations:
    """Numbers of tags; another number voids what was stored under a tag. Bounded, whatever their number."""

    __slots__ = ("_generations", "_lock", "_newest", "_oldest")

    def __init__(self) -> None:
        # Invariant: under the lock numbers only grow; a tag that is not here has the generation _oldest,
        # which is at least that of every tag that was here and is not.
        self._lock = threading.Lock()
        self._generations: OrderedDict[str, int] = OrderedDict()
        self._newest = self._oldest = 0

    def generations(self, tags: Sequence[str]) -> tuple[int, ...]:
        """Return the generation of each tag, without the lock."""
        return tuple([self._generations.get(tag, self._oldest) for tag in tags])

    def invalidate(self, tags: Sequence[str]) -> None:
        """Give each tag a new generation."""
        with self._lock:
            self._newest += 1
            for tag in tags:
                self._generations[tag] = self._newest
                self._generations.move_to_end(tag)
            while len(self._generations) > _MOST_TAGS:
                # Tags that were never invalidated get another generation too: a miss, never a stale value.
                tag, self._oldest = next(iter(self._generations.items()))
                del self._generations[tag]

    def after_fork(self) -> None:
        """Start over in the child; what the parent's threads were about to invalidate is void here."""
        if self._lock.locked():
            self._newest += 2
            self._oldest = self._newest
            self._generations = OrderedDict()
        self._lock = threading.Lock()


class LocalLocks:
    """Locks that end by themselves."""

    __slots__ = ("_fence", "_held", "_lock")

    def __init__(self) -> None:
        # Invariant: under the lock, _held names the holder of each lock, and until when it may hold it.
        self._lock = threading.Lock()
        self._held: dict[str, tuple[str, float]] = {}
        self._fence = 0

    def acquire(self, name: str, token: str, ttl: float, now: float) -> int | None:
        """Take a lock if it is free; return its fencing number."""
        with self._lock:
            held = self._held.get(name)
            if held is not None and now < held[1]:
                return None
            if len(self._held) >= _MOST_LOCKS:
                self._held = {other: lock for other, lock in self._held.items() if now < lock[1]}
            self._held[name] = token, now + ttl
            self._fence += 1
            return self._fence

    def release(self, name: str, token: str, now: float) -> bool:
        """Release a lock if it is held with this token; return whether it was."""
        with self._lock:
            held = self._held.get(name)
            if held is None or held[0] != token:
                return False
            del self._held[name]
            return now < held[1]
