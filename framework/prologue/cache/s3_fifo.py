"""S3-FIFO (Yang, Zhang, Qiu, Yue, Rashmi, 2023): two queues, and the keys that left the smaller one."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

from prologue.cache.node import Node, Segment

__all__ = ["S3FIFO"]

_SMALL = 0.1
_LARGEST = 3  # uses that a node of the main queue is credited with


class S3FIFO:
    """The policy ``s3-fifo``.

    Who was not used before it has gone through the small queue leaves, and is remembered for as long as the
    main queue is large; if it comes back meanwhile it goes straight to the main queue. There, each use since
    the last time saves from leaving once, up to three times.
    """

    __slots__ = ("_capacity", "_left", "_main", "_small")

    buffer: Final = None

    def __init__(self, capacity: int, residents: Mapping[str, Node]) -> None:
        # Invariant: every resident is in exactly one of the two queues, the one that it names.
        self._small: Segment = OrderedDict()
        self._main: Segment = OrderedDict()
        self._left: OrderedDict[int, None] = OrderedDict()
        self.resize(capacity)

    def resize(self, capacity: int) -> None:
        self._capacity = capacity

    def add(self, node: Node, full: bool) -> None:
        digest = hash(node.key)
        if digest in self._left:
            del self._left[digest]
            node.segment = self._main
        else:
            node.segment = self._small
        node.segment[node.key] = node

    def remove(self, node: Node) -> None:
        del node.segment[node.key]

    def catch_up(self) -> None:
        pass

    def clear(self) -> None:
        self._small.clear()
        self._main.clear()
        self._left.clear()

    def evict(self) -> Node:
        small, main = self._small, self._main
        while small and (not main or len(small) > self._capacity * _SMALL):
            node = next(iter(small.values()))
            del small[node.key]
            if node.hits == node.seen:
                self._left[hash(node.key)] = None
                if len(self._left) > self._capacity * (1 - _SMALL):
                    self._left.popitem(last=False)
                return node
            node.seen = node.hits
            node.segment = main
            main[node.key] = node
        patience = _LARGEST * len(main)
        while True:
            node = next(iter(main.values()))
            credit = min(node.frequency + node.hits - node.seen, _LARGEST)
            if not credit or not patience:
                del main[node.key]
                return node
            patience -= 1
            node.seen = node.hits
            node.frequency = credit - 1
            main.move_to_end(node.key)
