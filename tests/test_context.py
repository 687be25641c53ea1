"""The Context: what a handler reads of the request and writes on the response."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import IntEnum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from prologue import App, Context, HTTPError, Limits, Response, Settings, switch
from prologue.errors import AbortError, HeaderError, LifecycleError
from prologue.parameters import convert
from prologue.response import HTML, TEXT
from tests.calling import Answer, call, client, environ_for

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


# -- the response -------------------------------------------------------------------------------------


def test_resp_sets_body_and_status_and_keeps_the_headers() -> None:
    ctx = context()
    ctx.response.headers["X-A"] = "1"
    ctx.resp("text", 201)
    assert (ctx.response.status, ctx.response.body, ctx.response.headers["X-A"]) == (201, b"text", "1")
    whole = Response("other", 202)
    ctx.resp(whole)
    assert ctx.response is whole


def test_resp_default_leaves_the_body_to_the_handler_of_the_status() -> None:
    def handler(ctx: Context) -> None:
        ctx.resp("half an answer")
        ctx.resp_default(404)

    app = app_of(handler)
    app.register_error_handler(404, lambda ctx: "own")
    assert (call(app).status, call(app).text) == (404, "own")


def test_set_response_replaces_all() -> None:
    ctx = context()
    ctx.set_cookie("a", "1")
    ctx.set_response(202, "text", {"X-A": "1"}, TEXT)
    assert ctx.response.headers.items() == [("X-A", "1"), ("Content-Type", TEXT)]
    assert (ctx.response.status, ctx.response.body) == (202, b"text")


def test_what_a_handler_returned_can_be_read_and_changed() -> None:
    ctx = context()
    ctx.answer({"a": 1})
    assert ctx.response.body == b'{"a":1}'
    ctx.response = Response("other")
    assert ctx.response.body == b"other"


def test_abort_exit_raises() -> None:
    with pytest.raises(AbortError, match="403 Forbidden: no") as raised:
        context().abort_exit(403, "no", [("X-A", "1")])
    assert raised.value.headers == (("X-A", "1"),)
    with pytest.raises(AbortError, match="401 Unauthorized"):
        context().abort_exit()


@pytest.mark.parametrize(
    ("scheme", "secure", "sent"),
    [
        ("http", None, "a=1; Path=/; HttpOnly; SameSite=Lax"),
        ("https", None, "a=1; Path=/; Secure; HttpOnly; SameSite=Lax"),
        ("http", True, "a=1; Path=/; Secure; HttpOnly; SameSite=Lax"),
        ("https", False, "a=1; Path=/; HttpOnly; SameSite=Lax"),
    ],
)
def test_a_cookie_is_secure_where_the_request_is(scheme: str, secure: bool | None, sent: str) -> None:
    more: dict[str, Any] = {"wsgi.url_scheme": scheme}
    ctx = context(**more)
    ctx.set_cookie("a", "1", secure=secure)
    assert ctx.response.headers.get_all("Set-Cookie") == [sent]


def test_every_part_of_a_cookie_can_be_set_and_it_can_be_deleted() -> None:
    ctx = context()
    ctx.set_cookie(
        "a", "1", max_age=timedelta(minutes=1), expires=datetime(2030, 1, 1, tzinfo=UTC), domain="x.example",
        path="/p", secure=True, http_only=False, same_site="None", partitioned=True,
    )  # fmt: skip
    ctx.delete_cookie("b", path="/p", domain="x.example")
    assert ctx.response.headers.get_all("Set-Cookie") == [
        "a=1; Expires=Tue, 01 Jan 2030 00:00:00 GMT; Max-Age=60; Domain=x.example; Path=/p; Secure;"
        " SameSite=None; Partitioned",
        "b=; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0; Domain=x.example; Path=/p; HttpOnly;"
        " SameSite=Lax",
    ]


@pytest.mark.parametrize(
    ("name", "content_type", "disposition"),
    [
        ("a.csv", "text/csv; charset=utf-8", 'attachment; filename="a.csv"'),
        ("a.pdf", "application/pdf", 'attachment; filename="a.pdf"'),
        ("a", "application/octet-stream", 'attachment; filename="a"'),
        (
            "отчет.pdf",
            "application/pdf",
            "attachment; filename=\"_____.pdf\"; filename*=UTF-8''%D0%BE%D1%82%D1%87%D0%B5%D1%82.pdf",
        ),
        ("", HTML, None),
    ],
)
def test_an_attachment_has_a_name_and_its_type(name: str, content_type: str, disposition: str | None) -> None:
    def handler(ctx: Context) -> str:
        ctx.attachment(name)
        return "a,b"

    answer = call(app_of(handler))
    assert (answer.header("Content-Type"), answer.header("Content-Disposition")) == (
        content_type,
        disposition,
    )
    assert answer.text == "a,b"


def test_the_charset_of_an_attachment_can_be_chosen() -> None:
    ctx = context()
    ctx.attachment("a.txt", charset="windows-1251")
    assert ctx.response.content_type == "text/plain; charset=windows-1251"
    with pytest.raises(HeaderError):
        ctx.attachment("a.txt", charset="a\r\nb")


def test_a_static_file_keeps_what_was_set_before(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("content")

    def handler(ctx: Context) -> Response:
        ctx.set_cookie("seen", "1")
        ctx.response.headers["X-A"] = "1"
        return ctx.static_file_response(
            ctx.get_query_params("name"), str(tmp_path), download_name="b.txt", headers={"X-B": "2"}
        )

    answer = call(app_of(handler), QUERY_STRING="name=a.txt")
    assert (answer.status, answer.text) == (200, "content")
    assert [answer.header(name) for name in ("X-A", "X-B")] == ["1", "2"]
    assert answer.header("Content-Disposition") == 'attachment; filename="b.txt"'
    assert len(answer.all("Set-Cookie")) == 1
    missing = call(app_of(handler), QUERY_STRING="name=../a.txt")
    assert (missing.status, "404 Not Found" in missing.text) == (404, True)


# -- the rest -----------------------------------------------------------------------------------------


def test_the_request_is_made_once_on_first_use() -> None:
    ctx = context("PUT", QUERY_STRING="a=1")
    assert ctx._request is None
    assert ctx.request is ctx.request
    assert (ctx.method, ctx.request.method, ctx.query["a"]) == ("PUT", "PUT", "1")


def test_plain_dispatch_makes_no_request_and_no_response() -> None:
    kept: list[Context] = []
    app = app_of(lambda ctx: kept.append(ctx) or "text")  # type: ignore[func-returns-value]
    assert call(app).text == "text"
    (ctx,) = kept
    assert (ctx._request, ctx._response, ctx._state, ctx._after, ctx._request_id) == (
        None,
        None,
        None,
        None,
        "",
    )


def test_state_is_a_place_for_anything() -> None:
    ctx = context()
    ctx.state.user = "a"
    assert ctx.state == SimpleNamespace(user="a")
    with pytest.raises(AttributeError):
        ctx.user = "a"  # type: ignore[attr-defined]


def test_a_session_needs_a_middleware() -> None:
    ctx = context()
    with pytest.raises(LifecycleError, match="session middleware"):
        _ = ctx.session
    ctx.session = {"a": 1}
    assert ctx.session == {"a": 1}


def test_the_request_id_is_one_for_each_request_and_not_the_clients() -> None:
    ctx, other = context(HTTP_X_REQUEST_ID="forged"), context()
    assert ctx.request_id == ctx.request_id != other.request_id
    assert len(ctx.request_id) == 16


def test_switch_is_next() -> None:
    def middleware(ctx: Context) -> None:
        switch(ctx)
        ctx.response.headers["X-A"] = "1"

    app = app_of(lambda ctx: "text")
    app.use(middleware)
    assert client(app).get("/").headers["X-A"] == "1"


def test_settings_are_those_of_the_application() -> None:
    app = app_of(
        lambda ctx: f"{ctx.settings.app_name} {ctx.settings['greeting']}",
        app_name="x",
        data={"greeting": "hi"},
    )
    assert call(app).text == "x hi"


def test_the_repr_of_a_context_says_what_it_is_about() -> None:
    assert repr(context(path="/a")) == "<Context GET '/a' route=None>"
    app = App()
    app.get("/{x}", repr)
    answer: Answer = call(app, path="/ж")
    assert answer.text == "<Context GET '/ж' route='/{x}'>"
