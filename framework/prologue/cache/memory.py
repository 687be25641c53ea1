"""A cache in the memory of the process."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal, TypeAlias

from prologue.cache.base import CacheBackend
from prologue.cache.entry import NEVER, Entry
from prologue.cache.local import Generations, LocalLocks
from prologue.cache.lru import LRU
from prologue.cache.node import EvictionPolicy, Node
from prologue.cache.options import CacheOptions, Duration, seconds
from prologue.cache.pending import PendingWrite
from prologue.cache.residents import Cause, RemovalListener, Residents
from prologue.cache.s3_fifo import S3FIFO
from prologue.cache.stats import CacheStats
from prologue.cache.tiny_lfu import TinyLFU
from prologue.errors import CacheOptionError, CacheValueError
from prologue.lifecycle import MISSING

__all__ = ["Cause", "InMemoryCache", "Policy", "RemovalListener"]

Policy: TypeAlias = Literal["w-tinylfu", "s3-fifo", "lru"]

_POLICIES: Mapping[Policy, Callable[[int], EvictionPolicy]] = {
    "w-tinylfu": TinyLFU,
    "s3-fifo": S3FIFO,
    "lru": LRU,
}
_NOT_QUICKLY = -1.0
_NUMBERS = (int, float)


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
        "_buffer",
        "_copy",
        "_getsizeof",
        "_lean",
        "_life",
        "_locks",
        "_max_idle",
        "_nodes",
        "_on_removal",
        "_policy",
        "_quick",
        "_residents",
        "_tags",
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
        self._getsizeof = getsizeof
        self._policy: Policy = policy
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
        self._start_over()

    def _start_over(self) -> None:
        self._residents = Residents(
            _POLICIES[self._policy],
            max_entries=self.max_entries,
            max_weight=self.max_weight,
            max_idle=self._max_idle,
            on_removal=self._on_removal,
            name=self.name,
            clock=self.clock,
        )
        self._nodes = self._residents.nodes  # PERF: looked up for every hit
        self._buffer = self._residents.buffer
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
                    self._residents.tell_of_hit(node)
                return value
        entry = self._entry_of(node)
        if entry is None and self._nodes.get(key, node) is not node:
            return self.get(key, default)  # another has just taken its place
        if entry is None or self.clock() >= entry.fresh_until:
            self.counters.misses += 1
            return default
        if entry.tags and not self._current(entry.tags):
            self.counters.misses += 1
            self._residents.discard(node, "invalidated")
            return default
        self._residents.hit(node)
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
        if node is None:
            return None
        if entry is None:
            return None if self._nodes.get(key, node) is node else self._read(key)
        if self.clock() < entry.fresh_until:
            self._residents.hit(node)
        return entry if self._copy is None else entry.with_value(self._copy(entry.value))

    def _entry_of(self, node: Node) -> Entry | None:
        """Return what is known of a node, unless it is over or has left; remove it if it is over."""
        entry = node.entry
        if entry is None:
            moment = node.quick_until
            value = node.value
            if value is MISSING:
                return None
            entry = Entry(value, moment, moment)
        if self._residents.is_over(node, self.clock()):
            self._residents.discard(node, "expired")
            return None
        return entry

    # -- writing --

    def set(self, key: str, value: Any, ttl: Duration | None = None, *, tags: Iterable[str] = ()) -> None:
        life: Any = self._life if ttl is None else ttl
        if tags or not self._lean or type(key) is not str:
            return super().set(key, value, ttl, tags=tags)
        if type(life) not in _NUMBERS or not 0 <= life < NEVER:
            return super().set(key, value, ttl)
        # PERF: the same as in the base, for a value with nothing but a ttl.
        if self.pending.writes:
            self.pending.overtake(key)
        now = self.clock()
        self._residents.put_value(key, value, now, now + life if life else NEVER)
        return None

    def _write(self, key: str, entry: Entry) -> None:
        self._store(key, entry)

    def _write_pending(self, pending: PendingWrite, entry: Entry) -> bool:
        return self._store(pending.key, entry, unless=lambda _: pending.overtaken)

    def _add(self, key: str, entry: Entry) -> bool:
        return self._store(key, entry, unless=self._is_fresh)

    def _replace(self, key: str, old: object, entry: Entry) -> bool:
        while (node := self._nodes.get(key)) is not None:
            value = node.value
            if value is MISSING:
                continue  # it has just left, perhaps for another
            if value != old:  # without the lock: the comparison is the user's
                return False
            if self._store(key, entry, unless=partial(self._has_not, node, value)):
                return True
            if self._nodes.get(key) is node and node.value is value:
                return False
        return False

    def _has_not(self, node: Node, value: Any, key: str) -> bool:
        return self._nodes.get(key) is not node or node.value is not value or not self._is_fresh(key)

    def _is_fresh(self, key: str) -> bool:
        node = self._nodes.get(key)
        now = self.clock()
        if node is None or self._residents.is_over(node, now):
            return False
        entry = node.entry
        return entry is None or (now < entry.fresh_until and (not entry.tags or self._current(entry.tags)))

    def _store(self, key: str, entry: Entry, unless: Callable[[str], bool] | None = None) -> bool:
        """Store an entry unless something holds, asked under the lock; return whether it did not."""
        if self._copy is not None:
            entry = entry.with_value(self._copy(entry.value))
        node = self._node(key, entry, self._weigh(key, entry.value))
        with self._residents.lock:
            if unless is not None and unless(key):
                return False
            self._residents.put(node)
        self._residents.tell()
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

    def _increment(self, key: str, delta: int, initial: Entry) -> int:
        weight = self._weigh(key, initial.value)
        with self._residents.lock:
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
            self._residents.put(self._node(key, entry, weight))
        self._residents.tell()
        return total

    def _touch(self, key: str, fresh_until: float, stale_until: float) -> bool:
        with self._residents.lock:
            node = self._nodes.get(key)
            if node is None or not self._is_fresh(key):
                return False
            entry = self._changed(node)
            entry.fresh_until, entry.stale_until, entry.refresh_at = fresh_until, stale_until, NEVER
            self._residents.put(self._node(key, entry, 1.0 if self.max_weight is None else node.weight))
        self._residents.tell()
        return True

    def _changed(self, node: Node) -> Entry:
        """Return a copy of what is known of a node, to be changed."""
        old = node.entry
        if old is None:
            return Entry(node.value, node.quick_until, node.quick_until)
        return old.with_value(old.value)

    # -- removing --

    def _remove(self, key: str) -> bool:
        node = self._nodes.get(key)
        if node is None:
            return False
        was_there = not self._residents.is_over(node, self.clock())
        return self._residents.discard(node, "deleted") and was_there

    def _clear(self) -> None:
        self._residents.clear()

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
        counts = self._residents.counts()
        return replace(
            super().stats(),
            hits=counts.hits,
            evictions=counts.evictions,
            expirations=counts.expirations,
            entries=counts.entries,
            weight=None if self.max_weight is None else counts.weight,
        )

    def __len__(self) -> int:
        return len(self._nodes)

    def _close(self) -> None:
        self._lean = False
        self._clear()

    def _after_fork(self) -> None:
        super()._after_fork()
        if self._residents.survive_fork():
            self._tags.after_fork()
            self._locks = LocalLocks()
        else:
            self._start_over()
