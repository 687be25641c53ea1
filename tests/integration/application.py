"""The application that the servers of these tests serve.

It appends a line ``event pid`` to the file that the variable EVENTS names for whatever a test may ask about.
A request to ``/hold`` is answered when there is a file of the name GATE; PAYLOAD is a file to send.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from werkzeug.middleware.proxy_fix import ProxyFix

from prologue import App, Context, Response, Settings

BLOCK = b"x" * 65536
PATIENCE = 20.0


def note(event: str) -> None:
    """Append a line; one write in append mode is whole, whatever other processes do."""
    descriptor = os.open(os.environ["EVENTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{event} {os.getpid()}\n".encode())
    os.close(descriptor)


def load() -> int:
    note("load")
    return os.getpid()


def fail() -> None:
    raise ValueError("the price list is missing")


def leave() -> None:
    raise SystemExit(0)


app = App(
    Settings(max_body_size=100_000, debug="DEBUG" in os.environ),
    startup=[lambda: note("startup")],
    shutdown=[lambda: note("shutdown")],
)
app.lazy("loaded", load, close=lambda _: note("close"))
if "WARM" in os.environ:  # in the master, where gunicorn loads the application before it forks
    note("warm")
    app.resources["loaded"]
if "BROKEN" in os.environ:
    app.on_startup({"error": fail, "exit": leave}[os.environ["BROKEN"]])


@app.get("/pid")
def pid(ctx: Context) -> str:
    return str(os.getpid())


@app.get("/count")
def count(ctx: Context) -> str:
    note("served")
    return str(os.getpid())


@app.get("/loaded")
def loaded(ctx: Context) -> dict[str, int]:
    return {"pid": os.getpid(), "loaded": ctx.app.resources["loaded"]}


@app.get("/hold")
def hold(ctx: Context) -> str:
    note("held")
    end = time.monotonic() + PATIENCE
    while not Path(os.environ["GATE"]).exists() and time.monotonic() < end:
        time.sleep(0.01)
    note("answered")
    return "the whole answer"


@app.get("/file")
def file(ctx: Context) -> None:
    ctx.static_file_response(os.environ["PAYLOAD"])


@app.get("/stream")
def stream(ctx: Context) -> Response:
    def parts() -> Iterator[str]:
        for number in range(1000):
            yield f"part {number}\n"

    return Response(parts(), content_type="text/plain; charset=utf-8")


@app.get("/endless")
def endless(ctx: Context) -> Response:
    def parts() -> Iterator[bytes]:
        try:
            while True:
                yield BLOCK
        finally:
            note("stopped")

    ctx.after_response(lambda: note("after"))
    return Response(parts())


@app.post("/echo")
def echo(ctx: Context) -> bytes:
    return ctx.request.get_data()


@app.post("/form")
def form(ctx: Context) -> dict[str, list[str]]:
    return dict(ctx.form.lists())


@app.post("/unread")
def unread(ctx: Context) -> str:
    return "not read"


@app.get("/error")
def error(ctx: Context) -> str:
    raise ValueError("wrong on purpose")


proxied = ProxyFix(app)
