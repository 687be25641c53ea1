"""What is special about the cache in Memcached."""

from __future__ import annotations

import itertools
import pickle
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymemcache.client.base import Client

from prologue.cache import memcached
from prologue.cache.entry import Entry
from prologue.cache.memcached import MemcachedCache
from prologue.errors import (
    CacheClosedError,
    CacheOptionError,
    CacheUnavailableError,
    CacheValueError,
    CodecError,
    MissingExtraError,
)
from tests.concurrency import until
from tests.servers import Memcached

DAY = 24 * 60 * 60


@pytest.fixture
def client(memcached_server: Memcached) -> Iterator[Any]:
    client = Client(memcached_server.address, timeout=5)
    yield client
    client.close()


def make(server: Memcached, namespace: str, **options: Any) -> MemcachedCache:
    return MemcachedCache(server.address, namespace=namespace, timeout=5, **options)


def stored_key(client: Any, cache: MemcachedCache, key: str) -> bytes:
    return cache._keys.encode(key, int(client.get(cache._generation_key)))


def test_nothing_is_connected_before_the_first_use() -> None:
    cache = MemcachedCache("127.0.0.1:1")
    assert cache.get("a", "nothing") == "nothing"
    assert cache.stats().errors == 1


# Keys of any content


@given(st.dictionaries(st.text(st.characters(codec=None)), st.integers(), max_size=20))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_keys_of_any_content_name_their_own_values(
    memcached_server: Memcached, values: dict[str, int]
) -> None:
    with make(memcached_server, "content") as cache:
        cache.set_many(values)
        assert cache.get_many(values) == values
        assert {key: cache.get(key) for key in values} == values
        cache.clear()


@pytest.mark.parametrize(
    "key",
    [
        "a 0 0 1\r\nx\r\nflush_all\r\n",
        "a\nflush_all",
        "a b",
        " a",
        "a\x00b",
        "a\tb",
        "",
        "a" * 251,
        "а" * 200,
        "\ud800",
        "\x7f",
        "a\u2028b",
    ],
)
def test_a_key_injects_no_command(memcached_server: Memcached, client: Any, key: str) -> None:
    client.set("mine", b"untouched")
    before = client.stats()
    with make(memcached_server, "inject") as cache:
        cache.set(key, 1)
        assert (cache.get(key), cache.delete(key), cache.get(key)) == (1, True, None)
        assert (cache.incr(key, 2), cache.add(key, 1), cache.touch(key, 9)) == (2, False, True)
        cache.set("tagged", 1, tags=(key,))
        assert cache.get("tagged") == 1
        cache.invalidate_tags(key)
        assert cache.get("tagged") is None
        with cache.lock(key, timeout=5):
            pass
        cache.delete(key)
    assert client.get("mine") == b"untouched"
    after = client.stats()
    assert after[b"cmd_flush"] == before[b"cmd_flush"]


# Time


@pytest.mark.parametrize("ttl", [29 * DAY, 30 * DAY - 1, 30 * DAY, 31 * DAY, 3650 * DAY, 10**10])
def test_a_time_to_live_may_be_as_long_as_wanted(memcached_server: Memcached, ttl: float) -> None:
    with make(memcached_server, "long") as cache:
        cache.set("k", 1, ttl=ttl)
        entry = cache.get_entry("k")
        assert entry is not None
        assert entry.fresh_until - cache.clock() == pytest.approx(ttl, abs=5)


def test_more_than_thirty_days_are_sent_as_a_date_and_never_one_after_2038() -> None:
    now = time.time()
    assert memcached._exptime(30 * DAY - 1) == 30 * DAY
    assert memcached._exptime(30 * DAY) == pytest.approx(now + 30 * DAY, abs=5)
    assert memcached._exptime(10**10) == 2**31 - 1
    assert memcached._exptime(0.2) == 2
    assert memcached._exptime(-5) == 1


def test_a_part_of_a_second_is_kept_by_the_payload(memcached_server: Memcached) -> None:
    with make(memcached_server, "short") as cache:
        cache.set("k", 1, ttl=0.6)
        assert cache.get("k") == 1
        end = time.monotonic() + 0.6
        until(lambda: time.monotonic() >= end)
        assert cache.get_entry("k") is None


# Values


def test_a_value_past_the_servers_limit_is_refused_by_name_and_changes_nothing_else(
    memcached_server: Memcached,
) -> None:
    with make(memcached_server, "large") as cache:
        cache.set_many({"a": 1, "b": 2})
        with pytest.raises(
            CacheValueError, match=r"key 'big': a value of 2000\d\d\d bytes is over the limit"
        ):
            cache.set("big", "x" * 2_000_000)
        with pytest.raises(CacheValueError, match="key 'big'"):
            cache.add("big", "x" * 2_000_000)
        assert cache.get_many(["a", "b", "big"]) == {"a": 1, "b": 2}
        assert cache.stats().available


def test_a_limit_that_was_raised_is_respected(tmp_path: Path) -> None:
    server = Memcached(tmp_path)
    server.options = ("-I", "4m")
    with server, make(server, "raised") as cache:
        cache.set("big", "x" * 2_000_000)
        assert cache.get("big") == "x" * 2_000_000


@pytest.mark.parametrize(
    "payload", [b"", b"random bytes", pickle.dumps(print), b"\xa7\x02\x00\xc0", b"\xa7\x01\x00\x90"]
)
def test_what_was_not_stored_by_the_cache_is_a_miss_and_an_event(
    memcached_server: Memcached, client: Any, payload: bytes
) -> None:
    events: list[tuple[str, CodecError]] = []
    with make(
        memcached_server, "poison", on_undecodable=lambda key, error: events.append((key, error))
    ) as cache:
        cache.set("k", 1)
        client.set(stored_key(client, cache, "k"), payload, noreply=False)
        assert (cache.get("k", "miss"), [key for key, _ in events]) == ("miss", ["k"])
        assert cache.add("k", 2)
        assert cache.get("k") == 2
        cache.delete("k")


def test_an_entry_that_is_stale_counts_for_nothing_in_one_step_operations(
    memcached_server: Memcached,
) -> None:
    with make(memcached_server, "stale") as cache:
        now = cache.clock()
        cache._write_many({key: Entry(5, now - 1, now + 100) for key in ("k", "n", "t")})
        entry = cache.get_entry("k")
        assert entry is not None
        assert (entry.value, cache.get("k")) == (5, None)
        assert (cache.add("k", 1), cache.incr("n", -2), cache.touch("t", 60)) == (True, -2, False)


def test_only_one_of_many_adds_and_no_increment_is_lost(memcached_server: Memcached) -> None:
    with make(memcached_server, "races") as cache:
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


# Generations


def test_clear_touches_nothing_else_in_the_server(memcached_server: Memcached, client: Any) -> None:
    client.set("mine", b"untouched")
    with make(memcached_server, "clear-a") as cache, make(memcached_server, "clear-b") as other:
        cache.set("k", 1)
        other.set("k", 2)
        cache.clear()
        assert (cache.get("k"), other.get("k"), client.get("mine")) == (None, 2, b"untouched")


def test_a_process_notices_that_another_cleared_within_the_same_operation(
    memcached_server: Memcached,
) -> None:
    with make(memcached_server, "cleared") as first, make(memcached_server, "cleared") as second:
        first.set("k", 1)
        first.clear()
        second.set("k", 2)
        second.clear()
        first.set("k", 3)
        assert second.get("k") == 3
        second.clear()
        assert first.incr("k", 5) == 5
        assert not second.add("k", 1)
        assert (second.delete("k"), first.get("k")) == (True, None)


def test_a_server_that_lost_its_generations_brings_nothing_back(
    memcached_server: Memcached, client: Any
) -> None:
    with make(memcached_server, "lost") as cache:
        cache.set("k", 1)
        cache.set("t", 1, tags=("users",))
        client.delete("lost:1:@tag:users", noreply=False)
        assert cache.get("t") is None
        client.delete("lost:1:@generation", noreply=False)
        assert cache.get("k") is None


def test_a_generation_that_is_no_number_makes_the_store_unavailable(
    memcached_server: Memcached, client: Any
) -> None:
    client.set("number:1:@generation", b"x", noreply=False)
    with make(memcached_server, "number") as cache:
        assert cache.get("k") is None
        with pytest.raises(CacheUnavailableError, match="use another namespace"):
            cache.delete("k")


# Locks


def test_fences_grow_even_if_the_server_loses_everything(tmp_path: Path) -> None:
    with Memcached(tmp_path) as server, make(server, "fence") as cache:
        fences = []
        for _ in range(3):
            with cache.lock("l", timeout=5) as lock:
                fences.append(lock.fence)
        server.restart()
        with cache.lock("l", timeout=5) as lock:
            fences.append(lock.fence)
        assert None not in fences
        assert len(set(fences)) == 4
        assert sorted(fences, key=lambda fence: fence or 0) == fences


def test_who_lost_the_lock_before_its_number_came_does_not_hold_it(
    memcached_server: Memcached, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with make(memcached_server, "late") as cache:
        original = Client.incr

        def late(self: Any, key: bytes, *args: Any, **options: Any) -> Any:
            client.set("late:1:@lock:l", b"another", noreply=False)
            return original(self, key, *args, **options)

        monkeypatch.setattr(Client, "incr", late)
        assert not cache.lock("l").try_acquire()


# Several servers


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[list[Memcached]]:
    both = []
    for number in range(2):
        directory = tmp_path / str(number)
        directory.mkdir()
        both.append(Memcached(directory))
    with both[0], both[1]:
        yield both


def test_servers_share_the_keys_and_one_that_is_down_takes_only_its_own(servers: list[Memcached]) -> None:
    values = {f"key {number}": number for number in range(60)}
    addresses = [server.address for server in servers]
    with MemcachedCache(*addresses, timeout=5, retry_after=0.05) as cache:
        cache.set_many(values)
        assert cache.get_many(values) == values
        servers[0].kill()
        for _ in range(5):
            left = cache.get_many(values)
        assert 0 < len(left) < 60
        assert left.items() <= values.items()
        assert {key: cache.get(key) for key in left} == left
        assert not cache.stats().available
        with pytest.raises(CacheUnavailableError):
            cache.clear()
        assert cache.get_many(values) == {}  # the one that answers was cleared
        with pytest.raises(CacheUnavailableError):
            cache.delete_many(values)
        cache.set_many(values)
        assert cache.get_many(values) == left
        servers[0].start()

        def whole_again() -> bool:
            cache.set_many(values)
            return cache.get_many(values) == values

        until(whole_again)


def test_a_server_more_moves_only_the_keys_that_go_to_it() -> None:
    two = MemcachedCache("a:1", "b:1")
    three = MemcachedCache("b:1", "c:1", "a:1")
    keys = [f"user:{number}" for number in range(3000)]
    before = {key: two._server_of(key).name for key in keys}
    after = {key: three._server_of(key).name for key in keys}
    assert all(after[key] in (before[key], "c:1") for key in keys)
    loads = Counter(after.values())
    assert max(loads.values()) / (len(keys) / 3) < 1.15


def test_keys_that_look_alike_are_shared_evenly() -> None:
    cache = MemcachedCache(*(f"cache-{number}:11211" for number in range(8)))
    families = [
        [f"user:{number}" for number in range(25_000)],
        [f"{number:b}".rjust(15, "0") for number in range(25_000)],
        ["a" * number for number in range(2_500)],
        ["".join(pair) for pair in itertools.product(("Aa", "BB"), repeat=13)],  # one hash in other languages
    ]
    for keys in families:
        loads = Counter(cache._server_of(key).name for key in keys)
        assert max(loads.values()) / (len(keys) / 8) < 1.2


# The end, and the beginning


def test_a_restarted_server_costs_no_error_when_nobody_asked_meanwhile(tmp_path: Path) -> None:
    with Memcached(tmp_path) as server, make(server, "restarted") as cache:
        cache.set("k", 1)
        server.restart()
        cache.set("k", 2)
        assert cache.get("k") == 2
        assert cache.stats().errors == 0


def test_a_closed_cache_refuses(memcached_server: Memcached) -> None:
    cache = make(memcached_server, "closed")
    cache.set("k", 1)
    cache.close()
    with pytest.raises(CacheClosedError):
        cache.get("k")


@pytest.mark.parametrize(
    ("servers", "options"),
    [
        ((), {}),
        (("a:1", "a:1"), {}),
        (("a:b",), {}),
        (("a:1",), {"timeout": 0}),
        (("a:1",), {"connect_timeout": 0}),
        (("a:1",), {"retry_after": 0}),
        (("a:1",), {"namespace": "a" * 230}),
    ],
)
def test_options_that_make_no_sense_are_refused(servers: tuple[str, ...], options: dict[str, Any]) -> None:
    with pytest.raises(CacheOptionError):
        MemcachedCache(*servers, **options)


def test_without_pymemcache_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pymemcache.client.base", None)
    with pytest.raises(MissingExtraError, match=r"prologue-wsgi\[memcached\]"):
        MemcachedCache("a:1")
