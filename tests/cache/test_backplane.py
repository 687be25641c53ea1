"""What one process changes, another sees at once; what it may not have heard of, it asks for again."""

from __future__ import annotations

import gc
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from prologue.cache import backplane
from prologue.cache.memory import InMemoryCache
from prologue.cache.multi_level import MultiLevelCache
from prologue.cache.options import CacheOptions
from prologue.cache.redis import RedisCache
from prologue.errors import CacheUnavailableError
from tests.cache.proxy import Proxy
from tests.concurrency import Task, in_child, pass_gate, until
from tests.servers import Redis

LONG = 3600.0
"""A maximum age that no test waits for: what is seen was heard."""

Make = Callable[..., MultiLevelCache]


@pytest.fixture
def make(redis_server: Redis, request: pytest.FixtureRequest) -> Iterator[Make]:
    made: list[MultiLevelCache] = []
    namespace = f"backplane-{abs(hash(request.node.name))}"

    def make(port: int = redis_server.port, **options: Any) -> MultiLevelCache:
        redis = RedisCache(
            f"redis://127.0.0.1:{port}/0", namespace=namespace, timeout=5, retry_after=0.05, **options
        )
        cache = MultiLevelCache(InMemoryCache(), redis, max_age=LONG)
        made.append(cache)
        return cache

    yield make
    for cache in made:
        cache.close()


def hearing(cache: MultiLevelCache) -> MultiLevelCache:
    """Let the cache hear the others, and return it."""
    cache._listen()
    assert cache._backplane is not None
    assert cache._backplane.wait_connected(30)
    return cache


def settle(one: MultiLevelCache, other: MultiLevelCache) -> None:
    """Return when the other has heard all that the one has said."""
    other.set("sign", 0)
    one.set("sign", 1)
    until(lambda: other.get("sign") == 1)


def local(cache: MultiLevelCache, key: str) -> bool:
    """Whether the local level has a key."""
    return cache.levels[0]._read(key) is not None


def test_nothing_listens_before_the_first_use(make: Make) -> None:
    threads = threading.active_count()
    cache = make()
    assert threading.active_count() == threads
    cache.get("k")
    assert threading.active_count() == threads + 1
    cache.close()
    assert threading.active_count() == threads


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda cache: cache.set("k", 2), 2),
        (lambda cache: cache.set_many({"k": 2}), 2),
        (lambda cache: cache.delete("k"), None),
        (lambda cache: cache.delete_many(["k", "l"]), None),
        (lambda cache: cache.incr("k"), 2),
        (lambda cache: cache.invalidate_tags("users"), None),
        (lambda cache: cache.clear(), None),
    ],
    ids=["set", "set_many", "delete", "delete_many", "incr", "invalidate_tags", "clear"],
)
def test_another_process_sees_a_change(make: Make, change: Callable[[Any], object], expected: Any) -> None:
    mine = hearing(make())
    mine.set("k", 1, tags=("users",))
    assert (mine.get("k"), local(mine, "k")) == (1, True)

    def another() -> None:
        # The inherited object starts over in the child, as a cache made before gunicorn forks its workers.
        change(mine)

    in_child(another)
    until(lambda: mine.get("k") == expected)


def test_two_processes_made_apart_hear_each_other(make: Make) -> None:
    mine = hearing(make())
    mine.set("k", "parent")

    def another() -> list[Any]:
        other = hearing(make())
        before = other.get("k")
        other.set("k", "child")
        return [before, other.get("k")]

    assert in_child(another) == ["parent", "child"]
    until(lambda: mine.get("k") == "child")


def test_a_lock_excludes_other_processes(make: Make) -> None:
    cache = make()

    def work() -> bool:
        return cache.lock("l", 60).try_acquire()

    with cache.lock("l", 60) as lock:
        assert lock.fence is not None
        assert not in_child(work)
    assert in_child(work)
    assert not cache.lock("l").try_acquire()


def test_with_a_lease_one_process_makes_a_value_and_another_waits_for_it(make: Make) -> None:
    cache = hearing(make())
    options = CacheOptions(ttl=60, lease=30)
    begun, (reading, writing) = threading.Event(), os.pipe()

    def make_value() -> str:
        begun.set()
        os.read(reading, 1)
        return "the parent's"

    def ask() -> Any:
        os.write(writing, b"x")
        return cache.get_or_set("k", lambda: "the child's", options=options)

    parent = Task(lambda: cache.get_or_set("k", make_value, options=options))
    pass_gate(begun)
    assert in_child(ask) == "the parent's"
    assert parent.result() == "the parent's"
    os.close(reading)
    os.close(writing)


def test_a_process_does_not_drop_what_it_wrote_itself(make: Make) -> None:
    mine, other = hearing(make()), hearing(make())
    mine.set("k", 1)
    mine.set("sign", 1)
    until(lambda: other.get("sign") == 1)
    other.set("sign", 2)
    until(lambda: mine.get("sign") == 2)  # so mine has heard its own message long ago
    assert local(mine, "k")


def test_a_factory_that_runs_while_another_process_deletes_its_key_is_overtaken(make: Make) -> None:
    mine, other = hearing(make()), make()
    pending = mine.pending.begin("k")
    other.delete("k")
    until(lambda: pending.overtaken)
    assert not mine._write_pending(pending, mine.entry("old"))
    assert (mine.get("k"), other.get("k")) == (None, None)


def test_what_happened_while_nothing_was_heard_is_asked_for(make: Make, redis_server: Redis) -> None:
    with Proxy(redis_server.port) as proxy:
        mine, other = hearing(make(proxy.port)), make()
        mine.set("k", 1, tags=("users",))
        assert local(mine, "k")
        for one in list(proxy._sockets):
            proxy._end(one)
        until(lambda: not local(mine, "k"))  # dropped when it hears again
        other.set("k", 2)
        until(lambda: mine.get("k") == 2)


def test_a_restarted_server_is_heard_again(make: Make, tmp_path: Path) -> None:
    with Redis(tmp_path) as server:
        mine, other = hearing(make(server.port)), hearing(make(server.port))
        mine.set("k", 1)
        server.kill()
        mine.set("l", "missed")
        assert mine.get("l") == "missed"
        server.start()
        until(lambda: other.get("l") == "missed")
        until(lambda: not mine._missed)  # a write overtaken before it knows that it was done is undone
        hearing(mine)
        assert mine.get("l") == "missed"
        other.set("l", "again")
        until(lambda: mine.get("l") == "again")


def test_a_connection_that_is_silent_is_given_up(
    make: Make, redis_server: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backplane, "_SILENCE", 0.05)
    with Proxy(redis_server.port) as proxy:
        mine = hearing(make(proxy.port))
        mine.set("k", 1)
        accepted = proxy.accepted
        until(lambda: "PING" in _commands(redis_server))  # it asks, is answered, and stays
        assert proxy.accepted == accepted
        proxy.hold()
        until(lambda: proxy.accepted > accepted)
        proxy.release()
        until(lambda: not local(mine, "k"))


def _commands(server: Redis) -> str:
    import redis

    with redis.Redis.from_url(server.url) as client:
        return " ".join(name.upper() for name in client.info("commandstats"))


@pytest.mark.parametrize("message", [b"", b"garbage", msgspec.msgpack.encode([1, 2]), b"\x91" * 5000])
def test_a_message_that_makes_no_sense_is_taken_for_everything(make: Make, message: bytes) -> None:
    mine = hearing(make())
    mine.set("k", 1)
    redis: Any = mine.levels[1]
    redis.publish(message)
    until(lambda: not local(mine, "k"))
    assert mine.get("k") == 1


def test_a_change_that_could_not_be_told_is_told_again(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, other = hearing(make()), hearing(make())
    mine.set_many({"set": 1, "deleted": 1, "counted": 1})
    mine.set("tagged", 1, tags=("users",))
    settle(mine, other)
    assert len(other.get_many(["set", "deleted", "counted", "tagged"])) == 4

    def fail(*args: Any, **options: Any) -> None:
        raise CacheUnavailableError("down")

    monkeypatch.setattr(mine, "_publish", fail)
    mine.set("set", 2)
    assert mine.incr("counted") == 2
    with pytest.raises(CacheUnavailableError):
        mine.delete("deleted")
    with pytest.raises(CacheUnavailableError):
        mine.invalidate_tags("users")
    assert (other.get("set"), other.get("deleted"), other.get("tagged")) == (1, 1, 1)
    monkeypatch.undo()
    until(lambda: other.get_many(["set", "deleted", "tagged"]) == {"set": 2})
    with monkeypatch.context() as patch:
        patch.setattr(mine, "_publish", fail)
        with pytest.raises(CacheUnavailableError):
            mine.clear()
        assert other.get("set") == 2
    until(lambda: other.get("set") is None)


def test_without_the_backplane_nothing_listens(redis_server: Redis) -> None:
    threads = threading.active_count()
    redis = RedisCache(redis_server.url, namespace="deaf")
    with MultiLevelCache(InMemoryCache(), redis, backplane=False) as cache:
        cache.set("k", 1)
        assert (cache.get("k"), threading.active_count()) == (1, threads)


def test_a_cache_that_nobody_uses_any_more_takes_its_backplane_with_it(
    redis_server: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backplane, "_SILENCE", 0.05)
    cache = hearing(MultiLevelCache(InMemoryCache(), RedisCache(redis_server.url, namespace="gone")))
    assert cache._backplane is not None
    thread, gone = cache._backplane._thread, weakref.ref(cache)
    assert thread is not None
    del cache
    gc.collect()
    until(lambda: not thread.is_alive())
    assert gone() is None


def test_a_closed_cache_starts_nothing(make: Make) -> None:
    cache = make()
    cache.close()
    cache._listen()
    assert cache._backplane is not None
    assert not cache._backplane.started
