"""Vary (RFC 9110 section 12.5.5, RFC 9111 section 4.1)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prologue.http_cache.vary import ANYTHING, parse_vary, selecting_values, selects


@pytest.mark.parametrize(
    ("lines", "names"),
    [
        ([], ()),
        ([""], ()),
        (["Accept"], ("accept",)),
        (["B, a", "A"], ("a", "b")),
        (["*"], ANYTHING),
        ([" *"], ANYTHING),
        (["*, a"], ANYTHING),
        (["a", "*"], ANYTHING),
        (["a,\t* "], ANYTHING),
        (["Accept Encoding"], ANYTHING),
        (['"a"'], ANYTHING),
    ],
)
def test_vary_is_read(lines: list[str], names: tuple[str, ...]) -> None:
    assert parse_vary(lines) == names


@pytest.mark.parametrize(
    ("stored", "asked", "same"),
    [
        ({}, {}, True),
        ({"HTTP_A": "x"}, {"HTTP_A": "x"}, True),
        ({"HTTP_A": "x"}, {"HTTP_A": "y"}, False),
        ({"HTTP_A": "x"}, {"HTTP_A": "X"}, False),
        ({"HTTP_A": "x"}, {}, False),
        ({}, {"HTTP_A": ""}, False),
        ({"HTTP_A": ""}, {}, False),
        ({"HTTP_A": ""}, {"HTTP_A": ""}, True),
        ({"HTTP_A": "x, y"}, {"HTTP_A": " x ,y"}, False),
        ({"HTTP_ACCEPT": "x, y"}, {"HTTP_ACCEPT": " x ,y"}, True),
        ({"HTTP_ACCEPT": 'x;a="b, c"'}, {"HTTP_ACCEPT": 'x;a="b,c"'}, False),
        ({"HTTP_ACCEPT_LANGUAGE": "bg,en"}, {"HTTP_ACCEPT_LANGUAGE": "bg, en"}, True),
        ({"HTTP_A": "x y"}, {"HTTP_A": "x  y"}, False),
        ({"HTTP_A": "x,y"}, {"HTTP_A": "y,x"}, False),
        ({"HTTP_B": "1"}, {"HTTP_B": "2"}, True),
    ],
)
def test_a_request_selects_what_its_own_kind_was_stored_for(
    stored: dict[str, Any], asked: dict[str, Any], same: bool
) -> None:
    assert selects(selecting_values(("a", "accept", "accept-language"), stored), asked) is same


@settings(deadline=None, max_examples=50)
@given(st.dictionaries(st.sampled_from(["HTTP_A", "HTTP_B", "HTTP_C"]), st.text("xy,; ", max_size=4)))
def test_a_request_selects_what_itself_was_stored_for(environ: dict[str, str]) -> None:
    assert selects(selecting_values(("a", "b", "c"), environ), environ)
