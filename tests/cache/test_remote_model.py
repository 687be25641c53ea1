"""Redis, memory over Redis, and Memcached against the model of the contract."""

from __future__ import annotations

import itertools
import time

import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from prologue.cache import CacheBackend, InMemoryCache, MemcachedCache, MultiLevelCache, RedisCache, remote
from tests.cache.clock import Clock
from tests.cache.contract.model import CacheMachine
from tests.servers import Memcached, Redis

SETTINGS = settings(
    max_examples=15,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)

_namespaces = (f"model-{number}" for number in itertools.count())


class RedisMachine(CacheMachine):
    server: Redis
    with_memory = False

    def make(self, clock: Clock) -> CacheBackend:
        self.namespace = next(_namespaces)
        cache = RedisCache(self.server.url, namespace=self.namespace, timeout=30, clock=clock)
        if not self.with_memory:
            return cache
        return MultiLevelCache(InMemoryCache(clock=clock), cache, clock=clock, max_age=10**9)

    def pass_time(self, seconds: float) -> None:
        super().pass_time(seconds)
        with redis.Redis.from_url(self.server.url) as client:
            for key in client.scan_iter(f"{self.namespace}:*"):
                if (left := client.pttl(key)) >= 0:
                    client.pexpire(key, int(left - seconds * 1000))


@pytest.mark.parametrize("with_memory", [False, True])
def test_redis(with_memory: bool, redis_server: Redis) -> None:
    class Machine(RedisMachine):
        server = redis_server

    Machine.with_memory = with_memory
    run_state_machine_as_test(Machine, settings=SETTINGS)


def test_memcached(memcached_server: Memcached, monkeypatch: pytest.MonkeyPatch) -> None:
    class Machine(CacheMachine):
        def make(self, clock: Clock) -> CacheBackend:
            # Values hold their ends, by the time on the wall.
            started = time.time() - clock()
            monkeypatch.setattr(remote, "wall_clock", lambda: started + clock())
            return MemcachedCache(
                memcached_server.address, namespace=next(_namespaces), timeout=30, clock=clock
            )

    run_state_machine_as_test(Machine, settings=SETTINGS)
