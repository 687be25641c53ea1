"""Measure what an HTTP cache costs a request: a hit, a miss, a validation; a hit on the wire; and its memory.

Ours, as a middleware and around a WSGI application, beside Django's cache middleware and Flask-Caching, and
beside our handler without a cache. The body is 1 kB; every cache is in memory. A hit is a GET that the cache
answers; a miss is one that it has to ask the handler for, and stores; a validation is a GET with
``If-None-Match`` that is answered with 304, by the cache where it can do that.

On the wire (needs wrk) one thread worker serves our handler with and without a cache, and wrk asks it by 16
connections for one and for the other in turn.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from dispatch import Case as Request
from dispatch import Headers, environ_of
from measure import Options, Report, clock, interleave, ratio, read_options

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

BODY = "x" * 1024
ETAG = '"version-1"'
TTL = 3600

PLAIN = "prologue, no cache"
OURS = "prologue, cache_middleware"
AROUND = "prologue, HTTPCache"
DJANGO = "django's cache middleware"
FLASK = "flask-caching"

_HERE = Path(__file__).parent
_WIRE_ROUNDS = 9

CASES = ("hit", "miss", "validation")
WIRE = "wire"
MEMORY = "memory"

#: What the thread worker serves, and under which paths.
WIRED = """
import http_cache

plain = http_cache.prologue_plain()
PATHS = {"/cached": http_cache.prologue_cached(), "/around": http_cache.prologue_around()}


def app(environ, start_response):
    environ["PATH_INFO"], path = "/", environ["PATH_INFO"]
    return PATHS.get(path, plain)(environ, start_response)
"""
PATHS = {PLAIN: "/plain", OURS: "/cached", AROUND: "/around"}

#: A hit against the same handler without a cache, and against the peers.
BARS = ((PLAIN, 6.0), (DJANGO, 0.2), (FLASK, 0.2))


def prologue_plain() -> WSGIApplication:
    """Build ours without a cache."""
    from prologue import App

    app = App()
    app.get("/", lambda ctx: BODY)
    return app


def prologue_cached() -> WSGIApplication:
    """Build ours with the middleware."""
    from prologue import App, Context
    from prologue.cache import InMemoryCache
    from prologue.http_cache import cache_middleware

    def handler(ctx: Context) -> str:
        ctx.response.headers["ETag"] = ETAG
        return BODY

    app = App(middlewares=[cache_middleware(InMemoryCache(), ttl=TTL)])
    app.get("/", handler)
    return app


def prologue_around() -> WSGIApplication:
    """Build a bare application inside our cache."""
    from prologue.cache import InMemoryCache
    from prologue.http_cache import HTTPCache

    headers = [
        ("Content-Type", "text/html; charset=utf-8"),
        ("Content-Length", str(len(BODY))),
        ("ETag", ETAG),
    ]

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", headers)
        return [BODY.encode()]

    return HTTPCache(application, InMemoryCache(), ttl=TTL)


def django_cached() -> Any:
    """Build Django's with its two cache middlewares and the local-memory cache."""
    from django.conf import settings
    from django.core.handlers.wsgi import WSGIHandler
    from django.http import HttpResponse
    from django.urls import path

    def view(request: Any) -> Any:
        return HttpResponse(BODY, headers={"ETag": ETAG})

    if not settings.configured:
        import django

        middlewares = (
            "cache.UpdateCacheMiddleware",
            "http.ConditionalGetMiddleware",
            "cache.FetchFromCacheMiddleware",
        )
        settings.configure(
            DEBUG=False,
            ALLOWED_HOSTS=["*"],
            ROOT_URLCONF=(path("", view),),
            USE_I18N=False,
            MIDDLEWARE=[f"django.middleware.{name}" for name in middlewares],
            CACHES={
                "default": {
                    "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
                    "OPTIONS": {"MAX_ENTRIES": 10_000},
                }
            },
            CACHE_MIDDLEWARE_SECONDS=TTL,
        )
        django.setup()
    return WSGIHandler()


def flask_cached() -> WSGIApplication:
    """Build Flask's with Flask-Caching around the view; its key has the query."""
    import flask
    from flask_caching import Cache

    app = flask.Flask("benchmark", static_folder=None)
    cache = Cache(
        app, config={"CACHE_TYPE": "SimpleCache", "CACHE_THRESHOLD": 10_000, "CACHE_DEFAULT_TIMEOUT": TTL}
    )

    @app.route("/")
    @cache.cached(query_string=True)  # type: ignore[untyped-decorator]
    def view() -> Any:
        response = flask.make_response(BODY)
        response.headers["ETag"] = ETAG
        return response.make_conditional(flask.request)

    return app.wsgi_app


CANDIDATES: dict[str, tuple[tuple[str, ...], Callable[[], Any]]] = {
    PLAIN: ((), prologue_plain),
    OURS: ((), prologue_cached),
    AROUND: ((), prologue_around),
    DJANGO: (("django",), django_cached),
    FLASK: (("flask", "flask_caching"), flask_cached),
}


def environ_for(title: str) -> dict[str, Any]:
    """Return the environ of a case."""
    environ = environ_of(Request("/", BODY))
    if title == "validation":
        environ["HTTP_IF_NONE_MATCH"] = ETAG
    return environ


def check(name: str, app: WSGIApplication, title: str) -> None:
    """Make sure that an application answers a case as it should, the second time too.

    Raises:
        RuntimeError: it does not.
    """
    started: list[Any] = []

    def start_response(status: str, headers: Headers, exc_info: object = None) -> Callable[..., object]:
        started[:] = [status]
        return lambda data: None

    for _ in range(2):
        body = b"".join(app(environ_for(title), start_response))
    wanted = ("304", b"") if title == "validation" and name not in (PLAIN,) else ("200", BODY.encode())
    if title == "validation" and name == FLASK:
        wanted = (started[0][:3], body)  # it caches what the first client got, conditional or not
    if (started[0][:3], body) != wanted:
        raise RuntimeError(f"{name} answers the case {title} with {started[0]}, {len(body)} bytes")


def runner(app: WSGIApplication, title: str) -> Callable[[int], float]:
    """Return what sends a case to an application so many times, as a server would."""
    environ = environ_for(title)
    numbers = count()

    def start_response(status: str, headers: Headers, exc_info: object = None) -> Callable[..., object]:
        return print

    def run(calls: int) -> float:
        start = clock()
        for _ in range(calls):
            fresh = environ.copy()
            if title == "miss":
                fresh["QUERY_STRING"] = f"n={next(numbers)}"
            chunks: Any = app(fresh, start_response)
            for _chunk in chunks:
                pass
            close = getattr(chunks, "close", None)
            if close is not None:
                close()
        return clock() - start

    return run


def bytes_per_response(responses: int) -> float:
    """Return what a stored response of 10 kB takes in memory beyond its body, in bytes."""
    from prologue.cache import InMemoryCache
    from prologue.http_cache import HTTPCache

    body = 10_240

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/html; charset=utf-8"), ("ETag", ETAG)])
        return [environ["QUERY_STRING"].encode().ljust(body)]

    cache = HTTPCache(application, InMemoryCache(max_entries=10 * responses), ttl=TTL)
    environ = environ_for("hit")
    cache(environ.copy(), lambda *arguments: print)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(responses):
        cache(environ | {"QUERY_STRING": str(number)}, lambda *arguments: print)
    taken = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return taken / responses - body


def wire(options: Options, report: Report) -> None:
    """Let wrk ask one server for each path in turn, round by round, and report its figures."""
    from servers import ANNOUNCE, Server
    from servers import OURS as WORKER

    seconds = 1 if options.quick else 2
    rates: dict[str, list[float]] = {name: [] for name in PATHS}
    cpu: dict[str, list[float]] = {name: [] for name in PATHS}
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "application.py").write_text(
            f"{ANNOUNCE}\nimport sys\nsys.path.append({str(_HERE)!r})\n{WIRED}"
        )
        server = Server(WORKER, Path(directory), threads=4, workers=1)
        try:
            for _ in range(min(options.rounds, _WIRE_ROUNDS)):
                for name, path in PATHS.items():
                    before = server.cpu()
                    output = subprocess.run(
                        ["wrk", "-t1", "-c16", f"-d{seconds}", f"http://127.0.0.1:{server.port}{path}"],
                        capture_output=True,
                        text=True,
                        check=True,
                    ).stdout
                    found = re.search(r"(\d+) requests in.*Requests/sec:\s+([0-9.]+)", output, re.DOTALL)
                    if found is None or "Non-2xx" in output or "errors" in output:
                        raise RuntimeError(f"{name}: not all requests were answered with 200:\n{output}")
                    rates[name].append(float(found[2]))
                    cpu[name].append((server.cpu() - before) / int(found[1]) * 1e6)
        finally:
            server.stop()
    report.figures(
        WIRE,
        {
            name: {
                "requests/s": median(rates[name]),
                "CPU µs a request": median(cpu[name]),
                "CPU ÷ no cache": ratio(cpu[name], cpu[PLAIN]),
                "requests/s ÷ no cache": ratio(rates[name], rates[PLAIN]),
            }
            for name in PATHS
        },
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and return the exit status."""
    from importlib.util import find_spec

    cases = [*CASES, WIRE, MEMORY]
    options = read_options("http_cache", str(__doc__).split("\n", 1)[0], cases, 200, arguments=arguments)
    report = Report("http_cache", options, OURS, ("django", "flask", "flask-caching"))
    installed = {}
    for name, (modules, build) in CANDIDATES.items():
        if all(find_spec(module) for module in modules):
            installed[name] = build
        else:
            report.missing(name, f"{', '.join(modules)} must be installed")
    for title in CASES:
        if title in options.cases:
            runs = {}
            for name, build in installed.items():
                app = build()
                check(name, app, title)
                runs[name] = runner(app, title)
            report.case(title, interleave(runs, options))
    if WIRE in options.cases:
        if shutil.which("wrk") is None:
            report.missing(WIRE, "wrk is not installed")
        else:
            wire(options, report)
    if MEMORY in options.cases:
        overhead = bytes_per_response(50 if options.quick else 2000)
        report.figures("memory", {OURS: {"bytes beside the body of a stored response": overhead}})
    if "hit" in options.cases:
        for name, limit in BARS:
            report.bar(f"hit, {OURS} ÷ {name}", report.ratio("hit", name), limit)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
