"""What a 304 changes (RFC 9111 sections 3.2 and 4.3.4)."""

from __future__ import annotations

import pytest

from prologue.http_cache.merge import merge_headers, to_update
from prologue.http_cache.profile import make_profile
from tests.http_cache.messages import request, stored

RFC = make_profile("rfc9111")
DAY = "Sun, 06 Nov 1994 08:49:37 GMT"
OTHER_DAY = "Mon, 07 Nov 1994 08:49:37 GMT"


@pytest.mark.parametrize(
    ("fields", "updated"),
    [
        ({"etag": ['"a"']}, "ab"),
        ({"etag": ['"z"']}, ""),
        ({"etag": ['W/"a"']}, "a"),
        ({"etag": ['W/"z"']}, ""),
        ({"etag": ['"a"'], "last-modified": [OTHER_DAY]}, "ab"),
        ({"last-modified": [DAY]}, "a"),
        ({"last-modified": [OTHER_DAY]}, ""),
        ({}, "a"),
    ],
)
def test_the_validator_of_a_304_says_what_it_updates(fields: dict[str, list[str]], updated: str) -> None:
    control = [("Cache-Control", "max-age=1"), ("Vary", "X"), ("Last-Modified", DAY)]
    named = {
        "a": stored([*control, ("ETag", '"a"')], RFC, request(x="a")),
        "b": stored([*control, ("ETag", '"a"')], RFC, request(x="b")),
        "c": stored([*control, ("ETag", '"c"')], RFC, request(x="c")),
    }
    assert to_update(named.values(), named["a"], fields) == tuple(named[name] for name in updated)


def test_fields_are_replaced_but_for_those_that_describe_the_content() -> None:
    old = [("ETag", '"a"'), ("X-A", "1"), ("X-A", "2"), ("X-B", "1"), ("Content-Type", "text/plain")]
    new = [
        ("x-a", "3"),
        ("X-C", "1"),
        ("Content-Type", "image/png"),
        ("Content-Length", "0"),
        ("Content-Encoding", "br"),
    ]
    assert merge_headers(stored(old, RFC), new) == [
        ("ETag", '"a"'),
        ("X-B", "1"),
        ("Content-Type", "text/plain"),
        ("x-a", "3"),
        ("X-C", "1"),
    ]
