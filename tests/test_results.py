"""What handlers may return, and what becomes of it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec
import pytest
from werkzeug.wrappers import Response as WerkzeugResponse

from prologue import App, Context, Response, error404, html_response, redirect
from prologue.errors import HeaderError
from prologue.response import BINARY, HTML, JSON, Headers
from prologue.results import response_of, to_response
from tests.calling import call, environ_for


class Point(msgspec.Struct):
    x: int
    y: int


@dataclass
class Size:
    width: int


class Pair(NamedTuple):
    body: str
    status: int


def chunks(*parts: Any) -> Iterator[Any]:
    yield from parts


KINDS: list[tuple[str, Callable[[], Any], int, str | None, bytes]] = [
    ("text", lambda: "<p>ж</p>", 200, HTML, "<p>ж</p>".encode()),
    ("empty text", lambda: "", 200, HTML, b""),
    ("a lone surrogate", lambda: "a\ud800b", 200, HTML, b"a?b"),
    ("bytes", lambda: b"\x00\xff", 200, BINARY, b"\x00\xff"),
    ("bytearray", lambda: bytearray(b"ab"), 200, BINARY, b"ab"),
    ("memoryview", lambda: memoryview(b"ab"), 200, BINARY, b"ab"),
    ("dict", lambda: {"a": [1, None]}, 200, JSON, b'{"a":[1,null]}'),
    ("list", lambda: [1, "b"], 200, JSON, b'[1,"b"]'),
    ("not a number", lambda: [float("nan"), float("inf")], 200, JSON, b"[null,null]"),
    ("struct", lambda: Point(1, 2), 200, JSON, b'{"x":1,"y":2}'),
    ("dataclass", lambda: Size(3), 200, JSON, b'{"width":3}'),
    ("iterator of bytes", lambda: chunks(b"a", b"b"), 200, HTML, b"ab"),
    ("iterator of text", lambda: chunks("a", "ж"), 200, HTML, "aж".encode()),
    ("iterator of both", lambda: chunks("a", b"b", ""), 200, HTML, b"ab"),
    ("an iterator without a close", lambda: iter([b"a"]), 200, HTML, b"a"),
    ("response", lambda: Response(b"x", 418, content_type="a/b"), 418, "a/b", b"x"),
    ("response without a type", lambda: Response(b"x", content_type=None), 200, BINARY, b"x"),
    ("redirect", lambda: redirect("/x"), 302, HTML, b""),
    (
        "werkzeug response",
        lambda: WerkzeugResponse("w", 201, mimetype="text/csv"),
        201,
        "text/csv; charset=utf-8",
        b"w",
    ),
    ("nothing", lambda: None, 200, HTML, b""),
    ("body and status", lambda: ("made", 201), 201, HTML, b"made"),
    ("no body and status", lambda: (None, 202), 202, HTML, b""),
    ("object and status", lambda: ({"a": 1}, 409), 409, JSON, b'{"a":1}'),
    ("bytes and status", lambda: (b"x", 500), 500, BINARY, b"x"),
    ("iterator and status", lambda: (chunks("a"), 206), 206, HTML, b"a"),
    ("response and status", lambda: (html_response("a"), 203), 203, HTML, b"a"),
    ("headers as mapping", lambda: ("a", 200, {"X-A": "1"}), 200, HTML, b"a"),
    ("headers as pairs", lambda: ("a", 200, [("Content-Type", "a/b")]), 200, "a/b", b"a"),
    ("a named tuple", lambda: Pair("a", 201), 201, HTML, b"a"),
    ("no content", lambda: (None, 204), 204, None, b""),
    ("not modified", lambda: Response(b"x", 304), 304, None, b""),
    ("early hints", lambda: ("x", 103), 103, HTML, b""),
    ("an unknown status", lambda: ("x", 299), 299, HTML, b"x"),
]


@pytest.mark.parametrize("middlewares", [0, 1, 2])
@pytest.mark.parametrize("callback", [False, True])
@pytest.mark.parametrize(
    ("result", "status", "content_type", "body"),
    [kind[1:] for kind in KINDS],
    ids=[kind[0] for kind in KINDS],
)
def test_what_a_handler_returns_becomes_the_answer(
    result: Callable[[], Any],
    status: int,
    content_type: str | None,
    body: bytes,
    callback: bool,
    middlewares: int,
) -> None:
    app = App(middlewares=[Context.next] * middlewares)
    called = []

    def handler(ctx: Context) -> Any:
        if callback:
            ctx.after_response(lambda: called.append(1))
        return result()

    app.get("/", handler)

    got = call(app)
    head = call(app, "HEAD")

    assert (got.status, got.header("Content-Type"), got.body) == (status, content_type, body)
    assert (head.status, head.body) == (status, b"")
    # RFC 9110 section 9.3.2: the fields of HEAD are those of GET.
    assert sorted(head.headers) == sorted(got.headers)
    assert called == [1, 1] * callback


@pytest.mark.parametrize("result", [1, 1.5, True, object(), Point, Size, {1}, ..., range(3), NotImplemented])
@pytest.mark.parametrize("headers", [False, True])
def test_anything_else_is_a_type_error_that_names_the_type(result: Any, headers: bool) -> None:
    with pytest.raises(TypeError, match=rf"^a handler returned {type(result).__name__}; it may return str"):
        to_response(result, Response() if headers else None, environ_for())


@pytest.mark.parametrize(
    "result",
    [(), ("a",), ("a", "200"), ("a", True), ("a", None), ("a", 200, {}, 1), (200, "a"), ("a", 200.0)],
)
def test_a_tuple_of_another_form_is_a_type_error_that_shows_it(result: Any) -> None:
    with pytest.raises(TypeError, match=r"^a tuple is \(body, status\)") as raised:
        to_response(result, None, environ_for())
    assert repr(result) in str(raised.value)


def test_the_message_about_a_huge_tuple_is_short() -> None:
    with pytest.raises(TypeError) as raised:
        to_response(("a" * 10_000, "b"), None, environ_for())
    assert len(str(raised.value)) < 300


@pytest.mark.parametrize(
    "result", [("a", 99), ("a", 600), ("a", 200, {"X": "a\nb"}), ("a", 200, {"a b": "c"})]
)
def test_a_tuple_with_what_may_not_be_sent_is_a_header_error(result: Any) -> None:
    with pytest.raises(HeaderError):
        to_response(result, None, environ_for())


AFTERWARDS: list[tuple[Any, int]] = [
    ("text", 201),
    (b"bytes", 201),
    ({"a": 1}, 201),
    (("text", 202), 202),
    (("text", 202, {"X-Own": "2"}), 202),
    (redirect("/elsewhere"), 302),
    (error404(), 404),
    (WerkzeugResponse("w", 203), 203),
    (None, 201),
]


@pytest.mark.parametrize("where", ["handler", "middleware before", "middleware after"])
@pytest.mark.parametrize(("result", "status"), AFTERWARDS)
def test_what_was_set_on_the_response_before_is_kept(result: Any, status: int, where: str) -> None:
    app = App()

    def set_some(ctx: Context) -> None:
        ctx.response.status = 201
        ctx.response.headers["X-Kept"] = "1"
        ctx.set_cookie("a", "1")
        ctx.set_cookie("b", "2")

    def middleware(ctx: Context) -> Any:
        if where == "middleware before":
            set_some(ctx)
        ctx.next()
        return result if where == "middleware after" else None

    def handler(ctx: Context) -> Any:
        if where != "middleware before":
            set_some(ctx)
        return None if where == "middleware after" else result

    app.get("/", handler, middlewares=[middleware])

    answer = call(app)

    assert answer.status == status
    assert answer.header("X-Kept") == "1"
    assert [cookie.split(";")[0] for cookie in answer.all("Set-Cookie")] == ["a=1", "b=2"]
    assert len(answer.all("Content-Type")) == 1


def test_the_headers_of_the_result_win_and_its_cookies_are_added() -> None:
    base = Response(b"", 200, {"X-A": "1", "X-B": "1", "Set-Cookie": "a=1"})

    response = to_response(
        ("text", 200, [("x-a", "2"), ("x-a", "3"), ("Set-Cookie", "b=2")]), base, environ_for()
    )

    assert response.headers.get_all("X-A") == ["2", "3"]
    assert response.headers.get_all("X-B") == ["1"]
    assert response.headers.get_all("Set-Cookie") == ["a=1", "b=2"]


def test_the_headers_of_a_response_win_and_its_cookies_are_kept() -> None:
    base = Response(b"old", 200, {"X-A": "1", "X-B": "1", "Set-Cookie": "a=1", "Content-Length": "3"}, "a/b")
    result = Response(b"new", 404, {"x-a": "2", "Set-Cookie": "b=2"})

    response = to_response(result, base, environ_for())

    assert (response.status, response.body, response.content_type) == (404, b"new", HTML)
    assert response.headers.get_all("X-A") == ["2"]
    assert response.headers.get_all("X-B") == ["1"]
    assert response.headers.get_all("Set-Cookie") == ["b=2", "a=1"]
    assert "Content-Length" not in response.headers


def test_a_response_that_a_handler_returns_every_time_gathers_nothing() -> None:
    shared = error404()
    app = App()

    @app.get("/")
    def handler(ctx: Context) -> Response:
        ctx.set_cookie("user", ctx.get_query_params("user"))
        return shared

    assert call(app, QUERY_STRING="user=a").all("Set-Cookie") == ["user=a; Path=/; HttpOnly; SameSite=Lax"]
    assert call(app, QUERY_STRING="user=b").all("Set-Cookie") == ["user=b; Path=/; HttpOnly; SameSite=Lax"]
    assert "Set-Cookie" not in shared.headers


@pytest.mark.parametrize("status", [200, 404])
@pytest.mark.parametrize("wrap", [lambda one: one, lambda one: (one, 403)], ids=["alone", "tuple"])
@pytest.mark.parametrize("where", ["handler", "error handler", "status handler"])
def test_no_middleware_writes_on_a_response_that_is_returned_every_time(
    where: str, wrap: Callable[[Response], Any], status: int
) -> None:
    shared = Response("the same", status, {"X-Shared": "1"})

    def outermost(ctx: Context) -> None:
        ctx.next()
        ctx.set_cookie("user", ctx.get_query_params("user"))
        ctx.response.headers["X-Shared"] = "2"

    def handler(_: Context) -> Any:
        if where == "error handler":
            raise KeyError
        return ("", 400) if where == "status handler" else wrap(shared)

    app = App(middlewares=[outermost], error_handlers={(KeyError, 400): lambda _: wrap(shared)})
    app.get("/", handler)
    for user in ("a", "b"):
        answer = call(app, QUERY_STRING=f"user={user}")
        assert answer.all("Set-Cookie") == [f"user={user}; Path=/; HttpOnly; SameSite=Lax"]
        assert answer.header("X-Shared") == "2"
    assert (shared.status, shared.headers.items()[0], shared.body) == (status, ("X-Shared", "1"), b"the same")
    assert "Set-Cookie" not in shared.headers


def test_a_response_of_a_class_of_its_own_stays_one() -> None:
    class Page(Response):
        def __init__(self, title: str) -> None:
            super().__init__(f"<h1>{title}</h1>", headers={"X-A": "1"})
            self.title = title

    page = Page("Tea")
    for base in (None, Response(headers={"X-B": "2"})):
        kept = to_response(page, base, environ_for())
        assert isinstance(kept, Page)
        assert (kept.title, kept.body, kept.headers["X-A"]) == ("Tea", b"<h1>Tea</h1>", "1")
        assert kept.headers.get("X-B") == (base and "2")
        kept.headers["X-A"] = "changed"
    assert page.headers["X-A"] == "1"


def test_a_streamed_response_is_kept_whole_with_what_was_set_before() -> None:
    streams: tuple[Any, ...] = (chunks(b"a", b"b"), ["a", b"b"])
    for stream in streams:
        base = Response(headers={"X-A": "1"})
        response = to_response(Response(stream), base, environ_for())
        assert response.stream is stream
        assert response.headers["X-A"] == "1"


def test_the_response_itself_as_result_is_the_response() -> None:
    base = Response(b"a")
    assert to_response(base, base, environ_for()) is base
    assert to_response(None, base, environ_for()) is base


@pytest.mark.parametrize(
    ("result", "usual"), [("a,b", HTML), (b"a,b", BINARY), ({}, JSON), (chunks("a"), HTML)]
)
@pytest.mark.parametrize("chosen", ["text/csv", "application/vnd.api+json", JSON])
def test_a_type_that_was_chosen_before_the_body_is_kept(result: Any, usual: str, chosen: str) -> None:
    base = Response()
    base.content_type = chosen
    assert to_response(result, base, environ_for()).content_type == chosen
    assert to_response(result, Response(), environ_for()).content_type == usual
    assert to_response(result, Response(content_type=None), environ_for()).content_type == usual


@pytest.mark.parametrize("looked_at", [False, True])
@pytest.mark.parametrize("first", [{"a": 1}, b"a", chunks(b"a")])
def test_a_type_that_came_with_a_body_goes_with_it(first: Any, looked_at: bool) -> None:
    app = App()

    def replace(ctx: Context) -> str:
        ctx.next()
        if looked_at:
            assert ctx.response.status == 200
        return "<p>instead</p>"

    def handler(ctx: Context) -> Any:
        return first

    app.get("/", handler, middlewares=[replace])

    assert call(app).header("Content-Type") == HTML


# -- other applications -------------------------------------------------------------------------------


class Body:
    """An iterable that notes that it was closed."""

    def __init__(self, *parts: Any) -> None:
        self.parts = parts
        self.closed = 0

    def __iter__(self) -> Iterator[Any]:
        for part in self.parts:
            if isinstance(part, Exception):
                raise part
            yield part

    def close(self) -> None:
        self.closed += 1


def body_of(response: Response) -> bytes:
    assert response.stream is not None
    return b"".join(response.stream)  # type: ignore[arg-type]


def close(response: Response) -> None:
    response.stream.close()  # type: ignore[union-attr]


def test_another_application_is_streamed_and_closed() -> None:
    body = Body(b"a", b"b")

    def other(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("203 Own Words", [("Content-Type", "a/b"), ("X-A", "1"), ("X-A", "2")])
        return body

    response = response_of(other, environ_for())
    assert (response.status, response.headers) == (
        203,
        Headers([("Content-Type", "a/b"), ("X-A", "1"), ("X-A", "2")]),
    )
    assert body_of(response) == b"ab"
    assert body.closed == 0
    close(response)
    assert body.closed == 1


def test_another_application_may_be_a_generator_or_write() -> None:
    def late(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b"a"
        yield b"b"

    def written(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])(b"a")
        return [b"b"]

    assert body_of(response_of(late, environ_for())) == b"ab"
    assert body_of(response_of(written, environ_for())) == b"ab"


def test_only_the_first_bytes_of_a_generator_are_asked_for_early() -> None:
    taken = itertools.count()

    def late(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        while next(taken) < 10:
            yield b"."

    response = response_of(late, environ_for())
    assert next(taken) == 1
    close(response)


def test_another_application_may_change_its_mind_before_the_body() -> None:
    def other(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("X-A", "1")])
        try:
            raise ValueError("late")
        except ValueError as error:
            start_response("500 Oops", [("X-B", "2")], (ValueError, error, error.__traceback__))
        return [b"sorry"]

    response = response_of(other, environ_for())
    assert (response.status, response.headers.items(), body_of(response)) == (500, [("X-B", "2")], b"sorry")


def test_another_application_that_fails_in_its_body_fails() -> None:
    def other(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b"a"
        error = ValueError("late")
        start_response("500 Oops", [], (ValueError, error, None))

    response = response_of(other, environ_for())
    with pytest.raises(ValueError, match="late"):
        body_of(response)


def no_start(body: Body, start_response: Any) -> None:
    """Do not start a response."""


def start_twice(body: Body, start_response: Any) -> None:
    start_response("200 OK", [])
    body.parts = (b"a",)
    body.__class__ = StartingTwice
    StartingTwice.start_response = start_response


class StartingTwice(Body):
    start_response: Any = None

    def __iter__(self) -> Iterator[Any]:
        type(self).start_response("200 OK", [])
        return super().__iter__()


@pytest.mark.parametrize(
    ("start", "parts", "error", "message"),
    [
        (no_start, (b"a",), RuntimeError, "did not call start_response"),
        (no_start, (), RuntimeError, "did not call start_response"),
        (no_start, (KeyError("k"),), KeyError, "k"),
        (start_twice, (), RuntimeError, "called start_response twice"),
        (lambda _, start: start("999 Too Much", []), (), HeaderError, "from 100 to 599"),
        (lambda _, start: start("what", []), (), ValueError, "invalid literal"),
    ],
)
def test_the_body_of_another_application_that_fails_is_closed(
    start: Any, parts: Any, error: type[Exception], message: str
) -> None:
    body = Body(*parts)

    def other(environ: Any, start_response: Any) -> Iterable[bytes]:
        start(body, start_response)
        return body

    with pytest.raises(error, match=message):
        response_of(other, environ_for())
    assert body.closed == 1
