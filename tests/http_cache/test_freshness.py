"""Lifetime and age (RFC 9111 section 4.2)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prologue.http_cache.dates import format_date
from prologue.http_cache.fields import MAX_SECONDS
from prologue.http_cache.freshness import initial_age, lifetime
from prologue.http_cache.profile import make_profile
from prologue.http_cache.structured import directives_of

NOW = 1_000_000_000.0
RFC = make_profile("rfc9111")
SAFE = make_profile("safe", ttl=7)


def at(seconds: float) -> str:
    return format_date(NOW + seconds)


@pytest.mark.parametrize(
    ("fields", "status", "rfc", "safe"),
    [
        ({"cache-control": ["max-age=60"]}, 200, 60, 60),
        ({"cache-control": ["max-age=60, s-maxage=30"]}, 200, 30, 30),
        ({"cache-control": ["s-maxage=0, max-age=60"]}, 200, 0, 0),
        ({"cache-control": ["max-age=x"]}, 200, 0, 0),
        ({"cache-control": ["max-age=60"], "expires": [at(500)]}, 200, 60, 60),
        ({"expires": [at(60)], "date": [at(0)]}, 200, 60, 60),
        ({"expires": [at(60)], "date": [at(-10)]}, 200, 70, 70),
        ({"expires": [at(60)]}, 200, 60, 60),
        ({"expires": [at(-60)]}, 200, 0, 0),
        ({"expires": ["0"]}, 200, 0, 0),
        ({"expires": [at(60), at(60)]}, 200, 0, 0),
        ({"expires": [at(60)], "cdn-cache-control": ["public"]}, 200, 0, 7),
        ({"cache-control": ["max-age=60"], "cdn-cache-control": ["max-age=5"]}, 200, 5, 5),
        ({}, 200, 0, 7),
        ({"cache-control": ["public"]}, 200, 0, 7),
        ({}, 404, 0, 0),
        ({"last-modified": [at(-1000)]}, 200, 100, 7),
        ({"last-modified": [at(-1000)], "date": [at(-500)]}, 200, 50, 7),
        ({"last-modified": [at(-1000)]}, 404, 100, 0),
        ({"last-modified": [at(-1000)]}, 302, 0, 0),
        ({"last-modified": [at(-1000)], "cache-control": ["public"]}, 302, 100, 0),
        ({"last-modified": [at(-100_000_000)]}, 200, 86400, 7),
        ({"last-modified": [at(1000)]}, 200, 0, 7),
        ({"last-modified": ["broken"]}, 200, 0, 7),
    ],
)
def test_a_lifetime_is_stated_given_or_guessed(
    fields: dict[str, list[str]], status: int, rfc: float, safe: float
) -> None:
    for profile, expected in ((RFC, rfc), (SAFE, safe)):
        assert lifetime(status, *directives_of(fields), fields, NOW, profile) == expected


@pytest.mark.parametrize(
    ("fields", "delay", "age"),
    [
        ({}, 3, 0),
        ({"date": [at(0)]}, 0, 0),
        ({"date": [at(0)]}, 3, 3),
        ({"date": [at(-10)]}, 0, 10),
        ({"date": [at(-10)]}, 3, 10),
        ({"date": [at(10)]}, 0, 0),
        ({"age": ["20"], "date": [at(0)]}, 3, 23),
        ({"age": ["5"], "date": [at(-10)]}, 3, 10),
        ({"age": ["20"]}, 0, 20),
        ({"age": ["20, 90"]}, 0, 20),
        ({"age": ["20", "90"]}, 0, 20),
        ({"age": ["x"]}, 0, 0),
        ({"age": ["-5"]}, 0, 0),
        ({"age": ["99999999999"]}, 0, MAX_SECONDS),
        ({"date": ["broken"]}, 3, 3),
    ],
)
def test_the_age_of_a_new_response_counts_the_way_it_came(
    fields: dict[str, list[str]], delay: float, age: float
) -> None:
    assert initial_age(fields, NOW - delay, NOW) == age


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 1000), st.integers(-100, 100), st.integers(0, 100))
def test_an_age_is_never_less_than_what_is_stated(age: int, date: int, delay: int) -> None:
    found = initial_age({"age": [str(age)], "date": [at(date)]}, NOW - delay, NOW)
    assert found >= max(age, -date, delay)
