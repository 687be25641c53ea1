"""The part of a Context that the client sends: typed access, forms, JSON, limits."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from enum import IntEnum
from typing import Any

import msgspec
import pytest

from prologue import App, Context, HTTPError, Limits, Settings
from prologue.errors import BodyTooLargeError
from prologue.parameters import convert
from tests.calling import call, environ_for

Handler = Callable[[Context], Any]

FORM = "application/x-www-form-urlencoded"


def context(method: str = "GET", path: str = "/", body: bytes | None = None, **more: Any) -> Context:
    ctx = Context(App(), environ_for(method, path, body, **more))
    ctx.path = path
    return ctx


def posted(body: bytes, content_type: str = FORM, method: str = "POST") -> Context:
    return context(method, "/", body, CONTENT_TYPE=content_type)


def app_of(handler: Handler, **settings: Any) -> App:
    app = App(Settings(**settings))
    app.route("/", handler, ["GET", "POST", "PUT"])
    return app


# -- typed access -------------------------------------------------------------------------------------


class Level(IntEnum):
    LOW = 1


@pytest.mark.parametrize(
    ("text", "default", "value"),
    [
        ("42", 0, 42),
        ("-7", 0, -7),
        ("x", 5, 5),
        ("", 5, 5),
        ("1.5", 5, 5),
        ("1.5", 0.0, 1.5),
        ("42", 0.0, 42.0),
        ("nan", 0.5, 0.5),
        ("1e400", 0.5, 0.5),
        ("yes", False, True),
        ("OFF", True, False),
        ("maybe", True, True),
        ("42", "x", "42"),
        ("", "x", ""),
        ("42", None, "42"),
        ("1", Level.LOW, "1"),
        ("9" * 5000, 3, 3),
        (" 1", 3, 3),
        ("1_0", 3, 3),
        ("٣", 3, 3),
    ],
)
def test_the_type_of_the_default_converts(text: str, default: Any, value: Any) -> None:
    converted = convert(text, default)
    assert (converted, type(converted)) == (value, type(value))

    ctx = context(QUERY_STRING=f"k={text}" if text.isascii() else "k=%D9%A3")
    ctx.path_params = {"k": text}
    if text.strip() == text:
        assert ctx.get_query_params("k", default) == value
    assert ctx.get_path_params("k", default) == value


@pytest.mark.parametrize("default", [0, 0.5, True, "x", None, ["a"], date(2020, 1, 1)])
def test_what_is_missing_is_the_default(default: Any) -> None:
    ctx = posted(b"")
    assert ctx.get_query_params("k", default) == default
    assert ctx.get_path_params("k", default) == default
    assert ctx.get_form_params("k", default) == default
    assert ctx.get_post_params("k", default) == default


def test_without_a_default_what_is_missing_is_empty_text_or_none() -> None:
    ctx = posted(b"")
    assert ctx.get_query_params("k") == ctx.get_path_params("k") == ctx.get_form_params("k") == ""
    assert ctx.get_post_params("k") == ctx.get_cookie("k") == ""
    assert ctx.get_query_params_option("k") is ctx.get_path_params_option("k") is None
    assert ctx.get_form_params_option("k") is ctx.get_post_params_option("k") is None


@pytest.mark.parametrize(
    ("value", "default", "read"),
    [
        (42, 0, 42),
        (42, "", "42"),
        (42, 0.5, 42.0),
        (1, False, True),
        (2, False, False),
        (1.5, 0, 0),
        (date(2020, 1, 2), "", "2020-01-02"),
        (date(2020, 1, 2), date(2000, 1, 1), date(2020, 1, 2)),
        (42, None, 42),
    ],
)
def test_a_path_parameter_that_a_converter_made_is_of_the_type_of_the_default(
    value: Any, default: Any, read: Any
) -> None:
    ctx = context()
    ctx.path_params = {"k": value}
    got = ctx.get_path_params("k", default)
    assert (got, type(got)) == (read, type(read))
    assert ctx.get_path_params("k") is value
    assert ctx.get_path_params_option("k") is value


def test_repeated_keys_are_reachable() -> None:
    ctx = context("POST", "/", b"f=1&f=2", CONTENT_TYPE=FORM, QUERY_STRING="q=1&q=2")
    assert ctx.get_query_params("q") == "1"
    assert ctx.get_query_params("q", ["x"]) == ctx.query.getlist("q") == ["1", "2"]
    assert ctx.get_form_params("f", []) == ctx.form.getlist("f") == ["1", "2"]


def test_query_and_form_are_decoded_once() -> None:
    ctx = context("POST", "/", "n=%2541+ж".encode(), CONTENT_TYPE=FORM, QUERY_STRING="n=%2541+%D0%B6")
    assert ctx.get_query_params("n") == ctx.get_form_params("n") == "%41 ж"


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_a_form_is_read_with_any_method(method: str) -> None:
    assert posted(b"a=1", method=method).get_post_params("a", 0) == 1


def multipart(*parts: tuple[str, str, bytes]) -> tuple[bytes, str]:
    lines = b"".join(
        f'--b\r\nContent-Disposition: form-data; name="{name}"'.encode()
        + (f'; filename="{filename}"\r\nContent-Type: text/x'.encode() if filename else b"")
        + b"\r\n\r\n"
        + body
        + b"\r\n"
        for name, filename, body in parts
    )
    return lines + b"--b--\r\n", "multipart/form-data; boundary=b"


def test_a_multipart_form_has_fields_and_files() -> None:
    def handler(ctx: Context) -> str:
        assert ctx.get_form_params("a", 0) == 1
        assert ctx.get_form_params_option("a") == "1"
        assert ctx.get_post_params("a", 7) == 7  # the original's: urlencoded bodies only
        assert ctx.get_post_params_option("a") is None
        files = [(file.filename, file.body) for file in ctx.files.getlist("f")]
        assert files == [("x.txt", b"one"), ("y.txt", b"two")]
        return ctx.get_upload_file("f").content_type

    body, content_type = multipart(("a", "", b"1"), ("f", "x.txt", b"one"), ("f", "y.txt", b"two"))
    assert call(app_of(handler), "POST", "/", body, CONTENT_TYPE=content_type).text == "text/x"


def test_a_file_that_was_not_sent_is_a_bad_request() -> None:
    with pytest.raises(HTTPError, match="no file 'f'") as raised:
        posted(b"").get_upload_file("f")
    assert raised.value.status == 400


def test_cookies_of_the_request_are_read() -> None:
    ctx = context(HTTP_COOKIE='a=1; b="x y"')
    assert [ctx.get_cookie("a"), ctx.get_cookie("b"), ctx.get_cookie("c", "none")] == ["1", "x y", "none"]


# -- JSON ---------------------------------------------------------------------------------------------


class User(msgspec.Struct):
    name: str
    age: int = 0


class Team(msgspec.Struct):
    users: list[User]


@dataclass
class Size:
    width: int


@pytest.mark.parametrize(
    ("kind", "body", "value"),
    [
        (User, b'{"name": "a", "age": 3}', User("a", 3)),
        (Team, b'{"users": [{"name": "a"}]}', Team([User("a")])),
        (Size, b'{"width": 1}', Size(1)),
        (list[int], b"[1, 2]", [1, 2]),
        (dict[str, float], b'{"a": 1}', {"a": 1.0}),
        (int, b"7", 7),
        (Any, b'{"a": [null, true]}', {"a": [None, True]}),
    ],
)
def test_json_is_decoded_into_a_type(kind: Any, body: bytes, value: Any) -> None:
    ctx = posted(body, "application/json")
    assert ctx.json(kind) == value
    assert ctx.json() == json.loads(body)


@pytest.mark.parametrize(
    ("body", "content_type", "status", "message"),
    [
        (b'{"age": 3}', "application/json", 422, "missing required field `name`"),
        (b'{"name": 1}', "application/json", 422, "$.name"),
        (b'{"name": "a", "age": "x"}', "application/json", 422, "$.age"),
        (b'{"name": "a", "age": ' + b"9" * 5000 + b"}", "application/json", 422, "$.age"),
        (b"[]", "application/json", 422, "object"),
        (b"{", "application/json", 400, "not JSON"),
        (b'{"name": "a"} x', "application/json", 400, "not JSON"),
        (b"", "application/json", 400, "empty"),
        (b'{"name": NaN}', "application/json", 400, "not JSON"),
        (b'{"name": "\xff"}', "application/json", 400, "not JSON"),
        (b"\xef\xbb\xbf{}", "application/json", 400, "not JSON"),
        (b'{"more": ' + b"[" * 100_000, "application/json", 400, "not JSON"),
        (b"{}", "text/plain", 415, "text/plain"),
        (b"{}", "", 415, "without a type"),
        (b"{}", "application/jsonx", 415, "application/jsonx"),
        (b"{}", "text/plain;application/json", 415, "text/plain"),
        (b"{}", "application/json; charset=utf-16", 415, "utf-16"),
        (b'{"name": "a"}', "application/vnd.api+json; charset=UTF-8", 200, "a"),
        (b'{"name": "a"}', "Application/JSON", 200, "a"),
    ],
)
def test_json_that_is_wrong_is_answered_with_what_is_wrong(
    body: bytes, content_type: str, status: int, message: str
) -> None:
    app = app_of(lambda ctx: ctx.json(User).name)
    more = {"CONTENT_TYPE": content_type} if content_type else {}
    answer = call(app, "POST", "/", body, **untyped(more))
    assert answer.status == status
    assert message in answer.text


def untyped(value: Any) -> Any:
    return value


# -- limits -------------------------------------------------------------------------------------------


def measure(ctx: Context) -> Any:
    return {"form": len(ctx.form), "files": len(ctx.files), "data": len(ctx.request.get_data())}


@pytest.mark.parametrize(
    ("settings", "limits", "size", "status"),
    [
        ({"max_body_size": 10}, None, 10, 200),
        ({"max_body_size": 10}, None, 11, 413),
        ({"max_body_size": 10}, Limits(body_size=20), 11, 200),
        ({"max_body_size": 10}, Limits(body_size=20), 21, 413),
        ({"max_body_size": 10}, Limits(form_parts=1), 11, 413),
        ({}, Limits(body_size=0), 1, 413),
        ({}, Limits(body_size=0), 0, 200),
    ],
)
@pytest.mark.parametrize("chunked", [False, True])
def test_the_size_of_a_body_is_limited_by_the_settings_and_the_route(
    settings: dict[str, Any], limits: Limits | None, size: int, status: int, chunked: bool
) -> None:
    app = App(Settings(**settings))
    app.post("/", lambda ctx: str(len(ctx.request.get_data())), limits=limits)
    body = b"x" * size
    if chunked:
        more: dict[str, Any] = {"wsgi.input": io.BytesIO(body), "wsgi.input_terminated": True}
        answer = call(app, "POST", **more)
    else:
        answer = call(app, "POST", "/", body)
    assert answer.status == status
    if status == 200:
        assert answer.text == str(size)


def test_a_body_without_a_length_is_empty() -> None:
    app = app_of(lambda ctx: str(len(ctx.request.get_data())))
    more: dict[str, Any] = {"wsgi.input": io.BytesIO(b"rest of the connection")}
    assert call(app, "POST", **more).text == "0"


@pytest.mark.parametrize(
    ("limits", "status"),
    [
        (None, 200),
        (Limits(form_parts=3), 200),
        (Limits(form_parts=2), 413),
        (Limits(form_memory_size=3), 413),
        (Limits(body_size=5), 413),
    ],
)
@pytest.mark.parametrize("kind", ["urlencoded", "multipart"])
def test_a_form_is_limited_by_the_route(limits: Limits | None, status: int, kind: str) -> None:
    app = App()
    app.post("/", lambda ctx: str(sum(len(v) for _, v in ctx.form.lists())), limits=limits)
    body, content_type = (
        (b"a=10&a=20&b=30", FORM)
        if kind == "urlencoded"
        else multipart(("a", "", b"10"), ("a", "", b"20"), ("b", "", b"30"))
    )
    answer = call(app, "POST", "/", body, CONTENT_TYPE=content_type)
    assert answer.status == status
    if status == 200:
        assert answer.text == "3"


# -- a form is read without a request, and the request goes on from there -----------------------------------


def test_a_query_and_a_urlencoded_form_need_no_request() -> None:
    ctx = context("POST", "/", b"a=1", CONTENT_TYPE=FORM, QUERY_STRING="q=2")
    assert (ctx.get_post_params("a", 0), ctx.get_form_params("a", 0)) == (1, 1)
    assert ctx.get_query_params("q", 0) == 2
    assert ctx._request is None
    assert ctx.form is ctx.form
    assert ctx.query is ctx.query


def test_a_request_that_comes_later_has_the_form_and_no_body_left() -> None:
    ctx = posted(b"a=1&a=2")
    form = ctx.form
    assert ctx.request.form is form
    assert (len(ctx.request.files), len(ctx.files), len(ctx.request.values)) == (0, 0, 1)
    assert (ctx.request.get_data(), ctx.request.stream.read()) == (b"", b"")
    assert ctx.form is form


def test_a_body_that_the_request_has_read_is_still_a_form() -> None:
    ctx = posted(b"a=1&a=2")
    assert ctx.request.get_data() == b"a=1&a=2"
    assert ctx.form.getlist("a") == ["1", "2"]
    assert ctx.form is ctx.request.form


class Counting(io.BytesIO):
    """A connection: behind the body stands the next request, and reading on would wait for ever."""

    def read(self, size: int | None = -1, /) -> bytes:
        block = super().read(size)
        assert self.tell() <= len(b"a=1&b=2"), "a body was read behind its end"
        return block


@pytest.mark.parametrize("limits", [Limits(form_parts=1), Limits(form_memory_size=3), Limits(body_size=3)])
@pytest.mark.parametrize("then", ["form", "request.form", "files", "request.get_data"])
def test_what_is_read_after_a_form_was_refused_ends_with_the_body(limits: Limits, then: str) -> None:
    def late(ctx: Context) -> str:
        owner = ctx.request if then.startswith("request.") else ctx
        with suppress(HTTPError):
            found = getattr(owner, then.removeprefix("request."))
            assert len(found() if callable(found) else found) < len(b"a=1&b=2")
        return "refused"

    app = App(error_handlers={BodyTooLargeError: late})
    app.post("/", lambda ctx: str(ctx.form), limits=limits)
    source: Any = {"wsgi.input": Counting(b"a=1&b=2GET / HTTP/1.1"), "CONTENT_LENGTH": "7"}
    answer = call(app, "POST", CONTENT_TYPE=FORM, **source)
    assert (answer.status, answer.text) == (413, "refused")


BODIES: dict[str, dict[str, Any]] = {
    "plain": {"body": b"a=1&b=2"},
    "repeated": {"body": b"a=1&a=&a"},
    "encoded": {"body": "a=%D1%87+ж&%61=%FF&b=%".encode()},
    "empty": {"body": b""},
    "separators": {"body": b"&&=&;a=1;b=2"},
    "not UTF-8": {"body": b"a=\xff"},
    "another charset": {"body": b"a=1", "CONTENT_TYPE": f"{FORM}; charset=utf-16"},
    "spelt otherwise": {"body": b"a=1", "CONTENT_TYPE": f" {FORM.upper()} ;x"},
    "no form": {"body": b"a=1", "CONTENT_TYPE": "text/plain"},
    "almost a form": {"body": b"a=1", "CONTENT_TYPE": f"{FORM}x"},
    "no type": {"body": b"a=1", "CONTENT_TYPE": ""},
    "cut short": {"body": b"a=1", "CONTENT_LENGTH": "9"},
    "longer than said": {"body": b"a=1&b=2", "CONTENT_LENGTH": "3"},
    "no length": {"body": b"a=1", "CONTENT_LENGTH": ""},
    "a length that is none": {"body": b"a=1", "CONTENT_LENGTH": "+3"},
    "chunked": {"body": b"a=1", "CONTENT_LENGTH": "", "wsgi.input_terminated": True},
    "chunked and a length": {
        "body": b"a=1",
        "CONTENT_LENGTH": "9",
        "HTTP_TRANSFER_ENCODING": "chunked",
        "wsgi.input_terminated": True,
    },
    "too long": {"body": b"a=" + b"x" * 100},
    "too long, chunked": {"body": b"a=" + b"x" * 100, "CONTENT_LENGTH": "", "wsgi.input_terminated": True},
    "too much in memory": {"body": b"a=" + b"x" * 40},
    "too many fields": {"body": b"&" * 10},
}


@pytest.mark.parametrize("sent", BODIES.values(), ids=BODIES)
def test_a_form_is_the_same_with_a_request_and_without(sent: dict[str, Any]) -> None:
    def answer(with_request: bool) -> tuple[int, str]:
        def handler(ctx: Context) -> Any:
            assert not with_request or ctx.request
            return [[name, value] for name, value in ctx.form.items(multi=True)]

        app = app_of(handler, max_body_size=90, max_form_memory_size=30, max_form_parts=8)
        environ = {"CONTENT_TYPE": FORM, **sent}
        got = call(app, "POST", "/", environ.pop("body"), **environ)
        return got.status, got.text

    assert answer(with_request=False) == answer(with_request=True)
