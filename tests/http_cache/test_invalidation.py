"""What unsafe requests invalidate (RFC 9111 section 4.4)."""

from __future__ import annotations

import pytest

from prologue.http_cache.invalidation import keys_to_invalidate, tags_to_invalidate
from prologue.http_cache.key import key_of_url

HERE = "http://example.com/a"


@pytest.mark.parametrize(
    ("method", "status", "fields", "urls"),
    [
        ("POST", 200, {}, [HERE]),
        ("PUT", 204, {}, [HERE]),
        ("DELETE", 303, {}, [HERE]),
        ("PATCH", 201, {}, [HERE]),
        ("UNKNOWN", 200, {}, [HERE]),
        ("POST", 404, {}, []),
        ("POST", 500, {}, []),
        ("GET", 200, {"location": ["/b"]}, []),
        ("HEAD", 200, {}, []),
        ("OPTIONS", 200, {}, []),
        ("TRACE", 200, {}, []),
        ("POST", 201, {"location": ["/b?c=d"]}, [HERE, "http://example.com/b?c=d"]),
        ("POST", 201, {"location": ["b"]}, [HERE, "http://example.com/b"]),
        ("POST", 201, {"location": ["//example.com/b"]}, [HERE, "http://example.com/b"]),
        ("POST", 201, {"location": ["HTTP://Example.com/b"]}, [HERE, "http://example.com/b"]),
        (
            "POST",
            201,
            {"location": ["/b"], "content-location": ["/c"]},
            [HERE, "http://example.com/b", "http://example.com/c"],
        ),
        ("POST", 201, {"location": ["http://other.com/b"]}, [HERE]),
        ("POST", 201, {"location": ["https://example.com/b"]}, [HERE]),
        ("POST", 201, {"location": ["http://example.com:81/b"]}, [HERE]),
        ("POST", 201, {"location": ["http://[broken"]}, [HERE]),
        ("POST", 201, {"location": ["/a"]}, [HERE]),
    ],
)
def test_a_successful_unsafe_request_invalidates_urls_of_its_origin(
    method: str, status: int, fields: dict[str, list[str]], urls: list[str]
) -> None:
    from tests.http_cache.messages import request

    keys = keys_to_invalidate(request(method, "/a"), status, fields, key_of_url)
    assert keys == [key_of_url(url) for url in urls]


def test_groups_are_invalidated_by_unsafe_requests_only() -> None:
    from tests.http_cache.messages import request

    fields = {"cache-group-invalidation": ['"x", "y"']}
    assert tags_to_invalidate(request("POST"), 200, fields) == [
        "group:http:11:example.comx",
        "group:http:11:example.comy",
    ]
    assert tags_to_invalidate(request("GET"), 200, fields) == []
    assert tags_to_invalidate(request("POST"), 500, fields) == []
