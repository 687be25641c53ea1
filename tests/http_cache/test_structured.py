"""Targeted Cache-Control and groups (RFC 9213, RFC 9875)."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prologue.errors import MissingExtraError
from prologue.http_cache.directives import Directives
from prologue.http_cache.structured import directives_of, parse_groups

CC, CDN, OWN = "cache-control", "cdn-cache-control", "prologue-cache-control"


@pytest.mark.parametrize(
    ("fields", "found", "targeted"),
    [
        ({}, {}, False),
        ({CC: ["max-age=1"]}, {"max_age": 1}, False),
        ({CC: ["max-age=1"], CDN: ["max-age=2"]}, {"max_age": 2}, True),
        ({CC: ["no-store"], CDN: ["max-age=2"]}, {"max_age": 2}, True),
        ({CC: ["max-age=1"], CDN: ["no-store"]}, {"no_store": True}, True),
        ({CDN: ["max-age=2"], OWN: ["max-age=3"]}, {"max_age": 3}, True),
        ({CC: ["no-store"], CDN: ["none"]}, {}, True),
        ({CC: ["max-age=1"], CDN: [""]}, {"max_age": 1}, False),
        ({CC: ["max-age=1"], CDN: ["max-age=;"]}, {"max_age": 1}, False),
        ({CC: ["max-age=1"], CDN: ["Max-Age=2"]}, {"max_age": 1}, False),
        ({CDN: ["max-age=2.5"]}, {}, True),
        ({CDN: ['max-age="2"']}, {}, True),
        ({CDN: ["max-age=-2"]}, {}, True),
        ({CDN: ["max-age=?1"]}, {"max_age": 0}, True),
        ({CDN: ["no-store=?0, max-age=2"]}, {"max_age": 2}, True),
        ({CDN: ["max-age=2;x=1, public;y"]}, {"max_age": 2, "public": True}, True),
        ({CDN: ["max-age=2", "public"]}, {"max_age": 2, "public": True}, True),
        ({CDN: ["max-age=2, max-age=3"]}, {"max_age": 3}, True),
        ({CDN: ['private="x"']}, {"private_fields": frozenset("x")}, True),
        (
            {CDN: ["max-age=2, must-revalidate, s-maxage=9"]},
            {"max_age": 2, "must_revalidate": True, "s_maxage": 9},
            True,
        ),
    ],
)
def test_the_nearest_target_counts(
    fields: dict[str, list[str]], found: dict[str, Any], targeted: bool
) -> None:
    assert directives_of(fields) == (Directives(**found), targeted)


@pytest.mark.parametrize(
    ("lines", "groups"),
    [
        ([], ()),
        (['"a"'], ("a",)),
        (['"a", "b";x', '"a"'], ("a", "b")),
        (['"A", "a"'], ("A", "a")),
        (['a, 1, "b", ("c")'], ("b",)),
        (['"a'], ()),
        ([", ".join(f'"{n:040}"' for n in range(100))], tuple(f"{n:040}" for n in range(100))),
    ],
)
def test_groups_are_strings(lines: list[str], groups: tuple[str, ...]) -> None:
    assert parse_groups(lines) == groups


@settings(deadline=None, max_examples=50)
@given(st.text(max_size=60))
def test_no_text_breaks_the_parsers(text: str) -> None:
    directives_of({CDN: [text]})
    parse_groups([text])


def test_without_the_library_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "http_sf", None)
    assert directives_of({CC: ["max-age=1"]})[0].max_age == 1
    assert directives_of({OWN: ["no-store"]}) == (Directives(no_store=True), True)
    for parse in (lambda: directives_of({CDN: ["max-age=1"]}), lambda: parse_groups(['"a"'])):
        with pytest.raises(MissingExtraError, match="http-cache"):
            parse()
