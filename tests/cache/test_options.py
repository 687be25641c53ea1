"""CacheOptions, keys, pending writes, entries."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prologue.cache import CacheOptions, CacheStats, Entry
from prologue.cache.keys import KeyEncoder
from prologue.cache.pending import PendingWrites
from prologue.errors import CacheOptionError


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ttl": -1}, "ttl must be zero or more"),
        ({"ttl": "60"}, "ttl must be seconds or a timedelta"),
        ({"ttl": True}, "ttl must be seconds or a timedelta"),
        ({"stale": float("inf")}, "stale must be zero or more and finite"),
        ({"throttle": float("nan")}, "throttle must be"),
        ({"lease": -1}, "lease must be"),
        ({"hard_timeout": -1}, "hard_timeout must be"),
        ({"negative_ttl": -1}, "negative_ttl must be"),
        ({"jitter": 1}, "jitter is a part"),
        ({"jitter": -0.1}, "jitter is a part"),
        ({"eager": 0}, "eager is a part"),
        ({"eager": 1}, "eager is a part"),
        ({"soft_timeout": 1}, "set stale"),
        ({"soft_timeout": 2, "hard_timeout": 2, "stale": 9}, "must be less than hard_timeout"),
    ],
)
def test_options_that_make_no_sense_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(CacheOptionError, match=message):
        CacheOptions(**arguments)


def test_durations_become_seconds() -> None:
    options = CacheOptions(
        ttl=timedelta(minutes=1), stale=2, soft_timeout=timedelta(seconds=1), hard_timeout=2
    )
    assert (options.ttl, options.stale, options.soft_timeout, options.hard_timeout) == (60.0, 2.0, 1.0, 2.0)
    assert type(options.stale) is float


@given(st.lists(st.text(st.characters()), unique=True, max_size=20), st.integers(0, 3))
def test_different_keys_have_different_bytes(keys: list[str], generation: int) -> None:
    encoder, newer = KeyEncoder("test"), KeyEncoder("test", version=2)
    encoded = {encoder.encode(key, generation) for key in keys}
    encoded |= {encoder.encode(key, generation + 1) for key in keys} | {newer.encode(key) for key in keys}
    encoded |= {encoder.reserved(key) for key in keys}
    assert len(encoded) == 4 * len(keys)
    assert all(len(key) <= 250 for key in encoded)
    assert all(33 <= byte <= 126 for key in encoded for byte in key)


def test_plain_keys_stay_readable() -> None:
    encoder = KeyEncoder("shop", version=3)
    assert encoder.encode("user:1", 7) == b"shop:3:7:=user:1"
    assert encoder.reserved("generation") == b"shop:3:@generation"


@pytest.mark.parametrize("namespace", ["", "a b", "a:b", "я", "a\n"])
def test_a_namespace_is_a_plain_word(namespace: str) -> None:
    with pytest.raises(CacheOptionError, match="namespace"):
        KeyEncoder(namespace)


def test_a_namespace_leaves_room_for_keys() -> None:
    with pytest.raises(CacheOptionError, match="too long"):
        KeyEncoder("n" * 200)


def test_a_key_is_a_str() -> None:
    key: Any = b"key"
    with pytest.raises(TypeError, match="a cache key is a str"):
        KeyEncoder("test").encode(key)


def test_pending_writes_are_overtaken_by_key_or_all() -> None:
    pending = PendingWrites()
    first, second, other = pending.begin("a"), pending.begin("a"), pending.begin("b")
    pending.overtake("a")
    assert (first.overtaken, second.overtaken, other.overtaken) == (True, True, False)
    pending.overtake_all()
    assert other.overtaken
    for write in (first, second, other, other):
        pending.end(write)
    assert not pending.writes


def test_entries_and_statistics_tell_what_they_are() -> None:
    assert repr(Entry(1)) == "<Entry 1, fresh until inf, stale until inf>"
    assert CacheStats(name="empty").hit_ratio == 0
    assert CacheStats(name="some", hits=3, misses=1).hit_ratio == 0.75
