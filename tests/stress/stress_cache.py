"""A million random operations of eight threads on small caches; each answer is compared with the source.

Run it with ``python -m pytest tests/stress/stress_cache.py``.
"""

from __future__ import annotations

import gc
import random
import time
from typing import get_args

import pytest

from prologue.cache import MISSING, InMemoryCache
from prologue.cache.memory import Policy
from prologue.cache.node import Node
from tests.cache.test_memory import assert_is_whole
from tests.concurrency import impatient_threads, together

OPERATIONS = 1_000_000
THREADS = 8
KEYS = 400
ROOM = 150
HEAVIEST = 5


def weigh(value: int) -> int:
    """Return a weight from 1 to the heaviest: a value weighs another than the one before."""
    return 1 + value % HEAVIEST


@pytest.mark.parametrize("policy", get_args(Policy))
@pytest.mark.parametrize("weighed", [False, True], ids=["entries", "weight"])
def test_nothing_old_is_read_and_nothing_leaks(policy: Policy, weighed: bool) -> None:
    cache = InMemoryCache(
        None if weighed else ROOM,
        max_weight=ROOM if weighed else None,
        getsizeof=weigh if weighed else None,
        policy=policy,
    )
    source = [0] * KEYS  # the current version of each key; only one thread changes it
    acknowledged = [0] * KEYS  # no older version may be read after this was written
    started = time.monotonic()

    def work(thread: int) -> None:
        draw = random.Random(thread)
        for _ in range(OPERATIONS // (THREADS * len(get_args(Policy)) * 2)):
            number = min(draw.randrange(KEYS), draw.randrange(KEYS))
            key = f"key {number}"
            at_least = acknowledged[number]
            kind = draw.random()
            if number % THREADS == thread and kind < 0.4:
                source[number] += 1
                if kind < 0.1:
                    cache.delete(key)
                elif kind < 0.15:
                    cache.invalidate_tags(f"tag {number}")
                elif kind < 0.155:
                    cache.clear()
                else:
                    cache.set(key, source[number], ttl=draw.choice([0, 0.001, 60]), tags=(f"tag {number}",))
                acknowledged[number] = source[number]
                continue
            if kind < 0.7:
                version = cache.get(key, MISSING)
            else:
                version = cache.get_or_set(key, lambda: source[number], 60, tags=(f"tag {number}",))  # noqa: B023
            assert version is MISSING or version >= at_least
            if cache.max_entries is not None:
                assert len(cache) <= cache.max_entries
            elif kind > 0.98:
                weight = cache.stats().weight
                assert weight is not None
                assert weight <= ROOM

    with impatient_threads():
        together(THREADS, work)
    assert_is_whole(cache)
    assert not cache.pending.writes
    assert not cache._loader._flights
    weight = cache.stats().weight
    assert weight is None or weight == sum(weigh(node.value) for node in cache._nodes.values()) <= ROOM
    cache.clear()
    gc.collect()
    assert sum(type(thing) is Node for thing in gc.get_objects()) < 3 * ROOM
    print(
        f"{policy}, {'weight' if weighed else 'entries'}: {time.monotonic() - started:.0f} s, {cache.stats()}"
    )
