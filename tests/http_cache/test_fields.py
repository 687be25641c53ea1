"""What header fields are read as."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prologue.http_cache.fields import (
    MAX_SECONDS,
    environ_name,
    fields_of,
    is_token,
    parse_seconds,
    split_list,
)


@pytest.mark.parametrize(
    ("lines", "elements"),
    [
        ([], []),
        ([""], []),
        (["a"], ["a"]),
        (["a,b"], ["a", "b"]),
        ([" a ,\tb ", "c"], ["a", "b", "c"]),
        ([",, a ,,"], ["a"]),
        (['a="1,2", b'], ['a="1,2"', "b"]),
        (['a="1\\",2", b'], ['a="1\\",2"', "b"]),
        (['a="1, b', "c"], ['a="1, b', "c"]),
        (['a="1\\'], ['a="1\\']),
    ],
)
def test_a_list_is_split_at_commas_outside_quotes(lines: list[str], elements: list[str]) -> None:
    assert split_list(lines) == elements


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("60", 60),
        ("060", 60),
        ("0" * 5000 + "7", 7),
        ("2147483648", MAX_SECONDS),
        ("9" * 5000, MAX_SECONDS),
        *(
            (text, None)
            for text in (None, "", "-1", "+1", "1.0", " 1", "1 ", "1_0", "٣", "1e3", "0x1", "1\n")
        ),
    ],
)
def test_seconds_are_ascii_digits_and_saturate(text: str | None, seconds: int | None) -> None:
    assert parse_seconds(text) == seconds


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10**30))
def test_every_number_of_digits_is_read(number: int) -> None:
    assert parse_seconds(str(number)) == min(number, MAX_SECONDS)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("Accept-Language", "HTTP_ACCEPT_LANGUAGE"),
        ("content-type", "CONTENT_TYPE"),
        ("Content-Length", "CONTENT_LENGTH"),
    ],
)
def test_a_request_field_has_its_wsgi_name(name: str, key: str) -> None:
    assert environ_name(name) == key


def test_fields_are_found_by_their_name_in_any_case() -> None:
    assert fields_of([("A", "1"), ("b", "2"), ("a", "3")]) == {"a": ["1", "3"], "b": ["2"]}


@pytest.mark.parametrize(
    ("text", "token"), [("Accept", True), ("x!#$", True), ("", False), ("a b", False), ("é", False)]
)
def test_a_token_has_no_separators(text: str, token: bool) -> None:
    assert is_token(text) is token
