"""A store that dies under load: who notices. Run it by name; it prints its figures, and fails past the bars.

python -m pytest -s tests/stress/stress_cache_outage.py
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prologue.cache.memcached import MemcachedCache
from prologue.cache.memory import InMemoryCache
from prologue.cache.multi_level import MultiLevelCache
from prologue.cache.redis import RedisCache
from tests.servers import Memcached, PrivateServer, Redis

RATE = 200
"""Requests per second."""
THREADS = 8
BEFORE, OUTAGE, AFTER = 5.0, 10.0, 5.0
"""Seconds of load before, while and after the store is down."""
KEYS = 2000


class Request:
    """One request: when it was due, how long it took, and whether it failed."""

    __slots__ = ("due", "failed", "seconds")

    def __init__(self, due: float, seconds: float, failed: bool) -> None:
        self.due = due
        self.seconds = seconds
        self.failed = failed


def handle(cache: MultiLevelCache, draw: random.Random) -> None:
    """Do what a handler does: read a page's values, make what is missing, sometimes change something."""
    number = min(int(draw.paretovariate(0.9)), KEYS)
    key = f"product:{number}"
    value = cache.get(key)
    if value is None:
        value = {"id": number, "name": f"product {number}", "price": number * 10}
        cache.set(key, value, ttl=30, tags=("products",) if number % 4 == 0 else ())
    assert value["id"] == number
    if draw.random() < 0.05:
        cache.set(key, value, ttl=30)
    cache.get_many([f"product:{number + other}" for other in range(5)])


def load(cache: MultiLevelCache, seconds: float, during: Callable[[], None]) -> list[Request]:
    """Send requests at a fixed rate, whether the ones before are done or not, as far as threads go."""
    done: list[Request] = []
    started = time.perf_counter()
    numbers = iter(range(int(seconds * RATE)))
    lock = threading.Lock()

    def work(seed: int) -> None:
        draw = random.Random(seed)
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            due = number / RATE
            time.sleep(max(0.0, started + due - time.perf_counter()))
            began, failed = time.perf_counter(), False
            try:
                handle(cache, draw)
            except Exception:
                failed = True
            done.append(Request(due, time.perf_counter() - began, failed))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(THREADS)]
    for thread in threads:
        thread.start()
    during()
    for thread in threads:
        thread.join()
    return done


def p99(requests: list[Request]) -> float:
    """Return the 99th percentile of the times, in milliseconds."""
    times = sorted(request.seconds for request in requests)
    return times[int(len(times) * 0.99)] * 1000


@pytest.mark.parametrize("how", ["killed", "hanging"])
@pytest.mark.parametrize("kind", ["redis", "memcached"])
def test_an_outage_of_ten_seconds(kind: str, how: str, tmp_path: Path) -> None:
    server: PrivateServer = Redis(tmp_path) if kind == "redis" else Memcached(tmp_path)
    with server:
        shared: Any
        if isinstance(server, Redis):
            shared = [RedisCache(server.url) for _ in range(2)]
        else:
            shared = [MemcachedCache(f"127.0.0.1:{server.port}") for _ in range(2)]
        # Little memory, so that the shared level is asked all the time.
        cache = MultiLevelCache(InMemoryCache(max_entries=100), shared[0], max_age=1.0)
        recovered: list[float] = []

        def during() -> None:
            time.sleep(BEFORE)
            server.kill() if how == "killed" else server.pause()
            time.sleep(OUTAGE / 2)
            cache.set("changed in the outage", "yes")
            time.sleep(OUTAGE / 2)
            server.start() if how == "killed" else server.resume()
            up = time.perf_counter()
            while shared[1].get("changed in the outage") != "yes":
                time.sleep(0.005)
            recovered.append(time.perf_counter() - up)

        done = load(cache, BEFORE + OUTAGE + AFTER, during)
        before = [one for one in done if 1 <= one.due < BEFORE]
        first = [one for one in done if BEFORE <= one.due < BEFORE + 1]
        later = [one for one in done if BEFORE + 1 <= one.due < BEFORE + OUTAGE]
        after = [one for one in done if one.due >= BEFORE + OUTAGE + 2]
        print(
            f"\n{kind} {how}: {len(done)} requests, {sum(one.failed for one in done)} failed; p99 in ms:"
            f" before {p99(before):.2f}, first second {p99(first):.2f}, then {p99(later):.2f},"
            f" after {p99(after):.2f}; the longest then {max(one.seconds for one in later) * 1000:.1f};"
            f" right again after {recovered[0]:.2f} s"
        )
        assert not any(one.failed for one in done)
        assert p99(later) - p99(before) <= 5
        assert not cache._missed
        cache.close()
        shared[1].close()
