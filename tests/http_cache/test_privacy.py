"""What belongs to somebody reaches nobody else, and no unnamed input changes what others get."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from prologue import App, Context, Response
from prologue.cache import InMemoryCache
from prologue.http_cache import HTTPCache, cache_middleware
from tests.calling import Answer, Started, call, environ_for
from tests.http_cache.origins import Clock

CONTROLS = ["", "max-age=60", "public, max-age=60", "s-maxage=60", "must-revalidate, max-age=60", "private"]
CONTROLS += ["Private, max-age=60", "no-store", "no-cache", 'no-cache="Set-Cookie", max-age=60', "max-age=0"]
CONTROLS += [
    "max-age=0, stale-while-revalidate=60",
    "max-age=1, stale-if-error=60",
    "no-store, must-understand",
]
VARIES = [
    [],
    ["Cookie"],
    ["cookie, Accept"],
    ["Authorization"],
    ["*"],
    [" *"],
    ["*, a"],
    ["Accept", "*"],
    ["Accept"],
]
PRINCIPALS = ["", "ann", "bob", "eve"]

#: What the RFC lets a shared cache give to everybody although the request was authorized (section 3.5).
SHARED = ("public", "s-maxage", "must-revalidate")


class Session(dict[str, Any]):
    touched = False

    def get(self, key: str, default: Any = None) -> Any:
        self.touched = True
        return super().get(key, default)


def session_middleware(ctx: Context) -> None:
    session = Session()
    name = ctx.environ.get("HTTP_COOKIE", "").partition("session=")[2].partition(";")[0]
    if name:
        session["user"] = name
    ctx.session = session
    ctx.next()


def site(cache: Any, clock: Clock, position: str) -> Any:
    """An application whose answers say whom they are for, in the way that the path asks for."""
    middleware = cache_middleware(cache, ttl=60, clock=clock)
    order: list[Any] = (
        [middleware, session_middleware] if position == "outer" else [session_middleware, middleware]
    )
    app = App(middlewares=order if position != "around" else [session_middleware])

    def handler(ctx: Context) -> Response:
        plan = ctx.path.split("/")[1:]
        source, control, vary, cookie = plan[0], CONTROLS[int(plan[1])], VARIES[int(plan[2])], plan[3]
        if source == "session":
            owner = ctx.session.get("user", "")
        elif source == "cookie":
            owner = ctx.get_cookie("session")
        elif source == "raw":
            owner = ctx.environ.get("HTTP_COOKIE", "").partition("session=")[2].partition(";")[0]
        elif source == "authorization":
            owner = ctx.environ.get("HTTP_AUTHORIZATION", "").partition(" ")[2]
        else:
            owner = ""
        response = Response(f"for {owner}")
        if control:
            response.headers["Cache-Control"] = control
        for value in vary:
            response.headers.add("Vary", value)
        if cookie == "1":
            response.set_cookie("session", owner or "new")
        return response

    app.get("/{source}/{control}/{vary}/{cookie}", handler)
    if position == "around":
        return HTTPCache(app, cache, ttl=60, clock=clock)
    return app


def plans(position: str) -> list[str]:
    """Every path of the application but those that say of somebody's answer that it is for everybody.

    With these words the RFC lets it be stored. Left out are those that the cache cannot find out: what reads
    the request behind the back of the Context, and any where the cache is around the application.
    """
    unseen = ("raw", "authorization", *(("session", "cookie") if position == "around" else ()))
    return [
        f"/{source}/{number}/{vary}/{cookie}"
        for source in ("session", "cookie", "raw", "authorization", "nobody")
        for number, control in enumerate(CONTROLS)
        if source not in unseen or not any(word in control for word in SHARED)
        for vary in range(len(VARIES))
        for cookie in (0, 1)
    ]


@pytest.mark.parametrize("position", ["outer", "inner", "around"])
def test_no_answer_for_one_principal_reaches_another(position: str) -> None:
    assert check(position, "privacy", 3400) > 20


def check(position: str, seed: str, requests: int) -> int:
    """Send requests of several principals, look at every answer, and return how many came from the cache."""
    chance = random.Random(f"{seed} {position}")
    clock = Clock()
    application = site(InMemoryCache(clock=clock, max_entries=100_000), clock, position)
    paths = plans(position)
    chance.shuffle(paths)
    hits = 0
    for number in range(requests):
        path = paths[(number // 20 + chance.randrange(2)) % len(paths)]
        source = path.split("/")[1]
        principal = chance.choice(PRINCIPALS) if source != "nobody" else ""
        more: dict[str, Any] = {}
        if principal and source == "authorization":
            more["HTTP_AUTHORIZATION"] = f"Basic {principal}"
        elif principal:
            more["HTTP_COOKIE"] = f"_ga=1; session={principal}"
        elif chance.random() < 0.3:
            more["HTTP_COOKIE"] = "_ga=1"
        if chance.random() < 0.3:
            more["HTTP_ACCEPT"] = chance.choice(["a", "b"])
        if chance.random() < 0.2:
            more["HTTP_CACHE_CONTROL"] = chance.choice(
                ["no-cache", "max-age=0", "max-stale", "only-if-cached"]
            )
        clock.now += chance.choice([0, 0.1, 2])
        answer = call(application, path=path, **more)
        hit = "hit" in str(answer.header("Cache-Status"))
        hits += hit
        if answer.status != 504:
            assert answer.text == f"for {principal}", (path, more)
            assert not (hit and answer.all("Set-Cookie")), (path, more)
    return hits


UNKEYED: list[dict[str, Any]] = [
    {"HTTP_HOST": "evil.example"},
    {"HTTP_HOST": "127.0.0.1:8080"},
    {"HTTP_HOST": "127.0.0.1."},
    {"HTTP_X_FORWARDED_HOST": "evil.example"},
    {"HTTP_X_FORWARDED_PROTO": "https"},
    {"HTTP_X_FORWARDED_PORT": "1"},
    {"HTTP_X_FORWARDED_PREFIX": "/evil"},
    {"HTTP_FORWARDED": "host=evil.example"},
    {"HTTP_X_HTTP_METHOD_OVERRIDE": "DELETE"},
    {"HTTP_X_ORIGINAL_URL": "/evil"},
    {"HTTP_X_REWRITE_URL": "/evil"},
    {"QUERY_STRING": "a=1;b=2"},
    {"QUERY_STRING": "a=1&a=2"},
    {"QUERY_STRING": "a=1&utm_source=evil"},
    {"wsgi.url_scheme": "https"},
    {"RAW_URI": "/page?a=1#evil"},
    {"RAW_URI": "//evil.example/page?a=1"},
    {"SCRIPT_NAME": "/page", "PATH_INFO": ""},
    {"PATH_INFO": "/page/x.css"},
    {"PATH_INFO": "/page;.css"},
    {"PATH_INFO": "/page\x00.css"},
    {"PATH_INFO": "/PAGE"},
    {"HTTP_RANGE": "bytes=0-0"},
    {"CONTENT_LENGTH": "4"},
    {"REQUEST_METHOD": "HEAD"},
]


def echo(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """Answer with all that an attacker could have sent, as careless applications do."""
    start_response("200 OK", [("Content-Type", "text/plain"), ("Cache-Control", "public, max-age=60")])
    if environ["REQUEST_METHOD"] == "HEAD":
        return []
    names = sorted({name for change in UNKEYED for name in change} - {"HTTP_RANGE", "RAW_URI"})
    said = {name: environ.get(name) for name in names}
    said["RAW_URI"] = environ.get("RAW_URI", "/page?a=1")
    said["script+path"] = environ["SCRIPT_NAME"] + environ["PATH_INFO"]
    del said["SCRIPT_NAME"], said["PATH_INFO"]
    said["CONTENT_LENGTH"] = said["CONTENT_LENGTH"] or "0"
    return [repr(sorted(said.items(), key=str)).encode()]


@pytest.mark.parametrize("change", UNKEYED, ids=str)
def test_no_unnamed_input_changes_what_others_get(change: dict[str, Any]) -> None:
    honest: dict[str, Any] = {"PATH_INFO": "/page", "QUERY_STRING": "a=1", "HTTP_HOST": "127.0.0.1"}
    plain = call(echo, **honest).body
    cache = HTTPCache(echo, InMemoryCache())

    def ask(environ: dict[str, Any]) -> Answer:
        started = Started(cache, environ_for(**environ))
        body = b"".join(started.body)
        started.close()
        return Answer(int(started.status[:3]), started.headers, body)

    poisoned = ask(honest | change).body
    assert ask(honest).body == plain
    assert ask(honest | change).body == poisoned
    assert ask(honest).body == plain


@pytest.mark.parametrize(
    "path", ["/account/x.css", "/account;.css", "/account/..%2fstatic/x.css", "/account%2Fx.css"]
)
def test_nothing_is_cached_by_its_extension(path: str) -> None:
    calls = []
    app = App(middlewares=[cache_middleware(InMemoryCache())])

    def account(ctx: Context) -> str:
        calls.append(ctx.path)
        return "secret"

    app.get("/account/{rest}$", account)
    app.get("/{rest}$", account)
    for _ in range(2):
        assert call(app, path=path).text == "secret"
    assert len(calls) == 2


def test_a_304_for_one_client_does_not_change_what_another_gets() -> None:
    clock = Clock()

    def careless(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        host = environ.get("HTTP_X_FORWARDED_HOST", "honest.example")
        validated = environ.get("HTTP_IF_NONE_MATCH") == '"1"'
        status = "304 Not Modified" if validated else "200 OK"
        fields = [("ETag", '"1"'), ("Cache-Control", "max-age=60"), ("Link", f"<//{host}/>")]
        start_response(status, fields if validated else [*fields, ("Content-Type", "text/plain")])
        return [] if validated else [b"body"]

    cache = HTTPCache(careless, InMemoryCache(clock=clock), clock=clock)
    for _ in range(2):
        call(cache)
        call(cache, HTTP_X_FORWARDED_HOST="evil.example")
        assert call(cache).header("Link") == "<//honest.example/>"
        clock.now += 70
        call(cache, HTTP_X_FORWARDED_HOST="evil.example")


@pytest.mark.parametrize("position", ["middleware", "around"])
def test_whom_the_server_has_authenticated_is_a_principal(position: str) -> None:
    cache = InMemoryCache()
    app = App(middlewares=[cache_middleware(cache, ttl=60)] if position == "middleware" else [])
    app.get("/", lambda ctx: f"for {ctx.environ.get('REMOTE_USER', '')}")
    application: Any = app if position == "middleware" else HTTPCache(app, cache, ttl=60)
    for user in ("ann", "", "bob", ""):
        # Apache takes Authorization away, and some servers say REMOTE_USER of everybody.
        assert call(application, REMOTE_USER=user).text == f"for {user}"
    assert "hit" in str(call(application, REMOTE_USER="").header("Cache-Status"))


@pytest.mark.parametrize("look", [lambda ctx: ctx.query, lambda ctx: ctx.request.args])
def test_what_the_key_leaves_out_is_not_seen_even_where_the_request_was_looked_at_before(
    look: Callable[[Context], object],
) -> None:
    def outer(ctx: Context) -> None:
        assert look(ctx) is not None
        ctx.next()

    cache = cache_middleware(InMemoryCache(), ttl=60, ignored_parameters=["utm_*"])
    app = App(middlewares=[outer, cache])
    app.get("/", lambda ctx: repr(sorted(ctx.query)) + ctx.request.full_path)
    texts = [call(app, QUERY_STRING=query).text for query in ("a=1&utm_source=evil", "a=1")]
    assert texts == ["['a']/?a=1"] * 2


def test_cookies_that_were_looked_at_before_the_cache_count() -> None:
    def outer(ctx: Context) -> None:
        ctx.state.name = ctx.get_cookie("session")
        ctx.next()

    def handler(ctx: Context) -> Response:
        return Response(f"for {ctx.state.name}", 200, {"Cache-Control": "public, max-age=60"})

    cache = cache_middleware(InMemoryCache(), ttl=60, ignored_parameters=["utm_*"])
    app = App(middlewares=[outer, cache])
    app.get("/", handler)
    for name in ("one", "other"):
        answer = call(app, QUERY_STRING="utm_source=x", HTTP_COOKIE=f"session={name}")
        assert answer.text == f"for {name}"
