"""Who lives in a memory cache, and who leaves it: bounds, ends of life, a policy, under one lock."""

from __future__ import annotations

import logging
import math
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias

from prologue.cache.entry import NEVER
from prologue.cache.expiry import Expiry
from prologue.cache.node import EvictionPolicy, Node
from prologue.lifecycle import MISSING

__all__ = ["Cause", "Counts", "RemovalListener", "Residents"]

Cause: TypeAlias = Literal["cleared", "deleted", "evicted", "expired", "invalidated", "replaced"]
RemovalListener: TypeAlias = Callable[[str, Any, Cause], object]

_SWEPT_AT_ONCE = 16
_BUFFERED_HITS = 64
_BATCH = 64

_logger = logging.getLogger("prologue.cache")


class Counts(NamedTuple):
    """How many residents there are and what they weigh; how many hits, evictions and ends there were."""

    entries: int
    weight: float
    hits: int
    evictions: int
    expirations: int


class Residents:
    """The nodes of a memory cache by key: at most so many, of at most such a weight together.

    What is over is found when it is asked for, and a few nodes at a time by whoever stores something. Readers
    take no lock: a node that leaves gets the value ``MISSING``, so a reader that has it sees that.

    Args:
        policy: makes the policy that says who makes room, for a capacity.
        max_entries: the most nodes; ``None``: only their weight counts.
        max_weight: the most that they may weigh together; ``None``: they need no weight.
        max_idle: seconds after which a node that was not found is over; ``None``: only time to live counts.
        on_removal: told who left, and why; see :meth:`tell`.
        name: of the cache, for messages.
        clock: in seconds.

    Attributes:
        nodes: by key, to read in.
        lock: held around what is said to need it.
        buffer: where who finds a node leaves it with :meth:`tell_of_hit`; ``None`` if nobody wants to know.
    """

    __slots__ = (
        "_batch",
        "_clock",
        "_evictions",
        "_expirations",
        "_expiry",
        "_max_idle",
        "_most_entries",
        "_most_weight",
        "_name",
        "_new",
        "_on_removal",
        "_past_hits",
        "_policy",
        "_removed",
        "_weighs",
        "_weight",
        "buffer",
        "lock",
        "nodes",
    )

    def __init__(
        self,
        policy: Callable[[int], EvictionPolicy],
        *,
        max_entries: int | None,
        max_weight: float | None,
        max_idle: float | None,
        on_removal: RemovalListener | None,
        name: str,
        clock: Callable[[], float],
    ) -> None:
        self._most_entries = math.inf if max_entries is None else max_entries
        self._most_weight = math.inf if max_weight is None else max_weight
        self._weighs = max_weight is not None
        self._max_idle = max_idle
        self._on_removal = on_removal
        self._name = name
        self._clock = clock
        # Room is made for several at once, a sixtieth of the cache: that costs less, and it is nearly full
        # always.
        self._batch = _BATCH if max_entries is None else max(1, min(_BATCH, max_entries // 60))
        # Invariant: under the lock, the nodes of nodes are those of the policy and of _new together and, as
        # far as they expire, those of _expiry; _weight is the sum of theirs; the bounds are kept whenever the
        # lock is free.
        self.lock = threading.Lock()
        self.nodes: dict[str, Node] = {}
        self._new: list[Node] = []  # not yet told to the policy
        self._policy = policy(max_entries or 1)
        self.buffer = self._policy.buffer
        self._expiry = Expiry()
        self._weight = 0.0
        self._removed: deque[tuple[str, Any, Cause]] = deque()
        self._past_hits = 0  # of the nodes that left, without the writes that counted as uses
        self._evictions = self._expirations = 0

    # -- the time of a node --

    def is_over(self, node: Node, now: float) -> bool:
        """Tell whether a node is of no use any more."""
        return now >= self.over_at(node)

    def over_at(self, node: Node) -> float:
        """Return the moment from which a node is of no use."""
        entry = node.entry
        if entry is None:
            return node.quick_until
        if self._max_idle is None:
            return entry.stale_until
        return min(entry.stale_until, node.used + self._max_idle)

    # -- finding --

    def hit(self, node: Node) -> None:
        """Note that a node was found."""
        node.hits += 1
        if self._max_idle is not None:
            node.used = self._clock()
        if self.buffer is not None:
            self.tell_of_hit(node)

    def tell_of_hit(self, node: Node) -> None:
        """Tell the policy that a node was found, now or later; it has a buffer for that."""
        assert self.buffer is not None
        self.buffer.append(node)
        if len(self.buffer) >= _BUFFERED_HITS and self.lock.acquire(blocking=False):
            try:
                self._policy.catch_up()
            finally:
                self.lock.release()

    # -- coming --

    def put_value(self, key: str, value: Any, now: float, until: float) -> None:
        """Store a value that has nothing but an end, where nothing weighs and nobody is told who leaves."""
        # PERF: what put() does, in one piece: this is what a set costs.
        nodes, new, expiry = self.nodes, self._new, self._expiry
        with self.lock:
            if expiry.next <= now:
                self._sweep(now)
            node = nodes.get(key)
            if node is None:
                if len(new) >= self._batch:  # without weights there is room for a whole batch
                    self._make_room(now)
                node = nodes[key] = Node(key, value, until)
                new.append(node)
                if self.buffer is not None:
                    self.buffer.append(node)
                if until != NEVER:
                    if expiry.last_from <= until < expiry.last_until:
                        node.bucket = expiry.last_number
                        expiry.last[node] = None
                    else:
                        expiry.add(node, until)
            elif node.entry is None:
                self._update(node, value, until)
            else:
                self.put(Node(key, value, until))

    def _update(self, node: Node, value: Any, until: float) -> None:
        """Give a node without an entry another value; it keeps its place. A write is a use."""
        node.hits += 1
        self._past_hits -= 1
        if self.buffer is not None:
            self.buffer.append(node)
        node.value = value  # before the moment: a reader may get it with the old one, and never the reverse
        node.quick_until = until
        self._expiry.remove(node)
        if until != NEVER:
            self._expiry.add(node, until)

    def put(self, node: Node) -> None:
        """Make a node resident, in place of the one with its key, and let leave what must for it.

        The lock is held; afterwards, without it, :meth:`tell`.
        """
        now = node.used = self._clock()
        if self._expiry.next <= now:
            self._sweep(now)
        fits = not self._weighs or node.weight <= self._most_weight
        old = self.nodes.get(node.key)
        if old is not None:
            self._remove(old, "replaced", node if fits else None)
        if not fits:
            return  # as if it had been evicted at once
        if (old is None and len(self.nodes) >= self._most_entries) or len(self._new) >= self._batch:
            self._make_room(now)
        self.nodes[node.key] = node
        self._new.append(node)
        if self.buffer is not None:
            self.buffer.append(node)
        if (moment := self.over_at(node)) != NEVER:
            self._expiry.add(node, moment)
        if self._weighs:
            self._weight += node.weight
            if self._most_entries == math.inf:
                self._policy.resize(len(self.nodes))
            while self._weight > self._most_weight:
                if self._expiry.next > now or not self._sweep(now):
                    self._evict(1)

    # -- leaving --

    def _make_room(self, now: float) -> None:
        """Tell the policy of the new nodes, and make room for as many more."""
        while (excess := len(self.nodes) + self._batch - self._most_entries) > 0:
            if self._expiry.next > now or not self._sweep(now):
                break
        self._evict(int(max(0, excess)))

    def _evict(self, count: int) -> None:
        victims = self._policy.make_room(self._new, count)
        self._new.clear()
        self._evictions += len(victims)
        if self._on_removal is not None or self._weighs:
            for victim in victims:
                self._forget(victim, "evicted")
            return
        # PERF: the same in a loop of its own, for most caches.
        self._expiry.remove_all(victims)
        nodes, hits = self.nodes, 0
        for victim in victims:
            del nodes[victim.key]
            hits += victim.hits
            victim.value = MISSING
            victim.entry = None
        self._past_hits += hits

    def _sweep(self, now: float) -> bool:
        """Remove some nodes that are over; return whether there were any."""
        found = False
        for node in self._expiry.due(now, _SWEPT_AT_ONCE):
            if self.is_over(node, now):
                self._remove(node, "expired")
                found = True
            else:  # used since it was put there
                self._expiry.remove(node)
                self._expiry.add(node, self.over_at(node))
        return found

    def discard(self, node: Node, cause: Cause) -> bool:
        """Remove a node unless it has left meanwhile; return whether it was there."""
        with self.lock:
            there = self.nodes.get(node.key) is node
            if there and cause == "expired":  # it may have got another value meanwhile
                there = self.is_over(node, self._clock())
            if there:
                self._remove(node, cause)
        self.tell()
        return there

    def clear(self) -> None:
        """Remove every node."""
        with self.lock:
            for node in list(self.nodes.values()):
                self._forget(node, "cleared")
            self._new.clear()
            self._policy.clear()
        self.tell()

    def _remove(self, node: Node, cause: Cause, successor: Node | None = None) -> None:
        if cause == "expired":
            self._expirations += 1
        self._forget(node, cause, successor)
        self._policy.remove(node)

    def _forget(self, node: Node, cause: Cause, successor: Node | None = None) -> None:
        """Remove a node of which the policy knows that it leaves, perhaps for another with its key."""
        if successor is None:
            del self.nodes[node.key]
        else:
            self.nodes[node.key] = successor  # so that a reader finds one of them
        self._expiry.remove(node)
        if self._weighs:
            others = len(self.nodes) - (successor is not None)
            self._weight = self._weight - node.weight if others else 0.0  # without the error of the sum
        self._past_hits += node.hits
        if self._on_removal is not None:
            self._removed.append((node.key, node.value, cause))
        node.value = MISSING
        node.entry = None

    def tell(self) -> None:
        """Tell the listener who has left; call it without the lock, for the listener is a user's."""
        while self._removed:
            try:
                key, value, cause = self._removed.popleft()
            except IndexError:
                return  # another thread tells
            assert self._on_removal is not None
            try:
                self._on_removal(key, value, cause)
            except Exception:
                _logger.exception("removal listener of cache %r failed for key %r", self._name, key)

    # -- the rest --

    def counts(self) -> Counts:
        """Return what there is, and what happened so far."""
        with self.lock:
            hits = self._past_hits + sum([node.hits for node in self.nodes.values()])
            return Counts(len(self.nodes), self._weight, hits, self._evictions, self._expirations)

    def survive_fork(self) -> bool:
        """Go on in the child with a lock of its own, and count anew; return whether that is possible."""
        if self.lock.locked():  # a thread of the parent was about to change something
            return False
        self.lock = threading.Lock()
        self._past_hits = -sum([node.hits for node in self.nodes.values()])
        self._evictions = self._expirations = 0
        return True
