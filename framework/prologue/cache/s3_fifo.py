"""S3-FIFO (Yang, Zhang, Qiu, Yue, Rashmi, 2023): two queues, and the keys that left the smaller one."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Final

from prologue.cache.node import Node
from prologue.lifecycle import MISSING

__all__ = ["S3FIFO"]

_SMALL = 0.1
_OFTEN = 2  # uses that move a node from the small queue to the main one
_LARGEST = 3  # uses that a node of the main queue is credited with


class S3FIFO:
    """The policy ``s3-fifo``.

    Who was not used often before it has gone through the small queue leaves, and is remembered for as long as
    the main queue is large; if it comes back meanwhile it goes straight to the main queue. There, each use
    since the last time saves from leaving once, up to three times.

    Until room is needed for the first time, what the small queue has no place for goes to the main queue, as
    in the authors' own program: so a part of a loop that is larger than the cache stays.
    """

    __slots__ = ("_capacity", "_filling", "_left", "_main", "_removed", "_small")

    buffer: Final = None

    def __init__(self, capacity: int) -> None:
        # Invariant: every resident that was taken in is in one of the two queues; besides there are _removed
        # nodes in them that are not resident any more, no more than there are residents and a few.
        self._small: deque[Node] = deque()
        self._main: deque[Node] = deque()
        self._left: OrderedDict[int, None] = OrderedDict()
        self._removed = 0
        self._filling = True
        self.resize(capacity)

    def resize(self, capacity: int) -> None:
        self._capacity = capacity

    def make_room(self, new: list[Node], count: int) -> list[Node]:
        small, main, left = self._small, self._main, self._left
        for node in new:
            if node.value is MISSING:
                self._removed -= 1
                continue
            digest = hash(node.key)
            if digest in left:
                del left[digest]
                node.frequency = 0
                main.append(node)
            elif self._filling and len(small) >= self._capacity * _SMALL:
                node.frequency = 0
                main.append(node)
            else:
                small.append(node)
        if count:
            self._filling = False
        victims: list[Node] = []
        patience = _LARGEST * (len(main) + len(small))
        while len(victims) < count and (small or main):
            if small and (not main or len(small) > self._capacity * _SMALL):
                node = small.popleft()
                if node.value is MISSING:
                    self._removed -= 1
                elif node.hits - node.seen < _OFTEN:
                    left[hash(node.key)] = None
                    if len(left) > self._capacity * (1 - _SMALL):
                        left.popitem(last=False)
                    victims.append(node)
                else:
                    node.seen = node.hits
                    node.frequency = 0
                    main.append(node)
                continue
            node = main.popleft()
            if node.value is MISSING:
                self._removed -= 1
                continue
            credit = min(node.frequency + node.hits - node.seen, _LARGEST)
            if not credit or not patience:
                victims.append(node)
            else:
                patience -= 1
                node.seen = node.hits
                node.frequency = credit - 1
                main.append(node)
        return victims

    def remove(self, node: Node) -> None:
        self._removed += 1
        if self._removed > 64 and 2 * self._removed > len(self._small) + len(self._main):
            self._small = deque([node for node in self._small if node.value is not MISSING])
            self._main = deque([node for node in self._main if node.value is not MISSING])
            self._removed = 0

    def catch_up(self) -> None:
        pass

    def clear(self) -> None:
        self._small.clear()
        self._main.clear()
        self._left.clear()
        self._removed = 0
        self._filling = True
