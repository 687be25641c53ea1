"""`prologue cache explain`: the decision, step by step."""

from __future__ import annotations

from typing import Any

import pytest

from prologue.http_cache.engine import Engine
from prologue.http_cache.explain import explain
from tests.calling import environ_for
from tests.cli.conftest import Run, write
from tests.http_cache.origins import Setting

SITE = """\
    from prologue import App
    from prologue.cache import InMemoryCache
    from prologue.http_cache import cache_control, cache_middleware

    app = App(middlewares=[cache_middleware(InMemoryCache(), ttl=60)])
    bare = App()


    @app.get("/tea")
    def tea(ctx):
        return "tea"


    @app.get("/mine")
    @cache_control(private=True)
    def mine(ctx):
        return "mine"


    @app.get("/greeting")
    def greeting(ctx):
        return f"hello {ctx.get_cookie('name')}"


    @app.get("/never")
    def never(ctx):
        ctx.cache.exclude()
        return "never"


    @app.get("/broken")
    def broken(ctx):
        ctx.cache.control(nonsense=True)
    """


def lines(setting: Setting, **more: Any) -> list[str]:
    engine: Engine = setting.cache.engine
    return list(explain(engine, environ_for(**more), setting.cache))


def test_a_url_is_explained(command: Run) -> None:
    write({"app.py": SITE})
    result = command("cache", "explain", "/tea?cups=2")
    assert result.exit_code == 0
    assert result.output.splitlines() == [
        "profile    safe, ttl 60 s",
        "key        http:9:4:localhost/tea?cups=2",
        "spelling   http localhost",
        "stored     nothing",
        "decision   the application is asked (uri-miss)",
        "response   200 OK",
        "storing    yes: 200, 0 s old, fresh for 60 s",
    ]
    result = command("cache", "explain", "https://example.com/mine", "--app", "app:app")
    assert "key        http:11:5:example.com/mine?" in result.output
    assert "           cache-control: private\n" in result.output
    assert "storing    no: private" in result.output
    result = command("cache", "explain", "/greeting")
    assert "storing    no: the application looked at the session or at cookies" in result.output
    result = command("cache", "explain", "/never")
    assert "           prologue-cache-control: no-store\n" in result.output
    assert "storing    no: no-store" in result.output
    result = command("cache", "explain", "/tea", "--header", "Cookie: a=b")
    assert "storing    no: cookies in the request" in result.output
    assert "bypassed   method" in command("cache", "explain", "/tea", "--method", "POST").output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["/tea", "--app", "app:bare"], "'app:bare' has no HTTP cache"),
        (["/tea", "--header", "nonsense"], "'nonsense' is no header field"),
    ],
)
def test_mistakes_are_one_line(command: Run, arguments: list[str], message: str) -> None:
    write({"app.py": SITE})
    result = command("cache", "explain", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_what_is_stored_is_described_and_nothing_is_changed() -> None:
    control = "max-age=10, stale-while-revalidate=5, stale-if-error=7"
    setting = Setting(("Cache-Control", control), ("Vary", "Accept"), ("Surrogate-Key", "a b"))
    setting.get(HTTP_ACCEPT="x")
    described = (
        "200, 3 s old, fresh for 10 s; stale 5 s longer while it is fetched; stale 7 s longer on errors"
    )
    setting.clock.now += 3
    found = lines(setting, HTTP_ACCEPT="x")
    assert found[-2:] == [
        f"stored     {described}; HTTP_ACCEPT: x; tags a b",
        "decision   answered from the cache",
    ]
    calls = setting.origin.calls
    other = lines(setting, HTTP_ACCEPT="y")
    assert other[3].endswith("tags a b (for other requests)")
    assert "decision   the application is asked (vary-miss)" in other
    assert setting.origin.calls == calls + 1
    assert lines(setting, HTTP_ACCEPT="y")[4:] == other[4:]
    setting.clock.now += 9
    assert "decision   answered from the cache, stale, and fetched anew in the background" in lines(
        setting, HTTP_ACCEPT="x"
    )
    assert "refused with 504" in lines(setting, HTTP_CACHE_CONTROL="only-if-cached")[-1]


@pytest.mark.parametrize(
    ("headers", "line"),
    [
        (
            [("CDN-Cache-Control", "max-age=5")],
            "           a targeted field counts, Cache-Control and Expires do not",
        ),
        ([("Cache-Control", "max-age=0")], "storing    no: it would be stale at once"),
        (
            [("Cache-Control", "no-cache"), ("ETag", '"a"')],
            "storing    yes: 200, 0 s old, fresh for 0 s; validated before every use",
        ),
    ],
)
def test_the_response_is_judged(headers: list[tuple[str, str]], line: str) -> None:
    assert line in lines(Setting(*headers))


def test_what_is_made_alike_is_said_and_looked_up_so() -> None:
    setting = Setting(("Cache-Control", "max-age=60"), ignored_parameters=["utm_*"], encodings=["gzip"])
    setting.get(QUERY_STRING="a=1")
    found = lines(setting, QUERY_STRING="utm_source=x&a=1", HTTP_ACCEPT_ENCODING="br")
    assert found[1:4] == [
        "made alike HTTP_ACCEPT_ENCODING: taken away",
        "made alike QUERY_STRING: a=1",
        "key        http:9:1:127.0.0.1/?a=1",
    ]
    assert found[-1] == "decision   answered from the cache"
