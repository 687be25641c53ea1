"""The Context: what a handler reads of the request and writes on the response."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from prologue import App, Context, Response, Settings, switch
from prologue.errors import AbortError, HeaderError, LifecycleError
from prologue.response import HTML, TEXT
from tests.calling import Answer, call, client, environ_for

Handler = Callable[[Context], Any]


def context(method: str = "GET", path: str = "/", body: bytes | None = None, **more: Any) -> Context:
    ctx = Context(App(), environ_for(method, path, body, **more))
    ctx.path = path
    return ctx


def app_of(handler: Handler, **settings: Any) -> App:
    app = App(Settings(**settings))
    app.route("/", handler, ["GET", "POST", "PUT"])
    return app


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


def test_what_runs_after_the_response_can_be_called() -> None:
    with pytest.raises(TypeError, match="what runs after the response is a function, not None"):
        context().after_response(None)  # type: ignore[arg-type]


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
