"""Single flight, fail-safe, timeouts and the threads in the background: what a server has no part in."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from functools import partial
from threading import Event
from typing import Any

import pytest

from prologue.cache import CacheBackend, CacheOptions, FactoryContext, InMemoryCache
from prologue.cache.background import Background
from prologue.cache.pending import PendingWrite, PendingWrites
from prologue.errors import CacheClosedError, CacheError, CacheTimeoutError, CacheUnavailableError
from prologue.lifecycle.single_flight import wait_graph
from tests.cache.clock import Clock
from tests.concurrency import Task, impatient_threads, in_child, pass_gate, together, until, until_waiting

THREADS = 200


class Failure(Exception):
    pass


def test_two_hundred_threads_ask_for_one_cold_key() -> None:
    cache = InMemoryCache()
    calls: list[int] = []
    gate = Event()

    def make() -> int:
        calls.append(1)
        pass_gate(gate)
        return 42

    tasks = [Task(lambda: cache.get_or_set("key", make, ttl=60)) for _ in range(THREADS)]
    until_waiting(THREADS - 1)
    gate.set()
    assert [task.result() for task in tasks] == [42] * THREADS
    assert len(calls) == 1


def test_two_hundred_threads_released_together_make_one_call() -> None:
    cache = InMemoryCache()
    calls: list[int] = []

    def make() -> int:
        calls.append(1)
        return 42

    with impatient_threads():
        results = together(THREADS, lambda _: cache.get_or_set("key", make))
    assert len(calls) == 1
    assert results == [42] * THREADS


@pytest.mark.parametrize("stale", [False, True])
def test_when_the_factory_fails_all_get_the_error_or_the_stale_value(stale: bool) -> None:
    clock = Clock()
    options = CacheOptions(ttl=10, stale=60) if stale else CacheOptions(ttl=10)
    cache = InMemoryCache(clock=clock, options=options)
    cache.set("key", "old")
    clock.advance(11)
    calls: list[int] = []
    gate = Event()

    def make() -> str:
        calls.append(1)
        pass_gate(gate)
        raise Failure

    def ask() -> str:
        try:
            return cache.get_or_set("key", make)
        except Failure:
            return "error"

    tasks = [Task(ask) for _ in range(THREADS)]
    until_waiting(THREADS - 1)
    gate.set()
    assert Counter(task.result() for task in tasks) == {"old" if stale else "error": THREADS}
    assert len(calls) == 1


def test_when_the_factory_hangs_each_gets_what_it_asked_for() -> None:
    clock = Clock()
    cache = InMemoryCache(clock=clock, options=CacheOptions(ttl=10, stale=60))
    cache.set("key", "old")
    clock.advance(11)
    calls: list[int] = []
    gate = Event()
    soft = CacheOptions(ttl=10, stale=60, soft_timeout=0.05)
    hard = CacheOptions(ttl=10, hard_timeout=0.05)

    def make() -> str:
        calls.append(1)
        pass_gate(gate)
        return "new"

    def ask(number: int) -> str:
        try:
            return cache.get_or_set("key", make, options=soft if number % 2 else hard)
        except CacheTimeoutError:
            return "timeout"

    assert Counter(together(THREADS, ask)) == {"old": THREADS / 2, "timeout": THREADS / 2}
    assert len(calls) == 1
    gate.set()
    until(lambda: cache.get("key") == "new")


def test_who_asks_after_a_change_does_not_join_a_flight_that_is_just_ending(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cache = InMemoryCache()
    end, late = cache.pending.end, Event()

    def ask() -> str:
        return cache.get_or_set("key", lambda: "new")

    def change_and_ask(_: PendingWrites, pending: PendingWrite) -> None:
        end(pending)
        if not late.is_set():
            late.set()
            cache.delete("key")
            asking.append(Task(ask))
            until(lambda: wait_graph._waiting or not asking[0]._thread.is_alive())

    asking: list[Task[str]] = []
    monkeypatch.setattr(PendingWrites, "end", change_and_ask)
    assert cache.get_or_set("key", lambda: "old") == "old"
    assert asking[0].result() == "new"
    assert cache.get("key") == "new"


def test_a_leader_that_is_stopped_lets_another_lead() -> None:
    cache = InMemoryCache()
    gate = Event()

    def stop() -> int:
        pass_gate(gate)
        raise SystemExit

    leader = Task(lambda: cache.get_or_set("key", stop))
    until(lambda: cache._loader._flights)
    follower = Task(lambda: cache.get_or_set("key", lambda: 1))
    until_waiting(1)
    gate.set()
    assert follower.result() == 1
    assert isinstance(leader.error(), SystemExit)


def test_a_factory_that_would_end_a_thread_in_the_background_is_an_error() -> None:
    def stop() -> int:
        raise SystemExit

    cache = InMemoryCache(options=CacheOptions(hard_timeout=30))
    with pytest.raises(CacheError, match=r"'key'.*SystemExit"):
        cache.get_or_set("key", stop)
    assert cache.get_or_set("key", lambda: 1) == 1


def occupy(cache: CacheBackend, gate: Event) -> list[Task[Any]]:
    """Keep all threads of the background busy, four of them, until the gate is opened."""
    background = cache._loader._background
    background._limit = 4
    busy = CacheOptions(hard_timeout=30)
    tasks = [
        Task(partial(cache.get_or_set, f"busy {number}", partial(pass_gate, gate), options=busy))
        for number in range(4)
    ]
    until(lambda: len(background._threads) == 4 and not background._idle)
    until_waiting(4)
    return tasks


def test_a_hard_timeout_holds_also_when_all_threads_are_busy() -> None:
    cache = InMemoryCache()
    gate = Event()
    tasks = occupy(cache, gate)
    calls: list[int] = []
    with pytest.raises(CacheTimeoutError, match="'key'"):
        cache.get_or_set("key", partial(calls.append, 1), options=CacheOptions(hard_timeout=0.02))
    assert not calls
    assert not cache._loader._flights.keys() - {f"busy {number}" for number in range(4)}
    gate.set()
    for task in tasks:
        task.result()
    assert cache.get_or_set("key", lambda: 1, options=CacheOptions(hard_timeout=30)) == 1
    cache.close()


def test_who_waits_for_a_thread_gets_the_next_that_is_free() -> None:
    cache = InMemoryCache()
    gate = Event()
    tasks = occupy(cache, gate)
    later = Task(partial(cache.get_or_set, "key", threading.get_ident, options=CacheOptions(hard_timeout=30)))
    until(lambda: cache._loader._background._free._waiters)  # type: ignore[attr-defined]
    gate.set()
    assert later.result() not in (later.ident, threading.get_ident())
    for task in tasks:
        task.result()
    cache.close()


def test_who_is_interrupted_while_waiting_for_a_thread_holds_up_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cache = InMemoryCache(options=CacheOptions(hard_timeout=30))

    def interrupt(*_: Any) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Background, "try_run", interrupt)
        with pytest.raises(KeyboardInterrupt):
            cache.get_or_set("key", lambda: 1)
    assert cache.get_or_set("key", lambda: 2) == 2
    cache.close()


def test_a_factory_in_the_background_does_not_wait_for_a_thread_there() -> None:
    cache = InMemoryCache(options=CacheOptions(hard_timeout=30))
    cache._loader._background._limit = 1
    outer, inner = cache.get_or_set(
        "outer", lambda: (threading.get_ident(), cache.get_or_set("inner", threading.get_ident))
    )
    assert outer == inner != threading.get_ident()
    cache.close()


def test_a_refresh_does_not_wait_for_a_thread() -> None:
    clock = Clock()
    options = CacheOptions(ttl=100, eager=0.5, hard_timeout=30)
    cache = InMemoryCache(clock=clock, options=options)
    cache.set("key", 1)
    clock.advance(60)
    gate = Event()
    tasks = occupy(cache, gate)
    assert cache.get_or_set("key", lambda: 2) == 1
    gate.set()
    for task in tasks:
        task.result()
    cache.close()


def test_a_stale_value_is_served_at_once_when_all_threads_are_busy() -> None:
    clock = Clock()
    cache = InMemoryCache(clock=clock, options=CacheOptions(ttl=1, stale=100, soft_timeout=30))
    cache.set("key", "old")
    clock.advance(2)
    gate = Event()
    tasks = occupy(cache, gate)
    assert cache.get_or_set("key", lambda: "new") == "old"
    assert cache.stats().stale_served == 1
    gate.set()
    for task in tasks:
        task.result()
    until(lambda: cache._loader._background._idle == 4)
    assert cache.get_or_set("key", lambda: "new") == "new"
    cache.close()


def test_a_tag_that_is_invalidated_parts_only_those_who_make_what_is_under_it() -> None:
    cache = InMemoryCache()
    gate = Event()

    def make(context: FactoryContext) -> str:
        context.add_tags("b")
        pass_gate(gate)
        return "made once"

    first = Task(lambda: cache.get_or_set("key", make, tags=("a",)))
    until(lambda: cache._loader._flights and "b" in cache._loader._flights["key"].tags)
    cache.invalidate_tags("c")
    second = Task(lambda: cache.get_or_set("key", lambda: "made twice"))
    until_waiting(1)
    for tag in "ab":
        cache.invalidate_tags(tag)
        assert cache.get_or_set("key", lambda: "made anew", tags=("a", "b")) == "made anew"
    gate.set()
    assert [first.result(), second.result()] == ["made once"] * 2
    assert cache.get("key") == "made anew"


def test_a_refresh_is_put_off_when_all_threads_are_busy_and_after_it_failed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    eager = CacheOptions(ttl=100, eager=0.5, throttle=10)
    cache = InMemoryCache(clock=clock, options=eager)
    gate = Event()
    cache.set("key", 1)
    tasks = occupy(cache, gate)
    clock.advance(60)
    assert cache.get_or_set("key", lambda: 2) == 1
    assert "key" not in cache._loader._flights
    gate.set()
    for task in tasks:
        task.result()
    until(lambda: cache._loader._background._idle == 4)

    def fail() -> int:
        raise Failure

    with caplog.at_level(logging.WARNING, "prologue.cache"):
        assert cache.get_or_set("key", fail) == 1
        until(lambda: not cache._loader._flights)
    assert "'key'" in caplog.text
    assert cache.get_or_set("key", lambda: 3) == 1
    assert not cache._loader._flights, "throttled"
    clock.advance(11)
    assert cache.get_or_set("key", lambda: 3) == 1
    until(lambda: cache.get("key") == 3)
    cache.close()


def test_one_refresh_at_a_time() -> None:
    clock = Clock()
    cache = InMemoryCache(clock=clock, options=CacheOptions(ttl=100, eager=0.5))
    cache.set("key", 1)
    clock.advance(60)
    gate = Event()
    calls: list[int] = []

    def make() -> int:
        calls.append(1)
        pass_gate(gate)
        return 2

    assert together(8, lambda _: cache.get_or_set("key", make)) == [1] * 8
    gate.set()
    until(lambda: cache.get("key") == 2)
    assert calls == [1]
    cache.close()


def test_closing_waits_for_the_background_and_takes_nothing_new() -> None:
    cache = InMemoryCache(options=CacheOptions(stale=60, ttl=1, soft_timeout=0.01, hard_timeout=0.02))
    gate = Event()
    done: list[int] = []

    def make() -> None:
        pass_gate(gate)
        done.append(1)

    with pytest.raises(CacheTimeoutError):
        cache.get_or_set("key", make)
    closer = Task(cache.close)
    until(lambda: cache.closed)
    gate.set()
    closer.result()
    assert done == [1]
    with pytest.raises(CacheClosedError):
        cache.get_or_set("key", lambda: 1)


def test_a_child_starts_threads_of_its_own() -> None:
    cache = InMemoryCache(options=CacheOptions(hard_timeout=30))
    gate = Event()
    task = Task(lambda: cache.get_or_set("busy", lambda: pass_gate(gate)))
    until_waiting(1)

    def child() -> Any:
        return [cache.get_or_set("key", lambda: 1), cache.get_or_set("busy", lambda: 2)]

    assert in_child(child) == [1, 2]
    gate.set()
    task.result()
    cache.close()


def test_a_factory_that_forks_goes_on_in_the_child() -> None:
    cache = InMemoryCache()
    answers = cache.get_or_set("key", lambda: in_child(lambda: cache.get_or_set("other", lambda: 1)))
    assert answers == 1


class Unreachable(InMemoryCache):
    """A memory cache whose store can be down."""

    __slots__ = ("down",)

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.down: set[str] = set()

    def check(self, what: str) -> None:
        if what in self.down:
            raise CacheUnavailableError(f"cannot {what}")

    def _read(self, key: str) -> Any:
        self.check("read")
        return super()._read(key)

    def get(self, key: str, default: Any = None) -> Any:
        entry = self.get_entry(key)
        return default if entry is None else entry.value

    def _write_pending(self, pending: Any, entry: Any) -> bool:
        self.check("write")
        return super()._write_pending(pending, entry)

    def _generations(self, tags: Any) -> tuple[int, ...]:
        self.check("tags")
        return super()._generations(tags)

    def _acquire(self, name: str, token: str, ttl: float) -> int | None:
        self.check("lock")
        return super()._acquire(name, token, ttl)

    def _release(self, name: str, token: str) -> bool:
        self.check("unlock")
        return super()._release(name, token)


@pytest.mark.parametrize("down", ["read", "write", "tags", "lock", "unlock"])
def test_an_outage_costs_a_call_of_the_factory_and_no_error(down: str) -> None:
    cache = Unreachable(options=CacheOptions(lease=10))

    def make(context: FactoryContext) -> int:
        context.add_tags("y")
        return 1

    cache.down = {down}
    assert cache.get_or_set("key", make, tags=("x",)) == 1
    assert cache.stats().errors > 0
    cache.down = set()
    stored = cache.get("key") == 1
    assert stored == (down in ("read", "lock", "unlock"))


def test_a_value_that_comes_after_the_lease_is_not_stored() -> None:
    cache = InMemoryCache()
    begun, gate = Event(), Event()
    options = CacheOptions(lease=0.01)

    def make() -> int:
        begun.set()
        pass_gate(gate)
        return 1

    task = Task(lambda: cache.get_or_set("key", make, options=options))
    pass_gate(begun)
    until(lambda: cache._acquire("lease:key", "another process", 60) is not None)
    gate.set()
    assert task.result() == 1
    assert cache.get("key") is None


def test_who_waits_in_vain_for_a_lease_makes_the_value() -> None:
    cache = InMemoryCache()
    cache._acquire("lease:key", "another process", 60)
    assert cache.get_or_set("key", lambda: 1, options=CacheOptions(lease=0.02)) == 1


def test_what_another_process_stored_before_the_lease_was_ours_is_taken() -> None:
    class Late(InMemoryCache):
        def _acquire(self, name: str, token: str, ttl: float) -> int | None:
            self.set("key", "theirs", 60)
            return super()._acquire(name, token, ttl)

    cache = Late()
    assert cache.get_or_set("key", lambda: "ours", options=CacheOptions(lease=30)) == "theirs"
    assert InMemoryCache._acquire(cache, "lease:key", "another process", 60) is not None, "it was given back"


def test_a_lease_that_cannot_be_given_back_costs_nobody() -> None:
    class Late(Unreachable):
        def _acquire(self, name: str, token: str, ttl: float) -> int | None:
            self.set("key", "theirs", 60)
            return super()._acquire(name, token, ttl)

    cache = Late()
    cache.down = {"unlock"}
    assert cache.get_or_set("key", lambda: "ours", options=CacheOptions(lease=30)) == "theirs"
    assert cache.stats().errors == 1


def test_a_stale_value_does_not_stand_for_the_one_that_a_lease_is_for() -> None:
    clock = Clock()
    cache = InMemoryCache(clock=clock, options=CacheOptions(ttl=1, stale=10, lease=30))
    cache.set("key", "old")
    clock.advance(2)
    assert cache.get_or_set("key", lambda: "new") == "new"
    assert cache.refresh("key", lambda: "newer") == "newer"
    assert cache.get("key") == "newer"


def test_who_does_not_want_a_stale_value_gets_none() -> None:
    clock = Clock()
    cache = InMemoryCache(clock=clock, options=CacheOptions(ttl=1, stale=10))
    cache.set("key", "old")
    clock.advance(2)
    with pytest.raises(ZeroDivisionError):
        cache.get_or_set("key", lambda: 1 // 0, options=CacheOptions(ttl=1, eager=0.5))


def test_the_background_ends_threads_that_have_nothing_to_do() -> None:
    background = Background("test", idle=0.01)
    ran = Event()
    assert background.try_run(ran.set)
    assert ran.wait(30)
    until(lambda: not background._threads)
    assert background.try_run(ran.clear)
    until(lambda: not ran.is_set())
    background.close()
    assert not background.try_run(ran.set)


def test_what_the_background_takes_while_it_is_closed_is_done() -> None:
    done: list[int] = []
    taken: list[bool] = []
    for _ in range(100):
        background = Background("test", limit=2)

        def take_or_close(number: int) -> None:
            if number:
                taken.append(background.try_run(partial(done.append, 1)))  # noqa: B023
            else:
                background.close()  # noqa: B023

        with impatient_threads():
            together(3, take_or_close)
        background.close()
    assert len(done) == taken.count(True)


def test_without_threads_the_background_takes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    cache = InMemoryCache(options=CacheOptions(hard_timeout=30))
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        assert cache.get_or_set("key", threading.get_ident) == threading.get_ident()
    assert cache.get_or_set("other", threading.get_ident) != threading.get_ident()
    cache.close()


def test_the_background_outlives_what_it_runs(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise SystemExit

    background = Background("test", limit=1)
    with caplog.at_level(logging.ERROR, "prologue.cache"):
        assert background.try_run(fail)
        until(lambda: background._idle == 1)
    assert "'test'" in caplog.text
    done = Event()
    assert background.try_run(done.set)
    assert done.wait(30)
    background.close()


def test_closing_the_background_does_not_wait_for_ever(caplog: pytest.LogCaptureFixture) -> None:
    background = Background("test")
    gate = Event()
    background.try_run(lambda: pass_gate(gate))
    with caplog.at_level(logging.WARNING, "prologue.cache"):
        background.close(timeout=0.01)
    assert "1 factories" in caplog.text
    gate.set()
