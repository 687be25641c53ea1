"""InMemoryCache: what every cache does, and what only one in memory does."""

from __future__ import annotations

import copy
import gc
import logging
import random
import threading
import weakref
from collections.abc import Iterator
from typing import Any, cast, get_args

import pytest

from prologue.cache import MISSING, NEVER, CacheBackend, CacheOptions, InMemoryCache
from prologue.cache.memory import Policy
from prologue.cache.pending import PendingWrite
from prologue.cache.tiny_lfu import TinyLFU
from prologue.errors import CacheOptionError, CacheValueError
from tests.cache.clock import Clock
from tests.cache.contract.suite import CacheContract
from tests.concurrency import Task, impatient_threads, in_child, together

POLICIES: tuple[Policy, ...] = get_args(Policy)

every_policy = pytest.mark.parametrize("policy", POLICIES)


class TestContract(CacheContract):
    @pytest.fixture(params=POLICIES)
    def cache(self, request: pytest.FixtureRequest) -> Iterator[CacheBackend]:
        self.clock = Clock()
        with InMemoryCache(policy=request.param, clock=self.clock) as cache:
            yield cache

    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)


class TestContractOfACacheThatDoesEverything(CacheContract):
    """With copies, weights, an idle limit and a listener: nothing takes the short cut."""

    @pytest.fixture
    def cache(self) -> Iterator[CacheBackend]:
        self.clock = Clock()
        with InMemoryCache(
            100,
            max_weight=1000,
            getsizeof=lambda value: 1,
            max_idle=1000,
            copy=copy.deepcopy,
            on_removal=lambda key, value, cause: None,
            clock=self.clock,
        ) as cache:
            yield cache

    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)


# -- bounds --


@every_policy
@pytest.mark.parametrize("bound", [1, 2, 7, 100, 1000])
def test_there_are_never_more_entries_than_allowed(policy: Policy, bound: int) -> None:
    cache = InMemoryCache(bound, policy=policy)
    draw = random.Random(1)
    for number in range(3 * bound + 50):
        cache.set(f"key {number}", number)
        cache.get(f"key {draw.randrange(number + 1)}")
        assert len(cache) <= bound
    assert len(cache) >= bound * 0.97
    assert cache.stats().evictions == 3 * bound + 50 - len(cache)


@every_policy
def test_the_weight_is_never_more_than_allowed(policy: Policy) -> None:
    cache = InMemoryCache(None, max_weight=100, getsizeof=len, policy=policy)
    draw = random.Random(1)
    for number in range(500):
        cache.set(f"key {draw.randrange(200)}", "x" * draw.randrange(60))
        if number % 7 == 0:
            cache.delete(f"key {draw.randrange(200)}")
        weight = cache.stats().weight
        assert weight is not None
        assert weight <= 100
        assert weight == sum(len(value) for value in cache.get_many(f"key {n}" for n in range(200)).values())


@every_policy
def test_both_bounds_are_kept_together(policy: Policy) -> None:
    cache = InMemoryCache(240, max_weight=1000, getsizeof=lambda value: value, policy=policy)
    draw = random.Random(4)
    for number in range(3000):
        cache.set(f"key {number}", draw.choice([1, 1, 1, 1, 20]) if number % 500 > 250 else 1)
        assert len(cache) <= 240
        assert cache._residents._weight <= 1000


def test_what_is_over_makes_room_by_weight_before_what_is_not() -> None:
    clock = Clock()
    cache = InMemoryCache(None, max_weight=50, getsizeof=len, clock=clock)
    cache.set("lives", "x" * 10)
    cache.set_many({f"key {number}": "x" for number in range(40)}, ttl=1)
    clock.advance(2)
    cache.set("new", "x" * 40)
    assert cache.get_many(["lives", "new"]) == {"lives": "x" * 10, "new": "x" * 40}
    assert cache.stats().evictions == 0


def test_what_weighs_nothing_is_all_kept() -> None:
    cache = InMemoryCache(None, max_weight=1, getsizeof=lambda value: 0)
    cache.set_many({f"key {number}": number for number in range(200)})
    assert len(cache) == 200
    assert cache.stats().weight == 0


def test_a_value_heavier_than_all_is_not_kept_nor_is_the_one_before() -> None:
    cache = InMemoryCache(None, max_weight=10, getsizeof=len)
    cache.set("other", "x")
    cache.set("key", "short")
    cache.set("key", "x" * 11)
    assert cache.get("key") is None
    assert cache.get("other") == "x"


@pytest.mark.parametrize("weight", [-1, float("nan"), float("inf")])
def test_a_weight_is_zero_or_more(weight: float) -> None:
    cache = InMemoryCache(max_weight=10, getsizeof=lambda value: weight)
    with pytest.raises(CacheValueError, match=r"'key'.*weight"):
        cache.set("key", 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_entries": None}, "needs a bound"),
        ({"max_entries": 0}, "must be positive"),
        ({"max_weight": 0, "getsizeof": len}, "must be positive"),
        ({"max_weight": 1}, "need each other"),
        ({"getsizeof": len}, "need each other"),
        ({"policy": "fifo"}, "no eviction policy 'fifo'; there are w-tinylfu, s3-fifo, lru"),
        ({"max_idle": -1}, "max_idle must be zero or more"),
    ],
)
def test_a_cache_that_makes_no_sense_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(CacheOptionError, match=message):
        InMemoryCache(**arguments)


def test_a_value_that_leaves_while_it_is_read_is_a_miss() -> None:
    leaving: list[str] = []

    def clock() -> float:
        while leaving:
            cache.delete(leaving.pop())
        return 1000.0

    cache = InMemoryCache(clock=clock)
    cache.set("key", 1)
    leaving.append("key")
    assert cache.get("key", "default") == "default"
    assert cache.stats().misses == 1


def test_a_value_that_is_set_while_the_one_before_is_found_expired_stays() -> None:
    clock = Clock()
    cache = InMemoryCache(clock=clock)
    cache.set("key", "old", ttl=1)
    cache.set_many({f"key {number}": 1 for number in range(40)}, ttl=1)  # they are swept first
    clock.advance(2)

    class LockThatComesLate:
        def __init__(self, lock: Any) -> None:
            self.lock = lock

        def __enter__(self) -> None:
            cache._residents.lock = self.lock
            cache.set("key", "new", ttl=1)
            self.lock.acquire()

        def __exit__(self, *exc_info: object) -> None:
            self.lock.release()

    cache._residents.lock = cast(Any, LockThatComesLate(cache._residents.lock))
    cache.get("key")
    assert cache.get("key") == "new"


def test_while_a_value_takes_the_place_of_another_there_is_always_one() -> None:
    cache = InMemoryCache(10)
    cache.set("key", 0)
    done = threading.Event()
    misses: list[str] = []

    def read() -> None:
        while not done.is_set():
            if cache.get("key") is None:
                misses.append("get")
            if cache.get_entry("key") is None:
                misses.append("get_entry")

    with impatient_threads():
        readers = [Task(read) for _ in range(3)]
        for number in range(3000):
            cache.set("key", number, tags=("tag",))
        done.set()
        for reader in readers:
            reader.result()
    assert not misses


def test_a_value_that_takes_the_place_of_another_is_no_hit() -> None:
    cache = InMemoryCache(2)
    for number in range(3):
        cache.set("key", number)
    cache.get("key")
    assert cache.stats().hits == 1
    cache.set_many({"a": 1, "b": 2, "c": 3})
    assert cache.stats().hits == 1


def test_whether_a_write_is_overtaken_is_asked_under_the_lock() -> None:
    cache = InMemoryCache()

    class Overtaken(PendingWrite):
        @property
        def overtaken(self) -> bool:
            return cache._residents.lock.locked()

        @overtaken.setter
        def overtaken(self, value: bool) -> None: ...

    assert not cache._write_pending(Overtaken("key"), cache.entry(1))
    assert cache.get("key") is None


def test_options_that_need_more_than_a_ttl_are_kept_to_by_set() -> None:
    clock = Clock()
    cache = InMemoryCache(clock=clock, options=CacheOptions(ttl=1, stale=10))
    cache.set("key", 1)
    clock.advance(2)
    assert cache.get("key") is None
    assert cache.get_entry("key") is not None


# -- policies --


def test_lru_evicts_the_least_recently_used() -> None:
    cache = InMemoryCache(3, policy="lru")
    cache.set_many({"a": 1, "b": 2, "c": 3})
    cache.get("a")
    cache.set("b", 4)
    cache.set("d", 5)
    assert cache.get_many("abcd") == {"a": 1, "b": 4, "d": 5}


def test_lru_is_exact_however_many_hits_there_are() -> None:
    cache = InMemoryCache(50, policy="lru")
    order: dict[str, None] = {}
    draw = random.Random(2)
    for _ in range(5000):
        key = f"key {draw.randrange(80)}"
        hit = cache.get(key, MISSING) is not MISSING
        assert hit == (key in order)
        order.pop(key, None)
        order[key] = None
        if not hit:
            cache.set(key, 1)
            if len(order) > 50:
                del order[next(iter(order))]


def test_hits_alone_are_noted_by_lru_and_leave_little_behind() -> None:
    cache = InMemoryCache(3, policy="lru")
    cache.set_many({"a": 1, "b": 2, "c": 3})
    for _ in range(1000):
        cache.get("a")
        buffer = cache._buffer
        assert buffer is not None
        assert len(buffer) < 100
    cache.set_many({"d": 4, "e": 5})
    assert cache.get_many("abcde") == {"a": 1, "d": 4, "e": 5}


@pytest.mark.parametrize("policy", ["w-tinylfu", "s3-fifo"])
def test_a_scan_does_not_drive_out_what_is_used_often(policy: Policy) -> None:
    cache = InMemoryCache(100, policy=policy)
    often = [f"often {number}" for number in range(50)]
    for _ in range(5):
        for key in often:
            cache.get_or_set(key, lambda: 1)
    for number in range(1000):
        cache.set(f"scan {number}", 1)
        if number % 20 == 0:
            cache.get_many(often)
    assert len(cache.get_many(often)) >= 45


@pytest.mark.parametrize("policy", ["w-tinylfu", "s3-fifo"])
def test_a_loop_larger_than_the_cache_is_partly_kept(policy: Policy) -> None:
    cache = InMemoryCache(100, policy=policy)
    for _ in range(30):
        for number in range(200):
            cache.get_or_set(f"key {number}", lambda: 1)
    assert cache.stats().hit_ratio > 0.4


def test_s3_fifo_fills_its_main_queue_while_there_is_room_and_anew_after_clear() -> None:
    cache = InMemoryCache(100, policy="s3-fifo")
    for _ in range(2):
        cache.set_many({f"key {number}": 1 for number in range(100)})
        assert "key 1" in cache.get_many(["key 1"])
        cache.set_many({f"later {number}": 1 for number in range(1000)})
        left = cache.get_many(f"key {number}" for number in range(100))
        assert 85 <= len(left) <= 91
        assert len(cache) == 100
        cache.clear()


def test_when_frequency_is_no_guide_the_window_grows() -> None:
    cache = InMemoryCache(50)
    draw = random.Random(3)
    later: dict[int, list[int]] = {}
    for number in range(8000):  # every key is asked for twice, at a distance of up to half of the cache
        later.setdefault(number + draw.randrange(5, 20), []).append(number)
        for key in (number, *later.pop(number, ())):
            cache.get_or_set(f"key {key}", lambda: 1)
    assert cache.stats().hit_ratio > 0.25


def test_frequencies_are_halved_when_residents_were_used_ten_times_each() -> None:
    policy = TinyLFU(10)
    for requests, frequency in ((99, 6), (100, 3)):
        policy._table[5] = 3 * 8 + 6  # of an era, and a frequency
        policy._requests = requests
        policy._adapt()
        assert policy._table[5] == 3 * 8 + frequency
    assert policy._epoch == 1
    assert policy._requests == 0


@every_policy
def test_a_policy_forgets_what_has_left(policy: Policy) -> None:
    class Value:
        pass

    cache = InMemoryCache(50, policy=policy)
    gone: list[weakref.ref[Value]] = []
    for number in range(300):
        value = Value()
        gone.append(weakref.ref(value))
        cache.set(f"key {number % 70}", value)
        if number % 3 == 0:
            cache.delete(f"key {number % 70}")
    del value
    gc.collect()
    assert sum(reference() is not None for reference in gone) == len(cache)
    cache.clear()
    gc.collect()
    assert sum(reference() is not None for reference in gone) == 0


@every_policy
def test_deleting_for_ever_leaves_nothing_behind(policy: Policy) -> None:
    cache = InMemoryCache(1000, policy=policy)
    for number in range(10_000):
        cache.set(f"key {number}", number, ttl=60)
        cache.delete(f"key {number}")
    assert len(cache) == 0
    from prologue.cache.node import Node

    gc.collect()
    nodes = [thing for thing in gc.get_objects() if type(thing) is Node]
    assert len(nodes) < 300


# -- expiry --


def test_what_is_over_leaves_before_what_is_not() -> None:
    clock = Clock()
    cache = InMemoryCache(10, clock=clock)
    for number in range(5):
        cache.set(f"short {number}", 1, ttl=1)
        cache.set(f"long {number}", 1, ttl=100)
    clock.advance(2)
    for number in range(5):
        cache.set(f"new {number}", 1)
    assert len(cache.get_many([f"long {number}" for number in range(5)])) == 5
    assert cache.stats().expirations == 5
    assert cache.stats().evictions == 0


@every_policy
@pytest.mark.parametrize("phase", range(20))
def test_room_for_several_is_made_of_what_is_over_first(policy: Policy, phase: int) -> None:
    clock = Clock()
    cache = InMemoryCache(1200, policy=policy, clock=clock)  # makes room for 20 at once, sweeps 16
    for number in range(100):
        cache.set(f"long {number}", 1)
        cache.get(f"long {number}")
    for number in range(1100 + phase):
        cache.set(f"short {number}", 1, ttl=1)
    evicted = cache.stats().evictions
    clock.advance(2)
    for number in range(100):
        cache.set(f"new {number}", 1)
    assert cache.stats().evictions == evicted


def test_what_is_over_is_swept_a_few_at_a_time() -> None:
    clock = Clock()
    cache = InMemoryCache(10_000, clock=clock)
    for number in range(100):
        cache.set(f"key {number}", 1, ttl=1 + number / 1000)
    clock.advance(10)
    cache.set("other", 1)
    assert 50 < len(cache) < 101
    for _ in range(10):
        cache.set("other", 1)
    assert len(cache) == 1


def test_times_to_live_of_all_lengths_are_kept_apart() -> None:
    clock = Clock()
    cache = InMemoryCache(10_000, clock=clock)
    draw = random.Random(4)
    ends = {
        f"key {number}": draw.choice([0.01, 0.5, 1, 7, 60, 3600]) * draw.random() for number in range(500)
    }
    for key, life in ends.items():
        cache.set(key, 1, ttl=life)
    for key in draw.sample(list(ends), 200):
        ends[key] = 50.0
        cache.set(key, 1, ttl=50)
    for _ in range(40):
        clock.advance(2)
        cache.set("other", 1)
        now = clock.now - 1000
        assert cache.get_many(ends).keys() == {key for key, life in ends.items() if now < life}


def test_an_entry_that_nobody_asks_for_goes() -> None:
    clock = Clock()
    cache = InMemoryCache(max_idle=10, clock=clock)
    cache.set_many({"used": 1, "idle": 2, "short": 3})
    cache.set("short", 3, ttl=5)
    for _ in range(4):
        clock.advance(4)
        assert cache.get("used") == 1
        cache.set("other", 1)
    assert cache.get("idle") is None
    assert len(cache) == 2
    clock.advance(11)
    assert cache.get("used") is None


def test_jitter_shortens_lives_differently() -> None:
    clock = Clock()
    cache = InMemoryCache(clock=clock, options=CacheOptions(ttl=100, jitter=0.5))
    cache.set_many({str(number): 1 for number in range(200)})
    clock.advance(49)
    assert len(cache.get_many(map(str, range(200)))) == 200
    clock.advance(26)
    assert 50 < len(cache.get_many(map(str, range(200)))) < 150
    clock.advance(25)
    assert cache.get_many(map(str, range(200))) == {}


# -- listeners and copies --


def test_children_do_not_draw_the_same_jitter() -> None:
    cache = InMemoryCache(clock=Clock(), options=CacheOptions(ttl=100, jitter=0.5))

    def child() -> list[float]:
        return [cache.entry(1).fresh_until for _ in range(5)]

    assert in_child(child) != in_child(child)


def test_a_listener_hears_why_an_entry_left() -> None:
    heard: list[tuple[str, Any, str]] = []
    clock = Clock()
    cache = InMemoryCache(2, on_removal=lambda *event: heard.append(event), clock=clock)
    cache.set("a", 1)
    cache.set("a", 2)
    cache.delete("a")
    cache.set("a", 3, ttl=1)
    clock.advance(2)
    cache.get("a")
    cache.set("a", 4, tags=("x",))
    cache.invalidate_tags("x")
    cache.get("a")
    cache.set_many({"b": 5, "c": 6, "d": 7})
    cache.clear()
    assert heard[:4] == [
        ("a", 1, "replaced"),
        ("a", 2, "deleted"),
        ("a", 3, "expired"),
        ("a", 4, "invalidated"),
    ]
    assert [cause for _, _, cause in heard[4:]] == ["evicted", "cleared", "cleared"]


def test_a_listener_may_use_the_cache_and_fail(caplog: pytest.LogCaptureFixture) -> None:
    def listen(key: str, value: Any, cause: str) -> None:
        cache.set(f"copy of {key}", value)
        raise ValueError("broken")

    cache = InMemoryCache(on_removal=listen)
    cache.set("key", 1)
    with caplog.at_level(logging.ERROR, "prologue.cache"):
        assert cache.delete("key")
    assert cache.get("copy of key") == 1
    assert "'key'" in caplog.text


def test_values_are_shared_unless_copies_are_asked_for() -> None:
    value = [1]
    shared, copied = InMemoryCache(), InMemoryCache(copy=copy.deepcopy)
    for cache in (shared, copied):
        cache.set("key", value)
    assert shared.get("key") is value
    value.append(2)
    copied.get("key").append(3)
    assert copied.get("key") == [1]
    entry = copied.get_entry("key")
    assert entry is not None
    entry.value.append(4)
    assert copied.get("key") == [1]


# -- threads and forks --


@every_policy
def test_threads_see_whole_values_and_keep_the_bounds(policy: Policy) -> None:
    cache = InMemoryCache(50, policy=policy)

    def work(number: int) -> None:
        draw = random.Random(number)
        for _ in range(300):
            key = draw.randrange(80)
            value = cache.get(str(key))
            assert value is None or value[0] == key
            match draw.randrange(5):
                case 0:
                    cache.delete(str(key))
                case 1:
                    cache.set(str(key), (key, number), ttl=60, tags=("x",))
                case 2:
                    cache.invalidate_tags("x")
                case _:
                    cache.set(str(key), (key, number), ttl=60)
            assert len(cache) <= 50

    with impatient_threads():
        together(4, work)
    assert_is_whole(cache)


def assert_is_whole(cache: InMemoryCache) -> None:
    """Every node is in exactly one list of the policy, in its bucket if it expires, and nowhere else."""
    residents = cache._residents
    policy: Any = residents._policy
    policy.catch_up()
    new = [node for node in residents._new if node.value is not MISSING] if policy.buffer is None else []
    lists = [getattr(policy, name, ()) for name in ("_window", "_probation", "_protected", "_small", "_main")]
    lists.append(getattr(policy, "_order", {}).values())
    listed = [node for nodes in lists for node in nodes if node.value is not MISSING]
    assert sorted(map(id, new + listed)) == sorted(map(id, residents.nodes.values()))
    buckets = residents._expiry._buckets
    assert {id(node) for bucket in buckets.values() for node in bucket} == {
        id(node) for node in residents.nodes.values() if node.bucket
    }
    assert all(node.bucket == number for number, bucket in buckets.items() for node in bucket)
    assert all(buckets.values())
    for node in residents.nodes.values():
        over = residents.over_at(node)
        assert bool(node.bucket) == (over < NEVER)
        assert node.bucket <= over * 16 + 1, "it is looked for in time"


def test_a_value_set_in_one_thread_is_never_older_in_another() -> None:
    cache = InMemoryCache(10)
    cache.set("key", 0)
    seen: list[int] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.append(cache.get("key"))

    with impatient_threads():
        task = Task(read)
        for number in range(500):
            cache.set("key", number)
            assert cache.get("key") == number
        done.set()
        task.result()
    assert seen == sorted(seen)


def test_a_child_has_the_entries_and_counts_anew() -> None:
    cache = InMemoryCache()
    cache.set("key", [1])
    cache.get("key")

    def child() -> Any:
        first = cache.stats().hits
        value = cache.get("key")
        cache.set("other", 2)
        return [first, value, cache.get("other"), cache.stats().hits, cache.get_or_set("made", lambda: 3)]

    assert in_child(child) == [0, [1], 2, 2, 3]
    assert cache.get("other") is None


def test_a_child_of_a_torn_cache_starts_empty() -> None:
    cache = InMemoryCache()
    cache.set("key", 1, tags=("x",))
    cache._residents.lock.acquire()
    cache._tags._lock.acquire()

    def child() -> Any:
        before = cache.get("key")
        cache.set("key", 2, tags=("x",))
        return [before, cache.get("key")]

    try:
        assert in_child(child) == [None, 2]
    finally:
        cache._residents.lock.release()
        cache._tags._lock.release()
    assert cache.get("key") == 1


def test_locks_and_tags_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prologue.cache.local._MOST_TAGS", 10)
    monkeypatch.setattr("prologue.cache.local._MOST_LOCKS", 10)
    clock = Clock()
    cache = InMemoryCache(clock=clock)
    cache.set("key", 1, tags=("mine",))
    for number in range(10):
        cache.invalidate_tags(f"tag {number}")
        assert cache.lock(f"lock {number}", ttl=1).try_acquire()
    assert cache.get("key") == 1
    clock.advance(2)
    assert cache.lock("another").try_acquire()
    assert len(cache._locks._held) == 1
    cache.invalidate_tags("one too many")
    assert cache.get("key") is None, "the generation of a tag that nobody invalidated is forgotten too"
    cache.set("key", 2, tags=("mine", "tag 0"))
    assert cache.get("key") == 2
    cache.invalidate_tags("tag 0")
    assert cache.get("key") is None
    assert len(cache._tags._generations) == 10


def test_its_representation_names_it() -> None:
    cache = InMemoryCache(name="users")
    assert repr(cache) == "<InMemoryCache 'users'>"
    cache.close()
    assert repr(cache) == "<InMemoryCache 'users' closed>"
