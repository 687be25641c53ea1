"""Requests that are made alike."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prologue import App
from prologue.cache import InMemoryCache
from prologue.errors import SettingsError
from prologue.http_cache import cache_middleware
from prologue.http_cache.normal import best_encoding, best_language, normal_query
from tests.calling import call
from tests.http_cache.origins import Setting


@pytest.mark.parametrize(
    ("value", "chosen"),
    [
        ("gzip", "gzip"),
        ("gzip, br", "br"),
        ("gzip;q=1, br;q=0.5", "gzip"),
        ("GZIP", "gzip"),
        ("*", "br"),
        ("*;q=0.5, gzip", "gzip"),
        ("br;q=0, *", "gzip"),
        ("gzip;q=0", None),
        ("identity", None),
        ("", None),
        ("gzip;q=x", None),
        ("gzip;q=٠", None),
        ("gzip;level=1", "gzip"),
        ("gzip;q=9", "gzip"),
        ("gzip;q=0, gzip", None),
    ],
)
def test_a_coding_is_chosen_among_the_offers(value: str, chosen: str | None) -> None:
    assert best_encoding(value, ("br", "gzip")) == chosen


@pytest.mark.parametrize(
    ("value", "chosen"),
    [
        ("bg", "bg"),
        ("BG", "bg"),
        ("en", "en-GB"),
        ("en-GB", "en-GB"),
        ("en-US", None),
        ("fr, bg;q=0.5", "bg"),
        ("en;q=0.9, bg;q=0.8", "en-GB"),
        ("*", "bg"),
        ("*;q=0.1, en;q=0.2", "en-GB"),
        ("en;q=1, en-GB;q=0", None),
        ("", None),
    ],
)
def test_a_language_is_chosen_among_the_offers(value: str, chosen: str | None) -> None:
    assert best_language(value, ("bg", "en-GB")) == chosen


@pytest.mark.parametrize(
    ("query", "normal"),
    [
        ("b=1&a=2", "a=2&b=1"),
        ("b=2&a&b=1", "a&b=2&b=1"),
        ("utm_source=x&a=1", "a=1"),
        ("fbclid=x", ""),
        ("&&a=1&", "a=1"),
        ("fbclid2=x&a=%26", "a=%26&fbclid2=x"),
        ("a=1;b=2", "a=1;b=2"),
    ],
)
def test_a_query_is_sorted_and_cleared_of_what_does_not_matter(query: str, normal: str) -> None:
    assert normal_query(query, frozenset(["fbclid"]), ("utm_",), sort=True) == normal


@settings(deadline=None, max_examples=50)
@given(st.text("ab=&%;1", max_size=20))
def test_what_is_normal_stays_so(query: str) -> None:
    normal = normal_query(query, frozenset(["a"]), (), sort=True)
    assert normal_query(normal, frozenset(["a"]), (), sort=True) == normal


OPTIONS: dict[str, Any] = {
    "encodings": ["gzip"],
    "languages": ["bg", "en"],
    "ignored_parameters": ["utm_*"],
    "sort_query": True,
}


def test_requests_that_are_alike_share_an_answer_and_the_application_sees_no_difference() -> None:
    setting = Setting(
        ("Cache-Control", "max-age=60"), ("Vary", "Accept-Encoding, Accept-Language"), **OPTIONS
    )
    requests = [
        ("gzip, br", "bg,en;q=0.5", "b=1&a=2&utm_source=x", "/?b=1&a=2&utm_source=x"),
        ("deflate, gzip;q=0.1", "bg-BG, bg;q=0.9", "a=2&b=1", "/?a=2&b=1"),
    ]
    for encoding, language, query, raw in requests:
        more = {"HTTP_ACCEPT_ENCODING": encoding, "HTTP_ACCEPT_LANGUAGE": language, "QUERY_STRING": query}
        assert setting.get(**more, RAW_URI=raw).body == b"body"
    (seen,) = setting.origin.requests
    names = ("HTTP_ACCEPT_ENCODING", "HTTP_ACCEPT_LANGUAGE", "QUERY_STRING", "RAW_URI")
    assert [seen[name] for name in names] == ["gzip", "bg", "a=2&b=1", "/?a=2&b=1"]
    setting.get(HTTP_ACCEPT_ENCODING="br", QUERY_STRING="utm_source=x", REQUEST_URI="/?utm_source=x")
    seen = setting.origin.requests[1]
    assert "HTTP_ACCEPT_ENCODING" not in seen
    assert (seen["QUERY_STRING"], seen["REQUEST_URI"]) == ("", "/")


def test_the_middleware_makes_requests_alike_too() -> None:
    app = App(middlewares=[cache_middleware(InMemoryCache(), ttl=60, server_timing=True, **OPTIONS)])
    app.get("/", lambda ctx: ctx.environ["QUERY_STRING"])
    first, again = call(app, QUERY_STRING="b=1&a=2"), call(app, QUERY_STRING="utm_x=1&a=2&b=1")
    assert (first.text, again.text) == ("a=2&b=1", "a=2&b=1")
    assert str(first.header("Server-Timing")).startswith("cache;desc=miss;dur=")
    assert str(again.header("Server-Timing")).startswith("cache;desc=hit;dur=")


@pytest.mark.parametrize("offers", [{"encodings": ["gzip, br"]}, {"languages": [""]}])
def test_an_offer_is_a_token(offers: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="no content coding"):
        Setting(**offers)


@pytest.mark.parametrize("way", ["purge", "location"])
def test_what_is_made_alike_is_cleared_by_every_spelling(way: str) -> None:
    setting = Setting(("Cache-Control", "max-age=60"), **OPTIONS)
    setting.get("/a", QUERY_STRING="b=1&a=2")
    setting.clock.now += 1
    if way == "purge":
        setting.cache.purge("http://127.0.0.1/a?utm_source=x&b=1&a=2")
    else:
        setting.origin.headers = [("Location", "/a?b=1&utm_source=y&a=2")]
        setting.get("/", method="POST", CONTENT_LENGTH="0")
    assert "uri-miss" in setting.status("/a", QUERY_STRING="a=2&b=1")
