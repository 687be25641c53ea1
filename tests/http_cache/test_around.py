"""The cache around applications of Flask, Django and Falcon: one site in each, one set of rules."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from prologue.cache import InMemoryCache
from prologue.http_cache import HTTPCache
from tests.calling import Answer, call
from tests.http_cache.origins import Clock

STALE = "public, max-age=60, stale-if-error=600"


class Site:
    """What the applications answer: how often each page was made is part of it.

    Attributes:
        made: the pages that were made, in order.
        broken: whether the page ``/page`` fails.
    """

    def __init__(self) -> None:
        self.made: list[str] = []
        self.broken = False

    def page(self, name: str) -> str:
        if self.broken:
            raise RuntimeError("the database is down")
        self.made.append(name)
        return f"{name} {self.made.count(name)}"

    def stream(self) -> Iterator[bytes]:
        for part in ("a ", self.page("stream")):
            yield part.encode()


def in_flask(site: Site) -> Any:
    import flask

    app = flask.Flask("site", static_folder=None)
    app.secret_key = "secret"

    @app.get("/page")
    def page() -> Any:
        response = flask.make_response(site.page("page"))
        response.headers["Cache-Control"] = STALE
        response.headers["ETag"] = '"1"'
        return response

    @app.post("/page")
    def change() -> str:
        return "changed"

    @app.get("/greeting")
    def greeting() -> Any:
        response = flask.make_response(site.page(flask.request.headers["Accept-Language"]))
        response.headers["Cache-Control"] = "max-age=60"
        response.vary.add("Accept-Language")
        return response

    @app.get("/visits")
    def visits() -> Any:
        flask.session["seen"] = True
        response = flask.make_response(site.page("visits"))
        response.headers["Cache-Control"] = "max-age=60"
        return response

    @app.get("/stream")
    def stream() -> Any:
        return flask.Response(site.stream(), headers={"Cache-Control": "max-age=60"})

    return app


def in_django(site: Site) -> Any:
    from django.http import HttpResponse, StreamingHttpResponse
    from django.urls import path
    from django.views.decorators.vary import vary_on_headers

    def page(request: Any) -> Any:
        if request.method == "POST":
            return HttpResponse("changed")
        return HttpResponse(site.page("page"), headers={"Cache-Control": STALE, "ETag": '"1"'})

    @vary_on_headers("Accept-Language")  # type: ignore[untyped-decorator]
    def greeting(request: Any) -> Any:
        text = site.page(request.headers["Accept-Language"])
        return HttpResponse(text, headers={"Cache-Control": "max-age=60"})

    def visits(request: Any) -> Any:
        response = HttpResponse(site.page("visits"), headers={"Cache-Control": "max-age=60"})
        response.set_cookie("seen", "yes")
        return response

    def stream(request: Any) -> Any:
        return StreamingHttpResponse(site.stream(), headers={"Cache-Control": "max-age=60"})

    from django.core.handlers.wsgi import WSGIHandler
    from django.test.utils import override_settings

    views = {"page": page, "greeting": greeting, "visits": visits, "stream": stream}
    importlib.import_module("examples.embed.app")  # it configures Django, which is done once for a process
    own = override_settings(
        ROOT_URLCONF=tuple(path(name, view) for name, view in views.items()),
        MIDDLEWARE=["django.middleware.http.ConditionalGetMiddleware"],
        ALLOWED_HOSTS=["*"],
        DEBUG=False,
        DEBUG_PROPAGATE_EXCEPTIONS=False,
    )
    with own:
        handler = WSGIHandler()

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        with own:
            return handler(environ, start_response)

    return application


def in_falcon(site: Site) -> Any:
    import falcon

    class Page:
        def on_get(self, request: Any, response: Any) -> None:
            response.text = site.page("page")
            response.cache_control = [STALE]
            response.etag = "1"

        def on_post(self, request: Any, response: Any) -> None:
            response.text = "changed"

    class Greeting:
        def on_get(self, request: Any, response: Any) -> None:
            response.text = site.page(request.get_header("Accept-Language"))
            response.cache_control = ["max-age=60"]
            response.vary = ["Accept-Language"]

    class Visits:
        def on_get(self, request: Any, response: Any) -> None:
            response.text = site.page("visits")
            response.cache_control = ["max-age=60"]
            response.set_cookie("seen", "yes")

    class Stream:
        def on_get(self, request: Any, response: Any) -> None:
            response.stream = site.stream()
            response.cache_control = ["max-age=60"]

    app = falcon.App()
    app.add_route("/page", Page())
    app.add_route("/greeting", Greeting())
    app.add_route("/visits", Visits())
    app.add_route("/stream", Stream())
    return app


class Around:
    """The cache around an application that a framework makes."""

    def __init__(self, make: Callable[[Site], Any]) -> None:
        self.site = Site()
        self.clock = Clock()
        self.cache = HTTPCache(make(self.site), InMemoryCache(clock=self.clock), clock=self.clock)

    def get(self, path: str, method: str = "GET", **more: Any) -> Answer:
        return call(self.cache, method, path, **more)


@pytest.fixture(params=[in_flask, in_django, in_falcon])
def around(request: pytest.FixtureRequest) -> Around:
    return Around(request.param)


def is_hit(answer: Answer) -> bool:
    return "; hit" in str(answer.header("Cache-Status"))


def test_a_page_is_made_once_and_answers_get_head_conditions_and_ranges(around: Around) -> None:
    first = around.get("/page")
    around.clock.now += 10
    again = around.get("/page")
    assert (first.status, first.text, is_hit(first)) == (200, "page 1", False)
    assert (again.status, again.text, is_hit(again), again.header("Age")) == (200, "page 1", True, "10")
    assert again.header("Content-Type") == first.header("Content-Type")
    head = around.get("/page", "HEAD")
    assert (head.status, head.body, head.header("Content-Length")) == (200, b"", "6")
    assert around.get("/page", HTTP_IF_NONE_MATCH='"1"').status == 304
    part = around.get("/page", HTTP_RANGE="bytes=0-3")
    assert (part.status, part.body) == (206, b"page")
    assert around.site.made == ["page"]


def test_a_condition_on_a_page_that_is_not_stored_yet_stores_the_page(around: Around) -> None:
    assert around.get("/page", HTTP_IF_NONE_MATCH='"1"').status == 304
    assert is_hit(around.get("/page"))
    assert around.site.made == ["page"]


def test_an_unsafe_request_and_a_purge_clear_the_page(around: Around) -> None:
    around.get("/page")
    around.clock.now += 1
    assert around.get("/page", "POST", CONTENT_LENGTH="0").status in (200, 204)
    assert around.get("/page").text == "page 2"
    around.clock.now += 1
    around.cache.purge("http://127.0.0.1/page")
    assert around.get("/page").text == "page 3"


def test_what_a_page_varies_on_is_told_apart(around: Around) -> None:
    texts = [around.get("/greeting", HTTP_ACCEPT_LANGUAGE=each).text for each in ("bg", "en", "bg", "en")]
    assert texts == ["bg 1", "en 1", "bg 1", "en 1"]


def test_what_sets_a_cookie_is_made_for_everybody_anew(around: Around) -> None:
    answers = [around.get("/visits") for _ in range(2)]
    assert [answer.text for answer in answers] == ["visits 1", "visits 2"]
    assert all(answer.header("Set-Cookie") for answer in answers)


def test_a_streamed_page_is_stored_when_it_was_sent(around: Around) -> None:
    assert [around.get("/stream").text for _ in range(2)] == ["a stream 1", "a stream 1"]


def test_a_page_that_fails_is_answered_stale_and_an_old_one_is_validated(
    around: Around, caplog: pytest.LogCaptureFixture
) -> None:
    around.get("/page")
    around.clock.now += 100
    around.site.broken = True
    answer = around.get("/page")
    assert (answer.status, answer.text) == (200, "page 1")
    assert "fwd=stale; fwd-status=500" in str(answer.header("Cache-Status"))
    around.site.broken = False
    assert not is_hit(around.get("/page"))
    assert is_hit(around.get("/page"))


def test_the_answer_to_a_page_that_is_not_there_passes(
    around: Around, caplog: pytest.LogCaptureFixture
) -> None:
    assert [around.get("/nowhere").status for _ in range(2)] == [404, 404]
    assert not is_hit(around.get("/nowhere"))
