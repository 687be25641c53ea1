"""A cache in the memory of the process."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeAlias

from prologue.cache.base import CacheBackend
from prologue.cache.entry import NEVER, Entry
from prologue.cache.expiry import Expiry
from prologue.cache.local import Generations, LocalLocks
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

_POLICIES: Mapping[Policy, Callable[[int], EvictionPolicy]] = {
    "w-tinylfu": TinyLFU,
    "s3-fifo": S3FIFO,
    "lru": LRU,
}
_SWEPT_AT_ONCE = 16
_BUFFERED_HITS = 64
_BATCH = 64
_NOT_QUICKLY = -1.0
_NUMBERS = (int, float)

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

    __slots__ = (
        "_batch",
        "_buffer",
        "_copy",
        "_expiry",
        "_getsizeof",
        "_lean",
        "_life",
        "_lock",
        "_locks",
        "_make_policy",
        "_max_idle",
        "_most_entries",
        "_most_weight",
        "_new",
        "_nodes",
        "_on_removal",
        "_past_hits",
        "_policy",
        "_quick",
        "_removed",
        "_tags",
        "_weight",
        "max_entries",
        "max_weight",
    )

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
        self._life = self.options.ttl
        self._quick = self._max_idle is None and copy is None
        self._lean = (
            self._quick
            and getsizeof is None
            and on_removal is None
            and self.options == CacheOptions(ttl=self._life)
        )
        # Room is made for several at once, a sixtieth of the cache: that costs less, and it is nearly full
        # always.
        self._batch = _BATCH if max_entries is None else max(1, min(_BATCH, max_entries // 60))
        self._start_over()

    def _start_over(self) -> None:
        # Invariant: under the lock, the nodes of _nodes are those of the policy and of _new together and, as
        # far as they expire, those of _expiry; _weight is the sum of theirs; the bounds are kept whenever the
        # lock is free. Readers take no lock. A node that leaves gets the value MISSING, so a reader that has
        # it sees that.
        self._lock = threading.Lock()
        self._nodes: dict[str, Node] = {}
        self._new: list[Node] = []  # not yet told to the policy
        self._policy = self._make_policy(self.max_entries or 1)
        self._buffer = self._policy.buffer
        self._expiry = Expiry()
        self._weight = 0.0
        self._past_hits = 0  # of the nodes that left, without the writes that counted as uses
        self._removed: deque[tuple[str, Any, Cause]] = deque()
        self._tags = Generations()
        self._locks = LocalLocks()

    # -- reading --

    get_is_quick = True

    def get(self, key: str, default: Any = None) -> Any:
        # PERF: no call but the clock's, and no lock: this is what a hit costs.
        try:
            node = self._nodes[key]
        except KeyError:
            self.counters.misses += 1
            return default
        if self.clock() < node.quick_until:
            node.hits += 1
            value = node.value
            if value is not MISSING:
                if self._buffer is not None:
                    self._tell_of_hit(node)
                return value
        entry = self._entry_of(node)
        if entry is None or self.clock() >= entry.fresh_until:
            self.counters.misses += 1
            return default
        if entry.tags and not self._current(entry.tags):
            self.counters.misses += 1
            self._discard(node, "invalidated")
            return default
        self._hit(node)
        return entry.value if self._copy is None else self._copy(entry.value)

    def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        found = {}
        for key in dict.fromkeys(keys):
            value = self.get(key, MISSING)
            if value is not MISSING:
                found[key] = value
        return found

    def _read(self, key: str) -> Entry | None:
        node = self._nodes.get(key)
        entry = None if node is None else self._entry_of(node)
        if node is None or entry is None:
            return None
        if self.clock() < entry.fresh_until:
            self._hit(node)
        if self._copy is None:
            return entry
        return Entry(
            self._copy(entry.value),
            entry.fresh_until,
            entry.stale_until,
            entry.refresh_at,
            entry.tags,
            entry.etag,
        )

    def _entry_of(self, node: Node) -> Entry | None:
        """Return what is known of a node, unless it is over or has left; remove it if it is over."""
        entry = node.entry
        if entry is None:
            moment = node.quick_until
            value = node.value
            if value is MISSING:
                return None
            entry = Entry(value, moment, moment)
        if self._is_over(node, self.clock()):
            self._discard(node, "expired")
            return None
        return entry

    def _hit(self, node: Node) -> None:
        node.hits += 1
        if self._max_idle is not None:
            node.used = self.clock()
        if self._buffer is not None:
            self._tell_of_hit(node)

    def _tell_of_hit(self, node: Node) -> None:
        assert self._buffer is not None
        self._buffer.append(node)
        if len(self._buffer) >= _BUFFERED_HITS and self._lock.acquire(blocking=False):
            try:
                self._policy.catch_up()
            finally:
                self._lock.release()

    def _is_over(self, node: Node, now: float) -> bool:
        return now >= self._over_at(node)

    def _over_at(self, node: Node) -> float:
        """Return the moment from which a node is of no use."""
        entry = node.entry
        if entry is None:
            return node.quick_until
        if self._max_idle is None:
            return entry.stale_until
        return min(entry.stale_until, node.used + self._max_idle)

    # -- writing --

    def set(self, key: str, value: Any, ttl: Duration | None = None, *, tags: Iterable[str] = ()) -> None:
        life: Any = self._life if ttl is None else ttl
        if tags or not self._lean or type(key) is not str:
            return super().set(key, value, ttl, tags=tags)
        if type(life) not in _NUMBERS or not 0 <= life < NEVER:
            return super().set(key, value, ttl)
        # PERF: from here on this is what the base and _put() do together, for a value with nothing but a ttl.
        if self.pending.writes:
            self.pending.overtake(key)
        now = self.clock()
        until = now + life if life else NEVER
        nodes, new = self._nodes, self._new
        with self._lock:
            if self._expiry.next <= now:
                self._sweep(now)
            node = nodes.get(key)
            if node is None:
                if len(new) >= self._batch:  # without weights there is room for a whole batch
                    self._make_room(now)
                node = nodes[key] = Node(key, value, until)
                new.append(node)
                if self._buffer is not None:
                    self._buffer.append(node)
                if life:
                    expiry = self._expiry
                    if expiry.last_from <= until < expiry.last_until:
                        node.bucket = expiry.last_number
                        expiry.last[node] = None
                    else:
                        expiry.add(node, until)
            elif node.entry is None:
                self._update(node, value, until)
            else:
                self._put(Node(key, value, until))
        return None

    def _update(self, node: Node, value: Any, until: float) -> None:
        """Give a node without an entry another value; it keeps its place. A write is a use."""
        node.hits += 1
        self._past_hits -= 1
        if self._buffer is not None:
            self._buffer.append(node)
        node.value = value  # before the moment: a reader may get it with the old one, and never the reverse
        node.quick_until = until
        self._expiry.remove(node)
        if until != NEVER:
            self._expiry.add(node, until)

    def _write(self, key: str, entry: Entry) -> None:
        self._store(key, entry)

    def _write_pending(self, pending: PendingWrite, entry: Entry) -> bool:
        return self._store(pending.key, entry, unless=lambda _: pending.overtaken)

    def _add(self, key: str, entry: Entry) -> bool:
        return self._store(key, entry, unless=self._is_fresh)

    def _is_fresh(self, key: str) -> bool:
        node = self._nodes.get(key)
        now = self.clock()
        if node is None or self._is_over(node, now):
            return False
        entry = node.entry
        return entry is None or (now < entry.fresh_until and (not entry.tags or self._current(entry.tags)))

    def _store(self, key: str, entry: Entry, unless: Callable[[str], bool] | None = None) -> bool:
        """Store an entry unless something holds, asked under the lock; return whether it did not."""
        if self._copy is not None:
            entry.value = self._copy(entry.value)
        node = self._node(key, entry, self._weigh(key, entry.value))
        with self._lock:
            if unless is not None and unless(key):
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

    def _node(self, key: str, entry: Entry, weight: float) -> Node:
        quick = self._quick and not entry.tags
        simple = entry.etag is None and entry.refresh_at == NEVER and entry.fresh_until == entry.stale_until
        if quick and simple:
            node = Node(key, entry.value, entry.fresh_until)
        else:
            node = Node(key, entry.value, entry.fresh_until if quick else _NOT_QUICKLY, entry)
        node.weight = weight
        return node

    def _put(self, node: Node) -> None:
        """Make a node resident, in place of the one with its key, and let leave what must for it."""
        now = node.used = self.clock()
        if self._expiry.next <= now:
            self._sweep(now)
        old = self._nodes.get(node.key)
        if old is not None:
            self._remove_node(old, "replaced")
        weigh = self.max_weight is not None
        if weigh and node.weight > self._most_weight:
            return  # as if it had been evicted at once
        if len(self._nodes) >= self._most_entries or len(self._new) >= self._batch:
            self._make_room(now)
        self._nodes[node.key] = node
        self._new.append(node)
        if self._buffer is not None:
            self._buffer.append(node)
        if (moment := self._over_at(node)) != NEVER:
            self._expiry.add(node, moment)
        if weigh:
            self._weight += node.weight
            if self.max_entries is None:
                self._policy.resize(len(self._nodes))
            while self._weight > self._most_weight:
                if self._expiry.next > now or not self._sweep(now):
                    self._evict(1)

    def _make_room(self, now: float) -> None:
        """Tell the policy of the new nodes, and make room for as many more."""
        while (excess := len(self._nodes) + self._batch - self._most_entries) > 0:
            if self._expiry.next > now or not self._sweep(now):
                break
        self._evict(int(max(0, excess)))

    def _evict(self, count: int) -> None:
        victims = self._policy.make_room(self._new, count)
        self._new.clear()
        if self._on_removal is not None or self.max_weight is not None:
            for victim in victims:
                self._forget(victim, "evicted")
            return
        # PERF: the same in a loop of its own, for most caches.
        self._expiry.remove_all(victims)
        nodes, hits = self._nodes, 0
        for victim in victims:
            del nodes[victim.key]
            hits += victim.hits
            victim.value = MISSING
            victim.entry = None
        self._past_hits += hits
        self.counters.evictions += len(victims)

    def _sweep(self, now: float) -> bool:
        """Remove some expired entries; return whether there were any."""
        found = False
        for node in self._expiry.due(now, _SWEPT_AT_ONCE):
            if self._is_over(node, now):
                self._remove_node(node, "expired")
                found = True
            else:  # used since it was put there
                self._expiry.remove(node)
                self._expiry.add(node, self._over_at(node))
        return found

    def _remove_node(self, node: Node, cause: Cause) -> None:
        self._forget(node, cause)
        self._policy.remove(node)

    def _forget(self, node: Node, cause: Cause) -> None:
        """Remove a node of which the policy knows that it leaves."""
        del self._nodes[node.key]
        self._expiry.remove(node)
        if self.max_weight is not None:
            self._weight = self._weight - node.weight if self._nodes else 0.0  # without the error of the sum
        self._past_hits += node.hits
        if cause == "evicted":
            self.counters.evictions += 1
        elif cause == "expired":
            self.counters.expirations += 1
        if self._on_removal is not None:
            self._removed.append((node.key, node.value, cause))
        node.value = MISSING
        node.entry = None

    def _discard(self, node: Node, cause: Cause) -> bool:
        """Remove a node unless it has left meanwhile; return whether it was there."""
        with self._lock:
            there = self._nodes.get(node.key) is node
            if there and cause == "expired":  # it may have got another value meanwhile
                there = self._is_over(node, self.clock())
            if there:
                self._remove_node(node, cause)
        if self._removed:
            self._tell()
        return there

    def _tell(self) -> None:
        assert self._on_removal is not None
        while True:
            try:
                key, value, cause = self._removed.popleft()
            except IndexError:
                return
            try:
                self._on_removal(key, value, cause)
            except Exception:
                _logger.exception("removal listener of cache %r failed for key %r", self.name, key)

    def _increment(self, key: str, delta: int, initial: Entry) -> int:
        weight = self._weigh(key, initial.value)
        with self._lock:
            node = self._nodes.get(key)
            if node is None or not self._is_fresh(key):
                entry = initial
            else:
                if type(node.value) is not int:
                    kind = type(node.value).__name__
                    raise CacheValueError(f"key {key!r} holds a value of type {kind}: only int counts")
                entry = self._changed(node)
            total: int = entry.value + delta
            entry.value = total
            self._put(self._node(key, entry, weight))
        if self._removed:
            self._tell()
        return total

    def _touch(self, key: str, fresh_until: float, stale_until: float) -> bool:
        with self._lock:
            node = self._nodes.get(key)
            if node is None or not self._is_fresh(key):
                return False
            entry = self._changed(node)
            entry.fresh_until, entry.stale_until, entry.refresh_at = fresh_until, stale_until, NEVER
            self._put(self._node(key, entry, 1.0 if self.max_weight is None else node.weight))
        if self._removed:
            self._tell()
        return True

    def _changed(self, node: Node) -> Entry:
        """Return a copy of what is known of a node, to be changed."""
        old = node.entry
        if old is None:
            return Entry(node.value, node.quick_until, node.quick_until)
        return Entry(old.value, old.fresh_until, old.stale_until, old.refresh_at, old.tags, old.etag)

    # -- removing --

    def _remove(self, key: str) -> bool:
        node = self._nodes.get(key)
        if node is None:
            return False
        was_there = not self._is_over(node, self.clock())
        return self._discard(node, "deleted") and was_there

    def _clear(self) -> None:
        with self._lock:
            for node in list(self._nodes.values()):
                self._forget(node, "cleared")
            self._new.clear()
            self._policy.clear()
        if self._removed:
            self._tell()

    def _generations(self, tags: Sequence[str]) -> tuple[int, ...]:
        return self._tags.generations(tags)

    def _invalidate(self, tags: Sequence[str]) -> None:
        self._tags.invalidate(tags)

    # -- the rest --

    def _acquire(self, name: str, token: str, ttl: float) -> int | None:
        return self._locks.acquire(name, token, ttl, self.clock())

    def _release(self, name: str, token: str) -> bool:
        return self._locks.release(name, token, self.clock())

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
        self._lean = False
        self._clear()

    def _after_fork(self) -> None:
        super()._after_fork()
        if self._lock.locked():  # a thread of the parent was about to change something
            self._start_over()
        else:
            self._lock = threading.Lock()
            self._tags.after_fork()
            self._locks = LocalLocks()
            self._past_hits = -sum(node.hits for node in self._nodes.values())
