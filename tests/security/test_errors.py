"""D19, D39 to D42: what errors log, show, and must not bypass."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prologue import App, Context, Settings, redirect
from prologue.errors import HTTPError

from .harness import Answer, assert_alive, call, make_app

# -- D19: log injection -------------------------------------------------------------------------------


def logged_lines(records: list[logging.LogRecord]) -> list[str]:
    return [record.getMessage() for record in records]


@pytest.mark.parametrize(
    "hostile", ["\r\n2030-01-01 CRITICAL forged", "\x1b[2J", "\x9b31m", "\0", "\u2028x", "\x7f"]
)
def test_d19_what_a_client_sends_is_escaped_in_one_line(
    hostile: str, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_ctx: Context) -> str:
        raise RuntimeError("our own words")

    app = make_app()
    app.get("/{rest}$", fail)
    path = f"/a{hostile}b".encode().decode("latin-1")
    headers = {"User-Agent": hostile, "X-Request-ID": hostile, "Referer": hostile}
    answer = call(app, path, query=f"q={hostile}", headers=headers)
    if hostile == "\0":
        assert (answer.status, caplog.records) == (400, [])
        return
    assert answer.status == 500
    (line,) = logged_lines(caplog.records)
    assert line.isascii()
    assert line.isprintable()


def test_d19_a_method_is_escaped(caplog: pytest.LogCaptureFixture) -> None:
    def fail(ctx: Context) -> None:
        raise RuntimeError("our own words")

    app = make_app(middlewares=[fail])
    # Without the checker, which has an opinion on methods of its own.
    app({"REQUEST_METHOD": "GET\r\nforged", "PATH_INFO": "/"}, lambda *_: lambda _data: None)
    (line,) = logged_lines(caplog.records)
    assert line.isprintable()


@pytest.mark.parametrize("status", [400, 404, 405, 413, 415, 422])
def test_d19_an_error_of_the_client_logs_nothing(status: int, caplog: pytest.LogCaptureFixture) -> None:
    def refuse(_ctx: Context) -> str:
        raise HTTPError(status, "no")

    app = make_app()
    app.get("/", refuse)
    assert call(app).status == status
    assert caplog.records == []


def test_d19_an_error_of_the_server_logs_once(caplog: pytest.LogCaptureFixture) -> None:
    app = make_app()
    app.get("/", lambda _ctx: 1 / 0)
    assert call(app).status == 500
    assert len(caplog.records) == 1


# -- D39: the debug page ------------------------------------------------------------------------------

LOOPBACK = {"REMOTE_ADDR": "127.0.0.1", "HTTP_HOST": "localhost:8080"}


def failing_app(**settings: Any) -> App:
    def fail(ctx: Context) -> str:
        password = "hunter2"  # a local variable, which no page shows
        raise RuntimeError(f"<script>{ctx.query.get('q', '')}</script> {len(password)}")

    app = make_app(settings=Settings(**settings))
    app.get("/{rest}$", fail)
    return app


def shows_the_code(answer: Answer) -> bool:
    return b"Traceback" in answer.body


def test_d39_in_production_nobody_sees_a_traceback() -> None:
    answer = call(failing_app(), "/x", environ=LOOPBACK)
    assert answer.status == 500
    assert not shows_the_code(answer)
    assert b"RuntimeError" not in answer.body
    assert answer.get("X-Request-ID") is not None


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.8.8", "::1"])
@pytest.mark.parametrize(
    "host", ["localhost", "localhost:80", "127.0.0.1:8080", "[::1]:8080", "[::1]", "dev.example"]
)
def test_d39_in_debug_this_machine_sees_it(peer: str, host: str) -> None:
    hosts = ("dev.example", "localhost", "127.0.0.1", "[::1]")
    app = failing_app(debug=True, trusted_hosts=hosts)
    answer = call(app, "/x", environ={"REMOTE_ADDR": peer, "HTTP_HOST": host})
    assert answer.status == 500
    assert shows_the_code(answer)


@pytest.mark.parametrize(
    "environ",
    [
        {"REMOTE_ADDR": "192.0.2.1"},
        {"REMOTE_ADDR": ""},
        {"REMOTE_ADDR": "1127.0.0.1"},
        {"REMOTE_ADDR": "::ffff:192.0.2.1"},
        {"HTTP_HOST": "evil.example"},
        {"HTTP_HOST": "localhost.evil.example"},
        {"HTTP_HOST": "evil.example:127.0.0.1"},
        {"HTTP_HOST": "localhost:80:80"},
        {"HTTP_HOST": "localhost@evil.example"},
        {"HTTP_HOST": ""},
        {"HTTP_X_FORWARDED_FOR": "127.0.0.1"},
        {"HTTP_FORWARDED": "for=127.0.0.1"},
        {"HTTP_X_REAL_IP": "127.0.0.1"},
        {"HTTP_VIA": "1.1 proxy"},
        {"HTTP_X_FORWARDED_HOST": "localhost"},
        {"HTTP_X_FORWARDED_PROTO": "https"},
    ],
    ids=str,
)
def test_d39_in_debug_nobody_else_sees_it(environ: dict[str, str]) -> None:
    answer = call(failing_app(debug=True), "/x", environ={**LOOPBACK, **environ})
    assert answer.status == 500
    assert not shows_the_code(answer)


def test_d39_the_page_escapes_values_and_shows_no_variable_and_no_secret() -> None:
    app = failing_app(debug=True, secret_keys=["the secret key"], data={"password": "the other secret"})
    query = "q=%3Cimg+src%3Dx+onerror%3Dalert(1)%3E"
    answer = call(
        app,
        "/<b>",
        query=query,
        headers={"Cookie": "session=the-cookie", "Authorization": "Basic dGhlLXBhc3N3b3Jk"},
        environ=LOOPBACK,
    )
    assert shows_the_code(answer)
    for text in (b"<script>", b"<img", b"<b>"):
        assert text not in answer.body
    for secret in (b"the secret key", b"the other secret", b"the-cookie", b"dGhlLXBhc3N3b3Jk"):
        assert secret not in answer.body


# -- D40, D42: what an error must not bypass ----------------------------------------------------------

SECURITY = {
    "Content-Security-Policy": "default-src 'self'",
    "X-Content-Type-Options": "nosniff",
    "Strict-Transport-Security": "max-age=63072000",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class Watched:
    """An application with security headers and an access log in its outermost middleware."""

    def __init__(self, root: Path, **settings: Any) -> None:
        self.log: list[tuple[int, str]] = []
        self.released = 0
        self.handled: list[int | str] = []
        self.app = App(Settings(**settings), middlewares=[self.outermost, self.inner])
        self.app.get("/alive", lambda _ctx: "yes")
        self.app.get("/text", lambda _ctx: "text")
        self.app.post("/form", lambda ctx: str(len(ctx.form)))
        self.app.post("/json", lambda ctx: ctx.json(dict[str, int]))
        self.app.get("/query", lambda ctx: str(len(ctx.query)))
        self.app.get("/host", lambda ctx: ctx.request.host)
        self.app.get("/redirect", lambda _ctx: redirect("/text"))
        self.app.get(
            "/static/{rest}$", lambda ctx: ctx.static_file_response(ctx.path_params["rest"], str(root))
        )
        self.app.get("/crash", lambda _ctx: 1 / 0)
        self.app.get("/type", lambda _ctx: 3.5)
        self.app.get("/object", lambda _ctx: {"a": object()})
        self.app.get("/list", lambda _ctx: [object()])
        self.app.get("/tuple", lambda _ctx: ("", 200, {"X": "\n"}))
        self.app.get("/status", lambda _ctx: ("", 999))
        self.app.get("/raised", self.raised)
        self.app.get("/handler", self.raise_lookup_error)
        self.app.register_error_handler(404, self.not_found)
        self.app.register_error_handler(LookupError, self.broken_handler)

    def outermost(self, ctx: Context) -> None:
        ctx.after_response(self.release)
        ctx.next()
        for name, value in SECURITY.items():
            ctx.response.headers[name] = value
        self.log.append((ctx.response.status, ctx.path))

    def inner(self, ctx: Context) -> None:
        if ctx.query.get("inner"):
            raise HTTPError(403, "inner")
        ctx.next()

    def release(self) -> None:
        self.released += 1

    def raised(self, _ctx: Context) -> str:
        raise HTTPError(409, "conflict")

    def raise_lookup_error(self, _ctx: Context) -> str:
        raise LookupError

    def not_found(self, _ctx: Context) -> tuple[str, int]:
        self.handled.append(404)
        return "ours", 404

    def broken_handler(self, _ctx: Context) -> str:
        raise ZeroDivisionError


REQUESTS: dict[str, tuple[int, dict[str, Any]]] = {
    "text": (200, {"path": "/text"}),
    "HEAD": (200, {"path": "/text", "method": "HEAD"}),
    "OPTIONS": (204, {"path": "/text", "method": "OPTIONS"}),
    "redirect": (302, {"path": "/redirect"}),
    "static": (200, {"path": "/static/a.txt"}),
    "static, a range": (206, {"path": "/static/a.txt", "headers": {"Range": "bytes=0-0"}}),
    "static, no range": (416, {"path": "/static/a.txt", "headers": {"Range": "bytes=99-"}}),
    "static, not modified": (304, {"path": "/static/a.txt", "headers": {"If-None-Match": "*"}}),
    "static, precondition": (412, {"path": "/static/a.txt", "headers": {"If-Match": '"x"'}}),
    "static, missing": (404, {"path": "/static/b.txt"}),
    "no route": (404, {"path": "/nowhere"}),
    "method": (405, {"path": "/text", "method": "DELETE"}),
    "path with NUL": (400, {"path": "/text\0"}),
    "path of other bytes": (404, {"path": "/\xff"}),
    "host that is not trusted": (400, {"path": "/text", "environ": {"HTTP_HOST": "evil.example"}}),
    "host that is malformed": (400, {"path": "/host", "environ": {"HTTP_HOST": "a/b"}}),
    "query": (400, {"path": "/query", "query": "a&" * 2000}),
    "inner middleware": (403, {"path": "/text", "query": "inner=1"}),
    "form": (400, {"path": "/form", "method": "POST", "headers": {"Content-Type": "multipart/form-data"}}),
    "JSON": (
        400,
        {"path": "/json", "method": "POST", "headers": {"Content-Type": "application/json"}, "body": b"{"},
    ),
    "JSON of another type": (
        422,
        {"path": "/json", "method": "POST", "headers": {"Content-Type": "application/json"}, "body": b"[]"},
    ),
    "content type": (415, {"path": "/json", "method": "POST", "body": b"{}"}),
    "large body": (
        413,
        {
            "path": "/json",
            "method": "POST",
            "headers": {"Content-Type": "application/json"},
            "length": 10**12,
        },
    ),
    "crash": (500, {"path": "/crash"}),
    "HTTPError": (409, {"path": "/raised"}),
    "broken error handler": (500, {"path": "/handler"}),
    "answer of no type": (500, {"path": "/type"}),
    "answer that is no JSON": (500, {"path": "/object"}),
    "list that is no JSON": (500, {"path": "/list"}),
    "header that may not be sent": (500, {"path": "/tuple"}),
    "status that may not be sent": (500, {"path": "/status"}),
}


@pytest.mark.parametrize(("status", "request_"), REQUESTS.values(), ids=REQUESTS)
def test_d40_d42_the_outermost_middleware_has_a_hand_in_every_answer(
    status: int, request_: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text("text")
    watched = Watched(tmp_path, trusted_hosts=["shop.example"])
    answer = call(watched.app, **request_)
    assert answer.status == status
    for name, value in SECURITY.items():
        assert [sent for key, sent in answer.headers if key == name] == [value]
    assert [code for code, _ in watched.log] == [status]
    assert "\0" not in watched.log[0][1]
    assert watched.released == 1
    assert watched.handled == ([404] if status == 404 and answer.body == b"ours" else [])
    assert b"Traceback" not in answer.body
    assert_alive(watched.app)


def test_d40_an_error_handler_sees_what_is_refused_early() -> None:
    app = make_app(settings=Settings(trusted_hosts=["shop.example"]))
    app.register_error_handler(HTTPError, lambda _ctx: ("ours", 400))
    assert call(app, "/alive", environ={"HTTP_HOST": "evil.example"}).body == b"ours"
    assert call(app, "/alive\0").body == b"ours"


def test_d40_no_other_middleware_and_no_handler_sees_what_is_refused_early() -> None:
    seen: list[str] = []

    def note(name: str) -> Callable[[Context], None]:
        def middleware(ctx: Context) -> None:
            seen.append(name)
            ctx.next()

        return middleware

    app = make_app(
        settings=Settings(trusted_hosts=["shop.example"]), middlewares=[note("outermost"), note("inner")]
    )
    app.get("/", lambda _ctx: seen.append("handler"))
    assert call(app, environ={"HTTP_HOST": "evil.example"}).status == 400
    assert call(app, "/\0").status == 400
    assert seen == ["outermost", "outermost"]


def test_d40_a_failing_outermost_middleware_releases_what_was_acquired() -> None:
    released = []

    def outermost(ctx: Context) -> None:
        ctx.after_response(lambda: released.append(1))
        ctx.next()
        raise RuntimeError

    app = make_app(middlewares=[outermost])
    assert call(app, "/alive").status == 500
    assert released == [1]


# -- D41: secrets -------------------------------------------------------------------------------------


def test_d41_no_representation_and_no_error_shows_a_secret() -> None:
    settings = Settings(secret_keys=["the secret key"], data={"password": "the other secret"})
    app = App(settings)
    for text in (repr(settings), str(settings), repr(app), repr(Context(app, {})), f"{settings!r:>500}"):
        assert "the secret" not in text
        assert "the other" not in text
    with pytest.raises(ValueError, match="secret_keys") as caught:
        Settings(secret_keys="the secret key")
    assert "the secret key" not in str(caught.value)
