"""Several levels against a plain model: whatever happens, a value is the last one, or it is not there."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from prologue.cache.multi_level import MultiLevelCache
from prologue.errors import CacheUnavailableError
from tests.cache.test_multi_level import Setup
from tests.concurrency import Task, impatient_threads

KEYS = ["a", "b", "c"]
TAGS = ["x", "y"]

keys = st.sampled_from(KEYS)
tags = st.lists(st.sampled_from(TAGS), unique=True)


class Levels(RuleBasedStateMachine):
    """A cache over a store that goes down and comes back, and another process that changes things."""

    def __init__(self) -> None:
        super().__init__()
        self.setup = Setup(max_missed=2)
        self.cache: MultiLevelCache = self.setup.cache
        self.cache._recovery.close()  # the model makes up when it wants
        self.other = self.setup.other()
        self.last: dict[str, tuple[int, float, list[str]]] = {}
        self.pending: list[tuple[Any, Any]] = []
        self.void: list[Any] = []  # pending writes whose tags were invalidated
        self.values = iter(range(1, 10**9))

    def expected(self, key: str) -> int | None:
        found = self.last.get(key)
        return None if found is None or self.setup.clock.now >= found[1] else found[0]

    @rule(key=keys, ttl=st.sampled_from([3, 30]), under=tags)
    def set(self, key: str, ttl: int, under: list[str]) -> None:
        value = next(self.values)
        self.cache.set(key, value, ttl, tags=under)
        self.last[key] = value, self.setup.clock.now + ttl, under
        assert self.cache.get(key) == value

    @rule(key=keys)
    def delete(self, key: str) -> None:
        try:
            self.cache.delete(key)
        except CacheUnavailableError:
            assert self.setup.store.down
        self.last.pop(key, None)

    @rule()
    def clear(self) -> None:
        try:
            self.cache.clear()
        except CacheUnavailableError:
            assert self.setup.store.down
        self.last.clear()

    @rule(tag=st.sampled_from(TAGS))
    def invalidate(self, tag: str) -> None:
        try:
            self.cache.invalidate_tags(tag)
        except CacheUnavailableError:
            assert self.setup.store.down
        self.last = {key: found for key, found in self.last.items() if tag not in found[2]}
        self.void += [pending for pending, entry in self.pending if tag in dict(entry.tags)]

    @rule(key=keys, under=tags)
    def begin(self, key: str, under: list[str]) -> None:
        """A factory begins to make a value from what is there now."""
        entry = self.cache.entry(self.expected(key), 30, self.cache.tag_generations(under))
        self.pending.append((self.cache.pending.begin(key), entry))

    @rule()
    def finish(self) -> None:
        if self.pending:
            pending, entry = self.pending.pop(0)
            if self.cache._write_pending(pending, entry):
                self.last.pop(pending.key, None)
                if pending not in self.void and entry.value is not None:
                    self.last[pending.key] = entry.value, entry.fresh_until, list(dict(entry.tags))
            self.cache.pending.end(pending)

    @rule(key=keys)
    def another_deletes(self, key: str) -> None:
        if not self.setup.store.down and not self.cache._missed:
            self.other.delete(key)
            self.cache.drop_keys([key])
            self.last.pop(key, None)

    @rule(key=keys)
    def another_reads(self, key: str) -> None:
        self.other.get(key)

    @rule()
    def forget_locally(self) -> None:
        self.cache.drop_all(changed=False)

    @rule(seconds=st.sampled_from([1, 5, 11]))
    def wait(self, seconds: int) -> None:
        self.setup.clock.now += seconds

    @rule(down=st.booleans())
    def switch(self, down: bool) -> None:
        self.setup.store.down = down

    @rule()
    def make_up(self) -> None:
        self.cache._make_up()
        assert self.setup.store.down or not self.cache._missed

    @invariant()
    def a_value_is_the_last_one_or_it_is_not_there(self) -> None:
        many = self.cache.get_many(KEYS)
        for key in KEYS:
            expected = self.expected(key)
            assert self.cache.get(key) in (expected, None), key
            assert many.get(key) in (expected, None), key

    def teardown(self) -> None:
        for pending, _ in self.pending:
            self.cache.pending.end(pending)
        assert not self.cache._fills.writes
        assert not self.cache.pending.writes


TestLevels = Levels.TestCase
TestLevels.settings = settings(
    max_examples=50, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


@pytest.mark.parametrize("threads", [6])
def test_no_thread_sees_what_was_there_before_a_change_that_is_over(threads: int) -> None:
    setup = Setup()
    cache = setup.cache
    floor = dict.fromkeys(KEYS, 0)  # what was set last, once it is set
    stop = threading.Event()

    def write(key: str) -> None:
        for number in range(1, 300):
            cache.set(key, number)
            floor[key] = number
            if number % 7 == 0:
                cache.levels[0].delete(key)

    def read() -> None:
        while not stop.is_set():
            for key in KEYS:
                at_least = floor[key]
                value = cache.get(key)
                assert value is None or value >= at_least

    with impatient_threads():
        readers = [Task(read) for _ in range(threads)]
        writers = [Task(lambda key=key: write(key)) for key in KEYS]  # type: ignore[misc]
        for writer in writers:
            writer.result()
        stop.set()
        for reader in readers:
            reader.result()
    assert cache.get_many(KEYS) == dict.fromkeys(KEYS, 299)
