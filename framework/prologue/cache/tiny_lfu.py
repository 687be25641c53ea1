"""W-TinyLFU (Einziger, Friedman, Manes, 2017), with an adaptive window, and hits that keep no books.

New entries enter a small window. Who leaves it must have been used more often of late than the entry that
would make room among the others: that keeps scans and loops out. Where the textbook policy moves an entry and
counts in a sketch on every hit, here a hit adds one to a number of the node; everything else happens when
entries come and go:

* *Lazy promotion.* A list is kept in the order of entry. Whoever comes to its head and was used since it was
  last looked at goes on: to the tail of the window, from probation to the protected part, to the tail of
  that.
* *Frequencies* of residents are on their nodes. A table of small counters keeps those of the keys that left,
  by their hash: one large table does as well as the several probes of a sketch, and costs less.
* *Aging.* When residents were used ten times each on average, all frequencies are halved: those of the table
  at once, those of a node when it is next looked at.
* *Adaptive window.* The textbook climbs the hill of the hit ratio step by step, blindly. Here the two sides
  are compared directly: how many of the keys that were turned away lately are asked for again, for each place
  that a larger window would have given them; and how many hits a place among the others brings. The first is
  the gain of the window's next place, the second is more than the loss, since the others' least useful places
  are what would be given up; so the gain is compared with a quarter of it.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from prologue.cache.node import Node
from prologue.lifecycle import MISSING

__all__ = ["TinyLFU"]

_LARGEST = 7  # a frequency; larger ones adapt more slowly
_AGE = 10
_COUNTERS_PER_ENTRY = 32
_HALVE = bytes(number & ~_LARGEST | (number & _LARGEST) >> 1 for number in range(256))
_FORGET = bytes(number & _LARGEST for number in range(256))
_ERA = _LARGEST + 1  # a number of the table is an era times this, and a frequency
_LAST_ERA = 31

_FIRST_WINDOW = 0.01
_LARGEST_WINDOW = 0.8
_WINDOW_STEP = 0.0625
_PROTECTED = 0.8
_REMEMBERED = 0.2  # keys turned away that are remembered, as a part of the capacity
_LOSS = 0.25
_FEW = 64


class TinyLFU:
    """The policy ``w-tinylfu``; see the module."""

    __slots__ = (
        "_capacity",
        "_epoch",
        "_era",
        "_main_hits",
        "_mask",
        "_misses",
        "_probation",
        "_protected",
        "_regrets",
        "_removed",
        "_requests",
        "_survey",
        "_table",
        "_turned_away",
        "_window",
        "_window_part",
        "_window_size",
    )

    buffer: Final = None

    def __init__(self, capacity: int) -> None:
        # Invariant: every resident that was taken in is in one of the three lists; besides there are _removed
        # nodes in them that are not resident any more, no more than there are residents and a few.
        self._window: deque[Node] = deque()
        self._probation: deque[Node] = deque()
        self._protected: deque[Node] = deque()
        self._removed = 0
        # By the lowest bits of a key's hash: how often keys that left were used, and the era in which the
        # last of them was turned away.
        self._mask = 255
        self._table = bytearray(self._mask + 1)
        self._era = 2
        self._turned_away = 0  # keys in this era
        self._epoch = 0
        self._requests = 0  # since the last aging
        self._misses = self._main_hits = self._regrets = 0  # since the last survey
        self._survey: list[Node] = []
        self._window_part = _FIRST_WINDOW
        self.resize(capacity)

    def resize(self, capacity: int) -> None:
        self._capacity = capacity
        self._window_size = max(1, int(capacity * self._window_part))

    def make_room(self, new: list[Node], count: int) -> list[Node]:
        self._grow_table(len(self._window) + len(self._probation) + len(self._protected) + len(new))
        self._take_in(new)
        victims = self._compete(count)
        for _ in range(min(len(self._window) - self._window_size, len(new) + _FEW)):
            node = self._leave_window()
            self._admit(node, self._estimate(node))
        self._look_at_some(2 * len(new))
        return victims

    def _take_in(self, new: list[Node]) -> None:
        self._window.extend(new)
        self._misses += len(new)
        table, mask, late = self._table, self._mask, (self._era - 1) * _ERA
        for node in new:
            if table[hash(node.key) & mask] >= late:
                self._regrets += 1

    def _compete(self, count: int) -> list[Node]:
        """Choose so many nodes: who comes out of the window competes with who would go from the others."""
        # PERF: one long loop over local names: this is most of what storing a new key costs.
        window, size, mask = self._window, self._window_size, self._mask
        table, era = self._table, self._era * _ERA
        victims: list[Node] = []
        turned_away = 0
        rival = None  # the next of the others to leave, its list and its frequency
        others, against = self._probation, 0
        while len(victims) < count:
            if rival is None or rival.hits != rival.seen or rival.value is MISSING:
                others = self._others()
                rival = others[0] if others else None
                against = 0 if rival is None else self._frequency(rival)
            if len(window) <= size and rival is not None:
                others.popleft()
                self._remember(rival, against)
                victims.append(rival)
                rival = None
                continue
            if not window:
                break
            node = window.popleft()
            if node.hits != node.seen or node.value is MISSING:
                window.appendleft(node)
                node = self._leave_window()
                if node.value is MISSING:
                    self._removed -= 1
                    continue
            index = hash(node.key) & mask
            frequency = (table[index] & _LARGEST) + 1
            if node.hits:
                frequency += node.hits
                self._requests += node.hits
            if frequency > _LARGEST:
                frequency = _LARGEST
            if rival is not None and frequency > against:
                others.popleft()
                self._remember(rival, against)
                victims.append(rival)
                rival = None
                self._admit(node, frequency)
                continue
            turned_away += 1
            victims.append(node)
            table[index] = era | frequency
        self._turned_away += turned_away
        if self._turned_away * 2 >= self._capacity * _REMEMBERED:
            self._begin_era()
        return victims

    def _admit(self, node: Node, frequency: int) -> None:
        node.frequency = frequency
        node.counted = node.seen = node.hits
        node.epoch = self._epoch
        self._probation.append(node)

    def _estimate(self, node: Node) -> int:
        """Return the frequency of a node that is in the window."""
        self._requests += node.hits
        return min((self._table[hash(node.key) & self._mask] & _LARGEST) + 1 + node.hits, _LARGEST)

    def _remember(self, node: Node, frequency: int) -> None:
        """Keep the frequency of a node that leaves."""
        index = hash(node.key) & self._mask
        number = self._table[index]
        if number & _LARGEST < frequency:
            self._table[index] = number & ~_LARGEST | frequency

    def _begin_era(self) -> None:
        """Those turned away in this era and the one before it are remembered."""
        self._turned_away = 0
        self._era += 1
        if self._era > _LAST_ERA:
            self._era = 2
            self._table = self._table.translate(_FORGET)

    def _leave_window(self) -> Node:
        window = self._window
        for _ in range(len(window)):
            node = window.popleft()
            if node.hits == node.seen or node.value is MISSING:
                return node
            node.seen = node.hits
            window.append(node)
        return window.popleft()

    def _others(self) -> deque[Node]:
        """Return the list outside the window whose head leaves next, and have a resident there."""
        self._promote_used()
        for others in (self._probation, self._protected):
            while others and others[0].value is MISSING:
                others.popleft()
                self._removed -= 1
            if others:
                return others
        return self._probation

    def _promote_used(self) -> None:
        """Have a node that was not used since, if there is one, at the head of probation."""
        probation, protected = self._probation, self._protected
        patience = self._capacity
        while probation and (node := probation[0]).hits != node.seen and patience:
            patience -= 1
            probation.popleft()
            node.seen = node.hits
            protected.append(node)
            while len(protected) > _PROTECTED * (self._capacity - self._window_size):
                oldest = protected.popleft()
                if oldest.hits == oldest.seen or not patience:
                    probation.append(oldest)
                else:
                    patience -= 1
                    oldest.seen = oldest.hits
                    protected.append(oldest)

    def _frequency(self, node: Node) -> int:
        """Count the hits of a node outside the window since they were last counted; return its frequency."""
        frequency = node.frequency
        if node.epoch != self._epoch:
            frequency >>= min(self._epoch - node.epoch, _LARGEST)
            node.frequency = frequency
            node.epoch = self._epoch
        if fresh := node.hits - node.counted:
            node.counted += fresh
            self._requests += fresh
            self._main_hits += fresh
            frequency = node.frequency = min(frequency + fresh, _LARGEST)
        return frequency

    def _look_at_some(self, count: int) -> None:
        """Go on with the survey, which counts the hits of all residents outside the window."""
        survey = self._survey
        if count:
            for node in survey[-count:]:
                self._frequency(node)
            del survey[-count:]
        if not survey and self._misses >= self._capacity:
            self._adapt()

    def _adapt(self) -> None:
        remembered = 0.75 * _REMEMBERED * self._capacity  # one era and, on average, half of another
        mistaken = self._misses * remembered / self._mask  # for one of these keys, for it has the same index
        gain = max(0.0, self._regrets - mistaken) / max(1.0, remembered)
        loss = _LOSS * self._main_hits / max(1, len(self._probation) + len(self._protected))
        if gain != loss:
            step = _WINDOW_STEP if gain > loss else -_WINDOW_STEP
            self._window_part = min(max(self._window_part + step, _FIRST_WINDOW), _LARGEST_WINDOW)
            self.resize(self._capacity)
        self._requests += self._misses
        if self._requests >= _AGE * self._capacity:
            self._requests = 0
            self._epoch += 1
            self._table = self._table.translate(_HALVE)
        self._misses = self._main_hits = self._regrets = 0
        self._survey = [*self._probation, *self._protected]

    def _grow_table(self, residents: int) -> None:
        while self._mask < min(residents, self._capacity) * _COUNTERS_PER_ENTRY:
            self._table *= 2  # every key finds its number again: its index has one more bit
            self._mask = 2 * self._mask + 1

    def remove(self, node: Node) -> None:
        self._removed += 1
        self._remember(node, self._frequency(node) if hasattr(node, "epoch") else self._estimate(node))
        lists = self._window, self._probation, self._protected
        if self._removed > _FEW and 2 * self._removed > sum(map(len, lists)):
            for nodes in lists:
                for _ in range(len(nodes)):
                    kept = nodes.popleft()
                    if kept.value is not MISSING:
                        nodes.append(kept)
            self._survey.clear()
            self._removed = 0

    def catch_up(self) -> None:
        pass

    def clear(self) -> None:
        for nodes in (self._window, self._probation, self._protected):
            nodes.clear()
        self._survey.clear()
        self._removed = 0
