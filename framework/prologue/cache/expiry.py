"""Finding the entries whose time is over: a few at a time, without a thread, without a look at the others."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from prologue.cache.entry import NEVER
from prologue.cache.node import Node

__all__ = ["Expiry"]

_PER_SECOND = 16
_SLACK = 64


class Expiry:
    """Buckets of nodes that expire within the same sixteenth of a second. Called under the cache's lock.

    Attributes:
        next: no bucket is due before this moment.
    """

    __slots__ = ("_buckets", "_order", "next")

    def __init__(self) -> None:
        # Invariant: a node that expires is in the one bucket that it names, no bucket is empty, and the
        # number of every bucket is in the heap _order, besides numbers of buckets that are gone.
        self._buckets: dict[int, dict[Node, None]] = {}
        self._order: list[int] = []
        self.next = NEVER

    def add(self, node: Node, moment: float) -> None:
        """Take in a node that expires at a moment."""
        number = node.bucket = int(moment * _PER_SECOND) + 1
        bucket = self._buckets.get(number)
        if bucket is None:
            self._buckets[number] = {node: None}
            if len(self._order) > 2 * len(self._buckets) + _SLACK:
                self._order = list(self._buckets)
                heapq.heapify(self._order)
            else:
                heapq.heappush(self._order, number)
            self.next = self._order[0] / _PER_SECOND
        else:
            bucket[node] = None

    def remove(self, node: Node) -> None:
        """Forget a node, wherever it is."""
        number = node.bucket
        if number:
            node.bucket = 0
            bucket = self._buckets[number]
            del bucket[node]
            if not bucket:
                del self._buckets[number]

    def due(self, now: float, limit: int) -> Iterator[Node]:
        """Yield up to so many nodes whose bucket is over; the caller removes each, or adds it anew."""
        order = self._order
        while order and order[0] <= now * _PER_SECOND:
            bucket = self._buckets.get(order[0])
            if bucket is None:
                heapq.heappop(order)
                continue
            while bucket:
                if not limit:
                    return
                limit -= 1
                yield next(reversed(bucket))  # PERF: the first would be sought behind all that were removed
        self.next = order[0] / _PER_SECOND if order else NEVER

    def clear(self) -> None:
        """Forget every node."""
        self._buckets.clear()
        self._order.clear()
        self.next = NEVER
