"""Measure a whole request inside the process: ``app(environ, start_response)``, iteration, ``close()``.

Ours beside a bare WSGI callable and the other frameworks, each with the application of peers.py. Every
answer is checked before it is timed, so that nobody is measured on an error path.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any, NamedTuple

from measure import Report, clock, interleave, read_options
from peers import DOCUMENT, OURS, PAGE, PEERS, TEXT

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

Headers = list[tuple[str, str]]

HTML = "text/html"
FORM = b"name=Prologue&city=Sofia"


class Case(NamedTuple):
    """A request and the answer that it must get."""

    path: str
    body: Any
    content_type: str = HTML
    status: str = "200"
    form: bytes = b""
    middlewares: int = 0


CASES = {
    "plaintext": Case("/", TEXT),
    "parameter": Case("/users/42", "user 42"),
    "json": Case("/json", DOCUMENT, content_type="application/json"),
    "middlewares": Case("/", TEXT, middlewares=5),
    "404": Case("/none", None, status="404"),
    "form": Case("/form", "Prologue Sofia", form=FORM),
    "html": Case("/page", PAGE),
}

BARS = (
    ("plaintext", "falcon", 0.45),
    ("parameter", "falcon", 0.45),
    ("json", "falcon", 0.35),
    ("json", "falcon with msgspec", 1.0),
)


def environ_of(case: Case) -> dict[str, Any]:
    """Return the environ of a case, with what a server behind a browser puts into it."""
    environ: dict[str, Any] = {
        "REQUEST_METHOD": "POST" if case.form else "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": case.path,
        "RAW_URI": case.path,
        "QUERY_STRING": "",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_SOFTWARE": "benchmark",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "8080",
        "REMOTE_ADDR": "127.0.0.1",
        "REMOTE_PORT": "50000",
        "HTTP_HOST": "127.0.0.1:8080",
        "HTTP_USER_AGENT": "Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/140.0",
        "HTTP_ACCEPT": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
        "HTTP_ACCEPT_LANGUAGE": "bg,en;q=0.5",
        "HTTP_ACCEPT_ENCODING": "gzip, deflate, br",
        "HTTP_CONNECTION": "keep-alive",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": BytesIO(),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    if case.form:
        environ["CONTENT_TYPE"] = "application/x-www-form-urlencoded"
        environ["CONTENT_LENGTH"] = str(len(case.form))
    return environ


def check(name: str, app: WSGIApplication, case: Case) -> None:
    """Make sure that an application answers a case as it should.

    Raises:
        RuntimeError: it does not; the message shows the answer.
    """
    started: list[Any] = []

    def start_response(status: str, headers: Headers, exc_info: object = None) -> Callable[..., object]:
        started[:] = status, {key.lower(): value for key, value in headers}
        return lambda data: None

    environ = {**environ_of(case), "wsgi.input": BytesIO(case.form)}
    chunks = app(environ, start_response)
    text = b"".join(chunks).decode()
    if hasattr(chunks, "close"):
        chunks.close()
    status, headers = started
    right = status.startswith(case.status)
    if case.body is not None:
        body = json.loads(text) if isinstance(case.body, dict) else text
        right = right and body == case.body and headers["content-type"].startswith(case.content_type)
    if not right:
        raise RuntimeError(f"{name} answers {case.path} with {status}, {headers}, {text[:200]!r}")


def runner(app: WSGIApplication, case: Case) -> Callable[[int], float]:
    """Return what sends a case to an application so many times, as a server would."""
    environ = environ_of(case)
    form = case.form

    def start_response(status: str, headers: Headers, exc_info: object = None) -> Callable[..., object]:
        return print

    def run(calls: int) -> float:
        start = clock()
        for _ in range(calls):
            fresh = environ.copy()
            if form:
                fresh["wsgi.input"] = BytesIO(form)
            chunks = app(fresh, start_response)
            for _chunk in chunks:
                pass
            close = getattr(chunks, "close", None)
            if close is not None:
                close()
        return clock() - start

    return run


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and return the exit status."""
    options = read_options("dispatch", str(__doc__).split("\n", 1)[0], list(CASES), 200, arguments=arguments)
    distributions = ("falcon", "msgspec", "bottle", "flask", "django", "pyramid", "werkzeug")
    report = Report("dispatch", options, OURS, distributions)
    for name, peer in PEERS.items():
        if not peer.installed:
            report.missing(name, f"{', '.join(peer.modules)} must be installed")
    for title in options.cases:
        case = CASES[title]
        runs = {}
        for name, peer in PEERS.items():
            if peer.installed:
                app = peer.build(case.middlewares)
                check(name, app, case)
                runs[name] = runner(app, case)
        report.case(title, interleave(runs, options))
    for title, name, limit in BARS:
        if title in options.cases:
            report.bar(f"{title}, {OURS} ÷ {name}", report.ratio(title, name), limit)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
