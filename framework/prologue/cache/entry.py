"""A cached value with all that is known of it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

__all__ = ["NEVER", "Entry", "TagGenerations", "tag_names"]

NEVER = math.inf
"""A moment that does not come."""

TagGenerations = tuple[tuple[str, int], ...]
"""Tags, each with its generation before the value was made."""


def tag_names(tags: Iterable[str]) -> tuple[str, ...]:
    """Return tags, each once.

    Raises:
        TypeError: they are one str: its letters are surely not meant.
    """
    if isinstance(tags, str):
        raise TypeError(f"tags are several str, such as ({tags!r},), not one")
    return tuple(dict.fromkeys(tags))


class Entry:
    """A value, until when it may be used, and what can invalidate it. Treat it as immutable.

    Moments are seconds of the cache's clock (monotonic, of this process); a store that outlives the process
    keeps durations, and turns them into moments when it reads.

    Attributes:
        value: the value.
        fresh_until: the moment from which it is not fresh; ``NEVER`` when it does not expire.
        stale_until: the moment from which it must not even be served stale; at least ``fresh_until``.
        refresh_at: the moment from which a hit starts a refresh in the background (``eager``).
        tags: the tags with their generations; the entry is void once one of them has another generation.
        etag: what the factory needs to ask its source whether the value has changed; ``None``: nothing.
    """

    __slots__ = ("etag", "fresh_until", "refresh_at", "stale_until", "tags", "value")

    def __init__(
        self,
        value: Any,
        fresh_until: float = NEVER,
        stale_until: float = NEVER,
        refresh_at: float = NEVER,
        tags: TagGenerations = (),
        etag: str | None = None,
    ) -> None:
        self.value = value
        self.fresh_until = fresh_until
        self.stale_until = stale_until
        self.refresh_at = refresh_at
        self.tags = tags
        self.etag = etag

    def with_value(self, value: Any) -> Entry:
        """Return the same for another value."""
        return Entry(value, self.fresh_until, self.stale_until, self.refresh_at, self.tags, self.etag)

    def __repr__(self) -> str:
        return f"<Entry {self.value!r}, fresh until {self.fresh_until}, stale until {self.stale_until}>"
