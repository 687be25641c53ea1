"""What is special about the cache in Redis."""

from __future__ import annotations

import pickle
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.cluster import ClusterNode, RedisCluster
from redis.sentinel import Sentinel

from prologue.cache.base import CacheBackend
from prologue.cache.codec import Codec
from prologue.cache.entry import Entry
from prologue.cache.options import CacheOptions
from prologue.cache.redis import RedisCache
from prologue.errors import (
    CacheClosedError,
    CacheOptionError,
    CacheUnavailableError,
    CacheValueError,
    CodecError,
    MissingExtraError,
)
from tests.concurrency import until
from tests.servers import Redis
from tests.servers.process import free_port


@pytest.fixture
def client(redis_server: Redis) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_server.url) as client:
        yield client


def make(server: Redis, namespace: str, **options: Any) -> RedisCache:
    return RedisCache(server.url, namespace=namespace, **options)


def stored_keys(client: redis.Redis, namespace: str) -> list[bytes]:
    return sorted(key for key in client.scan_iter(f"{namespace}:*") if b"@" not in key)


def test_nothing_is_connected_before_the_first_use() -> None:
    cache = RedisCache("redis://127.0.0.1:1/0")
    assert cache.get("a", "nothing") == "nothing"
    assert cache.stats().errors == 1


def test_a_value_takes_one_key_that_ends_when_the_entry_does(
    redis_server: Redis, client: redis.Redis
) -> None:
    with make(redis_server, "ends", options=CacheOptions(ttl=60, stale=40)) as cache:
        cache.set("for ever", 1, ttl=0)
        cache.set("user:1", 1)
        generation = client.get("ends:1:@generation")
        assert isinstance(generation, bytes)
        assert stored_keys(client, "ends")[-1] == b"ends:1:" + generation + b":=user:1"
        assert 99_000 < client.pttl(stored_keys(client, "ends")[-1]) <= 100_000
        entry = cache.get_entry("user:1")
        assert entry is not None
        assert 59 < entry.fresh_until - cache.clock() <= 60
        assert 99 < entry.stale_until - cache.clock() <= 100
        assert client.pttl(stored_keys(client, "ends")[0]) == -1


def test_the_remaining_time_is_that_of_the_server_not_of_clocks(redis_server: Redis) -> None:
    now = [1000.0]
    with make(redis_server, "clock", clock=lambda: now[0]) as cache:
        cache.set("a", 1, ttl=50)
        now[0] -= 900.0
        entry = cache.get_entry("a")
        assert entry is not None
        assert 49 < entry.fresh_until - 100.0 <= 50


def test_clear_touches_nothing_else_in_the_server(redis_server: Redis, client: redis.Redis) -> None:
    client.set("mine", "untouched")
    with make(redis_server, "clear-a") as cache, make(redis_server, "clear-b") as other:
        cache.set("k", 1)
        other.set("k", 2)
        cache.clear()
        assert (cache.get("k"), other.get("k"), client.get("mine")) == (None, 2, b"untouched")


def test_a_process_notices_that_another_cleared_within_the_same_operation(redis_server: Redis) -> None:
    with make(redis_server, "cleared") as first, make(redis_server, "cleared") as second:
        first.set("k", 1)
        first.clear()
        second.set("k", 2)
        second.clear()
        first.set("k", 3)
        assert second.get("k") == 3
        second.clear()
        assert first.incr("k", 5) == 5
        assert not second.add("k", 1)


def test_a_server_that_lost_its_generations_brings_nothing_back(
    redis_server: Redis, client: redis.Redis
) -> None:
    with make(redis_server, "lost") as cache:
        cache.set("k", 1)
        cache.set("t", 1, tags=("users",))
        client.delete("lost:1:@tag:users")
        assert cache.get("t") is None
        cache.invalidate_tags("users")
        client.delete("lost:1:@generation")
        assert (cache.get("k"), cache.get("t")) == (None, None)


def test_entries_without_tags_cost_one_round_trip_and_no_tags(
    redis_server: Redis, client: redis.Redis
) -> None:
    with make(redis_server, "trips") as cache:
        cache.set("k", 1)
        before = client.info("stats")["total_reads_processed"]
        cache.get("k")
        cache.get_many([f"k{number}" for number in range(50)])
        cache.set_many({f"k{number}": number for number in range(50)})
        reads = client.info("stats")["total_reads_processed"] - before - 1
        assert reads == 3
        assert not list(client.scan_iter("trips:*tag*"))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xa7",
        b"random bytes",
        pickle.dumps(print),
        b"\xa7\x02\x00\xc0",
        b"\xa7\x01\x00\xc0",
        b"\xa7\x01\x00\x90",
    ],
)
def test_what_was_not_stored_by_the_cache_is_a_miss_and_an_event(
    redis_server: Redis, client: redis.Redis, payload: bytes
) -> None:
    events: list[tuple[str, CodecError]] = []
    with make(redis_server, "poison", on_undecodable=lambda key, error: events.append((key, error))) as cache:
        cache.set("k", 1)
        (key,) = stored_keys(client, "poison")
        client.set(key, payload)
        assert (cache.get("k", "miss"), cache.get_many(["k"])) == ("miss", {})
        assert [key for key, _ in events] == ["k", "k"]
        assert cache.stats().undecodable == 2
        assert client.get(key) == payload  # a newer version may still need it
        assert cache.add("k", 2)
        assert cache.get("k") == 2
        cache.delete("k")


def test_a_signed_value_is_not_taken_for_another_key(redis_server: Redis, client: redis.Redis) -> None:
    codec = Codec(secret_keys=[b"0123456789abcdef"])
    with make(redis_server, "signed", codec=codec) as cache:
        cache.set("cheap", 1)
        cache.set("dear", 100)
        cheap, dear = stored_keys(client, "signed")
        client.set(dear, client.get(cheap) or b"")
        assert (cache.get("cheap"), cache.get("dear")) == (1, None)


def test_a_key_of_another_type_is_a_miss(redis_server: Redis, client: redis.Redis) -> None:
    with make(redis_server, "type") as cache:
        cache.set("k", 1)
        (key,) = stored_keys(client, "type")
        client.delete(key)
        client.lpush(key, "list")
        assert cache.get("k") is None
        cache.set("k", 2)
        assert cache.get("k") == 2


def test_a_generation_that_is_no_number_makes_the_store_unavailable(
    redis_server: Redis, client: redis.Redis
) -> None:
    client.set("number:1:@generation", "x")
    with make(redis_server, "number") as cache:
        assert cache.get("k") is None
        with pytest.raises(CacheUnavailableError, match="use another namespace"):
            cache.delete("k")


def test_a_value_that_cannot_be_stored_is_refused_by_its_key(redis_server: Redis) -> None:
    with make(redis_server, "refused") as cache:
        with pytest.raises(
            CacheValueError, match=r"key 'k': a value of type builtins\.object cannot be stored"
        ):
            cache.set("k", object())
        assert cache.stats().available


def test_a_full_server_refuses_and_the_connection_is_kept(tmp_path: Path) -> None:
    server = Redis(tmp_path)
    server.options = ("--maxmemory", "2mb", "--maxmemory-policy", "noeviction")
    with server, make(server, "full") as cache:
        cache.set("a", 1)
        cache.set("big", "x" * 3_000_000)
        cache.set("b", 1)
        assert cache.stats().errors > 0
        with pytest.raises(CacheUnavailableError, match="Redis refuses"):
            cache.incr("n")
        assert cache.get("a") == 1
        assert cache.stats().available


def test_only_one_of_many_adds_and_no_increment_is_lost(redis_server: Redis) -> None:
    with make(redis_server, "races") as cache:
        start, added = threading.Barrier(8), list[bool]()

        def work() -> None:
            start.wait()
            added.append(cache.add("k", 1))
            for _ in range(20):
                cache.incr("n", 2, initial=100)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(added) == [False] * 7 + [True]
        assert cache.get("n") == 100 + 8 * 20 * 2


def test_an_entry_that_is_stale_is_replaced_by_add_and_starts_a_counter_anew(redis_server: Redis) -> None:
    with make(redis_server, "stale") as cache:
        now = cache.clock()
        cache._write_many({key: Entry(5, now - 1, now + 100) for key in ("k", "n", "t")})
        entry = cache.get_entry("k")
        assert entry is not None
        assert (entry.value, cache.get("k")) == (5, None)
        assert cache.add("k", 1)
        assert cache.incr("n", 2) == 2
        assert not cache.touch("t", 60)
        assert cache.get_many(["k", "n", "t"]) == {"k": 1, "n": 2}


def test_touch_gives_another_end_and_keeps_the_rest(redis_server: Redis, client: redis.Redis) -> None:
    with make(redis_server, "touch", options=CacheOptions(stale=10)) as cache:
        cache.set("k", [1], ttl=5, tags=("users",))
        assert cache.touch("k", 100)
        entry = cache.get_entry("k")
        assert entry is not None
        assert (entry.value, [tag for tag, _ in entry.tags]) == ([1], ["users"])
        assert 99 < entry.fresh_until - cache.clock() <= 100
        assert cache.touch("k", 0)
        assert client.pttl(stored_keys(client, "touch")[0]) == -1


def test_fences_grow_even_if_the_server_loses_everything(tmp_path: Path) -> None:
    with Redis(tmp_path) as server, make(server, "fence", retry_after=0.01) as cache:
        with cache.lock("l") as first, cache.lock("other") as other:
            assert first.fence is not None
            assert other.fence is not None
            fence = first.fence
        with cache.lock("l") as second:
            assert second.fence is not None
            assert second.fence > fence
            fence = second.fence
        server.restart()
        until(lambda: _up(cache))
        with cache.lock("l") as third:
            assert third.fence is not None
            assert third.fence > fence


def _up(cache: CacheBackend) -> bool:
    try:
        cache.delete("x")
    except CacheUnavailableError:
        return False
    return True


def test_a_server_that_is_down_costs_little_and_is_found_again(tmp_path: Path) -> None:
    with Redis(tmp_path) as server, make(server, "down", retry_after=0.05) as cache:
        cache.set("k", 1)
        server.kill()
        assert [cache.get("k") for _ in range(5)] == [None] * 5
        assert not cache.stats().available
        server.start()
        until(lambda: cache.stats().available or cache.get("k") is not None)
        cache.set("k", 2)
        assert cache.get("k") == 2


def test_a_restarted_server_costs_no_error_when_nobody_asked_meanwhile(tmp_path: Path) -> None:
    with Redis(tmp_path) as server, make(server, "restarted") as cache:
        cache.set("k", 1)
        server.restart()
        cache.set("k", 2)
        assert cache.get("k") == 2
        assert cache.stats().errors == 0


def test_a_closed_cache_refuses_and_leaves_no_connection(redis_server: Redis, client: redis.Redis) -> None:
    before = client.info("clients")["connected_clients"]
    cache = make(redis_server, "closed")
    cache.set("k", 1)
    assert client.info("clients")["connected_clients"] == before + 1
    cache.close()
    cache.close()
    until(lambda: client.info("clients")["connected_clients"] == before)
    with pytest.raises(CacheClosedError):
        cache.set("k", 1)
    with pytest.raises(CacheClosedError):
        cache.get("k")


# Other ways to a server


def test_the_settings_of_a_client_are_used(redis_server: Redis) -> None:
    mine = redis.Redis.from_url(redis_server.url, decode_responses=True, client_name="mine", protocol=3)
    with RedisCache(mine, namespace="client") as cache:
        cache.set("k", b"\xff")
        assert cache.get("k") == b"\xff"
        assert "mine" in [one["name"] for one in mine.client_list()]
    mine.close()


def test_a_function_makes_the_client_on_first_use(redis_server: Redis) -> None:
    made: list[redis.Redis] = []

    def make_client() -> redis.Redis:
        made.append(redis.Redis.from_url(redis_server.url))
        return made[-1]

    with RedisCache(make_client, namespace="function") as cache:
        assert made == []
        cache.set("k", 1)
        assert (cache.get("k"), len(made)) == (1, 1)


def test_a_master_is_found_through_sentinel(tmp_path: Path, redis_server: Redis) -> None:
    config = tmp_path / "sentinel.conf"
    config.write_text(f"sentinel monitor main 127.0.0.1 {redis_server.port} 1\n")
    config.chmod(0o666)
    sentinel = Redis(tmp_path)
    fixed = sentinel.command()

    class WithSentinel(Redis):
        def command(self) -> list[str]:
            return [fixed[0], str(config), "--sentinel", "--port", str(self.port), "--bind", "127.0.0.1"]

    with WithSentinel(tmp_path) as server:
        sentinels: Any = Sentinel([("127.0.0.1", server.port)], socket_timeout=5)  # type: ignore[no-untyped-call]
        master = sentinels.master_for("main", socket_timeout=5)
        with RedisCache(master, namespace="sentinel") as cache:
            cache.set("k", 1)
            assert cache.get("k") == 1


def knows_all_slots(client: Any) -> bool:
    state = client.execute_command("CLUSTER INFO")
    return (state["cluster_state"], state["cluster_slots_ok"], state["cluster_known_nodes"]) == (
        "ok",
        "16384",
        "2",
    )


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[list[Redis]]:
    servers = []
    with ExitStack() as running:
        for number in range(2):
            directory = tmp_path / str(number)
            directory.mkdir()
            server = Redis(directory)
            server.options = ("--cluster-enabled", "yes", "--cluster-require-full-coverage", "no")
            server.port = free_port(also=10_000)  # the nodes of a cluster talk there
            servers.append(running.enter_context(server))
        clients: list[Any] = [redis.Redis(port=server.port) for server in servers]
        clients[0].execute_command("CLUSTER ADDSLOTSRANGE", 0, 8000)
        clients[1].execute_command("CLUSTER ADDSLOTSRANGE", 8001, 16383)
        clients[0].execute_command("CLUSTER MEET", "127.0.0.1", servers[1].port)
        for one in clients:
            until(partial(knows_all_slots, one))
        yield servers
        for one in clients:
            one.close()


def test_a_cluster_shares_the_keys(cluster: list[Redis]) -> None:
    def connect() -> RedisCluster:
        node: Any = ClusterNode
        return RedisCluster(startup_nodes=[node("127.0.0.1", cluster[0].port)], socket_timeout=5)

    with RedisCache(connect, namespace="cluster", timeout=5) as cache:
        values = {f"key {number}": number for number in range(40)}
        cache.set_many(values, tags=("users",))
        assert cache.get_many(values) == values
        assert [cache.get(key) for key in values] == list(range(40))
        assert cache.incr("n", 3) == 3
        with cache.lock("a}b") as lock:
            assert lock.fence is not None
            assert not cache.lock("a}b").try_acquire()
        sizes = [redis.Redis(port=server.port).dbsize() for server in cluster]
        assert all(size > 5 for size in sizes)
        cache.invalidate_tags("users")
        assert cache.get_many(values) == {}


# Construction


@pytest.mark.parametrize(
    ("server", "options"),
    [
        ("http://secret@x", {}),
        ("redis://x", {"timeout": 0}),
        ("redis://x", {"connect_timeout": 0}),
        ("redis://x", {"namespace": "a b"}),
        ("redis://x", {"failures": 0}),
    ],
)
def test_options_that_make_no_sense_are_refused(server: str, options: dict[str, Any]) -> None:
    with pytest.raises(CacheOptionError) as caught:
        RedisCache(server, **options)
    assert "secret" not in str(caught.value)


def test_without_redis_py_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(MissingExtraError, match=r"prologue-wsgi\[redis\]"):
        RedisCache("redis://x")
