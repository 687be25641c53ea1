"""The record of a resident of a memory cache, and what an eviction policy does with it."""

from __future__ import annotations

from collections import deque
from typing import Any, Protocol

from prologue.cache.entry import Entry

__all__ = ["EvictionPolicy", "Node"]


class Node:
    """A resident: all policies and the expiry keep what they need in it.

    PERF: what a slot does not need from the start is set when it does: a node is made for every new key.

    Attributes:
        key: the key.
        value: the value; ``MISSING`` once it has left, for a list may still hold the node then.
        quick_until: until when a hit needs no more than a look at the clock.
        entry: all that is known, if it is more than a value that is fresh until then and gone afterwards.
        hits: how often it was found. Hits add one without a lock; two at once may count once.
        seen: the hits when a policy last looked whether it was used.
        bucket: the number of the expiry bucket that holds it; 0: it never expires.
        weight: what it weighs, in a cache that weighs.
        used: when it was last found, in a cache with an idle limit.
        frequency: for a policy: how often it was used of late, as far as that was counted.
        counted: for a policy: the hits that are in ``frequency``.
        epoch: for a policy: the age of ``frequency``.
    """

    __slots__ = (
        "bucket",
        "counted",
        "entry",
        "epoch",
        "frequency",
        "hits",
        "key",
        "quick_until",
        "seen",
        "used",
        "value",
        "weight",
    )

    counted: int
    epoch: int
    frequency: int
    used: float
    weight: float

    def __init__(self, key: str, value: Any, quick_until: float, entry: Entry | None = None) -> None:
        self.key = key
        self.value = value
        self.quick_until = quick_until
        self.entry = entry
        self.hits = self.seen = self.bucket = 0


class EvictionPolicy(Protocol):
    """Which residents leave when there is no room. The cache calls it under its lock.

    Hits happen meanwhile: ``node.hits`` grows at any moment. A node whose value is ``MISSING`` has left.
    """

    @property
    def buffer(self) -> deque[Node] | None:
        """Where new nodes and those that are used are left, if the policy must know their order."""

    def resize(self, capacity: int) -> None:
        """Take notice of how many residents there is room for, about."""

    def make_room(self, new: list[Node], count: int) -> list[Node]:
        """Take in new residents; then choose and forget so many, or as many as there are, and return them."""

    def remove(self, node: Node) -> None:
        """Forget a resident, perhaps one not taken in yet, whose value is ``MISSING`` now."""

    def catch_up(self) -> None:
        """Take notice of the hits in the buffer."""

    def clear(self) -> None:
        """Forget every resident."""
