"""Plain WSGI applications and workers with short deadlines, for the tests of the thread worker."""

from __future__ import annotations

import base64
import io
import json
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.validate import validator

from prologue.server import ThreadWorker
from tests.integration.application import note

PATIENCE = 20.0
Start = Callable[..., Callable[[bytes], Any]]
TEXT = ("Content-Type", "text/plain")


class Impatient(ThreadWorker):
    """Waits for nobody for long."""

    head_timeout = 0.5
    client_timeout = 0.5


class Shedding(ThreadWorker):
    """Refuses requests that have waited."""

    max_queueing_delay = 0.2
    retry_after = 7


meeting = threading.Barrier(2)


class Sized:
    """A body that can be iterated once, and closed."""

    def __init__(self, parts: Iterable[bytes], name: str) -> None:
        self._parts = iter(parts)
        self._name = name

    def __iter__(self) -> Iterator[bytes]:
        return self._parts

    def close(self) -> None:
        note(self._name)


def index(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
    start_response("200 OK", [TEXT, ("Content-Length", "5")])
    return [b"index"]


def echo(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
    body = environ["wsgi.input"].read()
    seen = {key: value for key, value in environ.items() if isinstance(value, str)}
    answer = json.dumps({"environ": seen, "body": body.decode("latin-1")}).encode()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [answer]


def lines(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
    start_response("200 OK", [TEXT])
    return [b"|".join(environ["wsgi.input"])]


def unread(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
    start_response("200 OK", [TEXT])
    return [b"unread"]


def own(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
    start_response(
        "200 OK", [("Date", "yesterday"), ("SERVER", "mine"), TEXT, ("X-A", " spaced "), ("Keep-Alive", "1")]
    )
    return [b"own"]


def iterated(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
    start_response("200 OK", [TEXT])
    return Sized([b"one", b"", b"two"], "closed")


def written(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
    write = start_response("200 OK", [TEXT])
    write(b"one")
    return [b"two"]


def short(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Length", "10")])
    return [b"short"] if environ["QUERY_STRING"] else iter([b"short"])


def long(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Length", "4")])
    return [b"too long"] if environ["QUERY_STRING"] else iter([b"too", b" long"])


def status(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
    start_response(environ["QUERY_STRING"].replace("+", " "), [("Content-Length", "4")])
    return [b"body"]


def wrapped(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
    file = Path(os.environ["PAYLOAD"]).open("rb")  # noqa: SIM115  # the server closes it
    file.seek(1000)
    headers = [("Content-Length", "2000000")] if environ["QUERY_STRING"] == "length" else []
    start_response("200 OK", headers)
    wrapper: Iterable[bytes] = environ["wsgi.file_wrapper"](file)
    return wrapper


def unsendable(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
    """A file of the system's without a size, or one in memory."""
    start_response("200 OK", [])
    file: Any = io.BytesIO(b"in memory")
    if environ["QUERY_STRING"]:
        file = Path("/proc/version").open("rb")  # noqa: SIM115
    wrapper: Iterable[bytes] = environ["wsgi.file_wrapper"](file)
    return wrapper


def hints(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
    environ["wsgi.early_hints"]([("Link", "</a.css>; rel=preload")])
    environ["prologue.exchange"].send_interim("102 Processing", [])
    start_response("200 OK", [TEXT])
    yield b"hinted"
    environ["wsgi.early_hints"]([("Link", "</too-late.css>; rel=preload")])


def trailers(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
    exchange = environ["prologue.exchange"]
    environ["wsgi.input"].read()
    received = exchange.request_trailers()
    start_response("200 OK", [TEXT, ("Trailer", "X-Sum")])
    sent = exchange.send_trailers([("X-Sum", "42")])
    return [json.dumps([received, sent]).encode()]


def crash(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
    raise FileNotFoundError("wrong on purpose")


def crash_later(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
    start_response("200 OK", [TEXT])
    yield b"begun"
    raise ValueError("wrong on purpose")


def text(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
    start_response("200 OK", [TEXT])
    return ["text"]  # type: ignore[list-item]


def silent(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
    return []


def leave(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
    raise SystemExit(1)


def forgiving(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
    """It catches whatever is wrong with a body, as frameworks do."""
    try:
        answer = environ["wsgi.input"].read()
    except Exception:
        answer = b"forgiven"
    start_response("200 OK", [TEXT])
    return [answer]


def complain(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
    environ["wsgi.errors"].write(f"complaint {environ['QUERY_STRING']}\n")
    environ["wsgi.errors"].flush()
    start_response("200 OK", [TEXT])
    return [b"complained"]


def misleading(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
    start_response("200 OK", [("X-A", "a secret\r\nX-B: b")])
    return [b"never sent"]


def pid(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
    start_response("200 OK", [TEXT])
    return [str(os.getpid()).encode()]


def hold(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
    note("held")
    end = time.monotonic() + PATIENCE
    while not os.path.exists(os.environ["GATE"]) and time.monotonic() < end:
        time.sleep(0.01)
    note("answered")
    start_response("200 OK", [TEXT])
    return [b"held"]


def hold_begun(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
    start_response("200 OK", [TEXT])
    yield b"begun"
    yield from hold(environ, lambda *_: print)


def meet(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
    """Two requests that wait for each other."""
    meeting.wait(PATIENCE)
    start_response("200 OK", [TEXT])
    return [b"met"]


def big(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
    start_response("200 OK", [])
    return [b"x" * 20_000_000]


def validated(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
    """A conforming application behind the standard library's validator and WebTest's."""

    def inner(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"valid: ", body]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # WebOb imports `cgi`, until Python 3.12
        import webtest.lint
    check: Any = {"wsgiref": validator, "webtest": webtest.lint.middleware}[environ["QUERY_STRING"]]
    answer: Iterable[bytes] = check(inner)(environ, start_response)
    return answer


def behind(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
    """Behind a proxy that marks what it sends on."""
    if "HTTP_X_PROXIED" not in environ:
        note("smuggled")
    environ["wsgi.input"].read()
    start_response("200 OK", [TEXT])
    return [environ["PATH_INFO"].encode("latin-1")]


def mirror(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
    """Tell in a field, which HEAD gets too, what was understood."""
    body = environ["wsgi.input"].read().decode("latin-1")
    seen = {key: value for key, value in environ.items() if isinstance(value, str)}
    told = base64.b64encode(json.dumps([seen, body]).encode()).decode()
    start_response("200 OK", [TEXT, ("X-Seen", told), ("Content-Length", "0")])
    return []


def app(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
    """Do what the path says."""
    return PATHS[environ["PATH_INFO"].strip("/") or "index"](environ, start_response)


PATHS: dict[str, Callable[[dict[str, Any], Start], Iterable[bytes]]] = {
    function.__name__: function
    for function in (
        *(
            index,
            echo,
            lines,
            unread,
            own,
            iterated,
            written,
            short,
            long,
            status,
            wrapped,
            unsendable,
            hints,
        ),
        *(trailers, crash, crash_later, text, silent, leave, pid, hold, hold_begun, meet, big, validated),
        *(forgiving, complain, misleading),
    )
}
