"""Finding the entries whose time is over: a few at a time, without a thread, without a look at the others."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator

from prologue.cache.entry import NEVER
from prologue.cache.node import Node

__all__ = ["Expiry"]

_PER_SECOND = 16
_SLACK = 64


class Expiry:
    """Buckets of nodes that expire within the same sixteenth of a second. Called under the cache's lock.

    Attributes:
        next: no bucket is due before this moment.
        last: the bucket that was last put into, its number, and from and until when what is in it expires.
    """

    __slots__ = ("_buckets", "_order", "last", "last_from", "last_number", "last_until", "next")

    def __init__(self) -> None:
        # Invariant: a node that expires is in the one bucket that it names, no bucket is empty, and the
        # number of every bucket is in the heap _order, besides numbers of buckets that are gone.
        self._buckets: dict[int, dict[Node, None]] = {}
        self._order: list[int] = []
        self.next = NEVER
        # PERF: what is stored one after the other mostly expires together: the bucket that was last put into,
        # and the moments that belong to it.
        self.last: dict[Node, None] = {}
        self.last_number = 0
        self.last_from = self.last_until = 0.0

    def add(self, node: Node, moment: float) -> None:
        """Take in a node that expires at a moment."""
        if self.last_from <= moment < self.last_until:
            node.bucket = self.last_number
            self.last[node] = None
            return
        number = node.bucket = int(moment * _PER_SECOND) + 1
        bucket = self._buckets.get(number)
        if bucket is None:
            bucket = self._buckets[number] = {}
            if len(self._order) > 2 * len(self._buckets) + _SLACK:
                self._order = list(self._buckets)
                heapq.heapify(self._order)
            else:
                heapq.heappush(self._order, number)
            self.next = self._order[0] / _PER_SECOND
        bucket[node] = None
        self.last, self.last_number = bucket, number
        self.last_from, self.last_until = (number - 1) / _PER_SECOND, number / _PER_SECOND

    def remove(self, node: Node) -> None:
        """Forget a node, wherever it is."""
        number = node.bucket
        if number:
            node.bucket = 0
            bucket = self._buckets[number]
            del bucket[node]
            if not bucket:
                del self._buckets[number]
                if number == self.last_number:
                    self.last_from = self.last_until = 0.0

    def remove_all(self, nodes: Iterable[Node]) -> None:
        """Forget nodes, wherever they are."""
        # PERF: as remove() does, without a call for each.
        buckets = self._buckets
        for node in nodes:
            number = node.bucket
            if number:
                bucket = buckets[number]
                if len(bucket) == 1:
                    self.remove(node)
                else:
                    node.bucket = 0
                    del bucket[node]

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
        self.last_from = self.last_until = 0.0
        self.next = NEVER
