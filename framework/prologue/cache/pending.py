"""Writes that were begun before their value was there, and must not undo what happens meanwhile."""

from __future__ import annotations

import threading

__all__ = ["PendingWrite", "PendingWrites"]


class PendingWrite:
    """A value for a key is being made, or fetched from another level, to be written when it is there.

    Attributes:
        key: the key.
        overtaken: whether the key was changed since; then the value must not be written.
    """

    __slots__ = ("key", "overtaken")

    def __init__(self, key: str) -> None:
        self.key = key
        self.overtaken = False


class PendingWrites:
    """The pending writes of one cache. Whoever changes a key calls :meth:`overtake` *before* the change.

    Attributes:
        writes: by key; while it is empty there is nothing to overtake.
    """

    __slots__ = ("_lock", "writes")

    def __init__(self) -> None:
        # Invariant: under the lock, writes holds the pending writes of each key, and no empty list.
        self._lock = threading.Lock()
        self.writes: dict[str, list[PendingWrite]] = {}

    def begin(self, key: str) -> PendingWrite:
        """Announce a write, before its value is read from wherever it comes."""
        write = PendingWrite(key)
        with self._lock:
            self.writes.setdefault(key, []).append(write)
        return write

    def end(self, write: PendingWrite) -> None:
        """Forget a write that is done or given up."""
        with self._lock:
            writes = self.writes.get(write.key, [])
            if write in writes:
                writes.remove(write)
                if not writes:
                    del self.writes[write.key]

    def overtake(self, key: str) -> None:
        """Let the pending writes of a key be given up."""
        if self.writes:  # PERF: a change of a key costs no lock while nothing is pending
            with self._lock:
                for write in self.writes.get(key, ()):
                    write.overtaken = True

    def overtake_all(self) -> None:
        """Let all pending writes be given up."""
        with self._lock:
            for writes in self.writes.values():
                for write in writes:
                    write.overtaken = True

    def after_fork(self) -> None:
        """Start over in the child with a lock of its own; a write of the thread that forked goes on."""
        self._lock = threading.Lock()
