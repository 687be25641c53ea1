"""The generations of tags, as this process last saw them in the shared store."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping

from prologue.cache.entry import TagGenerations
from prologue.cache.remote import new_generation

__all__ = ["TagView"]

_LIMIT = 10_000


class TagView:
    """Which generations tags have, as far as is known without asking.

    What is read from the store while a tag is invalidated may be old already: it is learned only if nothing
    was forgotten since before it was read.
    """

    __slots__ = ("_known", "_lock", "epoch")

    def __init__(self) -> None:
        # Invariant: under the lock, epoch grows with whatever is forgotten. Reading takes no lock.
        self._lock = threading.Lock()
        self._known: dict[str, int] = {}
        self.epoch = 0

    def current(self, tags: TagGenerations) -> bool | None:
        """Tell whether all tags still have these generations; ``None``: one of them is not known."""
        known = self._known
        for tag, generation in tags:
            found = known.get(tag)
            if found != generation:
                return None if found is None else False
        return True

    def known(self, tags: Iterable[str]) -> dict[str, int]:
        """Return the generations of those tags that are known."""
        known = self._known
        return {tag: generation for tag in tags if (generation := known.get(tag)) is not None}

    def learn(self, epoch: int, generations: Mapping[str, int]) -> None:
        """Remember what was read from the store, unless something was forgotten since the epoch."""
        with self._lock:
            if self.epoch == epoch:
                if len(self._known) + len(generations) > _LIMIT:
                    self._known = {}
                self._known.update(generations)

    def get_or_make_up(self, tag: str) -> int:
        """Return the generation of a tag; if it is not known, one that the store does not know either."""
        with self._lock:
            return self._known.setdefault(tag, new_generation())

    def forget(self, tags: Iterable[str]) -> None:
        """Forget tags that were invalidated."""
        with self._lock:
            self.epoch += 1
            for tag in tags:
                self._known.pop(tag, None)

    def forget_all(self) -> None:
        """Forget all."""
        with self._lock:
            self.epoch += 1
            self._known = {}
