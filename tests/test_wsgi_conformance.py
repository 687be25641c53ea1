"""PEP 3333, watched by both checkers: every kind of answer, with every method, in every surrounding."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.handlers import SimpleHandler
from wsgiref.validate import validator

import pytest

from prologue import App, Context, HTTPError, Response, Settings, json_response, plain_text_response, redirect
from tests.calling import client, environ_for

pytestmark = pytest.mark.filterwarnings("ignore:Unknown REQUEST_METHOD")

Handler = Callable[[Context], Any]


def stream(ctx: Context) -> Iterator[Any]:
    yield "text "
    yield b"bytes"


def failing(ctx: Context) -> Any:
    raise ValueError("failing")


def with_cookies(ctx: Context) -> str:
    ctx.set_cookie("a", "1")
    ctx.set_cookie("b", "2")
    return "cookies"


def with_callback(ctx: Context) -> str:
    ctx.after_response(lambda: None)
    return "callback"


def aborting(ctx: Context) -> None:
    raise HTTPError(403, "no")


HANDLERS: dict[str, Handler] = {
    "text": lambda ctx: "text",
    "empty": lambda ctx: "",
    "nothing": lambda ctx: None,
    "bytes": lambda ctx: b"\x00",
    "object": lambda ctx: {"a": 1},
    "list": lambda ctx: [],
    "created": lambda ctx: ("made", 201),
    "no-content": lambda ctx: (None, 204),
    "no-content-with-body": lambda ctx: ("text", 204),
    "reset": lambda ctx: ("", 205),
    "not-modified": lambda ctx: Response(b"text", 304, {"ETag": '"a"'}),
    "early": lambda ctx: (None, 103),
    "redirect": lambda ctx: redirect("/ж?a=b c"),
    "delayed": lambda ctx: redirect("/x", delay=3),
    "plain": lambda ctx: plain_text_response("text"),
    "json": lambda ctx: json_response(None),
    "typeless": lambda ctx: Response(b"x", content_type=None),
    "stream": stream,
    "stream-of-nothing": lambda ctx: iter(()),
    "refused": lambda ctx: (None, 403),
    "teapot": lambda ctx: (None, 418),
    "unknown-status": lambda ctx: ("x", 299),
    "aborted": aborting,
    "failed": failing,
    "cookies": with_cookies,
    "callback": with_callback,
}


def application(files: Path, surrounding: str) -> App:
    app = App(Settings(debug=surrounding == "debug"))
    if surrounding == "middlewares":
        app.use(Context.next, Context.next)
    if surrounding == "error handlers":
        app.register_error_handler(tuple(range(400, 600)), lambda ctx: {"status": ctx.response.status})
    for name, handler in HANDLERS.items():
        app.all(f"/{name}", handler)
    app.get("/file", lambda ctx: ctx.static_file_response("a.txt", str(files)))
    app.post("/form", lambda ctx: dict(ctx.form))
    app.post("/decode", lambda ctx: ctx.json(dict[str, int]))
    if surrounding == "mounted":
        outer = App()
        outer.mount("/", app)
        return outer
    return app


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("files")
    (directory / "a.txt").write_text("content of the file")
    return directory


@pytest.fixture(scope="module")
def plain(files: Path) -> App:
    return application(files, "plain")


PATHS = [
    *(f"/{name}" for name in HANDLERS),
    "/missing",
    "/file",
    "/form",
    "/%D0%B6",
    "/a%00b",
    "/",
]


@pytest.mark.parametrize("surrounding", ["plain", "middlewares", "error handlers", "debug", "mounted"])
def test_no_checker_complains(surrounding: str, files: Path) -> None:
    app = client(application(files, surrounding))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "Unknown REQUEST_METHOD")
        for path in PATHS:
            for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"):
                response = app.request(path, method=method, expect_errors=True, status="*")
                sends_none = method == "HEAD" or response.status_int in (103, 204, 304)
                assert not (sends_none and response.body), (path, method)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Range": "bytes=0-3"},
        {"Range": "bytes=-3"},
        {"Range": "bytes=99-"},
        {"Range": "bytes=0-1,3-4"},
        {"Range": "lines=1-2"},
        {"If-None-Match": "*"},
        {"If-Match": '"other"'},
        {"If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"},
        {"If-Unmodified-Since": "Thu, 01 Jan 1970 00:00:00 GMT"},
        {"If-Range": '"other"', "Range": "bytes=0-3"},
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_no_checker_complains_about_files(headers: dict[str, str], method: str, plain: App) -> None:
    response = client(plain).request("/file", method=method, headers=headers, expect_errors=True)
    assert response.status_int in (200, 206, 304, 412, 416)
    assert method != "HEAD" or not response.body


@pytest.mark.parametrize(
    ("path", "body", "content_type", "status"),
    [
        ("/form", b"a=1&b=2", "application/x-www-form-urlencoded", 200),
        ("/form", b"", "", 200),
        ("/form", b"--b\r\nbroken", "multipart/form-data; boundary=b", 400),
        ("/decode", b'{"a": 1}', "application/json", 200),
        ("/decode", b'{"a": "x"}', "application/json", 422),
        ("/decode", b"{", "application/json", 400),
        ("/decode", b"{}", "text/plain", 415),
    ],
)
def test_no_checker_complains_about_bodies(
    path: str, body: bytes, content_type: str, status: int, plain: App
) -> None:
    response = client(plain).post(path, body, content_type=content_type, expect_errors=True)
    assert response.status_int == status


@pytest.mark.parametrize("path", [f"/{name}" for name in HANDLERS] + ["/missing", "/file"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_standard_librarys_server_can_send_it(path: str, method: str, plain: App) -> None:
    output, errors = io.BytesIO(), io.StringIO()
    environ = environ_for(method, path)
    handler = SimpleHandler(io.BytesIO(), output, errors, environ)
    handler.run(validator(plain))
    head, _, body = output.getvalue().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 ")
    assert errors.getvalue() == ""
    if method == "HEAD":
        assert body == b""
    elif path == "/stream":
        assert body == b"text bytes"
