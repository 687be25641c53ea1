"""Least recently used, exactly."""

from __future__ import annotations

from collections import OrderedDict, deque

from prologue.cache.node import Node
from prologue.lifecycle import MISSING

__all__ = ["LRU"]


class LRU:
    """The policy ``lru``. Nodes wait in a buffer when they come and when they are used, before anything
    leaves.

    Attributes:
        buffer: where a hit leaves its node, without a lock.
    """

    __slots__ = ("_order", "buffer")

    def __init__(self, capacity: int) -> None:
        # Invariant: once the buffer is empty, every resident is in _order, the least recently used first.
        self._order: OrderedDict[str, Node] = OrderedDict()
        self.buffer: deque[Node] = deque()

    def resize(self, capacity: int) -> None:
        pass

    def make_room(self, new: list[Node], count: int) -> list[Node]:
        self.catch_up()  # the new ones are in the buffer
        return [self._order.popitem(last=False)[1] for _ in range(min(count, len(self._order)))]

    def remove(self, node: Node) -> None:
        if self._order.get(node.key) is node:
            del self._order[node.key]

    def catch_up(self) -> None:
        buffer, order = self.buffer, self._order
        for _ in range(len(buffer)):
            node = buffer.popleft()
            if node.value is not MISSING:
                order[node.key] = node
                order.move_to_end(node.key)

    def clear(self) -> None:
        self._order.clear()
        self.buffer.clear()
