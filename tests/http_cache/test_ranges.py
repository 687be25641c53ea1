"""Byte ranges (RFC 9110 section 14)."""

from __future__ import annotations

from email import message_from_bytes
from email.policy import HTTP

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prologue.http_cache.ranges import Range, multipart, parse_ranges


@pytest.mark.parametrize(
    ("value", "ranges"),
    [
        ("bytes=0-4", [(0, 5)]),
        ("Bytes=0-4", [(0, 5)]),
        ("bytes=5-", [(5, 10)]),
        ("bytes=-3", [(7, 10)]),
        ("bytes=-99", [(0, 10)]),
        ("bytes=0-99", [(0, 10)]),
        ("bytes=9-9", [(9, 10)]),
        ("bytes=0-1, 4-5 ,8-", [(0, 2), (4, 6), (8, 10)]),
        ("bytes=8-, 0-1", [(8, 10), (0, 2)]),
        ("bytes=0-1, 50-60", [(0, 2)]),
        ("bytes=10-", []),
        ("bytes=10-20", []),
        ("bytes=-0", []),
        ("bytes=0-5, 3-8", None),
        ("bytes=0-0,0-0", None),
        ("bytes=" + ",".join(f"{n}-{n}" for n in range(17)), None),
        *(
            (value, None)
            for value in ("", "bytes", "bytes=", "bytes=-", "bytes=5-4", "bytes=a-b", "items=0-1")
        ),
        *(
            (value, None)
            for value in ("bytes=0-1-2", "bytes=0 - 1", "bytes=+0-1", "bytes=٠-1", "bytes=" + "9" * 30 + "-")
        ),
    ],
)
def test_ranges_of_ten_bytes_are_read(value: str, ranges: list[Range] | None) -> None:
    assert parse_ranges(value, 10) == ranges


def test_an_empty_body_satisfies_no_range() -> None:
    assert parse_ranges("bytes=0-", 0) == []


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 50), st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=5))
def test_what_is_sent_lies_within_the_body(length: int, pairs: list[tuple[int, int]]) -> None:
    ranges = parse_ranges("bytes=" + ",".join(f"{start}-{stop}" for start, stop in pairs), length)
    assert all(0 <= start < stop <= length for start, stop in ranges or ())
    assert sum(stop - start for start, stop in ranges or ()) <= length


def test_several_ranges_are_parts_of_one_message() -> None:
    content_type, content = multipart(b"0123456789", [(0, 2), (8, 10)], "text/plain")
    message = message_from_bytes(f"Content-Type: {content_type}\r\n\r\n".encode() + content, policy=HTTP)
    parts = list(message.iter_parts())
    assert [part["Content-Range"] for part in parts] == ["bytes 0-1/10", "bytes 8-9/10"]
    assert [part.get_content_type() for part in parts] == ["text/plain"] * 2
    assert [part.get_payload() for part in parts] == ["01", "89"]


def test_a_body_without_a_type_has_parts_without_one() -> None:
    assert b"Content-Type" not in multipart(b"0123", [(0, 1), (2, 3)], "")[1]
