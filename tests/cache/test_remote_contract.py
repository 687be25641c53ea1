"""The caches in shared stores, and several levels, do what every cache does.

Time passes without waiting: the clock of the caches is put forward, and so is what the servers count down.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from pymemcache.client.base import Client

from prologue.cache import CacheBackend, InMemoryCache, MemcachedCache, MultiLevelCache, RedisCache, remote
from tests.cache.contract.suite import CacheContract
from tests.cache.proxy import Proxy
from tests.servers import Memcached, Redis

_namespaces = (f"contract-{number}" for number in itertools.count())


class MovableTime(CacheContract):
    """The contract with a clock that can be put forward."""

    short = 5.0

    def setup_method(self) -> None:
        self.ahead = 0.0
        self.namespace = next(_namespaces)

    def clock(self) -> float:
        return time.monotonic() + self.ahead

    def wait(self, seconds: float) -> None:
        self.ahead += seconds


class InRedis(MovableTime):
    server: Redis

    def wait(self, seconds: float) -> None:
        super().wait(seconds)
        with redis.Redis.from_url(self.server.url) as client:
            for key in client.scan_iter(f"*{self.namespace}:*"):
                if (left := client.pttl(key)) >= 0:
                    client.pexpire(key, int(left - seconds * 1000))

    def make(self, port: int | None = None) -> RedisCache:
        url = f"redis://127.0.0.1:{port or self.server.port}/0"
        return RedisCache(url, namespace=self.namespace, timeout=30, clock=self.clock)


class TestRedis(InRedis):
    @pytest.fixture
    def cache(self, redis_server: Redis) -> Iterator[CacheBackend]:
        self.server = redis_server
        with self.make() as cache:
            yield cache


class TestRedisInPieces(InRedis):
    """Each answer arrives in many pieces."""

    @pytest.fixture
    def cache(self, redis_server: Redis) -> Iterator[CacheBackend]:
        self.server = redis_server
        with Proxy(redis_server.port, largest=50) as proxy, self.make(proxy.port) as cache:
            yield cache


class TestMemoryOverRedis(InRedis):
    @pytest.fixture
    def cache(self, redis_server: Redis) -> Iterator[CacheBackend]:
        self.server = redis_server
        with MultiLevelCache(
            InMemoryCache(clock=self.clock), self.make(), clock=self.clock, max_age=10**9
        ) as cache:
            yield cache


class TestThreeLevels(MovableTime):
    @pytest.fixture
    def cache(self) -> Iterator[CacheBackend]:
        levels = [InMemoryCache(clock=self.clock) for _ in range(3)]
        with MultiLevelCache(*levels, clock=self.clock, max_age=10**9) as cache:
            yield cache


class TestMemcached(MovableTime):
    server: Memcached
    store: Any

    @pytest.fixture
    def cache(self, memcached_server: Memcached, monkeypatch: pytest.MonkeyPatch) -> Iterator[CacheBackend]:
        self.server = memcached_server
        monkeypatch.setattr(remote, "wall_clock", lambda: time.time() + self.ahead)
        with MemcachedCache(
            memcached_server.address, namespace=self.namespace, timeout=30, clock=self.clock
        ) as cache:
            self.store = cache
            yield cache

    def wait(self, seconds: float) -> None:
        # Values hold their ends; a lock ends when the server says.
        super().wait(seconds)
        client = Client(self.server.address)
        client.delete(self.store._keys.reserved("lock:key"), noreply=False)
        client.close()
