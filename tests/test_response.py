"""The response and its helpers: headers, bodies, cookies, redirects, names of downloads."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from http import HTTPStatus
from typing import Any

import pytest

from prologue import (
    Response,
    abort,
    error404,
    error_page,
    html_response,
    json_response,
    plain_text_response,
    redirect,
)
from prologue.errors import HeaderError
from prologue.response import BINARY, HTML, JSON, TEXT, Headers, content_disposition, status_line

# -- statuses -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "line"),
    [
        (200, "200 OK"),
        (404, "404 Not Found"),
        (HTTPStatus.CREATED, "201 Created"),
        (299, "299 Unknown"),
        (100, "100 Continue"),
    ],
)
def test_a_status_line_has_a_phrase(status: int, line: str) -> None:
    assert status_line(status) == line


@pytest.mark.parametrize("status", [99, 600, 0, -1, True, "200", 200.5, None, "200 OK\r\nX: y"])
def test_another_status_is_an_error_where_it_is_set(status: Any) -> None:
    response = Response()
    for mistake in (
        status_line,
        lambda status: Response(status=status),
        lambda status: setattr(response, "status", status),
    ):
        with pytest.raises(HeaderError, match="a status is an int from 100 to 599"):
            mistake(status)
    assert response.status == response.code == 200


def test_code_is_the_status() -> None:
    response = Response()
    response.code = 404
    assert response.status == 404


# -- headers ------------------------------------------------------------------------------------------


def test_headers_are_a_multi_map_that_ignores_case_and_keeps_order_and_spelling() -> None:
    headers = Headers([("X-A", "1"), ("x-b", "2"), ("X-a", "3")])
    assert headers.items() == list(headers) == [("X-A", "1"), ("x-b", "2"), ("X-a", "3")]
    assert (len(headers), "x-A" in headers, "X-C" in headers, 1 in headers) == (3, True, False, False)
    assert (headers["X-A"], headers.get("X-B"), headers.get("X-C"), headers.get("X-C", "0")) == (
        "1",
        "2",
        None,
        "0",
    )
    assert headers.get_all("x-a") == ["1", "3"]
    assert repr(headers) == "Headers([('X-A', '1'), ('x-b', '2'), ('X-a', '3')])"
    with pytest.raises(KeyError, match="X-C"):
        headers["X-C"]


def test_setting_a_field_replaces_all_of_its_name_in_the_place_of_the_first() -> None:
    headers = Headers([("X-A", "1"), ("X-B", "2"), ("x-a", "3"), ("X-C", "4")])
    headers["x-A"] = "5"
    headers["X-D"] = "6"
    assert headers.items() == [("x-A", "5"), ("X-B", "2"), ("X-C", "4"), ("X-D", "6")]
    del headers["x-a"], headers["nothing"]
    assert headers.items() == [("X-B", "2"), ("X-C", "4"), ("X-D", "6")]


def test_headers_are_made_of_mappings_and_pairs_and_compared() -> None:
    assert Headers({"X-A": "1"}) == Headers([("x-a", "1")])
    assert Headers({"X-A": "1"}) != Headers({"X-A": "2"})
    assert Headers({"X-A": "1"}) != [("X-A", "1")]
    assert Headers({}) == Headers(iter(())) == Headers()
    with pytest.raises(TypeError, match="unhashable"):
        hash(Headers())


def test_setdefault_and_extend_and_items() -> None:
    headers = Headers({"X-A": "1"})
    headers.setdefault("x-a", "2")
    headers.setdefault("X-B", "3")
    headers.extend({"X-B": "4"})
    items = headers.items()
    items.clear()
    assert headers.items() == [("X-A", "1"), ("X-B", "3"), ("X-B", "4")]


@pytest.mark.parametrize(
    ("before", "added", "after"),
    [
        ([], "Cookie", ["Cookie"]),
        (["Accept"], "Cookie", ["Accept, Cookie"]),
        (["cookie"], "Cookie", ["cookie"]),
        (["Accept,  COOKIE"], "Cookie", ["Accept,  COOKIE"]),
        (["Accept", "Origin"], "Cookie", ["Accept, Origin, Cookie"]),
        (["*"], "Cookie", ["*"]),
    ],
)
def test_add_vary_names_a_field_once(before: list[str], added: str, after: list[str]) -> None:
    headers = Headers([("Vary", value) for value in before])
    headers.add_vary(added)
    assert headers.get_all("Vary") == after


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-A", "a\nb"), ("X-A", "a\r\nB: c"), ("X-A", "\0"), ("X-A", "\x7f"), ("X-A", "\t"), ("X-A", "ж"),
        ("X-A", "\ud800"), ("X-A", 1), ("X-A", None), ("X-A", b"a"), ("X A", "a"), ("", "a"), ("X:", "a"),
        ("Ж", "a"), (1, "a"), ("Connection", "close"), ("Transfer-Encoding", "chunked"), ("Keep-Alive", "1"),
    ],
)  # fmt: skip
def test_a_field_that_may_not_be_sent_is_an_error_where_it_is_set(name: Any, value: Any) -> None:
    response = Response()
    setters: list[Callable[[], object]] = [
        lambda: Headers([(name, value)]),
        lambda: response.headers.add(name, value),
        lambda: response.headers.__setitem__(name, value),
        lambda: response.add_header(name, value),
        lambda: Response(headers=[(name, value)]),
    ]
    for setter in setters:
        with pytest.raises(HeaderError, match="header"):
            setter()
    assert response.headers.items() == [("Content-Type", HTML)]


def test_the_originals_names_for_headers() -> None:
    response = Response(content_type=None)
    response.set_header("X-A", "1")
    response.add_header("X-A", "2")
    response.set_header("X-B", ["3", "4"])
    assert (response.has_header("x-a"), response.has_header("x-c")) == (True, False)
    assert (response.get_header("X-A"), response.get_header("X-B")) == (["1", "2"], ["3", "4"])
    assert response.get_header_or_default("X-C", "5") == ["5"]
    assert response.get_header_or_default("X-A") == ["1", "2"]
    with pytest.raises(HeaderError):
        response.set_header("X-A", ["ok", "a\nb"])
    assert response.get_header("X-A") == ["1", "2"]
    response.set_header("X-A", [])
    with pytest.raises(KeyError, match="X-A"):
        response.get_header("X-A")


# -- bodies -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        ("ж", "ж".encode()),
        ("a\ud800", b"a?"),
        (b"a", b"a"),
        (bytearray(b"a"), b"a"),
        (memoryview(b"a"), b"a"),
    ],
)
def test_a_body_is_bytes_whatever_it_was_made_of(body: Any, sent: bytes) -> None:
    for response in (Response(body), Response(iter(()))):
        response.body = body
        assert (response.body, response.stream) == (sent, None)


def test_a_body_may_be_streamed() -> None:
    stream = [b"a", b"b"]
    response = Response("text")
    response.set_body(stream)
    assert (response.body, response.stream) == (b"", stream)
    assert repr(response) == f"<Response 200 {HTML}, streamed>"


@pytest.mark.parametrize("body", [1, None, {"a": 1}, object()])
def test_another_body_is_a_type_error(body: Any) -> None:
    with pytest.raises(TypeError, match=f"not {type(body).__name__}"):
        Response(body)


def test_the_type_of_a_response_can_be_chosen_and_left_out() -> None:
    assert Response().content_type == HTML
    assert Response(content_type="a/b").content_type == "a/b"
    assert Response(headers={"content-type": "a/b"}).headers.items() == [("content-type", "a/b")]
    assert Response(headers={"X-A": "1"}).content_type == HTML
    response = Response(content_type=None)
    assert response.content_type is None
    assert repr(response) == "<Response 200 no type, 0 bytes>"
    with pytest.raises(HeaderError):
        response.content_type = "a\nb"
    with pytest.raises(HeaderError):
        Response(content_type="a\nb")


# -- cookies ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        ({}, "n=v; Path=/; HttpOnly; SameSite=Lax"),
        ({"value": ""}, "n=; Path=/; HttpOnly; SameSite=Lax"),
        ({"value": "a b,c"}, 'n="a b,c"; Path=/; HttpOnly; SameSite=Lax'),
        ({"max_age": 60}, "n=v; Max-Age=60; Path=/; HttpOnly; SameSite=Lax"),
        ({"max_age": timedelta(hours=1)}, "n=v; Max-Age=3600; Path=/; HttpOnly; SameSite=Lax"),
        (
            {"expires": datetime(2030, 1, 1, 2, tzinfo=timezone(timedelta(hours=2)))},
            "n=v; Expires=Tue, 01 Jan 2030 00:00:00 GMT; Path=/; HttpOnly; SameSite=Lax",
        ),
        ({"domain": "x.example"}, "n=v; Domain=x.example; Path=/; HttpOnly; SameSite=Lax"),
        ({"path": ""}, "n=v; HttpOnly; SameSite=Lax"),
        ({"path": "/a b"}, "n=v; Path=/a b; HttpOnly; SameSite=Lax"),
        ({"secure": True, "same_site": "None"}, "n=v; Path=/; Secure; HttpOnly; SameSite=None"),
        ({"http_only": False, "same_site": None}, "n=v; Path=/"),
        ({"same_site": "Strict"}, "n=v; Path=/; HttpOnly; SameSite=Strict"),
        ({"secure": True, "partitioned": True}, "n=v; Path=/; Secure; HttpOnly; SameSite=Lax; Partitioned"),
    ],
)
def test_a_cookie_is_written_with_safe_defaults(options: dict[str, Any], sent: str) -> None:
    response = Response()
    response.set_cookie("n", **{"value": "v", **options})
    assert response.headers.get_all("Set-Cookie") == [sent]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "a b"}, "cookie name"),
        ({"name": ""}, "cookie name"),
        ({"name": 1}, "cookie name"),
        ({"value": "a;b"}, "value must be printable"),
        ({"value": 'a"b'}, "value must be printable"),
        ({"value": "a\\b"}, "value must be printable"),
        ({"value": "ж"}, "value must be printable"),
        ({"value": "a\r\nb"}, "value must be printable"),
        ({"value": 1}, "value must be printable"),
        ({"path": "/;x"}, "path"),
        ({"domain": "a\nb"}, "domain"),
        ({"domain": None}, "domain"),
        ({"expires": datetime(2030, 1, 1)}, "time zone"),
        ({"expires": "tomorrow"}, "time zone"),
        ({"max_age": "60"}, "max_age"),
        ({"max_age": True}, "max_age"),
        ({"max_age": 1.5}, "max_age"),
        ({"same_site": "lax"}, "same_site must be"),
        ({"same_site": "None"}, "needs secure=True"),
        ({"partitioned": True}, "needs secure=True"),
        ({"name": "__Secure-a"}, "needs secure=True"),
        ({"name": "__Host-a"}, "needs secure=True"),
        ({"name": "__Host-a", "secure": True, "path": "/x"}, "path '/'"),
        ({"name": "__Host-a", "secure": True, "domain": "x.example"}, "no domain"),
    ],
)
def test_a_cookie_that_browsers_would_drop_or_misread_is_an_error(
    options: dict[str, Any], message: str
) -> None:
    response = Response()
    with pytest.raises(HeaderError, match=message):
        response.set_cookie(**{"name": "n", "value": "v", **options})
    assert "Set-Cookie" not in response.headers


def test_a_cookie_is_deleted_where_it_was_set() -> None:
    response = Response()
    response.delete_cookie("__Secure-n", path="/p", domain="x.example", secure=True)
    assert response.headers["Set-Cookie"] == (
        "__Secure-n=; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0; Domain=x.example; Path=/p; Secure;"
        " HttpOnly; SameSite=Lax"
    )


# -- helpers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("response", "status", "content_type", "body"),
    [
        (html_response("<p>"), 200, HTML, b"<p>"),
        (html_response(b"<p>", 201, {"X-A": "1"}), 201, HTML, b"<p>"),
        (plain_text_response("text"), 200, TEXT, b"text"),
        (plain_text_response("text", 404), 404, TEXT, b"text"),
        (json_response({"a": [1]}), 200, JSON, b'{"a":[1]}'),
        (json_response(None, 201), 201, JSON, b"null"),
        (json_response(datetime(2030, 1, 1, tzinfo=UTC)), 200, JSON, b'"2030-01-01T00:00:00Z"'),
        (json_response(float("nan")), 200, JSON, b"null"),
        (
            json_response([], headers={"Content-Type": "application/problem+json"}),
            200,
            "application/problem+json",
            b"[]",
        ),
        (abort(), 401, HTML, b""),
        (abort(403, "no"), 403, HTML, b"no"),
        (error404(), 404, HTML, b"<h1>404 Not Found!</h1>"),
        (error404("gone", {"X-A": "1"}), 404, HTML, b"gone"),
        (Response(b"a", content_type=BINARY), 200, BINARY, b"a"),
    ],
)
def test_the_helpers_make_the_usual_responses(
    response: Response, status: int, content_type: str, body: bytes
) -> None:
    assert (response.status, response.content_type, response.body) == (status, content_type, body)


def test_what_cannot_be_json_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="object"):
        json_response(object())


@pytest.mark.parametrize(
    ("url", "location"),
    [
        ("/a", "/a"),
        ("https://x.example/a?b=c#d", "https://x.example/a?b=c#d"),
        ("/ж б", "/%D0%B6%20%D0%B1"),
        ("/a%20b", "/a%20b"),
        ("?a=[1]&b='c'", "?a=[1]&b='c'"),
        ('/"<>', "/%22%3C%3E"),
    ],
)
def test_the_target_of_a_redirect_is_percent_encoded(url: str, location: str) -> None:
    response = redirect(url)
    assert (response.status, response.headers["Location"]) == (302, location)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_has_the_status_of_one(status: int) -> None:
    response = redirect("/a", status, "go there")
    assert (response.status, response.body) == (status, b"go there")


@pytest.mark.parametrize(
    ("url", "status", "message"),
    [
        ("/a\r\nX: y", 302, "control characters"),
        ("/\\evil.example", 302, "backslashes"),
        ("/\x7f", 302, "control characters"),
        (None, 302, "control characters"),
        ("/a", 200, "not the status of a redirect"),
        ("/a", 304, "not the status of a redirect"),
    ],
)
def test_another_redirect_is_an_error(url: Any, status: int, message: str) -> None:
    with pytest.raises(HeaderError, match=message):
        redirect(url, status)


def test_a_delayed_redirect_is_a_page_with_a_refresh() -> None:
    response = redirect("/ж", delay=3, body="wait")
    assert (response.status, response.headers["Refresh"], "Location" in response.headers) == (
        200,
        "3; url=/%D0%B6",
        False,
    )


def test_an_error_page_escapes_its_message() -> None:
    assert "<h1>&lt;b&gt;</h1>" in error_page("<b>")
    assert "<title>&lt;b&gt;</title>" in error_page("<b>")
    assert "<title>t&amp;c</title>" in error_page("<b>", "t&c")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("a.txt", 'attachment; filename="a.txt"'),
        ("a b.txt", 'attachment; filename="a b.txt"'),
        ("/etc/passwd", 'attachment; filename="passwd"'),
        ("..\\a.txt", 'attachment; filename="a.txt"'),
        ("a\r\nX: y", 'attachment; filename="aX: y"'),
        ('a".txt', "attachment; filename=\"a_.txt\"; filename*=UTF-8''a%22.txt"),
        ("a;b%.txt", "attachment; filename=\"a_b_.txt\"; filename*=UTF-8''a%3Bb%25.txt"),
        ("ж.txt", "attachment; filename=\"_.txt\"; filename*=UTF-8''%D0%B6.txt"),
    ],
)
def test_the_name_of_a_download_is_one_parameter_in_any_script(name: str, value: str) -> None:
    assert content_disposition(name) == value
    assert Headers([("Content-Disposition", value)])


def test_a_file_may_be_shown_instead_of_saved() -> None:
    assert content_disposition("a.txt", "inline") == 'inline; filename="a.txt"'
