"""Many operations under random timeouts and disconnects: no thread ever gets the reply to another's question.

    python -m pytest -s tests/stress/stress_cache_desync.py

``OPERATIONS`` in the environment says how many for each store, by default 100,000.
"""

from __future__ import annotations

import os
import random
import threading
import time
from pathlib import Path

import pytest

from prologue.cache import MemcachedCache, RedisCache
from tests.cache.proxy import Proxy
from tests.servers import Memcached, PrivateServer, Redis

OPERATIONS = int(os.environ.get("OPERATIONS", "100000"))
THREADS = 8
TIMEOUT = 0.02


@pytest.mark.parametrize("kind", [Redis, Memcached])
def test_no_foreign_reply(kind: type[PrivateServer], tmp_path: Path) -> None:
    draw = random.Random(1)
    lock = threading.Lock()

    def spoil(piece: bytes) -> tuple[bytes, bool]:
        with lock:
            chance = draw.random()
        if chance < 0.002:
            time.sleep(TIMEOUT * 2)  # comes after its reader has given up
        elif chance < 0.004:
            return piece[: len(piece) // 2], False
        return piece, True

    with kind(tmp_path) as server, Proxy(server.port) as proxy:
        cache: RedisCache | MemcachedCache
        if kind is Redis:
            cache = RedisCache(f"redis://127.0.0.1:{proxy.port}/0", timeout=TIMEOUT, failures=10**9)
        else:
            cache = MemcachedCache(f"127.0.0.1:{proxy.port}", timeout=TIMEOUT, failures=10**9)
        proxy.toxic = spoil

        foreign: list[str] = []

        def work(number: int) -> None:
            for operation in range(OPERATIONS // THREADS // 2):
                key = f"{number}:{operation % 50}"
                cache.set(key, f"{key}:{operation}")
                found = cache.get(key)
                # An older value of its own is possible: the last set may have failed.
                if found is not None and not found.startswith(f"{key}:"):
                    foreign.append(f"{found} for {key}")

        threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        stats = cache.stats()
        print(
            f"\n{kind.__name__}: {OPERATIONS} operations, {stats.errors} failed, {stats.hits} hits,"
            f" {len(foreign)} foreign replies, {proxy.accepted} connections"
        )
        assert foreign == []
        assert cache.stats().errors > 0
        cache.close()
