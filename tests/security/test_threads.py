"""D45: no request sees anything of another one, whatever threads and errors do."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from typing import Any

import pytest

from prologue import App, Context
from prologue.errors import HTTPError

from ..concurrency import impatient_threads, together

ROUNDS = 10
REQUESTS = 10_000  # of each round
THREADS = 8


class Abort(BaseException):
    """What a server raises in a thread that it gives up."""


def leaky_app() -> App:
    """Make an application that keeps the secret of a request wherever it can, and looks there first."""
    app = App()

    def remember(ctx: Context) -> None:
        secret = ctx.environ["test.secret"]
        for kept in (
            getattr(ctx.state, "secret", None),
            ctx.path_params.get("secret"),
            ctx.error,
            ctx.route,
            ctx.response.headers.get("X-Secret"),
        ):
            assert kept is None, kept
        ctx.state.secret = secret
        ctx.response.headers["X-Secret"] = secret
        ctx.after_response(lambda: ctx.environ["test.after"].append(secret))
        ctx.next()

    def check(ctx: Context, *others: str | None) -> None:
        secret = ctx.environ["test.secret"]
        for kept in (ctx.state.secret, ctx.path_params["secret"], ctx.response.headers["X-Secret"], *others):
            assert kept == secret, (kept, secret)

    def plain(ctx: Context) -> str:
        check(ctx)
        return str(ctx.state.secret)

    def parsed(ctx: Context) -> dict[str, Any]:
        check(ctx, ctx.query.get("s"), ctx.get_cookie("s"))
        return {"secret": ctx.get_query_params("s")}

    def posted(ctx: Context) -> str:
        check(ctx, ctx.form.get("s"))
        return ctx.form["s"]

    def raised(ctx: Context) -> str:
        check(ctx)
        raise ValueError(ctx.state.secret)

    def refused(ctx: Context) -> str:
        check(ctx)
        raise HTTPError(409, ctx.state.secret)

    def aborted(ctx: Context) -> str:
        check(ctx)
        raise Abort(ctx.state.secret)

    def left(ctx: Context) -> str:
        check(ctx)
        raise SystemExit(ctx.state.secret)

    def streamed(ctx: Context) -> Iterator[str]:
        check(ctx)
        secret = ctx.state.secret

        def parts() -> Iterator[str]:
            yield secret
            check(ctx)
            yield ""

        return parts()

    def nested(ctx: Context) -> str:
        inner = environ_of("plain", "inner" + ctx.state.secret)
        assert answer_of(app, inner) == "inner" + ctx.state.secret
        check(ctx)
        return str(ctx.state.secret)

    app.use(remember)
    for handler in (plain, parsed, raised, refused, aborted, left, streamed, nested):
        app.get(f"/{handler.__name__}/{{secret}}", handler)
    app.post("/posted/{secret}", posted)
    app.register_error_handler(ValueError, lambda ctx, error: (str(error), 400))
    return app


KINDS = (
    "plain",
    "parsed",
    "posted",
    "raised",
    "refused",
    "aborted",
    "left",
    "streamed",
    "nested",
    "cut",
    "missing",
)


def environ_of(kind: str, secret: str) -> dict[str, Any]:
    body = f"s={secret}".encode()
    return {
        "REQUEST_METHOD": "POST" if kind == "posted" else "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": f"/{'streamed' if kind == 'cut' else kind}/{secret}",
        "QUERY_STRING": f"s={secret}",
        "HTTP_COOKIE": f"s={secret}",
        "CONTENT_TYPE": "application/x-www-form-urlencoded" if kind == "posted" else "",
        "CONTENT_LENGTH": str(len(body)) if kind == "posted" else "",
        "wsgi.input": io.BytesIO(body),
        "wsgi.url_scheme": "http",
        "test.secret": secret,
        "test.after": [],
    }


def answer_of(app: App, environ: dict[str, Any], cut: bool = False) -> str:
    """Return the body of an answer; cut short, as by a client that goes away, when asked."""
    secret = environ["test.secret"]
    fields: list[tuple[str, str]] = []

    def start_response(_status: str, headers: list[tuple[str, str]], _error: Any = None) -> Any:
        fields.extend(headers)

    body: Any = app(environ, start_response)
    try:
        parts = iter(body)
        text = next(parts, b"") if cut else b"".join(parts)
    finally:
        if hasattr(body, "close"):
            body.close()
    assert environ["test.after"] == [secret]
    foreign = [value for name, value in fields if name == "X-Secret" and value != secret]
    assert foreign == []
    return bytes(text).decode()


def test_d45_no_secret_of_another_request_is_ever_seen() -> None:
    app = leaky_app()

    def serve(round_: int, thread: int) -> int:
        chance = random.Random(thread)
        served = 0
        for number in range(REQUESTS // THREADS):
            secret = f"{round_}x{thread}x{number}x{chance.getrandbits(32):x}"
            kind = chance.choice(KINDS)
            environ = environ_of(kind, secret)
            if kind in ("aborted", "left"):
                with pytest.raises((Abort, SystemExit)) as caught:
                    answer_of(app, environ)
                assert caught.value.args == (secret,)
                assert environ["test.after"] == [secret]
            else:
                text = answer_of(app, environ, cut=kind == "cut")
                assert kind == "missing" or secret in text
            served += 1
        return served

    for round_ in range(ROUNDS):
        # Two rounds with threads that switch all the time: ten would take minutes.
        with impatient_threads() if round_ < 2 else nullcontext():
            assert sum(together(THREADS, partial(serve, round_))) == REQUESTS
