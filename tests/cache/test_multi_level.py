"""Several levels as one: who fills whom, what never comes back, what an outage leaves behind."""

from __future__ import annotations

import copy
import gc
import math
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from prologue.cache.base import CacheBackend
from prologue.cache.entry import Entry
from prologue.cache.memory import InMemoryCache
from prologue.cache.missed import MissedOperations
from prologue.cache.multi_level import MultiLevelCache
from prologue.cache.options import CacheOptions
from prologue.cache.redis import RedisCache
from prologue.cache.tag_view import TagView
from prologue.errors import CacheOptionError, CacheUnavailableError
from tests.concurrency import Task, in_child, pass_gate, until


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Store(InMemoryCache):
    """A level that can be down, and at which a reader can be held between its reading and its answer."""

    def __init__(self, **options: Any) -> None:
        super().__init__(name="store", **options)
        self.down = False
        self.calls: list[str] = []
        self.read = threading.Event()
        self.gate: threading.Event | None = None

    def _answer(self, call: str) -> None:
        self.calls.append(call)
        if self.down:
            raise CacheUnavailableError("down")

    def _read_many(self, keys: Sequence[str]) -> dict[str, Entry]:
        self._answer("read")
        found = super()._read_many(keys)
        if self.gate is not None:
            gate, self.gate = self.gate, None
            self.read.set()
            pass_gate(gate)
        return found

    def _write_many(self, entries: Mapping[str, Entry]) -> None:
        self._answer("write")
        for key, entry in entries.items():
            super()._write(key, entry)

    def _write_pending(self, pending: Any, entry: Entry) -> bool:
        self._answer("write pending")
        return super()._write_pending(pending, entry)

    def _add(self, key: str, entry: Entry) -> bool:
        self._answer("add")
        return super()._add(key, entry)

    def _replace(self, key: str, old: object, entry: Entry) -> bool:
        self._answer("replace")
        return super()._replace(key, old, entry)

    def _increment(self, key: str, delta: int, initial: Entry) -> int:
        self._answer("increment")
        return super()._increment(key, delta, initial)

    def _touch(self, key: str, fresh_until: float, stale_until: float) -> bool:
        self._answer("touch")
        return super()._touch(key, fresh_until, stale_until)

    def _remove(self, key: str) -> bool:
        self._answer("remove")
        return super()._remove(key)

    def _remove_many(self, keys: Sequence[str]) -> int:
        self._answer("remove")
        return sum(InMemoryCache._remove(self, key) for key in keys)

    def _clear(self) -> None:
        self._answer("clear")
        super()._clear()

    def _generations(self, tags: Sequence[str]) -> tuple[int, ...]:
        self._answer("generations")
        return super()._generations(tags)

    def _invalidate(self, tags: Sequence[str]) -> None:
        self._answer("invalidate")
        super()._invalidate(tags)

    def close(self) -> None:
        pass  # shared by several caches


class Setup:
    """One store, and caches of two levels over it as several processes would have."""

    def __init__(self, **options: Any) -> None:
        self.clock = Clock()
        self.store = Store(clock=self.clock)
        self.memory = InMemoryCache(clock=self.clock)
        self.options: dict[str, Any] = {"clock": self.clock, "max_age": 10.0}
        self.options.update(options)
        self.cache = MultiLevelCache(self.memory, self.store, **self.options)

    def other(self) -> MultiLevelCache:
        return MultiLevelCache(InMemoryCache(clock=self.clock), self.store, **self.options)

    def make_up(self) -> None:
        """Do now what the thread of the recovery does soon."""
        self.cache._make_up()


def fresh(cache: CacheBackend, key: str) -> float | None:
    """Return the seconds for which a level has a fresh value."""
    entry = cache._read(key)
    return None if entry is None else entry.fresh_until - cache.clock()


# Filling


def test_a_hit_lower_down_fills_the_levels_above_with_its_remaining_time() -> None:
    clock = Clock()
    levels = [InMemoryCache(clock=clock) for _ in range(4)]
    cache = MultiLevelCache(*levels, clock=clock, max_age=1000)
    levels[3].set("k", "v", ttl=60)
    clock.now += 20
    assert cache.get("k") == "v"
    assert [fresh(level, "k") for level in levels] == [40, 40, 40, 40]
    levels[3].delete("k")
    levels[0].delete("k")
    clock.now += 30
    assert cache.get("k") == "v"
    assert [fresh(level, "k") for level in levels] == [10, 10, 10, None]
    clock.now += 10
    assert cache.get("k") is None


def test_what_is_handed_out_is_not_what_a_copying_level_keeps() -> None:
    setup = Setup()
    memory = InMemoryCache(clock=setup.clock, copy=copy.deepcopy)
    cache = MultiLevelCache(memory, setup.store, clock=setup.clock)
    setup.store.set("k", [1], ttl=5)
    for _ in range(3):  # from the store, then from memory
        found = cache.get("k")
        assert found == [1]
        found.append(2)
        setup.store.set("k", [1], ttl=5)


def test_many_keys_come_each_from_the_nearest_level_that_has_it() -> None:
    setup = Setup()
    setup.cache.set_many({"a": 1, "b": 2})
    setup.memory.delete("b")
    setup.store.calls.clear()
    assert setup.cache.get_many(["a", "b", "c"]) == {"a": 1, "b": 2}
    assert setup.store.calls == ["read"]
    assert fresh(setup.memory, "b") == 10
    assert setup.cache.get_many(["a", "b"]) == {"a": 1, "b": 2}
    assert setup.store.calls == ["read"]


def test_a_local_level_is_believed_for_the_maximum_age() -> None:
    setup = Setup()
    setup.cache.set("k", "old")
    setup.store._write_many({"k": Entry("new")})
    setup.clock.now += 9.9
    assert setup.cache.get("k") == "old"
    setup.clock.now += 0.1
    assert setup.cache.get("k") == "new"
    setup.cache.set("short", 1, ttl=5)
    assert fresh(setup.memory, "short") == 5


def test_what_another_process_deleted_is_not_even_stale_once_that_is_known() -> None:
    setup = Setup(options=CacheOptions(stale=1000))
    setup.cache.set("k", 1, ttl=20)
    setup.store._remove("k")
    setup.clock.now += 10
    assert setup.cache.get_entry("k") is None
    assert setup.memory._read("k") is None


def test_a_stale_value_is_there_for_those_who_serve_it() -> None:
    setup = Setup()
    now = setup.clock.now
    setup.store._write_many({"k": Entry("lower", now + 1, now + 50)})
    setup.memory._write("k", Entry("upper", now + 1, now + 50))
    setup.clock.now += 2
    entry = setup.cache.get_entry("k")
    assert entry is not None
    assert (entry.value, setup.cache.get("k")) == ("lower", None)
    setup.store.down = True
    entry = setup.cache.get_entry("k")
    assert entry is not None
    assert entry.value == "upper"


def test_a_miss_is_one_read_of_the_store_also_where_stale_values_are_kept() -> None:
    setup = Setup(options=CacheOptions(ttl=5, stale=60))
    for expected in (1, 2):
        setup.store.calls.clear()
        assert setup.cache.get_or_set("k", lambda: expected) == expected  # noqa: B023
        assert setup.store.calls == ["read", "write pending"]
        assert setup.cache.get_or_set("k", lambda: 9) == expected
        setup.clock.now += 6
    stats = setup.cache.stats()
    assert (stats.hits, stats.misses) == (2, 2)


def test_one_level_is_a_cache_too() -> None:
    cache = MultiLevelCache(InMemoryCache())
    cache.set("k", 1)
    assert (cache.get("k"), cache.get_many(["k", "l"]), cache.delete("k"), cache.get("k")) == (
        1,
        {"k": 1},
        True,
        None,
    )


# Writing


def test_the_shared_level_is_written_first() -> None:
    clock = Clock()
    near, last = Store(clock=clock), Store(clock=clock)
    near.calls = last.calls
    near._answer = lambda call: last.calls.append(f"near {call}")  # type: ignore[method-assign]
    cache = MultiLevelCache(near, last, clock=clock)
    cache.set("k", 1)
    cache.delete("k")
    cache.clear()
    assert last.calls == ["write", "near write", "remove", "near remove", "clear", "near clear"]


def test_one_step_operations_happen_in_the_last_level() -> None:
    setup = Setup()
    other = setup.other()
    assert (setup.cache.incr("n"), other.incr("n"), setup.cache.incr("n", 5)) == (1, 2, 7)
    assert setup.cache.get("n") == 7
    assert (setup.cache.add("k", 1), other.add("k", 2), setup.cache.get("k")) == (True, False, 1)
    assert setup.cache.touch("k", 5)
    assert fresh(setup.cache, "k") == 5
    assert setup.cache.delete("k")
    assert not setup.cache.delete("k")


def test_a_lock_is_that_of_the_last_level() -> None:
    setup = Setup()
    with setup.cache.lock("l") as lock:
        assert lock.fence is not None
        assert not setup.other().lock("l").try_acquire()
        assert not setup.store.lock("l").try_acquire()
    assert setup.store.lock("l").try_acquire()


def test_statistics_name_the_levels() -> None:
    setup = Setup()
    setup.cache.set("k", 1)
    setup.cache.get_many(["k", "l"])
    stats = setup.cache.stats()
    assert (stats.name, stats.hits, stats.misses, stats.available) == ("multi-level", 1, 1, True)
    assert [(level.name, level.hits, level.misses) for level in stats.levels] == [
        ("memory", 1, 1),
        ("store", 0, 1),
    ]


# What never comes back


def hear(cache: MultiLevelCache, change: Callable[[], object]) -> None:
    """Do what another process does, and what the backplane then says."""
    change()
    cache.drop_keys(["k"])
    cache.drop_tags(["users"])


def lose(cache: MultiLevelCache) -> None:
    """Do what another process does, and what is done because it was not heard."""
    cache._last._remove("k")
    cache.drop_all(changed=False)


CHANGES: dict[str, tuple[Callable[[MultiLevelCache], object], Any]] = {
    "set": (lambda cache: cache.set("k", "new"), "new"),
    "set_many": (lambda cache: cache.set_many({"j": 1, "k": "new"}), "new"),
    "delete": (lambda cache: cache.delete("k"), None),
    "delete_many": (lambda cache: cache.delete_many(["j", "k"]), None),
    "clear": (lambda cache: cache.clear(), None),
    "invalidate_tags": (lambda cache: cache.invalidate_tags("users"), None),
    "another's delete": (lambda cache: hear(cache, lambda: cache._last._remove("k")), None),
    "another's tags": (lambda cache: hear(cache, lambda: cache._last._invalidate(["users"])), None),
    "a gap": (lose, None),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_back_fill_does_not_bring_back_what_was_changed_meanwhile(change: str) -> None:
    setup = Setup()
    act, expected = CHANGES[change]
    setup.cache.set("k", "old", tags=("users",))
    setup.memory.clear()
    gate = setup.store.gate = threading.Event()
    reader = Task(lambda: setup.cache.get("k"))
    pass_gate(setup.store.read)
    act(setup.cache)
    gate.set()
    assert reader.result() in ("old", expected)
    assert setup.cache.get("k") == expected


def test_a_back_fill_that_begins_within_a_change_does_not_undo_it() -> None:
    setup = Setup()
    setup.cache.set("k", "old")
    setup.memory.clear()
    gate = threading.Event()
    readers: list[Task[Any]] = []
    original = setup.store._write_many

    def write(entries: Mapping[str, Entry]) -> None:
        setup.store.gate = gate
        readers.append(Task(lambda: setup.cache.get("k")))
        pass_gate(setup.store.read)
        original(entries)

    setup.store._write_many = write  # type: ignore[method-assign]
    setup.cache.set("k", "new")
    gate.set()
    assert readers[0].result() == "old"
    assert setup.cache.get("k") == "new"


@pytest.mark.parametrize("change", [change for change in CHANGES if change != "a gap"])
def test_a_pending_write_does_not_bring_back_what_was_changed_meanwhile(change: str) -> None:
    setup = Setup()
    act, expected = CHANGES[change]
    pending = setup.cache.pending.begin("k")
    tags = setup.cache.tag_generations(["users"])
    entry = setup.cache.entry("old", None, tags)
    act(setup.cache)
    setup.cache._write_pending(pending, entry)
    setup.cache.pending.end(pending)
    assert setup.cache.get("k") == expected
    assert setup.other().get("k") == expected


def test_a_pending_write_reaches_all_levels() -> None:
    setup = Setup()
    pending = setup.cache.pending.begin("k")
    assert setup.cache._write_pending(pending, setup.cache.entry("v", 60))
    assert (fresh(setup.memory, "k"), fresh(setup.store, "k")) == (10, 60)


# Tags


def test_a_local_hit_asks_nobody_for_the_generations_of_its_tags() -> None:
    setup = Setup()
    setup.cache.set("k", 1, tags=("users", "all"))
    setup.store.calls.clear()
    assert [setup.cache.get("k") for _ in range(3)] == [1, 1, 1]
    assert setup.cache.get_many(["k"]) == {"k": 1}
    assert setup.store.calls == []
    setup.cache.invalidate_tags("users")
    assert setup.cache.get("k") is None
    assert setup.cache.get_many(["k"]) == {}
    setup.cache.set("untagged", 1)
    setup.store.calls.clear()
    assert setup.cache.get("untagged") == 1
    assert setup.store.calls == []


def test_the_generations_of_many_tags_are_asked_for_at_once() -> None:
    setup = Setup()
    for number in range(5):
        setup.cache.set(f"k{number}", number, tags=(f"tag {number}",))
    setup.cache.drop_tags([f"tag {number}" for number in range(5)])
    setup.store.calls.clear()
    keys = [f"k{number}" for number in range(5)]
    assert setup.cache.get_many(keys) == {f"k{number}": number for number in range(5)}
    assert setup.store.calls == ["generations"]
    setup.cache.drop_all(changed=True)
    setup.store.calls.clear()
    assert len(setup.cache.get_many(keys)) == 5
    assert setup.store.calls == ["read", "generations"]


def test_tags_that_another_process_invalidated_are_noticed_within_the_maximum_age() -> None:
    setup = Setup()
    other = setup.other()
    setup.cache.set("k", 1, tags=("users",))
    assert other.get("k") == 1
    setup.clock.now += 9
    setup.cache.invalidate_tags("users")
    assert (setup.cache.get("k"), other.get("k")) == (None, 1)
    setup.clock.now += 1
    assert (other.get("k"), other.get_many(["k"])) == (None, {})


def test_a_generation_that_was_read_before_an_invalidation_is_not_learned_after_it() -> None:
    view = TagView()
    epoch = view.epoch
    view.forget(["other"])
    view.learn(epoch, {"users": 1})
    assert view.current((("users", 1),)) is None
    view.learn(view.epoch, {"users": 2})
    assert [view.current((("users", number),)) for number in (1, 2)] == [False, True]
    epoch = view.epoch
    view.forget_all()
    view.learn(epoch, {"users": 2})
    assert view.current((("users", 2),)) is None


def test_no_more_generations_are_remembered_than_the_limit() -> None:
    view = TagView()
    for number in range(10_001):
        view.learn(view.epoch, {f"t{number}": number})
    assert view.current((("t0", 0),)) is None
    assert view.current((("t10000", 10_000),)) is True


# Outages


def test_what_is_set_in_an_outage_is_here_at_once_and_there_afterwards() -> None:
    setup = Setup()
    setup.cache.set("k", "old")
    setup.store.down = True
    setup.cache.set("k", "newer")
    setup.cache.set("k", "newest")
    setup.memory.clear()
    assert setup.cache.get("k") == "newest"  # though this level forgot it
    assert setup.cache.get_many(["k", "l"]) == {"k": "newest"}
    setup.make_up()
    assert setup.cache._missed
    setup.store.down = False
    assert setup.cache.get("k") == "newest"  # and though the other has an old one
    setup.make_up()
    assert not setup.cache._missed
    assert setup.other().get("k") == "newest"


def test_what_is_deleted_in_an_outage_is_gone_here_at_once_and_there_afterwards() -> None:
    setup = Setup()
    setup.cache.set_many({"k": 1, "l": 1, "t": 1})
    setup.cache.set("tagged", 1, tags=("users",))
    setup.store.down = True
    for change in (
        lambda: setup.cache.delete("k"),
        lambda: setup.cache.delete_many(["l"]),
        lambda: setup.cache.invalidate_tags("users"),
    ):
        with pytest.raises(CacheUnavailableError):
            change()
    assert setup.cache.get_many(["k", "l", "t", "tagged"]) == {"t": 1}
    setup.store.down = False
    assert setup.cache.get_many(["k", "l", "t", "tagged"]) == {"t": 1}
    assert setup.other().get("k") == 1
    setup.make_up()
    assert setup.other().get_many(["k", "l", "t", "tagged"]) == {"t": 1}
    assert setup.cache.get("tagged") is None


def test_what_is_cleared_in_an_outage_is_gone_here_at_once_and_there_afterwards() -> None:
    setup = Setup()
    setup.cache.set("k", 1)
    setup.store.down = True
    with pytest.raises(CacheUnavailableError):
        setup.cache.clear()
    assert setup.cache.get("k") is None
    setup.cache.set("l", 2)
    setup.store.down = False
    assert setup.cache.get_many(["k", "l"]) == {"l": 2}
    setup.make_up()
    assert setup.other().get_many(["k", "l"]) == {"l": 2}


def test_one_step_operations_wait_until_what_was_missed_is_made_up_for() -> None:
    setup = Setup()
    setup.cache.set("n", 5)
    setup.store.down = True
    setup.cache.set("n", 10)
    with pytest.raises(CacheUnavailableError):
        setup.cache.incr("m")
    setup.store.down = False
    with pytest.raises(CacheUnavailableError, match="has not made up yet"):
        setup.cache.incr("n")
    assert setup.cache.incr("m") == 1
    setup.make_up()
    assert setup.cache.incr("n") == 11


def test_a_write_that_succeeds_counts_more_than_one_that_was_missed() -> None:
    setup = Setup()
    setup.store.down = True
    setup.cache.set("k", "missed")
    with pytest.raises(CacheUnavailableError):
        setup.cache.delete("l")
    setup.store.down = False
    setup.cache.set_many({"k": "later", "l": "later"})
    setup.make_up()
    assert setup.other().get_many(["k", "l"]) == {"k": "later", "l": "later"}


def test_a_missed_write_whose_time_is_over_is_a_deletion() -> None:
    setup = Setup()
    setup.cache.set("k", "old")
    setup.store.down = True
    setup.cache.set("k", "new", ttl=5)
    setup.clock.now += 5
    assert setup.cache.get_entry("k") is None
    setup.store.down = False
    setup.make_up()
    assert setup.other().get("k") is None


def test_past_the_limit_the_store_is_cleared_afterwards() -> None:
    setup = Setup(max_missed=2)
    setup.cache.set_many({"a": "old", "b": "old", "c": "old", "d": "old"})
    setup.store.down = True
    for key in ("a", "b", "c"):
        setup.cache.set(key, "new")
    assert setup.cache.get_many(["a", "b", "c", "d"]) == {"a": "new", "b": "new", "c": "new", "d": "old"}
    setup.store.down = False
    with pytest.raises(CacheUnavailableError, match="has not made up yet"):
        setup.cache.add("x", 1)
    setup.memory.clear()
    assert setup.cache.get("a") is None  # never the old one
    setup.make_up()
    assert setup.other().get_many(["a", "b", "c", "d"]) == {}


def test_what_is_missed_while_it_is_made_up_for_stays_missed() -> None:
    missed = MissedOperations(10)
    missed.note_writes({"k": None})
    missed.note_tags(["t"])
    missed.note_clear()
    missed.note_writes({"k": None})
    write, tags, clears = missed.write_of("k"), missed.tags, missed.clears
    missed.note_writes({"k": None})
    missed.note_tags(["t"])
    missed.made_up_for_write("k", write)
    missed.made_up_for_tags(tags)
    assert (missed.write_of("k") is not None, missed.missed_tag("t"), missed.clears) == (True, True, 1)
    missed.note_clear()
    missed.made_up_for_clear(clears)
    assert (missed.write_of("k"), missed.clears) == (None, 2)
    missed.made_up_for_clear(2)
    missed.made_up_for_tags(missed.tags)
    missed.made_up_for_write("k")
    assert not missed


def test_a_middle_level_that_is_down_is_passed_by_and_made_up_for() -> None:
    clock = Clock()
    middle, last = Store(clock=clock), Store(clock=clock)
    # A store of this process counts as local unless it is the last; here it stands for a shared one.
    cache = MultiLevelCache(InMemoryCache(clock=clock), middle, last, clock=clock)
    cache._local, cache._shared = cache.levels[:1], cache.levels[1:]
    cache.set("k", "old")
    middle.down = True
    cache.set("k", "new")
    with pytest.raises(CacheUnavailableError):
        cache.incr("n")
    with pytest.raises(CacheUnavailableError):
        cache.delete("gone")
    cache.drop_all(changed=False)
    assert cache.get_many(["k", "n"]) == {"k": "new"}
    middle.down = False
    assert cache.incr("n") == 1
    cache._make_up()
    assert [cache.get("n"), fresh(middle, "k"), fresh(middle, "n")] == [1, math.inf, math.inf]


def test_a_pending_write_in_an_outage_is_made_up_for_unless_it_was_overtaken() -> None:
    setup = Setup()
    setup.store.down = True
    pending = setup.cache.pending.begin("k")
    assert setup.cache._write_pending(pending, setup.cache.entry("v"))
    assert setup.cache.get("k") == "v"
    overtaken = setup.cache.pending.begin("l")
    with pytest.raises(CacheUnavailableError):
        setup.cache.delete("l")
    assert not setup.cache._write_pending(overtaken, setup.cache.entry("v"))
    assert setup.cache.get("l") is None
    setup.store.down = False
    setup.make_up()
    assert setup.other().get_many(["k", "l"]) == {"k": "v"}


def test_tags_can_be_used_in_an_outage() -> None:
    setup = Setup()
    setup.store.down = True
    setup.cache.set("k", 1, tags=("users",))
    assert setup.cache.get("k") == 1
    with pytest.raises(CacheUnavailableError):
        setup.cache.invalidate_tags("users")
    assert setup.cache.get("k") is None
    setup.cache.set("k", 2, tags=("users",))
    assert setup.cache.get("k") == 2
    setup.store.down = False
    assert setup.cache.get("k") == 2
    setup.make_up()
    assert setup.other().get("k") is None  # its generation was this process's own


def test_the_thread_of_the_recovery_makes_up_and_ends() -> None:
    setup = Setup()
    setup.store.down = True
    setup.cache.set("k", 1)
    thread = setup.cache._recovery._thread
    assert thread is not None
    until(lambda: setup.store.calls.count("remove") + setup.store.calls.count("write pending") > 1)
    setup.store.down = False
    until(lambda: not thread.is_alive())
    assert (setup.other().get("k"), setup.cache._recovery._thread) == (1, None)
    setup.cache.close()
    setup.cache._missed.note_clear()
    setup.cache._recovery.start()
    assert setup.cache._recovery._thread is None


def test_a_cache_that_nobody_uses_any_more_takes_its_recovery_with_it() -> None:
    setup = Setup()
    setup.store.down = True
    setup.cache.set("k", 1)
    thread, cache = setup.cache._recovery._thread, weakref.ref(setup.cache)
    del setup
    gc.collect()
    assert thread is not None
    until(lambda: not thread.is_alive())
    assert cache() is None


def test_an_error_of_the_recovery_is_logged_and_it_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    setup = Setup()
    original, failed = setup.store._write_pending, [False]

    def fail_once(pending: Any, entry: Entry) -> bool:
        if not failed[0]:
            failed[0] = True
            raise KeyError("mine")
        return original(pending, entry)

    setup.store._write_pending = fail_once  # type: ignore[method-assign]
    setup.store.down = True
    setup.cache.set("k", 1)
    setup.store.down = False
    until(lambda: not setup.cache._missed)
    assert "cannot make up" in caplog.text
    assert setup.other().get("k") == 1


# The end, forks, construction


def test_closing_closes_the_levels() -> None:
    levels = InMemoryCache(), InMemoryCache()
    with MultiLevelCache(*levels) as cache:
        cache.set("k", 1)
    assert [level.closed for level in levels] == [True, True]


def test_a_child_forgets_what_its_parent_missed_and_has_no_thread() -> None:
    setup = Setup()
    setup.store.down = True
    setup.cache.set("k", 1)

    def child() -> list[Any]:
        setup.store.down = False
        before = [bool(setup.cache._missed), setup.cache._recovery._thread is None]
        setup.cache.set("l", 2)
        return [*before, setup.cache.get("l")]

    assert in_child(child) == [False, True, 2]
    assert setup.cache._missed
    setup.cache.close()


@pytest.mark.parametrize(
    ("levels", "options", "message"),
    [
        ([], {}, "at least one"),
        (["memory", "memory"], {}, "each level once"),
        (["redis", "memory", "store"], {}, "put the local ones first"),
        (["memory", "redis"], {"max_age": 0}, "max_age=0"),
        (["memory", "redis"], {"max_missed": 0}, "max_missed=0"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    levels: list[str], options: dict[str, Any], message: str
) -> None:
    made = {"memory": InMemoryCache(), "store": Store(), "redis": RedisCache("redis://127.0.0.1:1")}
    with pytest.raises(CacheOptionError, match=message):
        MultiLevelCache(*(made[level] for level in levels), **options)
