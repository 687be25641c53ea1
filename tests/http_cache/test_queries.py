"""No-Vary-Search: which queries are alike, and that nothing else is."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from prologue.cache import InMemoryCache
from prologue.errors import CacheUnavailableError
from prologue.http_cache import HTTPCache
from prologue.http_cache.queries import Rule, parse_rule
from tests.calling import Answer, call
from tests.concurrency import impatient_threads, together
from tests.http_cache.origins import Setting

FRESH = ("Cache-Control", "max-age=60")
NONE: frozenset[str] = frozenset()


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        ("", None),
        ("key-order", Rule(True, False, NONE)),
        ("key-order=?0", None),
        ("key-order=1", None),
        ("params", Rule(False, True, NONE)),
        ("params=?0", None),
        ("params=()", None),
        ("params=1", None),
        ('params="a"', None),
        ('params=("a" "b")', Rule(False, False, frozenset("ab"))),
        ('params=("a" b)', None),
        ('params=("a" 1)', None),
        ('params=("a+b" "%c3%a9")', Rule(False, False, frozenset(("a b", "\xc3\xa9")))),
        ('params, except=("a")', Rule(False, True, frozenset("a"))),
        ("params, except=a", None),
        ('params=("a"), except=("b")', None),
        ('except=("b")', None),
        ('key-order, params=("a"), unknown=1', Rule(True, False, frozenset("a"))),
        ("key-order, params=(", None),
    ],
)
def test_a_rule_is_read_and_what_is_not_clear_is_none(value: str, rule: Rule | None) -> None:
    assert parse_rule([value]) == rule


@pytest.mark.parametrize(
    ("value", "one", "other", "alike"),
    [
        ('params=("x")', "a=1&x=1", "x=2&a=1", True),
        ('params=("x")', "a=1&x=1", "a=1", True),
        ('params=("x")', "a=1&b=1", "b=1&a=1", False),
        ('params=("x")', "a=1&x=1", "a=2&x=1", False),
        ('params=("x")', "a=%31", "a=1", True),
        ('params=("x")', "a=1%26b=2", "a=1&b=2", False),
        ('params=("x")', "a", "a=", True),
        ('params=("x")', "a=", "", False),
        ("key-order", "a=1&b=1", "b=1&a=1", True),
        ("key-order", "a=1&a=2", "a=2&a=1", False),
        ("params", "a=1", "", True),
        ('params, except=("a")', "a=1&b=2", "a=1", True),
        ('params, except=("a")', "a=1", "a=2", False),
        ("", "a=1&b=1", "b=1&a=1", False),
    ],
)
def test_queries_that_a_response_calls_alike_share_it(value: str, one: str, other: str, alike: bool) -> None:
    setting = Setting(FRESH, ("No-Vary-Search", value), no_vary_search=True)
    setting.get(QUERY_STRING=one)
    assert ("hit" in setting.status(QUERY_STRING=other)) is alike
    assert "hit" in setting.status(QUERY_STRING=one)
    assert [environ["QUERY_STRING"] for environ in setting.origin.requests] == [one, other][: 2 - alike]


def test_it_counts_only_where_it_is_switched_on() -> None:
    setting = Setting(FRESH, ("No-Vary-Search", "params"))
    setting.get(QUERY_STRING="a")
    assert "hit" not in setting.status(QUERY_STRING="b")


def test_another_path_or_host_is_never_alike() -> None:
    setting = Setting(FRESH, ("No-Vary-Search", "params"), no_vary_search=True)
    setting.get("/a", QUERY_STRING="b", RAW_URI="/%61?b")
    assert "hit" in setting.status("/a", QUERY_STRING="c", RAW_URI="/%61?c")
    assert "hit" not in setting.status("/a", QUERY_STRING="b", RAW_URI="/a?b")
    assert "hit" not in setting.status("/b", QUERY_STRING="b")
    assert "hit" not in setting.status("/a", QUERY_STRING="b", HTTP_HOST="elsewhere.example")


def test_a_response_is_found_by_its_own_rule_only() -> None:
    setting = Setting(FRESH, ("No-Vary-Search", 'params=("x")'), no_vary_search=True)
    setting.get(QUERY_STRING="x=1")
    setting.origin.headers, setting.origin.body = [FRESH], b"plain"
    assert setting.get(QUERY_STRING="y=1").body == b"plain"
    assert setting.get(QUERY_STRING="y=1&x=2").body == b"plain"
    assert "hit" in setting.status(QUERY_STRING="y=1")
    assert setting.get(QUERY_STRING="x=3").body == b"body"
    setting.origin.headers = [FRESH, ("No-Vary-Search", 'params=("z")')]
    setting.get(QUERY_STRING="w=1")
    assert "hit" not in setting.status(QUERY_STRING="x=4")


@pytest.mark.parametrize("way", ["purge", "unsafe"])
def test_whatever_clears_one_url_clears_those_that_are_alike(way: str) -> None:
    setting = Setting(FRESH, ("No-Vary-Search", 'params=("x")'), no_vary_search=True)
    for _ in range(2):
        setting.clock.now += 1
        setting.get(QUERY_STRING="x=1")
        assert "hit" in setting.status(QUERY_STRING="x=2")
        setting.clock.now += 1
        if way == "purge":
            setting.cache.purge("http://127.0.0.1/?x=3")
        else:
            setting.get(method="POST", QUERY_STRING="x=3", CONTENT_LENGTH="0")
        assert "hit" not in setting.status(QUERY_STRING="x=1", method="HEAD")


@pytest.mark.parametrize(("later", "hit"), [('params=("x")', True), ("", False)])
def test_a_304_that_states_another_rule_ends_the_old_one(later: str, hit: bool) -> None:
    setting = Setting(FRESH, ("No-Vary-Search", 'params=("x")'), ("ETag", '"1"'), no_vary_search=True)
    setting.origin.validates = True
    setting.get(QUERY_STRING="x=1")
    setting.clock.now += 61
    setting.origin.headers = [FRESH, ("No-Vary-Search", later), ("ETag", '"1"')]
    answer = setting.get(QUERY_STRING="x=2")
    assert (answer.body, answer.header("Cache-Status")) == (b"body", "prologue; fwd=stale; fwd-status=304")
    assert ("hit" in setting.status(QUERY_STRING="x=3")) is hit
    setting.clock.now += 1
    setting.cache.purge("http://127.0.0.1/")
    assert "hit" not in setting.status(QUERY_STRING="x=3", method="HEAD")


def ask(cache: HTTPCache, number: int) -> Answer:
    return call(cache, QUERY_STRING="a=1")


def test_of_many_requests_for_a_path_that_has_stated_no_rule_yet_one_asks() -> None:
    with impatient_threads():
        for _ in range(10):
            setting = Setting(FRESH, ("No-Vary-Search", 'params=("x")'), no_vary_search=True)
            answers = together(8, partial(ask, setting.cache))
            assert [answer.body for answer in answers] == [b"body"] * 8
            assert setting.origin.calls == 1


def test_no_query_can_look_like_what_a_rule_made_of_another() -> None:
    setting = Setting(FRESH, ("No-Vary-Search", "params"), no_vary_search=True)
    setting.get(QUERY_STRING="a=1")
    setting.origin.headers, setting.origin.body = [FRESH], b"other"
    keys = [key.partition("?")[2] for key in setting.store._nodes if key.startswith("http-alike:")]
    assert len(keys) == 1
    setting.cache.purge("http://127.0.0.1/")
    setting.clock.now += 1
    setting.get(QUERY_STRING=keys[0])
    assert setting.get(QUERY_STRING="a=2").body == b"other"
    assert setting.origin.calls == 3


def test_a_rule_that_cannot_be_kept_is_a_miss(caplog: pytest.LogCaptureFixture) -> None:
    class Full(InMemoryCache):
        def set(self, key: str, *args: Any, **options: Any) -> None:
            if key.startswith("http-queries:"):
                raise CacheUnavailableError("full")
            super().set(key, *args, **options)

    setting = Setting(FRESH, ("No-Vary-Search", "params"))
    cache = HTTPCache(setting.origin, Full(clock=setting.clock), clock=setting.clock, no_vary_search=True)
    hits = ["hit" in str(call(cache, QUERY_STRING=q).header("Cache-Status")) for q in ("a", "a", "b")]
    assert hits == [False, False, False]
    assert "cannot be kept" in caplog.text
