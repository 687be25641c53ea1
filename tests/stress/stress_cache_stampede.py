"""Two hundred threads ask for one key that is not there, or not fresh: its factory is called once.

python -m pytest -s tests/stress/stress_cache_stampede.py
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from prologue.cache import CacheBackend, CacheOptions, InMemoryCache, MultiLevelCache, RedisCache
from prologue.errors import CacheTimeoutError
from tests.concurrency import pass_gate, together, until, until_waiting
from tests.servers import Redis

THREADS = 200
TAKES = 0.05
"""Seconds that the factory takes."""
TIMEOUT = 0.2
"""Seconds after which those who have a limit give up."""


class Failure(Exception):
    """What the factory raises."""


@pytest.fixture(params=["memory", "memory over Redis"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[CacheBackend]:
    if request.param == "memory":
        with InMemoryCache() as memory:
            yield memory
        return
    with Redis(tmp_path) as server:
        with MultiLevelCache(InMemoryCache(), RedisCache(server.url, timeout=5, connect_timeout=5)) as levels:
            yield levels


def make_stale(cache: CacheBackend, key: str) -> None:
    """Store a value that is not fresh any more."""
    cache.get_or_set(key, lambda: "old", 0.01, options=CacheOptions(stale=60))
    until(lambda: cache.get(key) is None)


def ask(cache: CacheBackend, make: Callable[[], str], options: Callable[[int], CacheOptions]) -> Counter[str]:
    """Ask in all threads at once; return what they got, and print how long they waited."""
    waited: list[float] = []

    def work(number: int) -> str:
        began = time.perf_counter()
        try:
            return cache.get_or_set("key", make, options=options(number))
        except (Failure, CacheTimeoutError) as error:
            return type(error).__name__
        finally:
            waited.append(time.perf_counter() - began)

    got = Counter(together(THREADS, work))
    print(f"\n{cache.name}: {dict(got)}; the longest wait {max(waited):.3f} s", end="")
    return got


def takes(calls: list[Any], outcome: Callable[[], str]) -> Callable[[], str]:
    """Return a factory that takes its time from when all others wait for it."""

    def make() -> str:
        calls.append(threading.get_ident())
        until_waiting(THREADS - 1)
        time.sleep(TAKES)
        return outcome()

    return make


def fail() -> str:
    raise Failure


def test_it_takes_its_time(cache: CacheBackend) -> None:
    calls: list[Any] = []
    assert ask(cache, takes(calls, lambda: "new"), lambda number: CacheOptions()) == {"new": THREADS}
    assert len(calls) == 1


def test_it_fails(cache: CacheBackend) -> None:
    calls: list[Any] = []
    assert ask(cache, takes(calls, fail), lambda number: CacheOptions()) == {"Failure": THREADS}
    assert len(calls) == 1


def test_it_fails_and_there_is_a_stale_value(cache: CacheBackend) -> None:
    make_stale(cache, "key")
    calls: list[Any] = []
    options = CacheOptions(ttl=60, stale=60)
    assert ask(cache, takes(calls, fail), lambda number: options) == {"old": THREADS}
    assert len(calls) == 1


def test_it_hangs(cache: CacheBackend) -> None:
    make_stale(cache, "key")
    calls: list[Any] = []
    gate = threading.Event()

    def hang() -> str:
        calls.append(1)
        pass_gate(gate)
        return "new"

    soft = CacheOptions(ttl=60, stale=60, soft_timeout=TIMEOUT)
    hard = CacheOptions(ttl=60, hard_timeout=TIMEOUT)
    half = THREADS // 2
    got = ask(cache, hang, lambda number: soft if number < half else hard)
    assert got == {"old": half, "CacheTimeoutError": half}
    assert len(calls) == 1
    gate.set()
    until(lambda: cache.get("key") == "new")
