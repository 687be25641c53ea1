"""Errors on their way to an answer: which handler, which status, what is logged, what the client sees."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any

import pytest
import werkzeug.exceptions
from werkzeug.routing import RequestRedirect
from werkzeug.wrappers import Response as WerkzeugResponse

from prologue import App, Context, Group, HTTPError, Response, Settings, html_response
from prologue.errors import AbortError, BodyTooLargeError, DuplicatedRouteError, HeaderError, ValidationError
from prologue.response import HTML, JSON
from tests.calling import Answer, Started, call, environ_for

Handler = Callable[..., Any]


class Body:
    """A stream that can be sent several times."""

    def __iter__(self) -> Iterator[bytes]:
        yield b"text"


class Base(Exception):
    """A family of errors."""


class Child(Base):
    """A member."""


class Mixed(KeyError, Base):
    """A member of two families."""


def raising(error: Exception) -> Handler:
    def handler(ctx: Context) -> None:
        raise error

    return handler


def app_of(handler: Handler, *middlewares: Handler, **settings: Any) -> App:
    app = App(Settings(**settings), middlewares=middlewares)
    app.get("/", handler)
    return app


@pytest.fixture(params=[0, 1, 2], ids=["no middleware", "a middleware", "two middlewares"])
def middlewares(request: pytest.FixtureRequest) -> list[Handler]:
    return [Context.next] * request.param


# -- which handler ------------------------------------------------------------------------------------


def test_the_nearest_class_handles_an_exception(middlewares: list[Handler]) -> None:
    app = App(middlewares=middlewares)
    for cls in (Exception, Base, KeyError, LookupError):
        app.register_error_handler(cls, lambda ctx, cls=cls: (cls.__name__, 400))
    for path, error in {
        "/child": Child(),
        "/base": Base(),
        "/mixed": Mixed(),
        "/index": IndexError(),
        "/other": OSError(),
        "/http": HTTPError(404),
    }.items():
        app.get(path, raising(error))

    texts = {route.pattern: call(app, path=route.pattern).text for route in app.routes}

    assert texts == {
        "/child": "Base",
        "/base": "Base",
        "/mixed": "KeyError",
        "/index": "LookupError",
        "/other": "Exception",
        "/http": "Exception",
    }


def test_a_handler_of_the_class_comes_before_one_of_the_status(middlewares: list[Handler]) -> None:
    app = app_of(raising(HTTPError(404)), *middlewares)
    app.register_error_handler(404, lambda ctx: "status")
    assert call(app).text == "status"
    app.register_error_handler(HTTPError, lambda ctx: "class")
    assert call(app).text == "class"
    assert call(app, path="/missing").text == "status"


@pytest.mark.parametrize(
    "handler", [lambda ctx: "own", lambda ctx, error: "own", lambda *all: "own", lambda ctx, own="own": own]
)
@pytest.mark.parametrize(
    "wanted", [404, HTTPStatus.NOT_FOUND, {404, 410}, [404], (KeyError, 404), frozenset({404})]
)
def test_a_handler_is_registered_for_one_or_several(wanted: Any, handler: Handler) -> None:
    app = App()
    app.register_error_handler(wanted, handler)
    answer = call(app)
    assert (answer.status, answer.text) == (404, "own")


def test_handlers_can_be_given_to_the_app() -> None:
    app = App(error_handlers={404: lambda ctx: "a", (405, KeyError): lambda ctx: "b"})
    app.post("/", raising(KeyError()))
    assert [call(app, path="/x").text, call(app).text, call(app, "POST").text] == ["a", "b", "b"]


@pytest.mark.parametrize(
    "wanted", [200, 399, 600, True, "404", None, BaseException, SystemExit, int, {404, "x"}]
)
def test_anything_else_cannot_be_handled(wanted: Any) -> None:
    app = App()
    with pytest.raises(TypeError, match="a status from 400 to 599 or an Exception class, not"):
        app.register_error_handler(wanted, lambda ctx: "own")
    assert call(app).text != "own"


@pytest.mark.parametrize("handler", [lambda: "", lambda a, b, c: "", "text", None])
def test_a_handler_must_take_the_context_and_perhaps_the_error(handler: Any) -> None:
    with pytest.raises(TypeError, match=r"must take \(ctx\) or \(ctx, error\)|not a callable"):
        App().register_error_handler(404, handler)


def test_a_handler_is_given_the_error() -> None:
    error = Child("x")
    seen: list[Any] = []

    def handler(ctx: Context, error: Exception) -> str:
        seen.extend((error, ctx.error, ctx.response.status))
        return "own"

    app = app_of(raising(error))
    app.register_error_handler(Base, handler)
    call(app)
    assert seen == [error, error, 500]


def test_a_handler_of_a_status_is_given_the_error_or_none() -> None:
    seen: list[Any] = []
    error = HTTPError(404)
    app = app_of(raising(error))
    app.register_error_handler(404, lambda ctx, error: seen.append((error, ctx.error)))
    call(app)
    call(app, path="/missing")
    assert seen == [(error, error), (None, None)]


# -- which status and body ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("result", "status", "body"),
    [
        ("text", 404, b"text"),
        ({"a": 1}, 404, b'{"a":1}'),
        (b"bytes", 404, b"bytes"),
        (html_response("text"), 404, b"text"),
        (("text", 200), 200, b"text"),
        (("text", 410), 410, b"text"),
        (Response("text", 403), 403, b"text"),
        (None, 404, None),
        ("", 404, None),
        (lambda: iter([b"s"]), 404, b"s"),
        ((None, 204), 204, b""),
        (Response(status=302, headers={"Location": "/"}), 302, b""),
    ],
)
@pytest.mark.parametrize("by_class", [False, True])
def test_the_answer_of_a_handler_has_the_status_of_the_error_unless_it_has_its_own(
    result: Any, status: int, body: bytes | None, by_class: bool, middlewares: list[Handler]
) -> None:
    app = app_of(raising(HTTPError(404)), *middlewares)
    app.register_error_handler(
        HTTPError if by_class else 404, lambda ctx: result() if callable(result) else result
    )
    answer = call(app)
    assert answer.status == status
    assert answer.body == body if body is not None else b"<h1>404 Not Found</h1>" in answer.body


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ValueError(), 500),
        (HTTPError(409), 409),
        (werkzeug.exceptions.Gone(), 410),
        (AbortError(302), 500),
        (werkzeug.exceptions.HTTPException(), 500),
    ],
)
def test_the_answer_of_a_handler_by_class_has_the_status_of_the_error(error: Exception, status: int) -> None:
    app = app_of(raising(error))
    app.register_error_handler(Exception, lambda ctx: "own")
    answer = call(app)
    assert (answer.status, answer.text) == (status, "own")


def test_a_handler_may_set_the_response_instead() -> None:
    app = App()
    app.register_error_handler(404, lambda ctx: ctx.resp("own", 410))
    app.register_error_handler(405, lambda ctx: ctx.resp("own"))
    app.post("/post", raising(KeyError()))
    assert (call(app).status, call(app).text) == (410, "own")
    assert (call(app, path="/post").status, call(app, path="/post").text) == (405, "own")
    assert call(app, path="/post").header("Allow") == "OPTIONS, POST"


@pytest.mark.parametrize(
    "empty",
    [
        (None, 404),
        ("", 404),
        (b"", 404),
        Response(status=404),
        Response(status=404, content_type=JSON),
        Response(status=404, content_type=None),
    ],
)
def test_a_route_that_answers_an_error_without_a_body_gets_one(
    empty: Any, middlewares: list[Handler]
) -> None:
    app = app_of(lambda ctx: empty, *middlewares)
    plain = call(app)
    assert (plain.status, plain.header("Content-Type")) == (404, HTML)
    assert b"<h1>404 Not Found</h1>" in plain.body
    app.register_error_handler(404, lambda ctx: "<p>own</p>")
    own = call(app)
    assert (own.status, own.header("Content-Type"), own.text) == (404, HTML, "<p>own</p>")


@pytest.mark.parametrize(
    "whole", [("text", 404), Response("text", 404), Response(Body(), 404), HTTPError(404, "text")]
)
def test_a_route_that_answers_an_error_with_a_body_is_left_alone(whole: Any) -> None:
    app = app_of(raising(whole) if isinstance(whole, Exception) else lambda ctx: whole)
    app.register_error_handler(404, lambda ctx: "own")
    assert "text" in call(app).text


@pytest.mark.parametrize("status", [400, 404, 405, 413, 418, 451, 500, 503, 599])
def test_the_page_of_a_status_names_it(status: int) -> None:
    answer = call(app_of(lambda ctx: (None, status)))
    phrase = HTTPStatus(status).phrase if status != 599 else "Error"
    assert (answer.status, answer.header("Content-Type")) == (status, HTML)
    assert f"<h1>{status} {phrase}</h1>".replace("'", "&#x27;") in answer.text


def test_an_error_keeps_nothing_of_the_answer_that_was_being_made() -> None:
    def handler(ctx: Context) -> None:
        ctx.response.headers["Cache-Control"] = "public"
        ctx.response.content_type = "text/csv"
        ctx.resp("a,b", 201)
        raise KeyError("x")

    app = app_of(handler)
    answer = call(app)
    assert (answer.status, answer.header("Content-Type"), answer.header("Cache-Control")) == (500, HTML, None)
    app.register_error_handler(KeyError, lambda ctx: "own")
    answer = call(app)
    assert (answer.status, answer.header("Content-Type"), answer.header("Cache-Control")) == (500, HTML, None)


# -- groups -------------------------------------------------------------------------------------------


def grouped(*registered: tuple[str, Any]) -> App:
    """An app with groups /api, /api/v1 (inside) and /other, with handlers that answer with their name."""
    app = App()
    api = Group(app, "/api")
    groups: dict[str, Any] = {
        "app": app,
        "api": api,
        "v1": Group(app, "/v1", parent=api),
        "other": Group(app, "/other"),
    }
    for name, group in groups.items():
        group.get("/fails", raising(Child()))
        for owner, error in registered:
            if owner == name:
                group.register_error_handler(error, lambda ctx, name=name: name)
    return app


@pytest.mark.parametrize(
    ("registered", "path", "answered"),
    [
        ([("app", 404), ("api", 404), ("v1", 404)], "/api/v1/missing", "v1"),
        ([("app", 404), ("api", 404)], "/api/v1/missing", "api"),
        ([("app", 404), ("other", 404)], "/api/v1/missing", "app"),
        ([("app", 404), ("v1", 404)], "/api/missing", "app"),
        ([("app", 404), ("api", 404)], "/api", "api"),
        ([("app", 404), ("api", 404)], "/api/", "api"),
        ([("app", 404), ("api", 404)], "/apix", "app"),
        ([("app", 404), ("api", 404)], "/", "app"),
        ([("app", 404), ("v1", 500), ("api", 404)], "/api/v1/missing", "api"),
        ([("app", Base), ("api", Base), ("v1", Base)], "/api/v1/fails", "v1"),
        ([("app", Child), ("api", Base)], "/api/v1/fails", "api"),
        ([("app", Child), ("api", 500)], "/api/v1/fails", "app"),
        ([("api", Base), ("app", 500)], "/fails", "app"),
        ([("v1", 500), ("api", 500), ("app", 500)], "/api/v1/fails", "v1"),
        ([("other", Base), ("app", Base)], "/other/fails", "other"),
    ],
)
def test_the_innermost_group_handles_the_errors_under_its_prefix(
    registered: list[tuple[str, Any]], path: str, answered: str
) -> None:
    assert call(grouped(*registered), path=path).text == answered


def test_a_group_owns_the_errors_of_routes_that_the_app_has_under_its_prefix() -> None:
    app = App()
    app.get("/api/plain", raising(Child()))
    Group(app, "/api").register_error_handler(Base, lambda ctx: "api")
    assert call(app, path="/api/plain").text == "api"


def test_a_group_without_a_parent_still_lies_under_the_prefix_of_another() -> None:
    app = App()
    Group(app, "/api").register_error_handler(Base, lambda ctx: "api")
    Group(app, "/api/v1").get("/fails", raising(Child()))
    assert call(app, path="/api/v1/fails").text == "api"


def test_groups_of_one_prefix_share_what_no_route_matches_and_own_their_routes() -> None:
    app = App()
    public, private = Group(app, "/api"), Group(app, "/api")
    public.get("/public", raising(Child()))
    private.get("/private", raising(Child()))
    private.register_error_handler({Base, 410}, lambda ctx: "private")
    public.register_error_handler({Base, 404}, lambda ctx: "public")

    assert call(app, path="/api/public").text == "public"
    assert call(app, path="/api/private").text == "private"
    assert call(app, path="/api/missing").text == "public"


def test_groups_whose_prefixes_differ_in_a_name_own_their_routes() -> None:
    app = App()
    for name in ("tenant", "customer"):
        group = Group(app, f"/{{{name}}}/{name}")
        same = Group(app, f"/{{{name}}}")
        same.get(f"/{name}", raising(Child()))
        same.register_error_handler({Base, 404}, lambda ctx, name=name: name)
        group.register_error_handler(405, lambda ctx, name=name: name)

    assert call(app, path="/x/tenant").text == "tenant"
    assert call(app, path="/x/customer").text == "customer"
    assert call(app, path="/x/missing").text == "tenant"
    assert call(app, "POST", "/x/customer").text == "customer"


def test_the_prefix_of_a_group_may_be_typed_by_the_applications_own_converters() -> None:
    app = App()
    app.register_converter(
        "even", lambda text: int(text) // (1 - int(text) % 2) if text.isdigit() else int("x")
    )
    group = Group(app, "/{n:even}")
    group.get("/fails", raising(Child()))
    group.register_error_handler({Base, 404}, lambda ctx: f"{ctx.path_params.get('n')}")
    assert call(app, path="/4/fails").text == "4"
    assert call(app, path="/4/missing").text == "None"


def test_the_root_group_owns_all() -> None:
    app = App()
    Group(app, "/").register_error_handler(404, lambda ctx: "root")
    assert [call(app, path=path).text for path in ("/", "/a", "/a/b")] == ["root"] * 3


# -- errors of the application ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (HTTPError(404), 404, "404 Not Found"),
        (HTTPError(404, "no <such> user"), 404, "no &lt;such&gt; user"),
        (AbortError(401), 401, "401 Unauthorized"),
        (BodyTooLargeError("too much"), 413, "too much"),
        (ValidationError("the field"), 422, "the field"),
        (HTTPError(599), 599, "599 Error"),
        (werkzeug.exceptions.NotFound(), 404, "404 Not Found"),
        (werkzeug.exceptions.Forbidden("secret reason"), 403, "403 Forbidden"),
        (werkzeug.exceptions.BadRequestKeyError("name"), 400, "400 Bad Request"),
    ],
)
def test_an_http_error_is_answered_and_not_logged(
    error: Exception, status: int, text: str, middlewares: list[Handler], caplog: pytest.LogCaptureFixture
) -> None:
    answer = call(app_of(raising(error), *middlewares))
    assert (answer.status, answer.header("Content-Type")) == (status, HTML)
    assert f"<h1>{text}</h1>" in answer.text
    assert caplog.records == []


def test_abort_exit_ends_the_request_with_status_body_and_headers() -> None:
    def handler(ctx: Context) -> None:
        ctx.abort_exit(429, "slow down", [("Retry-After", "3")])

    answer = call(app_of(handler))
    assert (answer.status, answer.header("Retry-After")) == (429, "3")
    assert "slow down" in answer.text


def test_abort_exit_may_redirect() -> None:
    answer = call(app_of(lambda ctx: ctx.abort_exit(303, headers=[("Location", "/login")])))
    assert (answer.status, answer.header("Location"), answer.body) == (303, "/login", b"")


def test_the_headers_of_a_werkzeug_exception_are_sent() -> None:
    error = werkzeug.exceptions.MethodNotAllowed(valid_methods=["PUT"])
    assert call(app_of(raising(error))).header("Allow") == "PUT"
    assert (
        call(app_of(raising(werkzeug.exceptions.ServiceUnavailable(retry_after=7)))).header("Retry-After")
        == "7"
    )


def test_a_werkzeug_exception_with_a_response_is_that_response() -> None:
    error = werkzeug.exceptions.HTTPException(response=WerkzeugResponse("own", 409))
    answer = call(app_of(raising(error)))
    assert (answer.status, answer.text) == (409, "own")


def test_a_werkzeug_redirect_redirects() -> None:
    answer = call(app_of(raising(RequestRedirect("/there"))))
    assert (answer.status, answer.header("Location")) == (308, "/there")


def test_the_servers_verdict_on_a_body_is_a_bad_request(caplog: pytest.LogCaptureFixture) -> None:
    class ChunkError(OSError):
        """Stands for the errors that the server's reader raises."""

    ChunkError.__module__ = "gunicorn.http.errors"
    assert call(app_of(raising(ChunkError()))).status == 400
    assert caplog.records == []


# -- errors that nobody expected ----------------------------------------------------------------------


def test_an_unhandled_error_is_logged_once_with_route_and_request(
    middlewares: list[Handler], caplog: pytest.LogCaptureFixture
) -> None:
    app = App(middlewares=middlewares)
    error = ValueError("secret \x1b[31m")

    @app.get("/users/{id}")
    def handler(ctx: Context) -> None:
        raise error

    answer = call(app, path="/users/\x1b\nж")

    (record,) = caplog.records
    request_id = answer.header("X-Request-ID")
    assert record.name == "prologue"
    assert record.exc_info is not None
    assert record.exc_info[1] is error
    expected = rf"request {request_id} failed: GET /users/\x1b\n\u0436, route /users/{{id}}"
    assert record.getMessage() == expected
    assert answer.status == 500
    assert "secret" not in answer.text
    assert "ValueError" not in answer.text
    assert "500 Internal Server Error" in answer.text


def test_an_error_outside_of_any_route_is_logged_too(caplog: pytest.LogCaptureFixture) -> None:
    app = App(middlewares=[raising(ValueError("early"))])
    assert call(app, path="/x").status == 500
    assert [record.getMessage().split(": ")[1] for record in caplog.records] == ["GET /x, route none"]


def test_an_error_that_a_handler_handles_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    app = app_of(raising(ValueError()))
    app.register_error_handler(ValueError, lambda ctx: ("own", 400))
    call(app)
    assert caplog.records == []


def test_a_handler_of_500_writes_the_page_of_an_unhandled_error(caplog: pytest.LogCaptureFixture) -> None:
    app = app_of(raising(ValueError()))
    app.register_error_handler(500, lambda ctx, error: {"error": type(error).__name__})
    answer = call(app)
    assert (answer.status, answer.text) == (500, '{"error":"ValueError"}')
    assert answer.header("X-Request-ID")
    assert len(caplog.records) == 1


@pytest.mark.parametrize("registered", [ValueError, 500])
@pytest.mark.parametrize(
    "result", [raising(KeyError("second")), lambda ctx: object(), lambda ctx: {"a": object()}]
)
def test_an_error_handler_that_fails_is_logged_and_answered_plainly(
    registered: Any, result: Handler, caplog: pytest.LogCaptureFixture, middlewares: list[Handler]
) -> None:
    app = app_of(raising(ValueError("first")), *middlewares)
    app.register_error_handler(registered, result)
    app.register_error_handler(TypeError, lambda ctx: "not asked")

    answer = call(app)

    assert (answer.status, answer.header("Content-Type")) == (500, HTML)
    assert "<h1>500 Internal Server Error</h1>" in answer.text
    assert len(caplog.records) == (2 if registered == 500 else 1)
    assert "first" in caplog.text


def test_an_error_handler_may_raise_an_http_error(caplog: pytest.LogCaptureFixture) -> None:
    app = app_of(raising(ValueError()))
    app.register_error_handler(ValueError, raising(HTTPError(409)))
    app.register_error_handler(KeyError, raising(HTTPError(409, "own words")))
    app.get("/key", raising(KeyError()))
    assert call(app).status == 409
    assert "<h1>409 Conflict</h1>" in call(app).text
    assert "own words" in call(app, path="/key").text
    assert caplog.records == []


@pytest.mark.parametrize(
    "error",
    [
        HTTPError(404, headers=[("X", "a\nb")]),
        HTTPError(1000),
        HTTPError(404, headers=[("Connection", "close")]),
    ],
)
def test_an_http_error_that_cannot_be_sent_is_an_error(
    error: HTTPError, caplog: pytest.LogCaptureFixture, middlewares: list[Handler]
) -> None:
    answer = call(app_of(raising(error), *middlewares))
    assert answer.status == 500
    (record,) = caplog.records
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], HeaderError)
    assert record.exc_info[1].__context__ is error


# -- the debug page -----------------------------------------------------------------------------------


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def debug_answer(trusted: Any = (), **more: Any) -> Answer:
    app = app_of(raising(ValueError("<secret>")), debug=True, trusted_hosts=trusted)
    return call(app, **more)


def test_the_debug_page_shows_the_error_escaped(caplog: pytest.LogCaptureFixture) -> None:
    answer = debug_answer()
    assert (answer.status, answer.header("Content-Type")) == (500, HTML)
    assert "<h1>ValueError</h1><p>&lt;secret&gt;</p>" in answer.text
    assert "Traceback (most recent call last)" in answer.text
    assert "GET /, route /" in answer.text
    assert f"request {answer.header('X-Request-ID')}" in answer.text
    assert "<secret>" not in answer.text
    assert len(caplog.records) == 1


def test_the_debug_page_bears_an_error_outside_of_any_route_and_one_without_text() -> None:
    app = App(Settings(debug=True), middlewares=[raising(Unprintable())])
    answer = call(app)
    assert answer.status == 500
    assert "<h1>Unprintable</h1>" in answer.text
    assert "route none" in answer.text


@pytest.mark.parametrize(
    ("peer", "host", "trusted", "shown"),
    [
        ("127.0.0.1", "localhost", (), True),
        ("127.0.0.1", "LocalHost:8080", (), True),
        ("127.9.9.9", "127.0.0.1:8080", (), True),
        ("::1", "[::1]:8080", (), True),
        ("::1", "[::1]", (), True),
        ("127.0.0.1", "dev.example", ("dev.example",), True),
        ("127.0.0.1", "a.dev.example:80", (".dev.example",), True),
        ("127.0.0.1", "evil.example", (), False),
        ("127.0.0.1", "localhost.evil.example", (), False),
        ("127.0.0.1", "localhost:99999", (), False),
        ("127.0.0.1", "127.0.0.1.evil.example", (), False),
        ("10.0.0.1", "localhost", (), False),
        ("1270.0.0.1", "localhost", (), False),
        ("", "localhost", (), False),
    ],
)
def test_the_debug_page_is_for_this_machine_only(peer: str, host: str, trusted: Any, shown: bool) -> None:
    answer = debug_answer(trusted=trusted, REMOTE_ADDR=peer, HTTP_HOST=host)
    assert ("Traceback" in answer.text) is shown


@pytest.mark.parametrize(
    "header", ["X_FORWARDED_FOR", "X_FORWARDED_PROTO", "X_FORWARDED_HOST", "FORWARDED", "X_REAL_IP", "VIA"]
)
def test_the_debug_page_is_not_for_clients_of_a_proxy(header: str) -> None:
    fields: dict[str, Any] = {f"HTTP_{header}": ""}
    assert "Traceback" not in debug_answer(**fields).text


def test_there_is_no_debug_page_without_debug() -> None:
    assert "Traceback" not in call(app_of(raising(ValueError("x")))).text


def test_the_debug_page_needs_no_host_field() -> None:
    app = app_of(raising(ValueError("x")), debug=True)
    environ = environ_for()
    environ.pop("HTTP_HOST")
    assert b"Traceback" in b"".join(Started(app, environ).body)


# -- the middlewares and errors -----------------------------------------------------------------------


def unfit(ctx: Context) -> Any:
    return {"a": object()}


def late(ctx: Context) -> Iterator[Any]:
    raise ValueError("before the first byte")
    yield ""


@pytest.mark.parametrize(
    ("handler", "status"),
    [
        (raising(ValueError()), 500),
        (raising(HTTPError(409)), 409),
        (lambda ctx: (None, 410), 410),
        (lambda ctx: Response(status=403), 403),
        (lambda ctx: object(), 500),
        (unfit, 500),
        (lambda ctx: "text", 200),
        (lambda ctx: {}, 200),
        (lambda ctx: None, 200),
    ],
)
@pytest.mark.parametrize("own", [False, True])
def test_the_outermost_middleware_sees_what_is_sent(handler: Handler, status: int, own: bool) -> None:
    seen: list[tuple[int, bytes]] = []

    def outermost(ctx: Context) -> None:
        ctx.next()
        seen.append((ctx.response.status, ctx.response.body))
        ctx.response.headers["X-Outermost"] = "1"

    app = app_of(handler, outermost, Context.next)
    if own:
        app.register_error_handler({403, 409, 410, 500}, lambda ctx: "own")
    answer = call(app)
    assert seen == [(answer.status, answer.body)]
    assert answer.status == status
    assert answer.header("X-Outermost") == "1"
    assert (answer.text == "own") is (own and status >= 400)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize(
    ("method", "path", "more", "status"),
    [
        ("GET", "/missing", {}, 404),
        ("POST", "/", {}, 405),
        ("OPTIONS", "/", {}, 204),
        ("GET", "/a\0b", {}, 400),
        ("GET", "/", {"HTTP_HOST": "evil.example"}, 400),
        ("GET", "/", {"HTTP_HOST": "a b"}, 400),
    ],
)
def test_the_outermost_middleware_sees_what_no_route_answers(
    count: int, method: str, path: str, more: dict[str, Any], status: int
) -> None:
    def outermost(ctx: Context) -> None:
        ctx.next()
        assert ctx.response.status == status
        ctx.response.headers["X-Outermost"] = "1"

    links = (outermost, Context.next)[:count]
    app = app_of(lambda ctx: "text", *links, trusted_hosts=["good.example"])
    answer = call(app, method, path, **{"HTTP_HOST": "good.example", **more})
    assert (answer.status, answer.header("X-Outermost")) == (status, "1")


def test_an_exception_passes_through_the_inner_middlewares() -> None:
    events = []

    def link(name: str) -> Handler:
        def middleware(ctx: Context) -> None:
            try:
                ctx.next()
                events.append(f"{name} sees {ctx.response.status}")
            except ValueError as raised:
                events.append(f"{name} passes {raised}")
                raise

        return middleware

    app = App(middlewares=[link("outermost"), link("global")])
    app.get("/", raising(ValueError("x")), middlewares=[link("route")])
    assert call(app).status == 500
    assert events == ["route passes x", "global passes x", "outermost sees 500"]


@pytest.mark.parametrize("before", [False, True])
def test_an_error_of_the_outermost_middleware_is_answered(
    before: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def outermost(ctx: Context) -> None:
        if not before:
            ctx.next()
        raise KeyError("outermost")

    app = app_of(lambda ctx: "text", outermost)
    assert call(app).status == 500
    assert len(caplog.records) == 1
    app.register_error_handler(KeyError, lambda ctx: ("own", 409))
    assert (call(app).status, call(app).text) == (409, "own")


def test_an_inner_middleware_may_handle_the_error() -> None:
    def inner(ctx: Context) -> Any:
        try:
            ctx.next()
        except ValueError:
            return "handled"
        return None

    app = app_of(raising(ValueError()), Context.next, inner)
    assert (call(app).status, call(app).text) == (200, "handled")


def test_an_error_before_the_first_byte_of_a_generator_is_the_servers(
    caplog: pytest.LogCaptureFixture,
) -> None:
    started = Started(app_of(late), environ_for())
    assert started.status == "200 OK"
    with pytest.raises(ValueError, match="before the first byte"):
        list(started.body)
    assert caplog.records == []


def test_a_group_of_a_known_shape_is_no_duplicate_route() -> None:
    app = App()
    Group(app, "/{a}").register_error_handler(404, lambda ctx: "a")
    Group(app, "/{b}").register_error_handler(404, lambda ctx: "b")
    app.get("/{c}", lambda ctx: "c")
    with pytest.raises(DuplicatedRouteError):
        app.get("/{d}", lambda ctx: "d")


def test_logging_is_at_the_level_of_errors(caplog: pytest.LogCaptureFixture) -> None:
    call(app_of(raising(ValueError())))
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
