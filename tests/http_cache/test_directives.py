"""Cache-Control (RFC 9111 section 5.2)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prologue.http_cache.controls import format_directives
from prologue.http_cache.directives import Directives, parse_directives
from prologue.http_cache.fields import MAX_SECONDS


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ([], {}),
        (["public"], {"public": True}),
        (["Private"], {"private": True}),
        (["PRIVATE , No-Store"], {"private": True, "no_store": True}),
        (["no-store"], {"no_store": True}),
        (["no-store=1"], {"no_store": True}),
        (["no-cache"], {"no_cache": True}),
        (['no-cache="Set-Cookie, X-A"'], {"no_cache_fields": frozenset(("set-cookie", "x-a"))}),
        (['private="x"', 'private="y"'], {"private_fields": frozenset("xy")}),
        (['private=""'], {"private": True}),
        (['private="x", private'], {"private": True, "private_fields": frozenset("x")}),
        (["private=x"], {"private_fields": frozenset("x")}),
        (["must-revalidate,proxy-revalidate"], {"must_revalidate": True, "proxy_revalidate": True}),
        (["must-understand"], {"must_understand": True}),
        (["only-if-cached"], {"only_if_cached": True}),
        (["max-age=60"], {"max_age": 60}),
        (['max-age="60"'], {"max_age": 60}),
        (["max-age = 60"], {"max_age": 60}),
        (["MAX-AGE=60"], {"max_age": 60}),
        (["max-age"], {"max_age": 0}),
        (["max-age=-1"], {"max_age": 0}),
        (["max-age=1.5"], {"max_age": 0}),
        (["max-age='60'"], {"max_age": 0}),
        (["max-age=99999999999999999999"], {"max_age": MAX_SECONDS}),
        (["max-age=60, max-age=30"], {"max_age": 30}),
        (["max-age=30", "max-age=60"], {"max_age": 30}),
        (["s-maxage=5, max-age=60"], {"s_maxage": 5, "max_age": 60}),
        (["stale-while-revalidate=5, stale-if-error=6"], {"stale_while_revalidate": 5, "stale_if_error": 6}),
        (["min-fresh=5, max-stale"], {"min_fresh": 5, "max_stale": MAX_SECONDS}),
        (["max-stale=5"], {"max_stale": 5}),
        (["max-stale=x"], {"max_stale": 0}),
        (['community="max-age=60, private"'], {}),
        (['unknown, =, ,;, "private"'], {}),
        (['max-age="60, private'], {"max_age": 0}),
    ],
)
def test_directives_are_read(lines: list[str], found: dict[str, Any]) -> None:
    assert parse_directives(lines) == Directives(**found)


@settings(deadline=None, max_examples=50)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "max_age": st.integers(0, MAX_SECONDS),
            "s_maxage": st.integers(0, MAX_SECONDS),
            "stale_if_error": st.integers(0, MAX_SECONDS),
            "stale_while_revalidate": st.integers(0, MAX_SECONDS),
            "must_revalidate": st.just(True),
            "no_cache": st.just(True),
            "proxy_revalidate": st.just(True),
            "public": st.just(True),
        },
    ).filter(bool)
)
def test_what_is_formatted_is_read_back(directives: dict[str, Any]) -> None:
    assert parse_directives([format_directives(**directives)]) == Directives(**directives)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.text(max_size=40), max_size=3))
def test_nothing_that_is_sent_breaks_the_parser(lines: list[str]) -> None:
    assert isinstance(parse_directives(lines), Directives)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.sampled_from(["max-age=1", "public", "x", 'y="a,b"', "no-cache"]), max_size=6))
def test_a_restriction_is_never_lost_among_others(elements: list[str]) -> None:
    for restriction in ("no-store", "private"):
        found = parse_directives([", ".join([*elements, restriction])])
        assert getattr(found, restriction.replace("-", "_"))
