"""Entity tags and conditions (RFC 9110 sections 8.8 and 13)."""

from __future__ import annotations

import pytest

from prologue.http_cache.conditions import is_strong, not_modified, parse_etags, range_applies

EARLY = "Sun, 06 Nov 1994 08:49:37 GMT"
LATE = "Sun, 06 Nov 1994 08:49:38 GMT"


@pytest.mark.parametrize(
    ("value", "tags"),
    [
        ('"a"', [(False, '"a"')]),
        ('W/"a"', [(True, '"a"')]),
        ('"a", W/"b" ,"c"', [(False, '"a"'), (True, '"b"'), (False, '"c"')]),
        ('"a,b"', [(False, '"a,b"')]),
        ('""', [(False, '""')]),
        (', "a",, "b",', [(False, '"a"'), (False, '"b"')]),
        ("", []),
        ("a", None),
        ('w/"a"', None),
        ('"a" "b"', None),
        ('"a', None),
        ('"a b"', None),
        ('W/ "a"', None),
    ],
)
def test_entity_tags_are_read(value: str, tags: list[tuple[bool, str]] | None) -> None:
    assert parse_etags(value) == tags


@pytest.mark.parametrize(("etag", "strong"), [('"a"', True), ('W/"a"', False), ("a", False), ("", False)])
def test_a_tag_is_strong_without_its_mark(etag: str, strong: bool) -> None:
    assert is_strong(etag) is strong


@pytest.mark.parametrize(
    ("none_match", "since", "etag", "modified", "expected"),
    [
        (None, None, '"a"', EARLY, False),
        ('"a"', None, '"a"', "", True),
        ('"b", "a"', None, '"a"', "", True),
        ('W/"a"', None, '"a"', "", True),
        ('"a"', None, 'W/"a"', "", True),
        ('"b"', None, '"a"', "", False),
        ("*", None, "", "", True),
        ('"a"', None, "", "", False),
        ("broken", None, '"a"', "", False),
        ('"b"', EARLY, '"a"', EARLY, False),
        ('"a"', "broken", '"a"', LATE, True),
        (None, EARLY, '"a"', EARLY, True),
        (None, LATE, "", EARLY, True),
        (None, EARLY, "", LATE, False),
        (None, "0", "", EARLY, False),
        (None, LATE, "", "", True),
        (None, EARLY, "", "", False),
        (None, EARLY, "", "broken", False),
    ],
)
def test_a_condition_decides(
    none_match: str | None, since: str | None, etag: str, modified: str, expected: bool
) -> None:
    environ = {"HTTP_IF_NONE_MATCH": none_match, "HTTP_IF_MODIFIED_SINCE": since}
    present = {name: value for name, value in environ.items() if value is not None}
    assert not_modified(present, etag, modified, LATE) is expected


@pytest.mark.parametrize(
    ("value", "etag", "modified", "date", "expected"),
    [
        (None, "", "", "", True),
        ('"a"', '"a"', "", "", True),
        ('"a"', '"b"', "", "", False),
        ('W/"a"', 'W/"a"', "", "", False),
        (EARLY, "", EARLY, LATE, True),
        (EARLY, "", EARLY, EARLY, False),
        (LATE, "", EARLY, LATE, False),
        (EARLY, "", "", LATE, False),
        ("broken", "", EARLY, LATE, False),
    ],
)
def test_if_range_wants_a_strong_validator(
    value: str | None, etag: str, modified: str, date: str, expected: bool
) -> None:
    environ = {} if value is None else {"HTTP_IF_RANGE": value}
    assert range_applies(environ, etag, modified, date) is expected
