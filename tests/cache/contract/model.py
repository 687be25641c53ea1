"""A cache against a plain model: whatever the order of calls, it does what these few lines say.

A subclass says how to make the cache. Where entries may leave before their time, ``forgets`` is true, and a
miss is always an answer; a wrong or old value never is.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from prologue.cache import MISSING, CacheBackend, CacheOptions
from tests.cache.clock import Clock

__all__ = ["CacheMachine"]

keys = st.sampled_from(["a", "b", "c", "d", "e"])
tags = st.sets(st.sampled_from(["x", "y"])).map(tuple)
lives = st.sampled_from([0, 60, 300])  # long, so that what real servers count down meanwhile is nothing
values = st.one_of(st.none(), st.booleans(), st.integers(0, 9), st.sampled_from(["", "text"]))


class Known(NamedTuple):
    value: Any
    fresh_until: float
    stale_until: float
    tags: tuple[str, ...]


class CacheMachine(RuleBasedStateMachine):
    forgets = False

    def make(self, clock: Clock) -> CacheBackend:
        raise NotImplementedError

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.cache = self.make(self.clock)
        self.known: dict[str, Known] = {}

    def teardown(self) -> None:
        self.cache.close()

    def moments(self, ttl: float, stale: float = 0) -> tuple[float, float]:
        if not ttl:
            return float("inf"), float("inf")
        return self.clock.now + ttl, self.clock.now + ttl + stale

    def learn(self, key: str, value: Any, ttl: float, tags: tuple[str, ...] = (), stale: float = 0) -> None:
        self.known[key] = Known(value, *self.moments(ttl, stale), tags)

    def fresh(self, key: str) -> Any:
        known = self.known.get(key)
        return known.value if known is not None and self.clock.now < known.fresh_until else MISSING

    def agrees(self, found: Any, expected: Any) -> bool:
        """Tell whether an answer is right: the value with its type, or a miss."""
        if found is MISSING and self.forgets:
            return True
        return type(found) is type(expected) and found == expected

    @rule(key=keys, value=values, ttl=lives, tags=tags)
    def set(self, key: str, value: Any, ttl: float, tags: tuple[str, ...]) -> None:
        self.cache.set(key, value, ttl, tags=tags)
        self.learn(key, value, ttl, tags)

    @rule(pairs=st.dictionaries(keys, values), ttl=lives)
    def set_many(self, pairs: dict[str, Any], ttl: float) -> None:
        self.cache.set_many(pairs, ttl)
        for key, value in pairs.items():
            self.learn(key, value, ttl)

    @rule(key=keys)
    def get(self, key: str) -> None:
        assert self.agrees(self.cache.get(key, MISSING), self.fresh(key))

    @rule(wanted=st.lists(keys))
    def get_many(self, wanted: list[str]) -> None:
        found = self.cache.get_many(wanted)
        assert found.keys() <= set(wanted)
        for key in wanted:
            assert self.agrees(found.get(key, MISSING), self.fresh(key))

    @rule(key=keys)
    def get_entry(self, key: str) -> None:
        entry, known = self.cache.get_entry(key), self.known.get(key)
        if known is None or self.clock.now >= known.stale_until:
            assert entry is None
        elif entry is None:
            assert self.forgets
        else:
            assert entry.value == known.value
            assert entry.fresh_until <= known.fresh_until, "time to live never grows"
            assert entry.fresh_until <= entry.stale_until <= known.stale_until

    @rule(key=keys, value=values, ttl=lives)
    def add(self, key: str, value: Any, ttl: float) -> None:
        added = self.cache.add(key, value, ttl)
        assert added == (self.fresh(key) is MISSING) or (added and self.forgets)
        if added:
            self.learn(key, value, ttl)

    @rule(key=keys, old=values, value=values, ttl=lives, tags=tags)
    def replace(self, key: str, old: Any, value: Any, ttl: float, tags: tuple[str, ...]) -> None:
        expected = self.fresh(key)
        if old is not None:  # else what is not expected
            old = expected
        replaced = self.cache.replace(key, old, value, ttl, tags=tags)
        fits = expected is not MISSING and expected == old
        assert replaced == fits or (fits and self.forgets)
        if replaced:
            self.learn(key, value, ttl, tags)

    @rule(key=keys, delta=st.integers(1, 3), ttl=lives)
    def incr(self, key: str, delta: int, ttl: float) -> None:
        value = self.fresh(key)
        if value is not MISSING and type(value) is not int:
            return
        total = self.cache.incr(key, delta, initial=100, ttl=ttl)
        if value is MISSING or (self.forgets and total == 100 + delta):
            assert total == 100 + delta
            self.learn(key, total, ttl)
        else:
            assert total == value + delta
            self.known[key] = self.known[key]._replace(value=total)

    @rule(key=keys, ttl=lives)
    def touch(self, key: str, ttl: float) -> None:
        touched = self.cache.touch(key, ttl)
        assert touched == (self.fresh(key) is not MISSING) or (not touched and self.forgets)
        if touched:
            self.learn(key, self.known[key].value, ttl, self.known[key].tags)

    @rule(key=keys)
    def delete(self, key: str) -> None:
        there = key in self.known and self.clock.now < self.known[key].stale_until
        deleted = self.cache.delete(key)
        assert deleted <= there or self.was_invalidated
        if there and not self.forgets:
            assert deleted
        self.known.pop(key, None)

    was_invalidated = False

    @rule(names=tags)
    def invalidate_tags(self, names: tuple[str, ...]) -> None:
        self.cache.invalidate_tags(*names)
        self.known = {key: known for key, known in self.known.items() if not set(known.tags) & set(names)}
        self.was_invalidated = True  # a value that was, and that nobody asked for, may still be deleted

    @rule()
    def clear(self) -> None:
        self.cache.clear()
        self.known = {}

    @rule(key=keys, value=values, ttl=lives, tags=tags, stale=st.sampled_from([0, 180]))
    def get_or_set(self, key: str, value: Any, ttl: float, tags: tuple[str, ...], stale: float) -> None:
        calls: list[int] = []

        def make() -> Any:
            calls.append(1)
            return value

        expected = self.fresh(key)
        found = self.cache.get_or_set(key, make, ttl, tags=tags, options=CacheOptions(stale=stale))
        if calls:
            assert expected is MISSING or self.forgets
            assert found == value
            self.learn(key, value, ttl, tags, stale)
        else:
            assert self.agrees(found, expected)

    @rule(key=keys, stale=st.booleans())
    def factory_fails(self, key: str, stale: bool) -> None:
        expected, known = self.fresh(key), self.known.get(key)
        options = CacheOptions(stale=60, throttle=120) if stale else None
        usable = stale and known is not None and self.clock.now < known.stale_until
        try:
            found = self.cache.get_or_set(key, self.fail, options=options)
        except ZeroDivisionError:
            assert (expected is MISSING and not usable) or self.forgets
            return
        if expected is not MISSING:
            assert self.agrees(found, expected)
            return
        assert known is not None
        assert usable
        assert self.agrees(found, known.value)
        until = min(self.clock.now + 120, known.stale_until)
        self.known[key] = known._replace(fresh_until=until)

    @staticmethod
    def fail() -> Any:
        return 1 // 0

    @rule(seconds=st.sampled_from([30, 60, 120]))
    def wait(self, seconds: float) -> None:
        self.pass_time(seconds)

    def pass_time(self, seconds: float) -> None:
        """Let time pass for the cache."""
        self.clock.advance(seconds)

    @invariant()
    def nothing_is_left_behind(self) -> None:
        assert not self.cache.pending.writes
        assert not self.cache._loader._flights
