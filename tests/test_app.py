"""The App: routes, methods, middlewares, settings, lifecycle, mounted applications."""

from __future__ import annotations

import json
import re
import sys
import threading
import time
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from prologue import App, Context, Group, HTTPError, LazyResource, Response, Settings
from prologue.errors import (
    DuplicatedRouteError,
    LifecycleError,
    MissingExtraError,
    RouteBuildError,
    RouteError,
)
from prologue.routing import ALL_METHODS, Converter
from tests.calling import Answer, Started, call, client, environ_for
from tests.concurrency import together

Handler = Callable[[Context], Any]

pytestmark = pytest.mark.filterwarnings("ignore:Unknown REQUEST_METHOD")


def untyped(value: Any) -> Any:
    return value


def say(text: str) -> Handler:
    return lambda ctx: text


# -- methods and paths --------------------------------------------------------------------------------


def crud() -> App:
    app = App()
    app.get("/items", say("list"))
    app.post("/items", say("make"))
    app.delete("/items/{id:int}", say("remove"))
    app.get(re.compile(r"/old(?P<num>\d+)"), lambda ctx: f"old {ctx.path_params['num']}")
    app.options("/own", lambda ctx: Response("own options", headers={"Allow": "GET"}))
    app.get("/own", say("own"))
    app.head("/head", lambda ctx: Response(headers={"X-Head": "1"}))
    return app


@pytest.mark.parametrize("middlewares", [(), (Context.next, Context.next)])
@pytest.mark.parametrize(
    ("method", "path", "status", "text", "allow"),
    [
        ("GET", "/items", 200, "list", None),
        ("GET", "//items/", 200, "list", None),
        ("POST", "/items", 200, "make", None),
        ("HEAD", "/items", 200, "", None),
        ("PUT", "/items", 405, "405 Method Not Allowed", "GET, HEAD, OPTIONS, POST"),
        ("get", "/items", 405, "405 Method Not Allowed", "GET, HEAD, OPTIONS, POST"),
        ("BREW", "/items", 405, "405 Method Not Allowed", "GET, HEAD, OPTIONS, POST"),
        ("OPTIONS", "/items", 204, "", "GET, HEAD, OPTIONS, POST"),
        ("GET", "/items/1", 405, "405 Method Not Allowed", "DELETE, OPTIONS"),
        ("HEAD", "/items/1", 405, "", "DELETE, OPTIONS"),
        ("OPTIONS", "/items/1", 204, "", "DELETE, OPTIONS"),
        ("GET", "/items/x", 404, "404 Not Found", None),
        ("HEAD", "/items/x", 404, "", None),
        ("OPTIONS", "/items/x", 404, "404 Not Found", None),
        ("GET", "/old12", 200, "old 12", None),
        ("POST", "/old12", 405, "405 Method Not Allowed", "GET, HEAD, OPTIONS"),
        ("OPTIONS", "/old12", 204, "", "GET, HEAD, OPTIONS"),
        ("OPTIONS", "/own", 200, "own options", "GET"),
        ("GET", "/head", 405, "405 Method Not Allowed", "HEAD, OPTIONS"),
        ("HEAD", "/head", 200, "", None),
        ("GET", "/", 404, "404 Not Found", None),
        ("GET", "", 404, "404 Not Found", None),
        ("OPTIONS", "*", 404, "404 Not Found", None),
    ],
)
def test_method_and_path_decide(
    method: str, path: str, status: int, text: str, allow: str | None, middlewares: Any
) -> None:
    app = crud()
    app.use(*middlewares)
    started = Started(app, environ_for(method, path))
    answer = Answer(int(started.status[:3]), started.headers, b"".join(started.body))
    started.close()
    assert answer.status == status
    assert answer.text == text if status < 400 or not text else f"<h1>{text}</h1>" in answer.text
    assert answer.header("Allow") == allow


@pytest.mark.parametrize(
    "verb", ["get", "head", "post", "put", "patch", "delete", "options", "trace", "connect"]
)
@pytest.mark.parametrize("grouped", [False, True])
def test_every_verb_is_a_decorator_and_a_call(verb: str, grouped: bool) -> None:
    app = App()
    where: Any = Group(app, "/g") if grouped else app
    prefix = "/g" if grouped else ""

    def handler(ctx: Context) -> Response:
        return Response(headers={"X-Seen": ctx.method})

    assert getattr(where, verb)("/call", handler) is handler
    assert getattr(where, verb)("/decorated", name="n")(handler) is handler
    assert [
        call(app, verb.upper(), f"{prefix}/{path}").header("X-Seen") for path in ("call", "decorated")
    ] == [verb.upper()] * 2
    assert app.url_for("n") == f"{prefix}/decorated"


def test_all_is_every_method() -> None:
    app = App()
    app.all("/x", lambda ctx: ctx.method)
    assert [call(app, method, "/x").text for method in ALL_METHODS] == list(ALL_METHODS)


def test_route_and_add_route_take_methods_and_names() -> None:
    app = App()

    @app.route("/a", methods=["GET", "POST"], name="a")
    def handler(ctx: Context) -> str:
        return ctx.method

    route = app.add_route("/b/{x}", handler, methods=["PUT"], name="b")

    assert [call(app, method, "/a").text for method in ("GET", "POST")] == ["GET", "POST"]
    assert (route.name, route.methods, route.pattern) == ("b", ("PUT",), "/b/{x}")
    assert app.routes[-1] is route
    assert repr(route.target).endswith("handler")
    assert repr(app) == "<App 'prologue' 2 routes, 0 middlewares>"


@pytest.mark.parametrize(
    ("add", "error", "message"),
    [
        (lambda app: app.get("/x", "text"), TypeError, r"route '/x': 'text' is not a callable"),
        (lambda app: app.get("/x", say(""), middlewares=[1]), TypeError, r"route '/x': 1 is not a callable"),
        (lambda app: app.use(None), TypeError, r"a middleware is a callable .* not None"),
        (lambda app: app.get("/x", say(""), limits=5), TypeError, r"route '/x': limits are Limits\(.*not 5"),
        (lambda app: app.mount("/x", "app"), TypeError, r"a WSGI application is a function, not 'app'"),
        (lambda app: app.on_startup(None), TypeError, r"a startup handler is a function, not None"),
        (lambda app: app.on_shutdown(3), TypeError, r"a shutdown handler is a function, not 3"),
        (lambda app: app.lazy("x", 3), TypeError, r"the loader of a LazyResource is a function, not 3"),
        (lambda app: app.lazy("x", int, close=3), TypeError, r"the close of a LazyResource is a function"),
        (lambda app: app.register_converter("x", None), RouteError, r"converter 'x': not both of None and"),
        (lambda app: app.get("/{", say("")), RouteError, r"/\{"),
        (lambda app: app.add_route("/x", say(""), methods=[]), RouteError, "needs a method"),
        (lambda app: app.get("/taken", say("")), DuplicatedRouteError, "/taken"),
        (lambda app: Group(app, "api"), RouteError, "starts with '/'"),
        (lambda app: Group(app, "/api/"), RouteError, "starts with '/'"),
        (lambda app: Group(app, "/api").get(re.compile("x"), say("")), RouteError, "regular expression"),
        (lambda app: app.register_converter("int", int), RouteError, "int"),
        (lambda app: app.url_for("nobody"), RouteBuildError, "no route has the name 'nobody'"),
        (lambda app: App(untyped({"debug": True})), TypeError, r"takes Settings\(...\), not {'debug': True}"),
    ],
)
def test_mistakes_are_errors_when_they_are_made(add: Any, error: type[Exception], message: str) -> None:
    app = App()
    app.get("/taken", say("taken"))
    with pytest.raises(error, match=message):
        add(app)
    assert len(app.routes) == 1


@pytest.mark.parametrize(
    ("path", "seen"),
    [
        ("/x/привет", "привет"),
        ("/x/a b+c%2F", "a b+c%2F"),
        ("/x/a\tb", "a\tb"),
        ("/x/日本 ☃", "日本 ☃"),
    ],
)
def test_paths_reach_the_handler_decoded(path: str, seen: str) -> None:
    app = App()
    app.get("/x/{name}", lambda ctx: {"path": ctx.path, "name": ctx.path_params["name"]})
    assert json.loads(call(app, path=path).text) == {"path": path, "name": seen}


def test_a_static_route_may_be_in_any_script() -> None:
    app = App()
    app.get("/статии/{име}", lambda ctx: ctx.path_params["име"], name="статия")
    assert client(app).get(app.url_for("статия", {"име": "първа"})).text == "първа"


def test_a_path_that_is_no_utf_8_reaches_the_handler_with_replacements() -> None:
    app = App()
    app.get("/{name}", lambda ctx: ctx.path_params["name"])
    assert call(app, PATH_INFO="/\xff").text == "\ufffd"


def test_a_nul_in_the_path_is_refused_before_any_handler() -> None:
    app = App()
    app.get("/{name}", say("reached"))
    answer = call(app, path="/a\0b")
    assert (answer.status, "NUL" in answer.text) == (400, True)


# -- middlewares --------------------------------------------------------------------------------------


def test_middlewares_run_in_order_around_the_handler() -> None:
    events: list[str] = []

    def link(name: str) -> Handler:
        def middleware(ctx: Context) -> None:
            events.append(f"{name} in")
            ctx.next()
            events.append(f"{name} out")

        return middleware

    app = App(middlewares=[link("first")])
    app.use(link("second"), link("third"))
    group = Group(app, "/g", middlewares=[link("group")])
    group.use(link("later"))
    inner = Group(app, "/h", middlewares=[link("inner")], parent=group)
    inner.get("/x", lambda ctx: events.append("handler"), middlewares=[link("route")])

    assert call(app, path="/g/h/x").status == 200
    names = ["first", "second", "third", "group", "later", "inner", "route"]
    assert events == [f"{n} in" for n in names] + ["handler"] + [f"{n} out" for n in reversed(names)]
    assert len(app.middlewares) == 3
    assert repr(group) == "<Group /g>"


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_middleware_that_does_not_call_next_answers_itself(count: int) -> None:
    app = App(middlewares=[Context.next] * (count - 1))
    app.use(say("stopped"))
    app.get("/", lambda ctx: pytest.fail("the handler was reached"))
    answer = call(app)
    assert (answer.status, answer.text) == (200, "stopped")


def test_a_middleware_that_neither_calls_next_nor_answers_gives_an_empty_answer() -> None:
    app = App(middlewares=[lambda ctx: None])
    app.get("/", lambda ctx: pytest.fail("the handler was reached"))
    assert (call(app).status, call(app).body) == (200, b"")


@pytest.mark.parametrize("where", ["global", "route"])
def test_a_middleware_that_returns_something_replaces_the_answer(where: str) -> None:
    def replace(ctx: Context) -> tuple[str, int]:
        ctx.next()
        return "replaced", 202

    app = App(middlewares=[replace] if where == "global" else [])
    app.get("/", say("handler"), middlewares=[replace] if where == "route" else [])
    assert (call(app).status, call(app).text) == (202, "replaced")


def test_a_middleware_may_change_the_answer() -> None:
    def upper(ctx: Context) -> None:
        ctx.next()
        ctx.response.body = ctx.response.body.upper()
        ctx.response.headers["X-Upper"] = "1"

    app = App(middlewares=[upper])
    app.get("/", say("handler"))
    answer = call(app)
    assert (answer.text, answer.header("X-Upper"), answer.header("Content-Length")) == ("HANDLER", "1", "7")


def twice(ctx: Context) -> None:
    ctx.next()
    ctx.next()


def refuse(ctx: Context) -> None:
    ctx.resp("refused", 403)


@pytest.mark.parametrize("globals_", [(twice,), (Context.next, twice), (twice, twice), ()])
@pytest.mark.parametrize("own", [(), (twice,), (Context.next,), (twice, Context.next, twice)])
def test_calling_next_twice_runs_the_rest_once(globals_: Any, own: Any) -> None:
    reached = []

    def handler(ctx: Context) -> str:
        reached.append(ctx.path)
        ctx.next()
        return "handler"

    app = App(middlewares=globals_)
    app.get("/", handler, middlewares=own)
    assert call(app).text == "handler"
    assert reached == ["/"]
    assert call(app, path="/missing").status == 404


@pytest.mark.parametrize(
    ("globals_", "own"),
    [
        ((twice, refuse), ()),
        ((twice,), (refuse,)),
        ((), (twice, refuse)),
        ((Context.next, twice), (twice, refuse)),
    ],
)
def test_calling_next_again_does_not_pass_a_middleware_that_refuses(globals_: Any, own: Any) -> None:
    app = App(middlewares=globals_)
    app.get("/", lambda ctx: pytest.fail("the handler was reached"), middlewares=own)
    assert (call(app).status, call(app).text) == (403, "refused")


@pytest.mark.parametrize("own", [False, True])
def test_calling_next_again_does_not_pass_a_middleware_that_failed(own: bool) -> None:
    def retry(ctx: Context) -> None:
        try:
            ctx.next()
        except HTTPError:
            ctx.next()
            raise

    def fail(ctx: Context) -> None:
        raise HTTPError(403)

    app = App(middlewares=[Context.next, retry] if own else [Context.next, retry, fail])
    app.get("/", lambda ctx: pytest.fail("the handler was reached"), middlewares=[fail] if own else [])
    assert call(app).status == 403


def test_a_global_middleware_may_rewrite_the_path_and_sees_no_route_before() -> None:
    seen: list[Any] = []

    def rewrite(ctx: Context) -> None:
        seen.append((ctx.route, dict(ctx.path_params)))
        ctx.path = ctx.path.removeprefix("/en")
        ctx.next()
        assert ctx.route is not None
        seen.append((ctx.route.pattern, ctx.path_params))

    app = App(middlewares=[rewrite])
    app.get("/users/{id:int}", lambda ctx: ctx.path)
    assert call(app, path="/en/users/7").text == "/users/7"
    assert seen == [(None, {}), ("/users/{id:int}", {"id": 7})]


def test_the_parameters_of_a_request_without_route_cannot_be_written() -> None:
    def write(ctx: Context) -> None:
        ctx.path_params["x"] = 1

    assert call(App(middlewares=[write]), path="/x").status == 500


@pytest.mark.parametrize("length", [0, 1, 1023, 1024, 70_000])
@pytest.mark.parametrize("kind", ["text", "JSON"])
def test_the_length_of_a_body_is_sent(kind: str, length: int) -> None:
    app = App()
    app.get("/", lambda ctx: "x" * length if kind == "text" else ["x" * length])
    answer = call(app)
    assert int(answer.header("Content-Length") or -1) == len(answer.body) == length + (kind == "JSON") * 4


# -- settings -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("good.example", 200),
        ("GOOD.example:80", 200),
        ("a.wide.example", 200),
        ("evil.example", 400),
        ("a/b", 400),
        ("", 400),
    ],
)
@pytest.mark.parametrize("middlewares", [(), (Context.next,)])
def test_only_trusted_hosts_are_answered(host: str, status: int, middlewares: Any) -> None:
    app = App(Settings(trusted_hosts=["good.example", ".wide.example"]), middlewares=middlewares)
    app.get("/", say("text"))
    assert call(app, HTTP_HOST=host).status == status


def test_settings_that_are_replaced_count_from_then_on() -> None:
    app = App()
    app.get("/", lambda ctx: f"{ctx.deadline is not None}")
    assert call(app).text == "False"
    app.settings = app.settings.replace(trusted_hosts=["good.example"], request_timeout=5)
    assert call(app, HTTP_HOST="good.example").text == "True"
    assert call(app, HTTP_HOST="bad.example").status == 400
    app.settings = Settings()
    assert call(app, HTTP_HOST="bad.example").text == "False"
    with pytest.raises(TypeError, match="takes Settings"):
        app.settings = {"debug": True}  # type: ignore[assignment]


def test_a_middleware_that_is_added_late_stands_before_every_handler() -> None:
    app = App()
    app.get("/", say("text"))
    assert call(app).text == "text"
    app.use(lambda ctx: "middleware")
    assert call(app).text == "middleware"


def test_the_bytes_of_a_path_are_no_text() -> None:
    app = App()
    app.get("/\xe9", say("text"))
    assert call(app, PATH_INFO="/\xc3\xa9").text == "text"  # é in UTF-8
    assert call(app, PATH_INFO="/\xe9").status == 404  # no UTF-8


def test_a_request_timeout_sets_the_deadline() -> None:
    app = App(Settings(request_timeout=5))
    seen: list[Any] = []
    app.get("/", lambda ctx: seen.append((ctx.deadline, ctx.time_left())))
    before = time.monotonic()
    call(app)
    after = time.monotonic()
    ((deadline, left),) = seen
    assert before + 5 <= deadline <= after + 5
    assert 0 < left <= 5


def test_without_a_request_timeout_there_is_no_deadline() -> None:
    app = App()
    seen: list[Any] = []
    app.get("/", lambda ctx: seen.append((ctx.deadline, ctx.time_left())))
    call(app)
    assert seen == [(None, None)]


def test_a_deadline_that_has_passed_leaves_no_time() -> None:
    app = App()
    ctx = Context(app, environ_for())
    ctx._deadline = time.monotonic() - 1
    assert ctx.time_left() == 0.0


def test_the_context_class_is_the_applications_own() -> None:
    class Own(Context):
        def greeting(self) -> str:
            return f"hello from {self.path}"

    app = App(context_class=Own)

    @app.get("/")
    def handler(ctx: Own) -> str:
        return ctx.greeting()

    assert call(app).text == "hello from /"


def test_converters_are_the_applications_own() -> None:
    app = App(converters=[Converter("hex", lambda text: int(text, 16), hex)])
    app.register_converter("word", str.upper)
    app.get("/{n:hex}/{w:word}", lambda ctx: f"{ctx.path_params}", name="n")
    assert call(app, path="/ff/a").text == "{'n': 255, 'w': 'A'}"
    assert call(app, path="/xyz/a").status == 404


# -- URLs ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script_name", "url"),
    [
        ("", "/u/%D0%B6%20?q=1&q=2"),
        ("/base", "/base/u/%D0%B6%20?q=1&q=2"),
        ("/base/", "/base/u/%D0%B6%20?q=1&q=2"),
        ("/\xd0\xb1 %", "/%D0%B1%20%25/u/%D0%B6%20?q=1&q=2"),
    ],
)
def test_url_for_knows_where_the_application_is_mounted(script_name: str, url: str) -> None:
    app = App()
    app.get("/u/{name}", lambda ctx: ctx.url_for("user", {"name": "ж "}, {"q": [1, 2]}), name="user")
    app.get("/kw/{name}", lambda ctx: ctx.url_for("user", name="ж ") + "?q=1&q=2")
    assert call(app, path="/u/x", SCRIPT_NAME=script_name).text == url
    assert call(app, path="/kw/x", SCRIPT_NAME=script_name).text == url
    assert app.url_for("user", {"name": "ж "}, {"q": [1, 2]}, script_name=script_name) == url


def test_a_url_that_cannot_be_built_is_an_error() -> None:
    app = App()
    app.get("/u/{name}", say(""), name="user")
    for values in ({}, {"name": ""}, {"name": "a/b"}, {"name": "a", "more": 1}):
        with pytest.raises(RouteBuildError):
            app.url_for("user", values)


# -- lifecycle ----------------------------------------------------------------------------------------


def test_startup_runs_once_before_the_first_request_whatever_the_threads() -> None:
    events: list[str] = []
    app = App(startup=[lambda: events.append("first")], shutdown=[lambda: events.append("down 1")])
    app.on_startup(lambda: events.append("second"))
    app.on_shutdown(lambda: events.append("down 2"))
    app.shutdown_manager.add_handler(lambda: events.append("down 3"))
    app.get("/", lambda ctx: f"{events[:2]}")

    texts = together(8, lambda _: call(app).text)

    assert texts == ["['first', 'second']"] * 8
    assert app.lifecycle.shutdown() == []
    assert events == ["first", "second", "down 3", "down 2", "down 1"]


def test_a_startup_that_fails_answers_500_and_the_next_request_tries_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    outcomes = iter([ConnectionError("down"), None])
    events = []

    def start() -> None:
        outcome = next(outcomes)
        if outcome is not None:
            raise outcome
        events.append("started")

    app = App(startup=[start])
    app.get("/", say("text"))
    assert call(app).status == 500
    assert "ConnectionError: down" in caplog.text
    assert call(app).text == "text"
    assert call(app).text == "text"
    assert events == ["started"]


def test_the_error_of_startup_may_be_handled() -> None:
    def start() -> None:
        raise ConnectionError("down")

    app = App(startup=[start])
    app.register_error_handler(ConnectionError, lambda ctx: ("come again", 503, {"Retry-After": "1"}))
    answer = call(app, path="/x")
    assert (answer.status, answer.text, answer.header("Retry-After")) == (503, "come again", "1")


def test_a_request_after_shutdown_without_startup_is_an_error() -> None:
    app = App()
    app.lifecycle.shutdown()
    assert call(app).status == 500
    with pytest.raises(LifecycleError):
        app.on_startup(lambda: None)


def test_lazy_puts_a_resource_among_those_of_the_application() -> None:
    events: list[str] = []
    app = App()

    def load() -> str:
        events.append("load")
        return "index"

    resource: LazyResource[Any] = app.lazy("index", load, close=events.append)
    app.get("/", lambda ctx: ctx.app.resources["index"])

    assert isinstance(resource, LazyResource)
    assert not resource.initialized
    assert together(4, lambda _: call(app).text) == ["index"] * 4
    app.lifecycle.shutdown()
    assert events == ["load", "index"]


def test_a_name_of_a_resource_is_used_once() -> None:
    app = App()
    app.lazy("index", list)
    with pytest.raises(LifecycleError, match="'index' is there already"):
        app.lazy("index", list)


def test_run_hands_the_application_to_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    server = types.ModuleType("prologue.server")
    server.run = lambda *arguments, **options: seen.append((arguments, options))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "prologue.server", server)
    app = App()
    app.run(host="::1", port=1, workers=2)
    assert seen == [((app,), {"host": "::1", "port": 1, "workers": 2})]
    assert issubclass(MissingExtraError, ImportError)


# -- threads ------------------------------------------------------------------------------------------


def test_requests_of_many_threads_do_not_meet() -> None:
    app = App(middlewares=[Context.next, Context.next])
    inside = threading.Barrier(8)

    @app.get("/{n:int}")
    def handler(ctx: Context) -> Any:
        ctx.state.secret = ctx.path_params["n"]
        ctx.set_cookie("n", str(ctx.path_params["n"]))
        inside.wait(20)
        match ctx.state.secret % 4:
            case 0:
                return {"n": ctx.state.secret}
            case 1:
                raise HTTPError(409, str(ctx.state.secret))
            case 2:
                raise KeyError(ctx.state.secret)
        return Response(iter([str(ctx.state.secret)]))

    for _ in range(5):
        answers = together(8, lambda n: call(app, path=f"/{n}"))
        assert [answer.status for answer in answers] == [200, 409, 500, 200] * 2
        assert [answer.text for answer in answers][::4] == ['{"n":0}', '{"n":4}']
        assert [answer.text for answer in answers][3::4] == ["3", "7"]
        assert [answer.all("Set-Cookie")[0][:3] for answer in answers[::4]] == ["n=0", "n=4"]


# -- mounted applications -----------------------------------------------------------------------------


def echo(environ: Any, start_response: Any) -> list[bytes]:
    """Answer with where the application believes to be."""
    body = f"{environ['SCRIPT_NAME']}|{environ['PATH_INFO']}".encode("latin-1")
    start_response("200 OK", [("Content-Type", "text/plain"), ("X-Method", environ["REQUEST_METHOD"])])
    return [body]


@pytest.mark.parametrize(
    ("prefix", "script_name", "path", "seen"),
    [
        ("/legacy", "", "/legacy", "/legacy|"),
        ("/legacy", "", "/legacy/", "/legacy|/"),
        ("/legacy", "", "/legacy/a/b", "/legacy|/a/b"),
        ("/legacy", "", "/legacy/a/b/", "/legacy|/a/b/"),
        ("/legacy", "", "/legacy/a//b", "/legacy|/a//b"),
        ("/legacy", "", "//legacy/a", "/legacy|/a"),
        ("/legacy", "/base", "/legacy/a", "/base/legacy|/a"),
        ("/a/b", "", "/a/b/c", "/a/b|/c"),
        ("/", "", "/x/y", "|/x/y"),
        ("/", "", "/", "|/"),
        ("/legacy", "", "/legacy/ж", "/legacy|/ж"),
        ("/ж", "", "/ж/x", "/ж|/x"),
    ],
)
def test_a_mounted_application_sees_the_rest_of_the_path(
    prefix: str, script_name: str, path: str, seen: str
) -> None:
    app = App()
    app.mount(prefix, echo)
    answer = call(app, path=path, SCRIPT_NAME=script_name)
    assert (answer.status, answer.text) == (200, seen)


def test_a_mounted_application_sees_a_path_that_a_middleware_has_rewritten() -> None:
    def rewrite(ctx: Context) -> None:
        ctx.path = "/legacy/ж"
        ctx.next()

    app = App(middlewares=[rewrite])
    app.mount("/legacy", echo)
    assert call(app, path="/x").text == "/legacy|/ж"


@pytest.mark.parametrize("method", [*ALL_METHODS, "HEAD"])
def test_a_mounted_application_gets_every_method(method: str) -> None:
    app = App()
    app.mount("/legacy", echo, "legacy")
    answer = call(app, method, "/legacy/x")
    assert (answer.status, answer.header("X-Method")) == (200, method)
    assert app.url_for("legacy") == "/legacy"


def test_routes_beside_a_mounted_application_come_first() -> None:
    app = App()
    app.mount("/", echo)
    app.get("/own", say("own"))
    assert (call(app, path="/own").text, call(app, path="/other").text) == ("own", "|/other")


def test_applications_may_be_mounted_inside_each_other() -> None:
    inner, middle, outer = App(), App(), App()
    inner.get("/u/{id}", lambda ctx: ctx.url_for("u", id="2"), name="u")
    inner.get("/fails", lambda ctx: ctx.abort_exit(409, "inner"))
    inner.get("/hole", lambda ctx: (None, 404))
    middle.mount("/in", inner)
    outer.mount("/mid", middle)
    outer.register_error_handler(404, lambda ctx: "outer")
    assert call(outer, path="/mid/in/u/1").text == "/mid/in/u/2"
    assert (call(outer, path="/mid/in/fails").status, "inner" in call(outer, path="/mid/in/fails").text) == (
        409,
        True,
    )
    assert "<h1>404" in call(outer, path="/mid/in/hole").text
    assert call(outer, path="/other").text == "outer"


def test_a_mounted_application_is_streamed_and_closed() -> None:
    events: list[str] = []

    class Body:
        def __iter__(self) -> Iterator[bytes]:
            for number in range(3):
                events.append(f"made {number}")
                yield b"."

        def close(self) -> None:
            events.append("closed")

    def streaming(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return Body()

    app = App()
    app.mount("/s", streaming)
    started = Started(app, environ_for(path="/s"))
    assert events == []
    assert next(iter(started.body)) == b"."
    assert events == ["made 0"]
    started.close()
    assert events == ["made 0", "closed"]


def test_the_error_of_a_mounted_application_is_an_error_like_any_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def failing(environ: Any, start_response: Any) -> list[bytes]:
        raise ValueError("inside")

    app = App()
    app.mount("/s", failing)
    assert call(app, path="/s/x").status == 500
    assert "route /s/*$" in caplog.text


def test_a_mounted_application_reads_the_body_and_keeps_its_own_environ() -> None:
    def reading(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        environ["PATH_INFO"] = "/changed"
        return [environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))]

    seen = []

    def after(ctx: Context) -> None:
        ctx.next()
        seen.append(ctx.environ["PATH_INFO"])

    app = App(middlewares=[after])
    app.mount("/s", reading)
    assert call(app, "POST", "/s/x", b"body").text == "body"
    assert seen == ["/s/x"]
