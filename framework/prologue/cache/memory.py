"""A cache in the memory of the process."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeAlias

from prologue.cache.base import CacheBackend
from prologue.cache.entry import NEVER, Entry
from prologue.cache.expiry import Expiry
from prologue.cache.lru import LRU
from prologue.cache.node import EvictionPolicy, Node
from prologue.cache.options import CacheOptions, Duration, seconds
from prologue.cache.pending import PendingWrite
from prologue.cache.s3_fifo import S3FIFO
from prologue.cache.stats import CacheStats
from prologue.cache.tiny_lfu import TinyLFU
from prologue.errors import CacheOptionError, CacheValueError
from prologue.lifecycle import MISSING

__all__ = ["Cause", "InMemoryCache", "Policy", "RemovalListener"]

Policy: TypeAlias = Literal["w-tinylfu", "s3-fifo", "lru"]
Cause: TypeAlias = Literal["cleared", "deleted", "evicted", "expired", "invalidated", "replaced"]
RemovalListener: TypeAlias = Callable[[str, Any, Cause], object]

_POLICIES: Mapping[Policy, Callable[[int, Mapping[str, Node]], EvictionPolicy]] = {
    "w-tinylfu": TinyLFU,
    "s3-fifo": S3FIFO,
    "lru": LRU,
}
_SWEPT_AT_ONCE = 16
_BUFFERED_HITS = 64
_MOST_TAGS = 100_000
_MOST_LOCKS = 1000

_logger = logging.getLogger("prologue.cache")


class InMemoryCache(CacheBackend):
    """A cache in the memory of the process, for its threads, bounded by number or by weight of its entries.

    Values are kept as they are, not copied: treat what you put in and get out as immutable, or give ``copy``.
    A hit takes no lock. What is over time is found when it is asked for, and a few entries at a time by
    whoever stores something; there is no thread. An expired entry leaves before one that is not, to within a
    sixteenth of a second.

    After a fork the child has the entries of the parent, and none of its threads' unfinished work.

    Args:
        max_entries: the most entries there may be; ``None``: only their weight counts. Default 10,000.
        max_weight: the most that the entries may weigh together; a value that is heavier is not kept.
            Default ``None``: only their number counts.
        getsizeof: returns the weight of a value, zero or more; needed with ``max_weight``.
        policy: which entry makes room: ``"w-tinylfu"`` (default) knows how often and how lately keys were
            used, and stands scans and loops; ``"s3-fifo"`` is simpler; ``"lru"`` is exact and predictable.
        max_idle: seconds after which an entry that nobody asks for is not kept any more. Default ``None``.
        copy: makes the copies that are kept and handed out, such as ``copy.deepcopy``. Default ``None``:
            none.
        on_removal: called with key, value and cause after an entry has left: ``"replaced"``, ``"deleted"``,
            ``"cleared"``, ``"invalidated"``, ``"expired"`` or ``"evicted"``. It runs in the thread that
            caused it, without a lock; errors are logged.
        name, options, clock: see :class:`CacheBackend`.

    Raises:
        CacheOptionError: there is no bound, a bound is not positive, ``max_weight`` comes without
        ``getsizeof`` or the policy is unknown.
    """

    def __init__(
        self,
        max_entries: int | None = 10_000,
        *,
        max_weight: float | None = None,
        getsizeof: Callable[[Any], float] | None = None,
        policy: Policy = "w-tinylfu",
        max_idle: Duration | None = None,
        copy: Callable[[Any], Any] | None = None,
        on_removal: RemovalListener | None = None,
        name: str = "memory",
        options: CacheOptions | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(name=name, options=options, clock=clock)
        if max_entries is None and max_weight is None:
            raise CacheOptionError("a memory cache needs a bound: give max_entries or max_weight")
        if (max_entries is not None and max_entries < 1) or (max_weight is not None and max_weight <= 0):
            raise CacheOptionError(f"bounds must be positive, not {max_entries!r} and {max_weight!r}")
        if (max_weight is None) != (getsizeof is None):
            raise CacheOptionError("max_weight and getsizeof need each other: give both or neither")
        if policy not in _POLICIES:
            raise CacheOptionError(f"no eviction policy {policy!r}; there are {', '.join(_POLICIES)}")
        self.max_entries = max_entries
        self.max_weight = max_weight
        self._most_entries = math.inf if max_entries is None else max_entries
        self._most_weight = math.inf if max_weight is None else max_weight
        self._getsizeof = getsizeof
        self._make_policy = _POLICIES[policy]
        self._max_idle = None if max_idle is None else seconds(max_idle, "max_idle")
        self._copy = copy
        self._on_removal = on_removal
        self._start_over()

    def _start_over(self) -> None:
        # Invariant: under the lock, _nodes, the policy and, as far as they expire, _expiry hold the same
        # nodes; _weight is the sum of theirs; the bounds are kept whenever the lock is free. Readers take no
        # lock: they see a node or they do not, and a node's value, moments and tags never change.
        self._lock = threading.Lock()
        self._nodes: dict[str, Node] = {}
        self._policy = self._make_policy(self.max_entries or 1, self._nodes)
        self._expiry = Expiry()
        self._weight = 0.0
        self._past_hits = 0  # of the nodes that left, without the writes that counted as uses
        self._removed: deque[tuple[Node, Cause]] = deque()
        self._plain = self._max_idle is None and self._copy is None and self._policy.buffer is None
        # Invariant: numbers only grow; a tag that is not here has the generation _oldest.
        self._tags: OrderedDict[str, int] = OrderedDict()
        self._oldest = self._newest = 0
        self._fence = 0
        self._locks: dict[str, tuple[str, float]] = {}

    # -- reading --

    def get(self, key: str, default: Any = None) -> Any:
        node = self._nodes.get(key)
        # PERF: no call but the clock's, and no lock: this is what a hit costs.
        if node is not None and node.plain and self.clock() < node.fresh_until:
            node.hits += 1
            return node.value
        entry = None if node is None else self._use(node)
        if entry is None:
            self.counters.misses += 1
            return default
        return entry.value

    def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        found = {}
        for key in dict.fromkeys(keys):
            value = self.get(key, MISSING)
            if value is not MISSING:
                found[key] = value
        return found

    def _use(self, node: Node) -> Entry | None:
        """Return the entry of a node if it is fresh and its tags are current; remove what is of no use."""
        now = self.clock()
        if now >= node.fresh_until or self._is_over(node, now):
            if self._is_over(node, now):
                self._discard(node, "expired")
            return None
        if node.tags and not self._current(node.tags):
            self._discard(node, "invalidated")
            return None
        return self._hit(node, now)

    def _read(self, key: str) -> Entry | None:
        node = self._nodes.get(key)
        if node is None:
            return None
        now = self.clock()
        if self._is_over(node, now):
            self._discard(node, "expired")
            return None
        return self._hit(node, now) if now < node.fresh_until else self._handed_out(node)

    def _hit(self, node: Node, now: float) -> Entry:
        node.hits += 1
        if self._max_idle is not None:
            node.used = now
        buffer = self._policy.buffer
        if buffer is not None:
            buffer.append(node)
            if len(buffer) >= _BUFFERED_HITS and self._lock.acquire(blocking=False):
                try:
                    self._policy.catch_up()
                finally:
                    self._lock.release()
        return self._handed_out(node)

    def _handed_out(self, node: Node) -> Entry:
        if self._copy is None:
            return node
        return Entry(
            self._copy(node.value),
            node.fresh_until,
            node.stale_until,
            node.refresh_at,
            node.tags,
            node.etag,
        )

    def _is_over(self, node: Node, now: float) -> bool:
        return now >= node.stale_until or (self._max_idle is not None and now >= node.used + self._max_idle)

    # -- writing --

    def set(self, key: str, value: Any, ttl: Duration | None = None, *, tags: Iterable[str] = ()) -> None:
        # PERF: as the base does it, without the collections of a set_many of one.
        self._check_open()
        self._check_key(key)
        self.pending.overtake(key)
        generations = self.tag_generations(tags) if tags else ()
        self._store(Node(key, value, *self._moments(ttl, self.options), generations))

    def _write(self, key: str, entry: Entry) -> None:
        self._store(self._node(key, entry))

    def _write_pending(self, pending: PendingWrite, entry: Entry) -> bool:
        return self._store(self._node(pending.key, entry), unless=lambda _: pending.overtaken)

    def _add(self, key: str, entry: Entry) -> bool:
        return self._store(self._node(key, entry), unless=self._is_fresh)

    def _node(self, key: str, entry: Entry) -> Node:
        return Node(
            key, entry.value, entry.fresh_until, entry.stale_until, entry.refresh_at, entry.tags, entry.etag
        )

    def _is_fresh(self, key: str) -> bool:
        node = self._nodes.get(key)
        now = self.clock()
        return node is not None and now < node.fresh_until and not self._is_over(node, now)

    def _store(self, node: Node, unless: Callable[[str], bool] | None = None) -> bool:
        """Store a node unless something holds, asked under the lock; return whether it did not."""
        if self._copy is not None:
            node.value = self._copy(node.value)
        if self._getsizeof is not None:
            node.weight = self._weigh(node.key, node.value)
        with self._lock:
            if unless is not None and unless(node.key):
                return False
            self._put(node)
        if self._removed:
            self._tell()
        return True

    def _weigh(self, key: str, value: Any) -> float:
        if self._getsizeof is None:
            return 1.0
        weight = float(self._getsizeof(value))
        if not 0 <= weight < math.inf:
            raise CacheValueError(f"key {key!r}: the weight of a value must be 0 or more, not {weight!r}")
        return weight

    def _put(self, node: Node) -> None:
        """Make a node resident, in place of the one with its key, and let leave what must for it."""
        nodes, policy = self._nodes, self._policy
        now = node.used = self.clock()
        node.plain = self._plain and not node.tags
        if self._expiry.next <= now:
            self._sweep(now, _SWEPT_AT_ONCE)
        old = nodes.get(node.key)
        if node.weight > self._most_weight:
            if old is not None:
                self._remove_node(old, "evicted")
            return
        self._weight += node.weight
        if old is None:
            nodes[node.key] = node
            full = len(nodes) > self._most_entries or self._weight > self._most_weight
            policy.add(node, full)
            if self.max_entries is None and not full:
                policy.resize(len(nodes))
        else:
            node.succeed(old)
            self._past_hits -= 1
            nodes[node.key] = node
            if policy.buffer is not None:
                policy.buffer.append(node)
            self._weight -= old.weight
            self._expiry.remove(old)
            if self._on_removal is not None:
                self._removed.append((old, "replaced"))
            full = self._weight > self._most_weight
        if node.stale_until != NEVER or self._max_idle is not None:
            self._expiry.add(node, self._over_at(node))
        while full:
            if self._expiry.next > now or not self._sweep(now, 1):
                self._forget(policy.evict(), "evicted")
            full = len(nodes) > self._most_entries or self._weight > self._most_weight

    def _over_at(self, node: Node) -> float:
        if self._max_idle is None:
            return node.stale_until
        return min(node.stale_until, node.used + self._max_idle)

    def _sweep(self, now: float, limit: int) -> int:
        """Remove up to so many expired entries; return how many."""
        removed = 0
        for node in self._expiry.due(now, limit):
            if self._is_over(node, now):
                self._remove_node(node, "expired")
                removed += 1
            else:  # used since it was put there
                self._expiry.remove(node)
                self._expiry.add(node, self._over_at(node))
        return removed

    def _remove_node(self, node: Node, cause: Cause) -> None:
        self._policy.remove(node)
        self._forget(node, cause)

    def _forget(self, node: Node, cause: Cause) -> None:
        """Remove a node that the policy has forgotten."""
        del self._nodes[node.key]
        self._expiry.remove(node)
        self._weight = self._weight - node.weight if self._nodes else 0.0  # without the error of the sum
        self._past_hits += node.hits
        if cause == "evicted":
            self.counters.evictions += 1
        elif cause == "expired":
            self.counters.expirations += 1
        if self._on_removal is not None:
            self._removed.append((node, cause))

    def _discard(self, node: Node, cause: Cause) -> bool:
        """Remove a node unless it has left meanwhile; return whether it was there."""
        with self._lock:
            there = self._nodes.get(node.key) is node
            if there:
                self._remove_node(node, cause)
        if self._removed:
            self._tell()
        return there

    def _tell(self) -> None:
        assert self._on_removal is not None
        while self._removed:
            try:
                node, cause = self._removed.popleft()
            except IndexError:  # another thread was faster
                return
            try:
                self._on_removal(node.key, node.value, cause)
            except Exception:
                _logger.exception("removal listener of cache %r failed for key %r", self.name, node.key)

    def _increment(self, key: str, delta: int, initial: Entry) -> int:
        weight = self._weigh(key, initial.value)
        with self._lock:
            node = self._nodes.get(key)
            if node is None or not self._is_fresh(key):
                node = self._node(key, initial)
            elif type(node.value) is int:
                node, weight = self._node(key, node), node.weight
            else:
                raise CacheValueError(
                    f"key {key!r} holds a {type(node.value).__name__}, and only an int counts"
                )
            total: int = node.value + delta
            node.value, node.weight = total, weight
            self._put(node)
        if self._removed:
            self._tell()
        return total

    def _touch(self, key: str, fresh_until: float, stale_until: float) -> bool:
        with self._lock:
            node = self._nodes.get(key)
            if node is None or not self._is_fresh(key):
                return False
            touched = Node(key, node.value, fresh_until, stale_until, NEVER, node.tags, node.etag)
            touched.weight = node.weight
            self._put(touched)
        if self._removed:
            self._tell()
        return True

    # -- removing --

    def _remove(self, key: str) -> bool:
        node = self._nodes.get(key)
        if node is None:
            return False
        was_there = not self._is_over(node, self.clock())
        return self._discard(node, "deleted") and was_there

    def _clear(self) -> None:
        with self._lock:
            nodes = list(self._nodes.values())
            self._past_hits += sum(node.hits for node in nodes)
            self._nodes.clear()
            self._policy.clear()
            self._expiry.clear()
            self._weight = 0.0
            if self._on_removal is not None:
                self._removed.extend((node, "cleared") for node in nodes)
        if self._removed:
            self._tell()

    def _generations(self, tags: Sequence[str]) -> tuple[int, ...]:
        return tuple([self._tags.get(tag, self._oldest) for tag in tags])

    def _invalidate(self, tags: Sequence[str]) -> None:
        with self._lock:
            self._newest += 1
            for tag in tags:
                self._tags[tag] = self._newest
                self._tags.move_to_end(tag)
            while len(self._tags) > _MOST_TAGS:
                # Tags that were never invalidated get another generation too: a miss, never a stale value.
                tag, number = next(iter(self._tags.items()))
                self._oldest = number
                del self._tags[tag]

    # -- the rest --

    def _acquire(self, name: str, token: str, ttl: float) -> int | None:
        now = self.clock()
        with self._lock:
            held = self._locks.get(name)
            if held is not None and now < held[1]:
                return None
            if len(self._locks) > _MOST_LOCKS:
                self._locks = {other: lock for other, lock in self._locks.items() if now < lock[1]}
            self._locks[name] = token, now + ttl
            self._fence += 1
            return self._fence

    def _release(self, name: str, token: str) -> bool:
        with self._lock:
            held = self._locks.get(name)
            if held is None or held[0] != token:
                return False
            del self._locks[name]
            return self.clock() < held[1]

    def stats(self) -> CacheStats:
        with self._lock:
            hits = self._past_hits + sum([node.hits for node in self._nodes.values()])
            entries, weight = len(self._nodes), self._weight
        return replace(
            super().stats(),
            hits=hits,
            entries=entries,
            weight=None if self.max_weight is None else weight,
        )

    def __len__(self) -> int:
        return len(self._nodes)

    def _close(self) -> None:
        self._clear()

    def _after_fork(self) -> None:
        super()._after_fork()
        torn = self._lock.locked()  # a thread of the parent was about to change something
        if torn:
            self._start_over()
        else:
            self._lock = threading.Lock()
            self._past_hits = -sum(node.hits for node in self._nodes.values())
