"""W-TinyLFU (Einziger, Friedman, Manes, 2017), with an adaptive window, and hits that keep no books.

New entries enter a small window. Who leaves it must have been used more often of late than the entry that
would make room among the others: that keeps scans and loops out. Where the textbook policy moves an entry and
counts in a sketch on every hit, here a hit adds one to a number of the node; everything else happens when
entries come and go:

* *Lazy promotion.* A list is kept in the order of entry. Whoever comes to its head and was used since it was
  last looked at goes on: to the tail of the window, from probation to the protected part, to the tail of
  that.
* *Frequencies* of residents are on their nodes. A table of small counters keeps those of the keys that left,
  two counters for each key, of which the smaller counts.
* *Aging.* When residents were used ten times each on average, all frequencies are halved: those of the table
  at once, those of a node when it is next looked at.
* *Adaptive window.* The textbook climbs the hill of the hit ratio step by step, blindly. Here the two sides
  are compared directly: how many of the keys that were turned away lately are asked for again, for each place
  that a larger window would have given them; and how many hits a place among the others brings. The first is
  the gain of the window's next place, the second is more than the loss, since the others' least useful places
  are what would be given up; so the gain is compared with a quarter of it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

from prologue.cache.node import Node, Segment

__all__ = ["TinyLFU"]

_LARGEST = 7  # a frequency; larger ones adapt more slowly
_COUNTERS_PER_ENTRY = 16
_HALVE = bytes(count >> 1 for count in range(256))

_FIRST_WINDOW = 0.01
_LARGEST_WINDOW = 0.8
_WINDOW_STEP = 0.0625
_PROTECTED = 0.8
_GHOSTS = 0.2  # keys turned away that are remembered, as a part of the capacity
_LOSS = 0.25
_AGE = 10
_OFTEN = 16  # new residents between two looks at some of the others …
_AT_ONCE = 32  # … that are so many: their hits are counted in half the time in which all could be replaced


class _Frequencies:
    """Small counters of how often keys were used: approximate, never too small before the next aging."""

    __slots__ = ("_first", "_mask", "_second")

    def __init__(self) -> None:
        self._mask = 255
        self._first = bytearray(self._mask + 1)
        self._second = bytearray(self._mask + 1)

    def grow(self, entries: int) -> None:
        """Have enough counters for so many residents. Every key keeps its counts."""
        while self._mask < entries * _COUNTERS_PER_ENTRY:
            self._first = self._first * 2
            self._second = self._second * 2
            self._mask = 2 * self._mask + 1

    def get(self, digest: int) -> int:
        first = self._first[digest & self._mask]
        second = self._second[(digest >> 32) & self._mask]
        return first if first < second else second

    def raise_to(self, digest: int, frequency: int) -> None:
        index = digest & self._mask
        if self._first[index] < frequency:
            self._first[index] = frequency
        index = (digest >> 32) & self._mask
        if self._second[index] < frequency:
            self._second[index] = frequency

    def halve(self) -> None:
        self._first = self._first.translate(_HALVE)
        self._second = self._second.translate(_HALVE)


class TinyLFU:
    """The policy ``w-tinylfu``; see the module."""

    __slots__ = (
        "_capacity",
        "_epoch",
        "_frequencies",
        "_main_hits",
        "_misses",
        "_probation",
        "_protected",
        "_regrets",
        "_requests",
        "_residents",
        "_survey",
        "_turned_away",
        "_window",
        "_window_part",
        "_window_size",
    )

    buffer: Final = None

    def __init__(self, capacity: int, residents: Mapping[str, Node]) -> None:
        self._residents = residents
        # Invariant: every resident is in exactly one of the three segments, the one that it names.
        self._window: Segment = OrderedDict()
        self._probation: Segment = OrderedDict()
        self._protected: Segment = OrderedDict()
        self._frequencies = _Frequencies()
        self._turned_away: OrderedDict[int, None] = OrderedDict()
        self._window_part = _FIRST_WINDOW
        self._epoch = 0
        self._requests = 0  # since the last aging
        self._misses = self._main_hits = self._regrets = 0  # since the last survey
        self._survey: list[str] = []  # keys, for a node would outlive its removal here
        self.resize(capacity)

    def resize(self, capacity: int) -> None:
        self._capacity = capacity
        self._window_size = max(1, int(capacity * self._window_part))

    def add(self, node: Node, full: bool) -> None:
        digest = hash(node.key)
        frequency = self._frequencies.get(digest) + 1
        node.frequency = frequency if frequency < _LARGEST else _LARGEST
        node.epoch = self._epoch
        if digest in self._turned_away:
            del self._turned_away[digest]
            self._regrets += 1
        window = node.segment = self._window
        window[node.key] = node
        if not full and len(window) > self._window_size:
            self._admit(self._leave_window())
        self._misses += 1
        if not self._misses % _OFTEN:
            self._look_at_some()

    def remove(self, node: Node) -> None:
        del node.segment[node.key]
        self._frequencies.raise_to(hash(node.key), self._frequency(node))

    def catch_up(self) -> None:
        pass

    def clear(self) -> None:
        for segment in (self._window, self._probation, self._protected):
            segment.clear()
        self._survey.clear()

    def evict(self) -> Node:
        if len(self._window) > self._window_size or not (self._probation or self._protected):
            candidate = self._leave_window()
            if not (self._probation or self._protected):
                self.remove(candidate)
                return candidate
            victim = self._victim()
            if self._frequency(candidate) > self._frequency(victim):
                self._admit(candidate)
            else:
                self._turn_away(candidate)
                victim = candidate
        else:
            victim = self._victim()
        self.remove(victim)
        return victim

    def _leave_window(self) -> Node:
        window = self._window
        for _ in range(len(window)):
            node = next(iter(window.values()))
            if node.hits == node.seen:
                break
            node.seen = node.hits
            window.move_to_end(node.key)
        return next(iter(window.values()))

    def _victim(self) -> Node:
        probation, protected = self._probation, self._protected
        limit = int(_PROTECTED * (self._capacity - self._window_size))
        patience = self._capacity
        while probation:
            node = next(iter(probation.values()))
            if node.hits == node.seen or not patience:
                return node
            patience -= 1
            self._move(node, protected)
            while len(protected) > limit:
                oldest = next(iter(protected.values()))
                if oldest.hits == oldest.seen or not patience:
                    self._move(oldest, probation)
                else:
                    patience -= 1
                    self._move(oldest, protected)
        return next(iter(protected.values()))

    def _move(self, node: Node, segment: Segment) -> None:
        del node.segment[node.key]
        node.seen = node.hits
        node.segment = segment
        segment[node.key] = node

    def _admit(self, node: Node) -> None:
        self._move(node, self._probation)

    def _turn_away(self, node: Node) -> None:
        self._turned_away[hash(node.key)] = None
        if len(self._turned_away) > self._capacity * _GHOSTS:
            self._turned_away.popitem(last=False)

    def _frequency(self, node: Node) -> int:
        """Count the hits of a node since they were last counted, and return its frequency."""
        frequency = node.frequency
        if node.epoch != self._epoch:
            frequency >>= min(self._epoch - node.epoch, _LARGEST)
            node.frequency = frequency
            node.epoch = self._epoch
        hits = node.hits
        fresh = hits - node.counted
        if fresh:
            node.counted = hits
            self._requests += fresh
            if node.segment is not self._window:
                self._main_hits += fresh
            frequency += fresh
            if frequency > _LARGEST:
                frequency = _LARGEST
            node.frequency = frequency
        return frequency

    def _look_at_some(self) -> None:
        """Go on with the survey: it counts the hits of every resident, a few at a time."""
        survey = self._survey
        for key in survey[-_AT_ONCE:]:
            if (node := self._residents.get(key)) is not None:
                self._frequency(node)
        del survey[-_AT_ONCE:]
        self._frequencies.grow(min(self._capacity, len(self._residents)))
        # The one that may just have come is left to evict(), which has it compete.
        for _ in range(min(len(self._window) - self._window_size - 1, _AT_ONCE)):
            self._admit(next(iter(self._window.values())))
        if not survey and self._misses >= self._capacity:
            self._adapt()

    def _adapt(self) -> None:
        main = len(self._probation) + len(self._protected)
        gain = self._regrets / max(1.0, self._capacity * _GHOSTS)
        loss = _LOSS * self._main_hits / max(1, main)
        if gain != loss:
            step = _WINDOW_STEP if gain > loss else -_WINDOW_STEP
            self._window_part = min(max(self._window_part + step, _FIRST_WINDOW), _LARGEST_WINDOW)
            self.resize(self._capacity)
        self._requests += self._misses
        if self._requests >= _AGE * self._capacity:
            self._requests = 0
            self._epoch += 1
            self._frequencies.halve()
        self._misses = self._main_hits = self._regrets = 0
        for segment in (self._window, self._probation, self._protected):
            self._survey += segment
