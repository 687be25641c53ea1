"""The cache as a middleware, and what routes say of their answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from prologue import App, Context, Response
from prologue.cache import InMemoryCache
from prologue.errors import HeaderError, HTTPError
from prologue.http_cache import CacheMiddleware, cache_control, cache_middleware, format_directives
from tests.calling import Started, call, environ_for
from tests.concurrency import until
from tests.http_cache.origins import Clock


class Site:
    """An application with the cache in front, whose handler answers as it is told."""

    def __init__(self, **options: Any) -> None:
        self.clock = Clock()
        self.store = InMemoryCache(clock=self.clock)
        self.middleware = cache_middleware(self.store, **({"ttl": 60} | options), clock=self.clock)
        self.app = App(middlewares=[self.middleware])
        self.calls = 0

    def route(self, handler: Any, path: str = "/", **more: Any) -> None:
        def counted(ctx: Context) -> Any:
            self.calls += 1
            return handler(ctx)

        self.app.get(path, counted, **more)

    def hits(self, count: int = 2, **more: Any) -> int:
        """Return how many of the requests did not reach the handler."""
        before = self.calls
        for _ in range(count):
            call(self.app, **more)
        return count - (self.calls - before)


def stream() -> Iterator[str]:
    yield "a"
    yield "ч"


@pytest.mark.parametrize(
    ("result", "body"),
    [
        ("text", b"text"),
        (b"bytes", b"bytes"),
        ({"a": 1}, b'{"a":1}'),
        ("", b""),
        (Response(b"whole", 200), b"whole"),
        (stream, "aч".encode()),
    ],
    ids=["str", "bytes", "json", "empty", "response", "stream"],
)
def test_what_a_handler_returns_is_cached_for_its_time(result: Any, body: bytes) -> None:
    site = Site()
    site.route(lambda ctx: result() if callable(result) else result)
    first, again = call(site.app), call(site.app)
    assert (first.body, again.body, site.calls) == (body, body, 1)
    assert first.header("Content-Type") == again.header("Content-Type")
    assert again.header("Cache-Status") == "prologue; hit; ttl=60"
    assert call(site.app, "HEAD").header("Content-Length") == str(len(body))
    site.clock.now += 60
    call(site.app)
    assert site.calls == 2


@pytest.mark.parametrize(
    "handler",
    [
        lambda ctx: Response("x", 200, {"Cache-Control": "private"}),
        lambda ctx: Response("x", 200, {"Vary": "*"}),
        lambda ctx: Response("x", 200, {"Vary": "Cookie"}),
        lambda ctx: ("x", 404),
        lambda ctx: ctx.set_cookie("a", "b") or "x",
        lambda ctx: ctx.get_cookie("a") or "x",
        lambda ctx: ctx.cache.exclude() or "x",
        lambda ctx: ctx.cache.control(no_store=True) or "x",
    ],
)
def test_what_is_for_one_client_is_not_cached(handler: Any) -> None:
    site = Site()
    site.route(handler)
    assert site.hits() == 0
    assert call(site.app).header("Prologue-Cache-Control") is None


class Session(dict[str, Any]):
    touched = False


@pytest.mark.parametrize(("session", "hits"), [(Session(), 1), ({}, 0), (None, 1)])
def test_a_session_that_was_touched_keeps_the_answer_out(session: Any, hits: int) -> None:
    def handler(ctx: Context) -> str:
        ctx.session = session
        return "x"

    site = Site()
    site.route(handler)
    assert site.hits() == hits

    def touch(ctx: Context) -> str:
        ctx.session = touched = Session()
        touched.touched = True
        ctx.cache.control(public=True, max_age=60)
        return "x"

    site.route(touch, "/touched")
    assert site.hits(path="/touched") == 0


def test_credentials_reach_the_handler_unless_the_answer_is_for_all() -> None:
    site = Site()
    site.route(lambda ctx: "x")
    site.route(cache_control(public=True, max_age=60)(lambda ctx: "x"), "/public")
    credentials: list[dict[str, Any]] = [{"HTTP_COOKIE": "a=b"}, {"HTTP_AUTHORIZATION": "x"}]
    for more in credentials:
        call(site.app)
        assert site.hits(**more) == 0
        assert site.hits(path="/public", **more) >= 1
    assert site.hits() == 2


def test_only_get_is_cached_and_an_unsafe_request_clears() -> None:
    site = Site()
    site.route(lambda ctx: "x")
    site.app.post("/", lambda ctx: "done")
    assert site.hits() == 1
    assert call(site.app, "POST").text == "done"
    site.clock.now += 0.001
    assert site.hits() == 1


def test_conditions_and_ranges_are_answered() -> None:
    site = Site()
    site.route(lambda ctx: Response("0123456789", 200, {"ETag": '"a"'}))
    for _ in range(2):
        assert call(site.app, HTTP_IF_NONE_MATCH='"a"').status == 304
        answer = call(site.app, HTTP_RANGE="bytes=1-2")
        assert (answer.status, answer.body) == (206, b"12")
    assert site.calls == 1


def test_the_handler_sees_the_request_as_it_was_again_after_it_was_asked() -> None:
    site = Site()
    seen = []

    def log(ctx: Context) -> None:
        ctx.next()
        seen.append(ctx.environ.get("HTTP_IF_NONE_MATCH"))

    site.app = App(middlewares=[log, site.middleware])
    site.route(lambda ctx: str(ctx.environ.get("HTTP_IF_NONE_MATCH")))
    assert call(site.app, HTTP_IF_NONE_MATCH='"a"').text == "None"
    assert seen == ['"a"']


def test_a_stale_answer_is_refreshed_through_the_whole_application() -> None:
    site = Site()
    answers = iter(["old", "new"])
    site.route(cache_control(max_age=60, stale_while_revalidate=60)(lambda ctx: next(answers)))
    call(site.app)
    site.clock.now += 70
    assert call(site.app).text == "old"
    until(lambda: site.calls == 2)
    site.middleware.close()
    assert call(site.app).text == "new"


@pytest.mark.parametrize("inner", [False, True])
@pytest.mark.parametrize("error", [ValueError("broken"), HTTPError(503)])
def test_a_stale_answer_stands_for_an_error(error: Exception, inner: bool) -> None:
    site = Site(stale_if_error=100)
    if inner:
        site.app = App(middlewares=[lambda ctx: ctx.next(), site.middleware])
    failing: list[bool] = []

    def handler(ctx: Context) -> str:
        if failing:
            raise error
        return "fine"

    site.route(handler)
    call(site.app)
    failing.append(True)
    site.clock.now += 70
    answer = call(site.app)
    assert (answer.status, answer.text) == (200, "fine")
    assert "fwd=stale; fwd-status=5" in str(answer.header("Cache-Status"))
    site.clock.now += 100
    assert call(site.app).status in (500, 503)


def test_an_error_of_the_client_is_not_answered_for() -> None:
    site = Site(stale_if_error=100)
    missing: list[bool] = []

    def handler(ctx: Context) -> str:
        if missing:
            raise HTTPError(404)
        return "fine"

    site.app = App(middlewares=[lambda ctx: ctx.next(), site.middleware])
    site.route(handler)
    call(site.app)
    missing.append(True)
    site.clock.now += 70
    assert call(site.app).status == 404


def test_the_middleware_can_be_told_to_purge() -> None:
    site = Site(purge_token="secret")
    site.route(cache_control(max_age=60, tags=["users"])(lambda ctx: "x"))
    assert isinstance(site.middleware, CacheMiddleware)
    ways: list[Callable[[], None]] = [
        lambda: site.middleware.purge_tags("users"),
        lambda: site.middleware.purge("http://127.0.0.1/"),
    ]
    for way in ways:
        site.clock.now += 1
        assert site.hits() == 1
        way()
    site.clock.now += 1
    assert site.hits() == 1
    site.store.invalidate_tags("users")
    assert site.hits() == 1


def test_purge_is_answered_by_the_middleware() -> None:
    site = Site(purge_token="secret")
    site.route(lambda ctx: "x")
    assert site.hits() == 1
    started = Started(site.app, environ_for("PURGE", HTTP_AUTHORIZATION="Bearer secret"))
    assert (started.status, b"".join(started.body)) == ("200 OK", b"purged\n")
    site.clock.now += 1
    assert site.hits() == 1


def test_a_route_says_how_it_is_cached() -> None:
    site = Site(ttl=0)
    site.route(cache_control(public=True, max_age=30, tags=["a", "b"], vary=["Accept"])(lambda ctx: "x"))
    answer = call(site.app)
    assert answer.header("Cache-Control") == "public, max-age=30"
    assert answer.header("Surrogate-Key") == "a b"
    assert answer.header("Vary") == "Accept"
    assert site.hits() == 2
    assert site.hits(HTTP_ACCEPT="x") == 1


def test_what_a_handler_says_itself_counts_more_than_its_decorator() -> None:
    @cache_control(public=True, max_age=30)
    def handler(ctx: Context) -> Any:
        """Documented."""
        if "own" in ctx.query:
            return Response("x", 200, {"Cache-Control": "no-store"})
        return ("gone", 410)

    app = App()
    app.get("/", handler)
    assert call(app, QUERY_STRING="own").header("Cache-Control") == "no-store"
    assert call(app).header("Cache-Control") is None
    assert handler.__doc__ == "Documented."


def test_ctx_cache_sets_what_the_result_keeps() -> None:
    def handler(ctx: Context) -> str:
        ctx.cache.control(public=True, max_age=5)
        ctx.cache.tag("a", "b")
        ctx.cache.vary("Accept")
        return "x"

    app = App()
    app.get("/", handler)
    answer = call(app)
    assert answer.header("Cache-Control") == "public, max-age=5"
    assert (answer.header("Surrogate-Key"), answer.header("Vary")) == ("a b", "Accept")


@pytest.mark.parametrize("tag", ["", "a b", "é\n"])
def test_a_tag_is_one_word(tag: str) -> None:
    app = App()
    errors = []

    def handler(ctx: Context) -> str:
        with pytest.raises(HeaderError) as caught:
            ctx.cache.tag(tag)
        errors.append(caught.value)
        return "x"

    app.get("/", handler)
    call(app)
    assert errors


@pytest.mark.parametrize(
    ("directives", "word"),
    [
        ({}, "name a directive"),
        ({"public": False}, "name a directive"),
        ({"max_age": "60"}, "max_age is seconds"),
        ({"max_age": True}, "max_age is seconds"),
        ({"max_age": -1}, "max_age is seconds"),
        ({"public": 1}, "public is True or False"),
        ({"maxage": 1}, "no 'maxage'"),
        ({"public": True, "private": True}, "contradicts"),
        ({"public": True, "no_store": True}, "contradicts"),
    ],
)
def test_directives_that_cannot_be_said_are_refused(directives: dict[str, Any], word: str) -> None:
    with pytest.raises(HeaderError, match=word):
        format_directives(**directives)


def test_directives_are_written_in_their_order() -> None:
    assert (
        format_directives(public=True, max_age=60, s_maxage=None, immutable=True)
        == "public, max-age=60, immutable"
    )


def test_a_hit_is_a_response_to_whoever_looks_at_it() -> None:
    seen: list[tuple[int, str | None, bytes]] = []

    def outer(ctx: Context) -> None:
        ctx.next()
        seen.append((ctx.response.status, ctx.response.content_type, ctx.response.body))
        ctx.response.headers["X-Seen"] = "yes"

    def handler(ctx: Context) -> bytes:
        del ctx.response.headers["Content-Type"]
        return b"tea"

    app = App(middlewares=[outer, cache_middleware(InMemoryCache(), ttl=60)])
    app.get("/", handler)
    answers = [call(app) for _ in range(2)]
    assert seen == [(200, "application/octet-stream", b"tea")] * 2
    assert [answer.header("X-Seen") for answer in answers] == ["yes", "yes"]
    assert "hit" in str(answers[1].header("Cache-Status"))
    assert answers[1].header("Content-Length") == "3"


def test_a_callback_runs_and_head_has_no_body_when_the_cache_answers() -> None:
    ran: list[str] = []

    def outer(ctx: Context) -> None:
        ctx.after_response(lambda: ran.append(ctx.method))
        ctx.next()

    app = App(middlewares=[outer, cache_middleware(InMemoryCache(), ttl=60)])
    app.get("/", lambda ctx: "tea")
    call(app)
    assert [call(app, method).body for method in ("GET", "HEAD")] == [b"tea", b""]
    assert ran == ["GET", "GET", "HEAD"]


def test_a_response_without_a_type_gets_one_before_it_is_stored() -> None:
    app = App(middlewares=[cache_middleware(InMemoryCache(), ttl=60)])

    @app.get("/")
    def handler(ctx: Context) -> None:
        ctx.response = Response(b"tea", content_type=None)

    answers = [call(app) for _ in range(2)]
    assert [answer.header("Content-Type") for answer in answers] == ["application/octet-stream"] * 2
    assert "hit" in str(answers[1].header("Cache-Status"))


def test_a_304_for_which_the_session_was_touched_is_not_kept() -> None:
    site = Site()
    touches: list[bool] = []

    def handler(ctx: Context) -> Response:
        if touches:
            ctx.session = touched = Session()
            touched.touched = True
        validated = ctx.environ.get("HTTP_IF_NONE_MATCH") == '"a"'
        return Response(b"" if validated else b"x", 304 if validated else 200, {"ETag": '"a"'})

    site.route(handler)
    call(site.app)
    site.clock.now += 70
    touches.append(True)
    answer = call(site.app)
    assert (answer.text, answer.header("Cache-Status")) == ("x", "prologue; fwd=stale; fwd-status=304")
    assert site.hits() == 0
