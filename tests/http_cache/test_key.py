"""What tells requests apart."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prologue.http_cache.key import key_of, key_of_url, target_of
from tests.http_cache.messages import request

BASE = request(url="/a?b=c")


@pytest.mark.parametrize(
    "change",
    [
        {"wsgi.url_scheme": "https"},
        {"HTTP_HOST": "example.org"},
        {"HTTP_HOST": "example.com:8080"},
        {"HTTP_HOST": "example.com."},
        {"HTTP_HOST": "EXAMPLE.com"},
        {"HTTP_HOST": "example.com:80"},
        {"PATH_INFO": "/A"},
        {"PATH_INFO": "/a/"},
        {"PATH_INFO": "//a"},
        {"PATH_INFO": "/a;x"},
        {"PATH_INFO": "/a\n"},
        {"PATH_INFO": "/a.css"},
        {"QUERY_STRING": ""},
        {"QUERY_STRING": "b=C"},
        {"QUERY_STRING": "b=c&b=c"},
        {"QUERY_STRING": "b=c;d=e"},
        {"QUERY_STRING": "b=%63"},
        {"RAW_URI": "/%61?b=c"},
        {"RAW_URI": "/x/../a?b=c"},
        {"RAW_URI": "http://example.com/a?b=c"},
        {"RAW_URI": "/a?b=c#d"},
        {"REQUEST_URI": "/%61?b=c"},
        {"HTTP_X_FORWARDED_HOST": "other.com"},
        {"HTTP_X_FORWARDED_PROTO": "https"},
        {"HTTP_FORWARDED": "host=other.com"},
        {"HTTP_X_FORWARDED_HOST": ""},
    ],
)
def test_requests_that_could_get_different_answers_are_told_apart(change: dict[str, str]) -> None:
    assert target_of(BASE | change, careful=True) != target_of(BASE, careful=True)


@pytest.mark.parametrize(
    "change",
    [
        {"RAW_URI": "/a?b=c"},
        {"REQUEST_URI": "/a?b=c"},
        {"SCRIPT_NAME": "/a", "PATH_INFO": ""},
        {"HTTP_ACCEPT": "text/html"},
        {"HTTP_X_FORWARDED_FOR": "192.0.2.1"},
        {"REMOTE_ADDR": "192.0.2.1"},
    ],
)
def test_what_says_the_same_is_the_same(change: dict[str, str]) -> None:
    assert target_of(BASE | change, careful=True) == target_of(BASE, careful=True)


def test_the_rfc_profile_looks_at_no_forwarded_fields() -> None:
    assert target_of(BASE | {"HTTP_X_FORWARDED_HOST": "x"}, careful=False) == target_of(BASE, careful=False)


@pytest.mark.parametrize(
    ("url", "environ"),
    [
        ("http://example.com/a?b=c", BASE),
        ("http://EXAMPLE.com:80/a?b=c", BASE),
        ("https://example.com:443/a?b=c", BASE | {"wsgi.url_scheme": "https", "HTTP_HOST": "example.com"}),
        ("http://example.com", request()),
        (
            "http://example.com/%D1%87",
            request() | {"PATH_INFO": "/ч".encode().decode("latin-1"), "RAW_URI": "/%D1%87"},
        ),
        ("http://example.com/a%2Fb", request() | {"PATH_INFO": "/a/b", "RAW_URI": "/a%2Fb"}),
        ("https://example.com/a?b=c", BASE),
        ("http://user@example.com/a?b=c", BASE),
    ],
)
def test_a_url_has_the_key_of_its_requests(url: str, environ: dict[str, Any]) -> None:
    assert key_of_url(url) == target_of(environ, careful=True).key


def test_a_request_without_host_is_told_by_the_server() -> None:
    environ = {name: value for name, value in BASE.items() if name != "HTTP_HOST"}
    environ |= {"SERVER_NAME": "example.com", "SERVER_PORT": "80"}
    assert target_of(environ, careful=True).key == target_of(BASE, careful=True).key


PART = st.text("ab/?:1.\n é", max_size=6)
ADDRESS = st.tuples(st.sampled_from(["http", "https"]), PART, PART, PART)


@settings(deadline=None, max_examples=50)
@given(ADDRESS, ADDRESS)
def test_different_urls_have_different_keys(
    one: tuple[str, str, str, str], other: tuple[str, str, str, str]
) -> None:
    def target(parts: tuple[str, str, str, str]) -> object:
        scheme, host, path, query = parts
        environ = {
            "wsgi.url_scheme": scheme,
            "HTTP_HOST": host or "x",
            "PATH_INFO": path,
            "QUERY_STRING": query,
        }
        return target_of(environ, careful=True)

    assert (target(one) == target(other)) is (one == other)


@settings(deadline=None, max_examples=50)
@given(PART, PART, PART)
def test_a_key_shows_where_its_parts_end(host: str, path: str, query: str) -> None:
    assert key_of("http", host + "a", path, query) != key_of("http", host, "a" + path, query)
