"""The record of a resident of a memory cache, and what an eviction policy does with it."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Any, Protocol

from prologue.cache.entry import NEVER, Entry, TagGenerations

__all__ = ["EvictionPolicy", "Node", "Segment"]


class Node(Entry):
    """An entry that is resident: all policies and the expiry keep what they need in it.

    Attributes:
        key: the key.
        weight: what the entry weighs.
        hits: how often it was found. Only hits change it, by one, without a lock; two at once may count once.
        seen: the hits when a policy last looked whether it was used.
        counted: the hits that are in ``frequency``.
        frequency: how often the key was used of late, as far as it was counted.
        epoch: the age of the frequency.
        segment: the list of the policy that holds it.
        bucket: the number of the expiry bucket that holds it; 0: it never expires.
        used: when it was last found, on the cache's clock; kept only with an idle limit.
        plain: whether a hit needs no more than a look at the clock.
    """

    __slots__ = (
        "bucket",
        "counted",
        "epoch",
        "frequency",
        "hits",
        "key",
        "plain",
        "seen",
        "segment",
        "used",
        "weight",
    )

    segment: Segment

    def __init__(
        self,
        key: str,
        value: Any,
        fresh_until: float = NEVER,
        stale_until: float = NEVER,
        refresh_at: float = NEVER,
        tags: TagGenerations = (),
        etag: str | None = None,
    ) -> None:
        # PERF: what Entry's own does, without a second call.
        self.key = key
        self.value = value
        self.fresh_until = fresh_until
        self.stale_until = stale_until
        self.refresh_at = refresh_at
        self.tags = tags
        self.etag = etag
        self.weight = 1.0
        self.hits = self.seen = self.counted = self.frequency = self.epoch = self.bucket = 0
        self.used = 0.0
        self.plain = True

    def succeed(self, old: Node) -> None:
        """Take the place of the node of the same key. A write is a use."""
        self.hits = old.hits + 1
        self.seen, self.counted = old.seen, old.counted
        self.frequency, self.epoch = old.frequency, old.epoch
        self.segment = old.segment
        self.segment[self.key] = self


Segment = OrderedDict[str, Node]
"""A list of residents in the order of a policy, the next to leave first."""


class EvictionPolicy(Protocol):
    """Which resident leaves when there is no room. The cache calls it under its lock.

    Hits happen meanwhile: ``node.hits`` grows at any moment.

    """

    @property
    def buffer(self) -> deque[Node] | None:
        """Where hits leave their nodes, if the policy must know their order."""

    def resize(self, capacity: int) -> None:
        """Take notice of how many residents there is room for, about."""

    def add(self, node: Node, full: bool) -> None:
        """Take in a new resident. If that is one too many, :meth:`evict` is called next."""

    def remove(self, node: Node) -> None:
        """Forget a resident that was deleted or has expired."""

    def evict(self) -> Node:
        """Choose a resident, forget it and return it; there is at least one."""

    def catch_up(self) -> None:
        """Take notice of the hits in the buffer."""

    def clear(self) -> None:
        """Forget every resident."""
