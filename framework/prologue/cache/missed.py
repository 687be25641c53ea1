"""What a store missed while it did not answer, to be made up for when it answers again."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping

from prologue.cache.entry import Entry

__all__ = ["MissedOperations", "MissedWrite"]


class MissedWrite:
    """The last thing that was done to a key: an entry stored, or removed (``None``)."""

    __slots__ = ("entry",)

    def __init__(self, entry: Entry | None) -> None:
        self.entry = entry


class MissedOperations:
    """Missed operations: the last for each key, the tags to invalidate, whether to clear all.

    What was noted stays until it was made up for, so that reading can take it into account. Past the limit of
    keys it becomes a ``clear``: forgetting one operation could bring back an old value.

    Args:
        limit: the most keys to remember.
    """

    __slots__ = ("_clears", "_limit", "_lock", "_tags", "_writes")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        # Invariant: at most _limit keys; what changes, changes under the lock. A number or an object
        # identifies what was noted, so that making up for it does not wipe out what was noted meanwhile.
        self._lock = threading.Lock()
        self._writes: dict[str, MissedWrite] = {}
        self._tags: dict[str, int] = {}
        self._clears = 0

    def __bool__(self) -> bool:
        return bool(self._writes or self._clears or self._tags)

    def note_writes(self, entries: Mapping[str, Entry | None]) -> None:
        """Note that entries were stored, or removed (``None``)."""
        with self._lock:
            for key, entry in entries.items():
                self._writes[key] = MissedWrite(entry)
            if len(self._writes) > self._limit:
                self._writes.clear()
                self._clears += 1

    def note_tags(self, tags: Iterable[str]) -> None:
        """Note that tags were invalidated."""
        with self._lock:
            for tag in tags:
                self._tags[tag] = self._tags.get(tag, 0) + 1

    def note_clear(self) -> None:
        """Note that everything was removed."""
        with self._lock:
            self._writes.clear()
            self._clears += 1

    def write_of(self, key: str) -> MissedWrite | None:
        """Return what was last done to a key, if it was missed."""
        return self._writes.get(key)

    def writes(self) -> dict[str, MissedWrite]:
        """Return a copy of the missed writes."""
        with self._lock:
            return dict(self._writes)

    @property
    def tags(self) -> dict[str, int]:
        """A copy of the missed tags, each with what :meth:`made_up_for_tags` wants."""
        with self._lock:
            return dict(self._tags)

    def missed_tag(self, tag: str) -> bool:
        """Tell whether the invalidation of a tag was missed."""
        return tag in self._tags

    @property
    def clears(self) -> int:
        """How often everything was removed; 0: never."""
        return self._clears

    def made_up_for_write(self, key: str, write: MissedWrite | None = None) -> None:
        """Forget a missed write, unless another came after it; without one, whatever it was."""
        if key in self._writes:
            with self._lock:
                if write is None or self._writes.get(key) is write:
                    self._writes.pop(key, None)

    def made_up_for_tags(self, tags: Mapping[str, int]) -> None:
        """Forget missed tags, unless they were missed again since."""
        with self._lock:
            for tag, times in tags.items():
                if self._tags.get(tag) == times:
                    del self._tags[tag]

    def made_up_for_clear(self, clears: int) -> None:
        """Forget a missed ``clear``, unless it was missed again since."""
        with self._lock:
            if self._clears == clears:
                self._clears = 0
