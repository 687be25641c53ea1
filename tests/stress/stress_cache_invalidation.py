"""How soon one process sees what another has changed, with the backplane and without it.

python -m pytest -s tests/stress/stress_cache_invalidation.py
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from prologue.cache import InMemoryCache, MultiLevelCache, RedisCache
from tests.servers import Redis

NEVER = 3600.0
"""A maximum age that is not reached."""
MAX_AGE = 0.5
"""Seconds for which memory is believed without the backplane."""
IN_TIME = 0.05
"""Seconds after which a change must be seen, or by which it may be seen later than at the maximum age."""

CHANGES: dict[str, Callable[[MultiLevelCache], object]] = {
    "set": lambda cache: cache.set("key", time.monotonic(), tags=("tag",)),
    "delete": lambda cache: cache.delete("key"),
    "invalidate_tags": lambda cache: cache.invalidate_tags("tag"),
    "clear": lambda cache: cache.clear(),
}


def caches(url: str, backplane: bool) -> MultiLevelCache:
    return MultiLevelCache(
        InMemoryCache(),
        RedisCache(url, timeout=5),
        backplane=backplane,
        max_age=NEVER if backplane else MAX_AGE,
    )


def watch(url: str, backplane: bool, pipe: Connection) -> None:
    """Be the other process: read a value, and tell when it has changed, by the clock of the machine."""
    with caches(url, backplane) as cache:
        cache.get("key")
        if cache._backplane is not None:
            assert cache._backplane.wait_connected(30)
        pipe.send(None)
        while (value := pipe.recv()) is not None:
            while cache.get("key") != value:
                time.sleep(0)
            pipe.send(None)
            while cache.get("key") == value:
                time.sleep(0)
            pipe.send(time.monotonic())


def seen_after(
    url: str, backplane: bool, change: Callable[[MultiLevelCache], object], times: int
) -> list[float]:
    """Return the seconds from the beginning of each change until the other process sees it."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=watch, args=(url, backplane, theirs), daemon=True)
    process.start()

    def receive() -> Any:
        assert ours.poll(30), "the other process does not answer"
        return ours.recv()

    seconds = []
    with caches(url, backplane) as cache:
        receive()
        for number in range(times):
            value = f"value {number}"
            cache.set("key", value, tags=("tag",))
            ours.send(value)
            receive()
            if not backplane:  # at any time in the life of its copy
                time.sleep(MAX_AGE * (number % 10) / 10)
            began = time.monotonic()
            change(cache)
            seconds.append(receive() - began)
        ours.send(None)
        process.join(30)
    assert process.exitcode == 0
    return sorted(seconds)


@pytest.mark.parametrize("change", CHANGES)
def test_with_the_backplane(change: str, tmp_path: Path) -> None:
    with Redis(tmp_path) as server:
        seconds = seen_after(server.url, True, CHANGES[change], 1000)
    print(
        f"\n{change}: seen by another process after: median {median(seconds) * 1000:.2f} ms, "
        f"p99 {seconds[len(seconds) * 99 // 100] * 1000:.2f} ms, longest {seconds[-1] * 1000:.2f} ms"
    )
    assert seconds[len(seconds) * 99 // 100] <= IN_TIME


def test_without_the_backplane(tmp_path: Path) -> None:
    with Redis(tmp_path) as server:
        seconds = seen_after(server.url, False, CHANGES["set"], 30)
    print(
        f"\nwithout the backplane, max_age {MAX_AGE} s: seen after: median {median(seconds):.3f} s, "
        f"longest {seconds[-1]:.3f} s"
    )
    assert seconds[-1] <= MAX_AGE + IN_TIME
