"""What every cache does: a class that the tests of each backend derive from.

A subclass provides the fixture ``cache``, an empty cache that is closed afterwards, and ``wait(seconds)``,
which lets that much time pass for it: with a clock of the test's own, or by sleeping where a server has it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import timedelta
from threading import Event
from typing import Any

import pytest

from prologue.cache import MISSING, CacheBackend, CacheOptions, FactoryContext, cached
from prologue.errors import (
    CacheClosedError,
    CacheError,
    CacheLockError,
    CacheOptionError,
    CacheTimeoutError,
    CacheValueError,
)
from tests.concurrency import Task, impatient_threads, pass_gate, together, until, until_waiting

__all__ = ["CacheContract"]

#: Keys that some protocol could take for something else.
KEYS = [
    "",
    " ",
    "a b",
    "a\r\nset x 0 0 1",
    "\x00",
    "ключ",
    "\ud800",
    "k" * 300,
    "k" * 301,
    "a:b",
    "a%3Ab",
    "=a",
    "#a",
]
VALUES: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    2**40,
    1.5,
    "",
    "текст",
    b"",
    b"\x00\xff",
    [],
    {},
    [1, [None]],
    {"a": [1]},
]


class Failure(Exception):
    """What a factory of these tests raises."""


def fails() -> Any:
    raise Failure


class CacheContract(ABC):
    #: A time to live long enough for a few operations, and short enough to wait for.
    short = 1.0

    @abstractmethod
    def wait(self, seconds: float) -> None:
        """Let time pass for the cache."""

    # -- values and keys --

    @pytest.mark.parametrize("value", VALUES, ids=repr)
    def test_a_value_comes_back_as_it_was_put(self, cache: CacheBackend, value: Any) -> None:
        cache.set("key", value)
        found = cache.get("key", MISSING)
        assert found == value
        assert type(found) is type(value)

    def test_a_miss_is_none_or_the_default(self, cache: CacheBackend) -> None:
        assert cache.get("key") is None
        assert cache.get("key", 1) == 1
        assert cache.get("key", MISSING) is MISSING

    def test_keys_of_any_content_and_length_are_different(self, cache: CacheBackend) -> None:
        for number, key in enumerate(KEYS):
            cache.set(key, number)
        assert [cache.get(key) for key in KEYS] == list(range(len(KEYS)))
        assert cache.get_many(KEYS) == {key: number for number, key in enumerate(KEYS)}

    def test_a_key_is_a_str(self, cache: CacheBackend) -> None:
        key: Any = 1
        for write in (cache.set, cache.add, lambda key, value: cache.replace(key, None, value)):
            with pytest.raises(TypeError, match="a cache key is a str, not 1"):
                write(key, 1)
        with pytest.raises(TypeError, match="a cache key is a str, not 1"):
            cache.incr(key)

    def test_the_last_value_counts(self, cache: CacheBackend) -> None:
        cache.set("key", 1)
        cache.set("key", 2)
        assert cache.get("key") == 2

    # -- time --

    def test_a_value_is_gone_after_its_time(self, cache: CacheBackend) -> None:
        cache.set("key", 1, ttl=self.short)
        cache.set("other", 1, ttl=timedelta(seconds=self.short))
        assert cache.get_many(["key", "other"]) == {"key": 1, "other": 1}
        self.wait(self.short + 0.1)
        assert cache.get("key") is None
        assert cache.get_many(["key", "other"]) == {}

    def test_a_value_without_a_time_to_live_stays(self, cache: CacheBackend) -> None:
        cache.set("key", 1, ttl=0)
        self.wait(self.short + 0.1)
        assert cache.get("key") == 1

    def test_a_new_value_has_a_new_time_to_live(self, cache: CacheBackend) -> None:
        cache.set("key", 1, ttl=self.short)
        cache.set("key", 2, ttl=0)
        cache.set("other", 1, ttl=0)
        cache.set("other", 2, ttl=self.short)
        self.wait(self.short + 0.1)
        assert cache.get("key") == 2
        assert cache.get("other") is None

    @pytest.mark.parametrize("ttl", [-1, -0.5, float("inf"), float("nan"), "60", True, timedelta(seconds=-1)])
    def test_what_is_no_duration_is_refused(self, cache: CacheBackend, ttl: Any) -> None:
        with pytest.raises(CacheOptionError, match="ttl must be"):
            cache.set("key", 1, ttl)
        assert cache.get("key") is None

    def test_the_entry_of_a_key_has_its_remaining_time(self, cache: CacheBackend) -> None:
        cache.set("key", 1, ttl=60)
        cache.set("for ever", 1)
        entry, eternal = cache.get_entry("key"), cache.get_entry("for ever")
        assert entry is not None
        assert eternal is not None
        assert 50 < entry.fresh_until - cache.clock() <= 60.01
        assert eternal.fresh_until - cache.clock() > 10**6
        assert cache.get_entry("other") is None

    def test_touch_gives_a_value_another_time_to_live(self, cache: CacheBackend) -> None:
        cache.set("key", 1, ttl=self.short)
        cache.set("other", 2, ttl=60)
        assert cache.touch("key", 60)
        assert cache.touch("other", self.short)
        assert not cache.touch("none", 60)
        self.wait(self.short + 0.1)
        assert cache.get_many(["key", "other"]) == {"key": 1}
        assert not cache.touch("other", 60)

    # -- removing --

    def test_delete_removes_one_value(self, cache: CacheBackend) -> None:
        cache.set_many({"a": 1, "b": 2})
        assert cache.delete("a")
        assert not cache.delete("a")
        assert cache.get_many(["a", "b"]) == {"b": 2}

    def test_delete_many_counts_what_was_there(self, cache: CacheBackend) -> None:
        cache.set_many({"a": 1, "b": 2, "c": 3})
        assert cache.delete_many(["a", "b", "a", "none"]) == 2
        assert cache.get_many("abc") == {"c": 3}

    def test_clear_removes_every_value(self, cache: CacheBackend) -> None:
        cache.set_many({"a": 1, "b": 2}, ttl=60)
        cache.clear()
        assert cache.get_many("ab") == {}
        cache.set("a", 3)
        assert cache.get("a") == 3

    # -- one step --

    def test_add_stores_only_what_is_not_there(self, cache: CacheBackend) -> None:
        assert cache.add("key", 1, ttl=self.short)
        assert not cache.add("key", 2)
        assert cache.get("key") == 1
        self.wait(self.short + 0.1)
        assert cache.add("key", 3)
        assert cache.get("key") == 3

    def test_one_of_many_adds_wins(self, cache: CacheBackend) -> None:
        with impatient_threads():
            won = together(8, lambda number: cache.add("key", number))
        assert won.count(True) == 1
        assert cache.get("key") == won.index(True)

    def test_replace_stores_only_in_place_of_what_is_expected(self, cache: CacheBackend) -> None:
        assert not cache.replace("key", None, 1)
        cache.set("key", [1], ttl=self.short)
        assert not cache.replace("key", [2], 3)
        assert cache.get("key") == [1]
        assert cache.replace("key", [1], None, ttl=60)
        assert cache.get("key", MISSING) is None
        assert cache.replace("key", None, 4, ttl=self.short, tags=("x",))
        cache.invalidate_tags("x")
        assert not cache.replace("key", 4, 5)
        cache.set("key", 6, ttl=self.short)
        self.wait(self.short + 0.1)
        assert not cache.replace("key", 6, 7)
        assert cache.get("key") is None

    def test_one_of_many_that_replace_the_same_wins(self, cache: CacheBackend) -> None:
        cache.set("key", -1)
        with impatient_threads():
            won = together(8, lambda number: cache.replace("key", -1, number))
        assert won.count(True) == 1
        assert cache.get("key") == won.index(True)

    def test_no_replacement_is_lost(self, cache: CacheBackend) -> None:
        cache.set("key", 0)

        def count(_: int) -> None:
            for _ in range(10):
                while not cache.replace("key", number := cache.get("key"), number + 1):
                    pass

        with impatient_threads():
            together(4, count)
        assert cache.get("key") == 40

    def test_incr_counts(self, cache: CacheBackend) -> None:
        assert cache.incr("key") == 1
        assert cache.incr("key", 5) == 6
        assert cache.incr("key", -2) == 4
        assert cache.get("key") == 4
        assert cache.incr("other", initial=10) == 11

    def test_incr_goes_on_from_a_value_that_was_set(self, cache: CacheBackend) -> None:
        cache.set("key", 41)
        assert cache.incr("key") == 42

    def test_the_time_to_live_of_a_counter_is_that_of_its_creation(self, cache: CacheBackend) -> None:
        cache.incr("key", ttl=self.short)
        cache.incr("key", ttl=60)
        self.wait(self.short + 0.1)
        assert cache.incr("key") == 1

    def test_only_an_integer_counts(self, cache: CacheBackend) -> None:
        cache.set("key", "one")
        with pytest.raises(CacheValueError, match="key"):
            cache.incr("key")
        assert cache.get("key") == "one"

    def test_no_increment_is_lost(self, cache: CacheBackend) -> None:
        with impatient_threads():
            sums = together(8, lambda _: [cache.incr("key") for _ in range(25)])
        assert cache.get("key") == 200
        assert sorted(number for ours in sums for number in ours) == list(range(1, 201))

    # -- tags --

    def test_a_tag_invalidates_what_was_stored_under_it(self, cache: CacheBackend) -> None:
        cache.set("a", 1, tags=("x",))
        cache.set("b", 2, tags=("x", "y"))
        cache.set("c", 3, tags=("y",))
        cache.set("d", 4)
        cache.invalidate_tags("x")
        assert cache.get("a") is None
        assert cache.get_entry("b") is None
        assert cache.get_many("abcd") == {"c": 3, "d": 4}
        cache.set("a", 5, tags=("x",))
        assert cache.get("a") == 5
        cache.invalidate_tags("x", "y")
        assert cache.get_many("abcd") == {"d": 4}
        cache.invalidate_tags()
        assert cache.get("d") == 4

    def test_an_invalidated_value_is_not_there_for_add_and_touch(self, cache: CacheBackend) -> None:
        cache.set("key", 1, tags=("x",))
        assert not cache.add("key", 2)
        assert cache.touch("key", 60)
        cache.invalidate_tags("x")
        assert not cache.touch("key", 60)
        assert cache.add("key", 2, tags=("x",))
        assert cache.get("key") == 2

    def test_a_counter_that_was_invalidated_starts_anew(self, cache: CacheBackend) -> None:
        cache.set("key", 1, tags=("x",))
        assert cache.incr("key") == 2
        cache.invalidate_tags("x")
        assert cache.incr("key", initial=100) == 101
        cache.set("text", "text", tags=("x",))
        cache.invalidate_tags("x")
        assert cache.incr("text", 5) == 5

    def test_tags_are_several(self, cache: CacheBackend) -> None:
        with pytest.raises(TypeError, match="tags are several"):
            cache.set("key", 1, tags="users")
        with pytest.raises(TypeError, match="tags are several"):
            cache.get_or_set("key", lambda: 1, tags="users")

    # -- get_or_set --

    def test_get_or_set_makes_a_value_once(self, cache: CacheBackend) -> None:
        calls: list[int] = []

        def make() -> int:
            calls.append(1)
            return len(calls)

        assert [cache.get_or_set("key", make, ttl=self.short) for _ in range(3)] == [1, 1, 1]
        self.wait(self.short + 0.1)
        assert cache.get_or_set("key", make) == 2

    def test_none_is_a_value(self, cache: CacheBackend) -> None:
        cache.get_or_set("key", lambda: None)
        assert cache.get("key", MISSING) is None
        assert cache.get_or_set("key", lambda: 1) is None

    def test_many_threads_make_a_value_once(self, cache: CacheBackend) -> None:
        calls: list[int] = []
        gate = Event()

        def make() -> int:
            calls.append(1)
            pass_gate(gate)
            return 42

        tasks = [Task(lambda: cache.get_or_set("key", make, ttl=60)) for _ in range(10)]
        until_waiting(9)
        gate.set()
        assert [task.result() for task in tasks] == [42] * 10
        assert calls == [1]
        assert cache.get("key") == 42

    def test_an_error_reaches_all_who_wait_and_is_forgotten(self, cache: CacheBackend) -> None:
        gate = Event()

        def make() -> int:
            pass_gate(gate)
            raise Failure

        tasks = [Task(lambda: cache.get_or_set("key", make)) for _ in range(5)]
        until_waiting(4)
        gate.set()
        assert {type(task.error()) for task in tasks} == {Failure}
        assert cache.get_or_set("key", lambda: 1) == 1

    @pytest.mark.parametrize(
        "change",
        [
            lambda cache: cache.delete("key"),
            lambda cache: cache.delete_many(["key"]),
            lambda cache: cache.clear(),
            lambda cache: cache.invalidate_tags("tag"),
        ],
        ids=["delete", "delete_many", "clear", "invalidate_tags"],
    )
    def test_what_is_removed_while_it_is_made_does_not_come_back(
        self, cache: CacheBackend, change: Callable[[CacheBackend], object]
    ) -> None:
        def make() -> str:
            change(cache)
            return "old"

        assert cache.get_or_set("key", make, ttl=60, tags=("tag",)) == "old"
        assert cache.get("key") is None
        assert cache.get_or_set("key", lambda: "new", ttl=60, tags=("tag",)) == "new"
        assert cache.get("key") == "new"

    @pytest.mark.parametrize(
        "change",
        [lambda cache: cache.delete("key"), lambda cache: cache.invalidate_tags("tag")],
        ids=["delete", "invalidate_tags"],
    )
    def test_who_asks_after_a_removal_does_not_get_what_was_made_before(
        self, cache: CacheBackend, change: Callable[[CacheBackend], object]
    ) -> None:
        begun, gate = Event(), Event()

        def make() -> str:
            begun.set()
            pass_gate(gate)
            return "old"

        task = Task(lambda: cache.get_or_set("key", make, ttl=60, tags=("tag",)))
        pass_gate(begun)
        change(cache)
        assert cache.get_or_set("key", lambda: "new", ttl=60, tags=("tag",)) == "new"
        gate.set()
        assert task.result() == "old"
        assert cache.get("key") == "new"

    @pytest.mark.parametrize(
        "change",
        [
            lambda cache: cache.set("key", 2),
            lambda cache: cache.set_many({"key": 2}),
            lambda cache: cache.add("key", 2),
            lambda cache: cache.incr("key", 2),
            lambda cache: cache.add("key", 1) and cache.replace("key", 1, 2),
        ],
        ids=["set", "set_many", "add", "incr", "replace"],
    )
    def test_what_is_set_while_another_value_is_made_stays(
        self, cache: CacheBackend, change: Callable[[CacheBackend], object]
    ) -> None:
        def make() -> int:
            change(cache)
            return 1

        assert cache.get_or_set("key", make) == 1
        assert cache.get("key") == 2

    def test_the_factory_may_decide(self, cache: CacheBackend) -> None:
        def short(context: FactoryContext) -> int:
            assert context.key == "short"
            assert context.stale_value is MISSING
            context.ttl = self.short
            return 1

        def tagged(context: FactoryContext) -> int:
            context.add_tags("x")
            return 2

        def unwanted(context: FactoryContext) -> int:
            context.do_not_cache()
            return 3

        assert cache.get_or_set("short", short, ttl=60) == 1
        assert cache.get_or_set("tagged", tagged) == 2
        assert cache.get_or_set("unwanted", unwanted) == 3
        assert cache.get_many(["short", "tagged", "unwanted"]) == {"short": 1, "tagged": 2}
        cache.invalidate_tags("x")
        self.wait(self.short + 0.1)
        assert cache.get_many(["short", "tagged"]) == {}

    def test_a_factory_that_asks_for_its_own_key_does_not_wait_for_itself(self, cache: CacheBackend) -> None:
        assert cache.get_or_set("key", lambda: cache.get_or_set("key", lambda: 1) + 1) == 2
        assert cache.get("key") == 2

    def test_factories_that_need_each_other_do_not_wait_for_ever(self, cache: CacheBackend) -> None:
        begun = [Event(), Event()]

        def make(number: int) -> int:
            begun[number].set()
            pass_gate(begun[1 - number])
            return cache.get_or_set(str(1 - number), lambda: 10) + 1

        assert set(together(2, lambda number: cache.get_or_set(str(number), lambda: make(number)))) <= {
            11,
            12,
        }

    # -- fail-safe, timeouts, refresh --

    def test_a_stale_value_is_served_when_the_factory_fails(self, cache: CacheBackend) -> None:
        options = CacheOptions(ttl=self.short, stale=60, throttle=self.short)
        assert cache.get_or_set("key", lambda: 1, options=options) == 1
        self.wait(self.short + 0.1)
        assert cache.get("key") is None
        assert cache.get_or_set("key", fails, options=options) == 1
        assert cache.get("key") == 1, "throttled: it counts as fresh for a while"
        assert cache.get_or_set("key", lambda: 2, options=options) == 1
        self.wait(self.short + 0.1)
        assert cache.get_or_set("key", lambda: 2, options=options) == 2

    def test_a_value_that_is_too_stale_is_not_served(self, cache: CacheBackend) -> None:
        options = CacheOptions(ttl=self.short / 2, stale=self.short / 2)
        cache.get_or_set("key", lambda: 1, options=options)
        self.wait(self.short + 0.1)
        with pytest.raises(Failure):
            cache.get_or_set("key", fails, options=options)

    def test_the_factory_sees_what_is_stale(self, cache: CacheBackend) -> None:
        options = CacheOptions(ttl=self.short, stale=60)

        def make(context: FactoryContext) -> int:
            if context.etag == "one":
                return int(context.not_modified())
            context.etag = "one"
            return 1

        cache.get_or_set("key", make, options=options)
        self.wait(self.short + 0.1)
        assert cache.get("key") is None
        assert cache.get_or_set("key", make, options=options) == 1
        assert cache.get("key") == 1
        entry = cache.get_entry("key")
        assert entry is not None
        assert entry.etag == "one"

    def test_without_a_stale_value_nothing_is_not_modified(self, cache: CacheBackend) -> None:
        with pytest.raises(CacheError, match="no stale value"):
            cache.get_or_set("key", lambda context: context.not_modified())

    def test_after_the_soft_timeout_the_stale_value_is_served(self, cache: CacheBackend) -> None:
        options = CacheOptions(ttl=self.short, stale=60, soft_timeout=0.01)
        cache.get_or_set("key", lambda: 1, options=options)
        self.wait(self.short + 0.1)
        gate = Event()

        def make() -> int:
            pass_gate(gate)
            return 2

        assert cache.get_or_set("key", make, ttl=60, options=options) == 1
        gate.set()
        until(lambda: cache.get("key") == 2)

    def test_after_the_hard_timeout_there_is_an_error(self, cache: CacheBackend) -> None:
        gate = Event()

        def make() -> int:
            pass_gate(gate)
            return 1

        with pytest.raises(CacheTimeoutError, match=r"'key'.*0\.01 s"):
            cache.get_or_set("key", make, options=CacheOptions(hard_timeout=0.01))
        gate.set()
        until(lambda: cache.get("key") == 1)

    def test_with_a_timeout_a_factory_in_time_is_as_good(self, cache: CacheBackend) -> None:
        options = CacheOptions(hard_timeout=30)
        assert cache.get_or_set("key", lambda: 1, options=options) == 1
        with pytest.raises(Failure):
            cache.get_or_set("other", fails, options=options)

    def test_a_hit_late_in_its_life_is_refreshed_in_the_background(self, cache: CacheBackend) -> None:
        options = CacheOptions(ttl=2 * self.short, eager=0.5)
        assert cache.get_or_set("key", lambda: 1, options=options) == 1
        assert cache.get_or_set("key", lambda: 2, options=options) == 1
        self.wait(self.short + 0.1)
        assert cache.get_or_set("key", lambda: 3, options=options) == 1
        until(lambda: cache.get("key") == 3)

    def test_none_may_live_shorter(self, cache: CacheBackend) -> None:
        options = CacheOptions(ttl=60, negative_ttl=self.short)
        cache.get_or_set("none", lambda: None, options=options)
        cache.get_or_set("some", lambda: 1, options=options)
        self.wait(self.short + 0.1)
        assert cache.get_many(["none", "some"]) == {"some": 1}

    def test_refresh_makes_a_new_value(self, cache: CacheBackend) -> None:
        cache.set("key", 1)
        assert cache.refresh("key", lambda: 2) == 2
        assert cache.get("key") == 2
        with pytest.raises(Failure):
            cache.refresh("key", fails)
        assert cache.get("key") == 2

    def test_with_a_lease_one_makes_it(self, cache: CacheBackend) -> None:
        options = CacheOptions(ttl=60, lease=30)
        assert cache.get_or_set("key", lambda: 1, options=options) == 1
        assert cache.refresh("key", lambda: 2, options=options) == 2
        assert cache.get("key") == 2

    def test_who_has_no_lease_waits_for_the_value_of_who_has(self, cache: CacheBackend) -> None:
        assert cache._acquire("lease:key", "another process", 30) is not None
        task = Task(lambda: cache.get_or_set("key", lambda: 1, options=CacheOptions(lease=30)))
        cache.set("key", 2)
        assert task.result() == 2

    # -- the decorator --

    def test_a_cached_function(self, cache: CacheBackend) -> None:
        calls: list[int] = []

        @cached(cache, key="user:{id}", ttl=60, tags=("users", "user {id}"))
        def user(id: int) -> str:
            calls.append(id)
            return f"user {id} for the {len(calls)}th time"

        assert user(1) == user(1) == user(id=1) == "user 1 for the 1th time"
        assert user.key(1) == "user:1"
        assert user.invalidate(1)
        assert not user.invalidate(1)
        assert user(1) == "user 1 for the 2th time"
        assert user.refresh(1) == user(1) == "user 1 for the 3th time"
        assert user(2) == "user 2 for the 4th time"
        cache.invalidate_tags("user 1")
        assert user(2) == "user 2 for the 4th time"
        assert user(1) == "user 1 for the 5th time"

    # -- locks, statistics, the end --

    def test_a_lock_has_one_holder(self, cache: CacheBackend) -> None:
        cache.set("key", 1)
        with cache.lock("key") as lock:
            first = lock.fence
            assert not cache.lock("key").try_acquire()
            with pytest.raises(CacheTimeoutError, match="'key'"):
                cache.lock("key", timeout=0.01).acquire()
            assert cache.lock("other").try_acquire()
        with cache.lock("key") as lock:
            assert first is not None
            assert lock.fence is not None
            assert lock.fence > first
        assert cache.get("key") == 1

    def test_a_lock_ends_by_itself(self, cache: CacheBackend) -> None:
        lock = cache.lock("key", ttl=self.short)
        lock.acquire()
        self.wait(self.short + 0.1)
        other = cache.lock("key")
        assert other.try_acquire()
        with pytest.raises(CacheLockError, match="'key'"):
            lock.release()
        other.release()

    def test_who_has_lost_a_lock_is_told_at_the_end_unless_an_error_says_more(
        self, cache: CacheBackend
    ) -> None:
        for fails in (False, True):
            with pytest.raises(ZeroDivisionError if fails else CacheLockError):  # noqa: PT012
                with cache.lock("key") as lock:
                    lock.release()
                    if fails:
                        1 // 0  # noqa: B018

    def test_a_lock_needs_an_end(self, cache: CacheBackend) -> None:
        with pytest.raises(CacheOptionError, match="more than 0"):
            cache.lock("key", ttl=0)

    def test_threads_take_turns_with_a_lock(self, cache: CacheBackend) -> None:
        inside: list[int] = []
        fences: list[int | None] = []

        def work(number: int) -> None:
            with cache.lock("key") as lock:
                inside.append(number)
                assert inside == [number]
                fences.append(lock.fence)
                inside.remove(number)

        together(4, work)
        assert len(set(fences)) == 4
        assert fences == sorted(fences, key=lambda fence: fence or 0)

    def test_hits_and_misses_are_counted(self, cache: CacheBackend) -> None:
        cache.set("key", 1)
        cache.get("key")
        cache.get("none")
        cache.get_many(["key", "none"])
        cache.get_or_set("made", lambda: 1)
        with pytest.raises(Failure):
            cache.get_or_set("failed", fails)
        stats = cache.stats()
        assert (stats.hits, stats.misses, stats.loads, stats.load_failures) == (2, 4, 1, 1)
        assert stats.hit_ratio == pytest.approx(2 / 6)

    def test_a_closed_cache_stores_nothing(self, cache: CacheBackend) -> None:
        cache.set("key", 1)
        with cache:
            pass
        cache.close()
        with pytest.raises(CacheClosedError, match=r"closed"):
            cache.set("key", 1)
        with pytest.raises(CacheClosedError, match=r"closed"):
            cache.add("key", 1)
        with pytest.raises(CacheClosedError, match=r"closed"):
            cache.incr("key")
