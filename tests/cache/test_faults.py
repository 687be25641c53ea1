"""A store that hangs, breaks off, answers slowly or nonsense is a miss, and never somebody else's value."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from prologue.cache.base import CacheBackend
from prologue.cache.connections import Connections
from prologue.cache.memcached import MemcachedCache
from prologue.cache.redis import RedisCache
from prologue.cache.remote import RemoteCache
from prologue.errors import CacheUnavailableError
from tests.cache.proxy import Proxy, cut_short, garbage, reset
from tests.concurrency import in_child, together, until
from tests.servers import Memcached, Redis

NEVER_OPEN = 10**9
"""So many failures that no breaker opens."""


class Store:
    """A cache behind a proxy."""

    def __init__(self, kind: str, proxy: Proxy, server: Redis | Memcached) -> None:
        self.kind = kind
        self.proxy = proxy
        self.server = server

    def cache(self, namespace: str, timeout: float = 5.0, **options: Any) -> RemoteCache:
        given: dict[str, Any] = {"namespace": namespace, "timeout": timeout, "failures": NEVER_OPEN} | options
        if self.kind == "redis":
            return RedisCache(f"redis://127.0.0.1:{self.proxy.port}/0", **given)
        return MemcachedCache(f"127.0.0.1:{self.proxy.port}", **given)


@pytest.fixture(params=["redis", "memcached"])
def store(
    request: pytest.FixtureRequest, redis_server: Redis, memcached_server: Memcached
) -> Iterator[Store]:
    server = redis_server if request.param == "redis" else memcached_server
    with Proxy(server.port) as proxy:
        yield Store(request.param, proxy, server)


def idle(cache: CacheBackend) -> Any:
    """Return the idle connections of a cache."""
    if isinstance(cache, RedisCache):
        nodes: Any = cache._nodes
        return nodes._connections._idle
    assert isinstance(cache, MemcachedCache)
    return cache._servers[0].connections._idle


def test_the_proxy_passes_on(store: Store) -> None:
    with store.cache("proxy") as cache:
        cache.set("k", 1)
        assert (cache.get("k"), store.proxy.accepted, len(idle(cache))) == (1, 1, 1)


@pytest.mark.parametrize("toxic", [cut_short, reset, garbage])
def test_a_spoilt_answer_is_a_miss_and_its_connection_is_closed(store: Store, toxic: Any) -> None:
    with store.cache("spoilt", timeout=0.5) as cache:
        values = {f"k{number}": number for number in range(5)}
        cache.set_many(values)
        store.proxy.toxic = toxic
        for _ in range(3):
            assert cache.get("k1") is None
            assert cache.get_many(values) == {}
            cache.set("other", 1)
            for change in (
                lambda: cache.delete("k9"),
                lambda: cache.incr("n"),
                lambda: cache.add("n", 1),
                lambda: cache.replace("n", 1, 2),
                lambda: cache.touch("n", 1),
                lambda: cache.invalidate_tags("t"),
                lambda: cache.lock("l", timeout=0).try_acquire(),
            ):
                with pytest.raises(CacheUnavailableError):
                    change()
            assert idle(cache) == []
        store.proxy.toxic = None
        assert cache.get_many(values) == values
        assert cache.stats().errors > 0


def test_an_answer_that_comes_too_late_is_never_read(store: Store) -> None:
    with store.cache("late", timeout=0.05) as cache, store.cache("late") as patient:
        patient.set_many({"a": "a", "b": "b"})
        assert patient.get("a") == "a"
        until(lambda: cache.get("a") == "a")
        store.proxy.hold()
        assert [cache.get("a"), cache.get("b")] == [None, None]
        store.proxy.release()
        until(lambda: cache.get("b") is not None)
        assert cache.get("b") == "b"


def test_what_a_server_says_unasked_is_not_taken_for_an_answer(store: Store) -> None:
    with store.cache("unasked") as cache:
        cache.set("k", "v")
        (connection,) = idle(cache)
        mine = connection._sock if store.kind == "redis" else connection.sock
        ours = next(
            one
            for one in store.proxy._sockets
            if one.fileno() >= 0 and one.getpeername() == mine.getsockname()
        )
        ours.sendall(b"$1\r\nx\r\n")
        until(lambda: not _quiet(cache, connection))
        assert cache.get("k") == "v"


def _quiet(cache: CacheBackend, connection: Any) -> bool:
    if isinstance(cache, RedisCache):
        nodes: Any = cache._nodes
        return bool(nodes._connections._quiet(connection))
    assert isinstance(cache, MemcachedCache)
    return cache._servers[0].connections._quiet(connection)


def test_a_hanging_store_is_left_alone_and_one_caller_at_a_time_tries(store: Store) -> None:
    with store.cache("hanging", timeout=0.2, failures=2, retry_after=60) as cache:
        until(lambda: cache.set("k", 1) or cache.get("k") == 1)  # type: ignore[func-returns-value]
        store.proxy.hold()
        assert [cache.get("k"), cache.get("k")] == [None, None]
        assert not cache.stats().available
        accepted, started = store.proxy.accepted, time.monotonic()
        assert [cache.get("k") for _ in range(1000)] == [None] * 1000
        assert time.monotonic() - started < 5  # 1000 timeouts would take 200 s
        assert store.proxy.accepted == accepted


def test_no_reply_ever_goes_to_another_thread_under_random_timeouts(store: Store) -> None:
    slow = random.Random(1)
    lock = threading.Lock()

    def dawdle(piece: bytes) -> tuple[bytes, bool]:
        with lock:
            pause = slow.choice((0, 0, 0, 0, 0.02, 0.08))
        time.sleep(pause)  # the toxic itself: an answer that takes its time
        return piece, True

    with store.cache("foreign") as patient:
        patient.set_many({f"k{number}": f"value {number}" for number in range(8)})
    store.proxy.toxic = dawdle
    with store.cache("foreign", timeout=0.04) as cache:

        def read(number: int) -> list[Any]:
            return [cache.get(f"k{number}") for _ in range(25)]

        for number, answers in enumerate(together(8, read)):
            assert set(answers) <= {f"value {number}", None}
        assert cache.stats().errors > 0
        store.proxy.toxic = None
        for number in range(8):
            until(lambda number=number: cache.get(f"k{number}") == f"value {number}")  # type: ignore[misc]


class Interruption(BaseException):
    """Thrown into a thread from outside."""


def test_an_interrupted_exchange_closes_its_connection(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with store.cache("exchange") as cache:
        cache.set("k", 1)
        (connection,) = idle(cache)
        name = "read_response" if store.kind == "redis" else "gets_many"

        def fail(*args: Any, **options: Any) -> Any:
            raise Interruption

        monkeypatch.setattr(type(connection), name, fail)
        with pytest.raises(Interruption):
            cache.get("k")
        monkeypatch.undo()
        assert idle(cache) == []
        assert cache.get("k") == 1


# Forks


def test_a_child_opens_its_own_connections_and_leaves_the_parents_alone(store: Store) -> None:
    with store.cache("fork") as cache:
        cache.set("k", "parent")
        (connection,) = idle(cache)
        accepted = store.proxy.accepted

        def child() -> list[Any]:
            before = cache.get("k")
            cache.set("k", "child")
            return [before, cache.get("k"), idle(cache)[0] is connection, cache.stats().hits]

        assert in_child(child) == ["parent", "child", False, 2]
        assert store.proxy.accepted == accepted + 1
        assert cache.get("k") == "child"
        assert idle(cache) == [connection]
        assert store.proxy.accepted == accepted + 1


def test_a_child_that_was_forked_while_locks_were_held_works(store: Store) -> None:
    with store.cache("fork-locks", failures=1, retry_after=60) as cache:
        cache.set("k", 1)
        assert isinstance(cache, RemoteCache)
        locks: list[Any] = [cache._breakers[0]._lock]
        if isinstance(cache, RedisCache):
            nodes: Any = cache._nodes
            locks += [cache._nodes_lock, nodes._connections._lock]
        else:
            assert isinstance(cache, MemcachedCache)
            locks.append(cache._servers[0].connections._lock)
        for lock in locks:
            lock.acquire()
        try:
            assert in_child(lambda: [cache.get("k"), cache.touch("k", 9), cache.incr("k")]) == [1, True, 2]
        finally:
            for lock in locks:
                lock.release()
        assert cache.get("k") == 2


# Connections by themselves


class Line:
    """A connection that can be told from another."""

    def __init__(self) -> None:
        self.open = True


def lines(made: list[Line]) -> Connections[Line]:
    def connect() -> Line:
        made.append(Line())
        return made[-1]

    return Connections(connect, lambda line: setattr(line, "open", False), lambda line: None)


def test_a_connection_that_lost_its_socket_is_not_lent_again() -> None:
    made: list[Line] = []
    connections = lines(made)
    for _ in range(2):
        with connections.lend():
            pass
    assert [line.open for line in made] == [False, True]


def test_what_is_lent_when_they_are_closed_is_closed_when_it_comes_back() -> None:
    made: list[Line] = []
    connections = lines(made)
    with connections.lend() as line:
        connections.close()
        assert line.open
    assert not line.open
    connections.drop_idle()
    connections.close()
    with connections.lend() as line:
        assert line.open
    assert [line.open for line in made] == [False, False]


def test_idle_connections_can_be_dropped_and_others_opened() -> None:
    made: list[Line] = []
    connections = lines(made)
    with connections.lend():
        with connections.lend():
            pass
        connections.drop_idle()
    assert [line.open for line in made] == [True, False]
    assert connections._idle == [made[0]]
