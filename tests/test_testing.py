from __future__ import annotations

import io
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request as WerkzeugRequest

from prologue import App, Context, Response, Settings, testing
from prologue.errors import LifecycleError, MissingExtraError
from prologue.testing import TestClient, debug_response, mock_app, run_once
from tests.concurrency import together

Start = Callable[..., object]


def echo(ctx: Context) -> dict[str, Any]:
    return {
        "method": ctx.method,
        "path": ctx.path,
        "query": ctx.query.to_dict(flat=False),
        "form": ctx.form.to_dict(flat=False),
        "files": {name: file.body.decode() for name, file in ctx.files.items()},
        "header": ctx.request.headers.get("X-Test"),
        "body": ctx.request.get_data().decode(),
        "client": ctx.request.remote_addr,
    }


def echoing() -> App:
    app = App()
    app.route("/echo/{rest}$", echo, methods=["GET", "POST"])
    return app


# -- TestClient -------------------------------------------------------------------------------------------


def test_the_client_speaks_to_the_application_as_webtest_does() -> None:
    client = TestClient(echoing())
    seen = client.post("/echo/x?a=1", {"b": "2"}, headers={"X-Test": "yes"}, status=200).json
    assert (seen["query"], seen["form"], seen["header"]) == ({"a": ["1"]}, {"b": ["2"]}, "yes")
    assert client.get("/nothing", status=404).content_type == "text/html"


def test_a_request_of_the_client_comes_from_this_machine_unless_it_says_otherwise() -> None:
    assert TestClient(echoing()).get("/echo/x").json["client"] == "127.0.0.1"
    seen = TestClient(echoing(), REMOTE_ADDR="192.0.2.1", HTTP_X_TEST="set").get("/echo/x").json
    assert (seen["client"], seen["header"]) == ("192.0.2.1", "set")


def test_the_client_checks_the_protocol() -> None:
    def careless(environ: dict[str, Any], start_response: Start) -> list[Any]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return ["text instead of bytes"]

    with pytest.raises(AssertionError):
        TestClient(careless).get("/")


def test_the_client_runs_startup_before_the_block_and_shutdown_behind_it() -> None:
    app, events = App(), []
    app.on_startup(lambda: events.append("startup"))
    app.on_shutdown(lambda: events.append("shutdown"))
    app.get("/", lambda ctx: events.append("request"))
    with TestClient(app) as client:
        events.append("block")
        client.get("/")
        client.get("/")
    assert events == ["startup", "block", "request", "request", "shutdown"]


def test_the_client_runs_shutdown_and_lets_an_error_of_the_block_through() -> None:
    app, events = App(), []
    app.on_shutdown(lambda: events.append("shutdown"))
    with pytest.raises(KeyError, match="ours"), TestClient(app):
        raise KeyError("ours")
    assert events == ["shutdown"]


def test_an_application_that_was_shut_down_does_not_start_again() -> None:
    app = App()
    with TestClient(app):
        pass
    with pytest.raises(LifecycleError, match="shutdown has begun in this process"), TestClient(app):
        pass


def test_the_client_serves_any_wsgi_callable() -> None:
    def other(environ: dict[str, Any], start_response: Start) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
        return [b"other"]

    with TestClient(other) as client:
        assert client.get("/").text == "other"


def test_pytest_does_not_take_the_client_for_a_test() -> None:
    assert TestClient.__test__ is False


def test_without_webtest_only_the_client_is_missing() -> None:
    script = (
        "import sys; sys.modules['webtest'] = None\n"
        "from prologue import App\n"
        "from prologue.testing import TestClient, run_once\n"
        "app = App(); app.get('/', lambda ctx: 'found')\n"
        "print(run_once(app).response.body)\n"
        "try:\n    TestClient(app)\n"
        "except ImportError as error:\n    print(type(error).__name__, error)\n"
    )
    shown = subprocess.check_output([sys.executable, "-c", script], text=True, timeout=60)
    error = MissingExtraError("prologue.testing.TestClient", "testing")
    assert shown == f"b'found'\nMissingExtraError {error}\n"


# -- mock_app ---------------------------------------------------------------------------------------------


def test_a_mocked_application_has_started_and_is_the_same() -> None:
    app, events = App(), []
    app.on_startup(lambda: events.append("startup"))
    assert mock_app(app) is app
    assert mock_app(app) is app
    assert events == ["startup"]
    assert app.lifecycle.started


# -- run_once ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({}, {"method": "GET", "path": "/echo/x", "client": "127.0.0.1", "query": {}}),
        ({"method": "POST"}, {"method": "POST"}),
        ({"query": {"a": "1 &", "b": [2, 3]}}, {"query": {"a": ["1 &"], "b": ["2", "3"]}}),
        ({"path": "/echo/x?a=1"}, {"path": "/echo/x", "query": {"a": ["1"]}}),
        ({"path": "/echo/чай"}, {"path": "/echo/чай"}),
        ({"path": "/echo/%D1%87%D0%B0%D0%B9"}, {"path": "/echo/чай"}),
        ({"path": "//echo//x"}, {"path": "//echo//x"}),
        ({"headers": {"X-Test": "yes"}}, {"header": "yes"}),
        ({"method": "POST", "body": b"bytes"}, {"body": "bytes"}),
        ({"method": "POST", "body": "чай"}, {"body": "чай"}),
        ({"method": "POST", "body": {"a": "1", "b": ["2", "3"]}}, {"form": {"a": ["1"], "b": ["2", "3"]}}),
        ({"method": "POST", "body": {"f": (io.BytesIO(b"text"), "a.txt")}}, {"files": {"f": "text"}}),
    ],
)
def test_a_request_is_made_of_its_parts(parts: dict[str, Any], expected: dict[str, Any]) -> None:
    ctx = run_once(echoing(), **({"path": "/echo/x"} | parts))
    assert ctx.response.status == 200
    assert {key: ctx_json(ctx)[key] for key in expected} == expected


def ctx_json(ctx: Context) -> Any:
    import msgspec

    return msgspec.json.decode(ctx.response.body)


def test_a_ready_request_is_run_as_it_is() -> None:
    app = echoing()
    builder = EnvironBuilder(path="/echo/x", query_string="a=1")
    environ, request = builder.get_environ(), WerkzeugRequest(builder.get_environ())
    own = Context(app, builder.get_environ())
    for ready in (environ, request, own):
        ctx = run_once(app, ready)
        assert ctx_json(ctx)["query"] == {"a": ["1"]}
        assert ctx.environ is getattr(ready, "environ", ready)
    assert run_once(app, Context(app, environ)).app is app
    own = Context(app, builder.get_environ())
    own.state.user = "known before"
    assert run_once(app, own) is own
    assert own.state.user == "known before"


@pytest.mark.parametrize(
    ("parts", "error", "message"),
    [
        ({"method": "POST"}, TypeError, "a request or the parts of one, not both"),
        ({"path": "/x"}, TypeError, "not both"),
        ({"query": {}}, TypeError, "not both"),
        ({"headers": {}}, TypeError, "not both"),
        ({"body": {"a": "1"}}, TypeError, "not both"),
    ],
)
def test_a_request_and_parts_of_one_are_an_error(
    parts: dict[str, Any], error: type[Exception], message: str
) -> None:
    app = echoing()
    with pytest.raises(error, match=message):
        run_once(app, EnvironBuilder(path="/echo/x").get_environ(), **parts)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"path": "x"}, "a path starts with a slash, which 'x' does not"),
        ({"path": ""}, "a path starts with a slash"),
        ({"path": "/x?a=1", "query": {"b": 2}}, "Query string is defined"),
    ],
)
def test_parts_that_make_no_request_are_an_error(parts: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run_once(echoing(), **parts)


def test_the_response_is_what_a_server_would_send() -> None:
    app = App()
    app.get("/text", lambda ctx: "чай")
    app.get("/pair", lambda ctx: ({"tea": 3}, 201, {"X-Price": "3"}))
    app.get("/set", lambda ctx: ctx.resp("set", 202))
    app.get("/fails", lambda ctx: 1 / 0)

    def seen(path: str, **parts: Any) -> tuple[int, bytes, list[tuple[str, str]]]:
        response = run_once(app, path=path, **parts).response
        return response.status, response.body, response.headers.items()

    html = ("Content-Type", "text/html; charset=utf-8")
    assert seen("/text") == (200, "чай".encode(), [html, ("Content-Length", "6")])
    assert seen("/text", method="HEAD") == (200, b"", [html, ("Content-Length", "6")])
    status, body, headers = seen("/pair")
    assert (status, body, dict(headers)["X-Price"]) == (201, b'{"tea":3}', "3")
    assert seen("/set")[:2] == (202, b"set")
    assert seen("/nothing")[0] == 404
    assert seen("/text", method="POST")[0] == 405
    status, body, headers = seen("/fails")
    assert (status, b"ZeroDivisionError" in body) == (500, False)
    assert "X-Request-ID" in dict(headers)


def test_a_stream_is_collected_and_closed_and_then_the_callbacks_run() -> None:
    app, events = App(), []

    def parts() -> Iterator[bytes]:
        try:
            yield b"one "
            yield b"two"
        finally:
            events.append("closed")

    @app.get("/")
    def stream(ctx: Context) -> Response:
        ctx.after_response(lambda: events.append("after"))
        return Response(parts())

    ctx = run_once(app)
    assert (ctx.response.body, ctx.response.stream) == (b"one two", None)
    assert events == ["closed", "after"]


def test_an_error_of_a_stream_reaches_the_caller_after_it_is_closed() -> None:
    app, events = App(), []

    def parts() -> Iterator[bytes]:
        yield b"one"
        raise OSError("the disk is gone")

    @app.get("/")
    def stream(ctx: Context) -> Response:
        ctx.after_response(lambda: events.append("after"))
        return Response(parts())

    with pytest.raises(OSError, match="the disk is gone"):
        run_once(app)
    assert events == ["after"]


def test_one_request_goes_through_startup_middlewares_route_and_error_handlers() -> None:
    events: list[str] = []

    def outer(ctx: Context) -> None:
        events.append("before")
        ctx.next()
        ctx.response.headers["X-Outer"] = "seen"

    app = App(startup=[lambda: events.append("startup")], middlewares=[outer])
    app.register_error_handler(KeyError, lambda ctx, error: (f"no {error}", 404))

    @app.get("/prices/{name}", name="price")
    def price(ctx: Context) -> str:
        ctx.state.asked = ctx.path_params["name"]
        raise KeyError(ctx.path_params["name"])

    ctx = run_once(app, path="/prices/tea")
    assert events == ["startup", "before"]
    assert ctx.route is not None
    assert (ctx.route.name, ctx.path_params, ctx.state.asked) == ("price", {"name": "tea"}, "tea")
    assert isinstance(ctx.error, KeyError)
    assert (ctx.response.status, ctx.response.body) == (404, b"no 'tea'")
    assert ctx.response.headers["X-Outer"] == "seen"


def test_the_context_is_of_the_class_of_the_application() -> None:
    class Own(Context):
        pass

    app = App(context_class=Own)
    assert type(run_once(app)) is Own
    assert app.context_class is Own


def test_threads_get_their_own_contexts_of_one_application() -> None:
    app = echoing()
    met = threading.Barrier(4, timeout=30)
    app.use(lambda ctx: (met.wait(), ctx.next())[1])

    def ask(number: int) -> tuple[str, str]:
        ctx = run_once(app, path=f"/echo/{number}")
        return ctx.path, ctx_json(ctx)["path"]

    assert sorted(together(4, ask)) == [(f"/echo/{number}", f"/echo/{number}") for number in range(4)]


# -- debug_response ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "dump"),
    [
        (
            "/text",
            "GET /text\nroute: /text\n200\nContent-Type: text/html; charset=utf-8\nContent-Length: 6\n\nчай",
        ),
        (
            "/bytes",
            "GET /bytes\nroute: /bytes\n200\n"
            "Content-Type: application/octet-stream\nContent-Length: 1\n\nb'\\xff'",
        ),
        ("/nothing", "GET /nothing\nroute: none\n404\n"),
    ],
)
def test_a_dump_shows_request_and_response(path: str, dump: str) -> None:
    app = App()
    app.get("/text", lambda ctx: "чай")
    app.get("/bytes", lambda ctx: b"\xff")
    shown = debug_response(run_once(app, path=path))
    assert shown == dump if path != "/nothing" else shown.startswith(dump)


def test_a_dump_leaves_a_stream_alone() -> None:
    app, dumps = App(), []

    @app.get("/")
    def stream(ctx: Context) -> None:
        ctx.resp(iter([b"one"]))
        dumps.append(debug_response(ctx))

    assert run_once(app).response.body == b"one"
    assert dumps[0].endswith("\n\n<a body that is still to be streamed>")


def test_debug_pages_are_shown_to_the_test_of_a_debugged_application() -> None:
    app = App(Settings(debug=True))
    app.get("/", lambda ctx: 1 / 0)
    assert b"ZeroDivisionError" in run_once(app).response.body
    assert "ZeroDivisionError" in TestClient(app).get("/", status=500).text


def test_the_public_names_are_there() -> None:
    assert sorted(testing.__all__) == ["TestClient", "debug_response", "mock_app", "run_once"]
