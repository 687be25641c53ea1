"""Threads interrupted anywhere while they use a store: no reply is left behind for the next.

    python -m pytest tests/stress/stress_cache_interrupts.py

It is no part of the suite: a tracer, as coverage has, lets an interruption strike where none can without it,
between taking a lock and entering its block.
"""

from __future__ import annotations

import ctypes
import gc
import time
from pathlib import Path
from typing import Any

import pytest

from prologue.cache import CacheBackend, MemcachedCache, RedisCache
from tests.concurrency import Task, until
from tests.servers import Memcached, PrivateServer, Redis

ROUNDS = 200


class Interruption(BaseException):
    """Thrown into a thread from outside."""


def interrupt(task: Task[Any]) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(task.ident), ctypes.py_object(Interruption))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # interrupted finalizers
@pytest.mark.parametrize("kind", [Redis, Memcached])
def test_a_thread_that_is_interrupted_anywhere_leaves_no_reply_behind(
    kind: type[PrivateServer], tmp_path: Path
) -> None:
    with kind(tmp_path) as server:
        cache: CacheBackend
        if kind is Redis:
            cache = RedisCache(f"redis://127.0.0.1:{server.port}/0", timeout=5)
        else:
            cache = MemcachedCache(f"127.0.0.1:{server.port}", timeout=5)
        cache.set_many({"mine": "mine", "other": "other"})

        def read() -> None:
            while True:
                assert cache.get("mine") in ("mine", None)

        for number in range(ROUNDS):
            task = Task(read)
            end = time.monotonic() + number * 0.00003
            until(lambda end=end: time.monotonic() >= end)  # type: ignore[misc]
            while task._thread.is_alive():  # one that strikes in a finalizer is lost
                interrupt(task)
                task._thread.join(0.1)
            assert isinstance(task.error(), Interruption)
            assert cache.get("other") == "other"
        del task
        gc.collect()  # what they left half-made is finalized here
        cache.close()
