"""Least recently used, exactly."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Mapping

from prologue.cache.node import Node, Segment

__all__ = ["LRU"]


class LRU:
    """The policy ``lru``. Hits wait in a buffer, and are told to the order before anything leaves.

    Attributes:
        buffer: where a hit leaves its node, without a lock; :meth:`catch_up` is called from time to time.
    """

    __slots__ = ("_order", "buffer")

    def __init__(self, capacity: int, residents: Mapping[str, Node]) -> None:
        # Invariant: once the buffer is empty, every resident is in _order, the least recently used first.
        self._order: Segment = OrderedDict()
        self.buffer: deque[Node] = deque()

    def resize(self, capacity: int) -> None:
        pass

    def add(self, node: Node, full: bool) -> None:
        self.catch_up()
        self._order[node.key] = node
        node.segment = self._order

    def remove(self, node: Node) -> None:
        self.catch_up()
        del self._order[node.key]

    def clear(self) -> None:
        self._order.clear()
        self.buffer.clear()

    def evict(self) -> Node:
        self.catch_up()
        return self._order.popitem(last=False)[1]

    def catch_up(self) -> None:
        buffer, order = self.buffer, self._order
        for _ in range(len(buffer)):
            node = buffer.popleft()
            if order.get(node.key) is node:
                order.move_to_end(node.key)
