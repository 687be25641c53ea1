"""The last step: what the server is given, and when the callbacks of a request run."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.util import FileWrapper

import pytest

from prologue import App, Context, Response
from tests.calling import Started, call, environ_for


def app_of(handler: Callable[[Context], Any], *middlewares: Callable[[Context], Any]) -> App:
    app = App(middlewares=middlewares)
    app.get("/", handler)
    return app


def test_a_plain_answer_is_one_list_of_one_bytes() -> None:
    assert Started(app_of(lambda ctx: "text"), environ_for()).body == [b"text"]
    assert Started(app_of(lambda ctx: Response("text")), environ_for()).body == [b"text"]
    assert Started(app_of(lambda ctx: {"a": 1}), environ_for()).body == [b'{"a":1}']


@pytest.mark.parametrize(
    ("result", "length"),
    [
        ("ж", "2"),
        ("", "0"),
        ({}, "2"),
        (b"abc", "3"),
        (Response("abc", headers={"Content-Length": "99"}), "3"),
        (Response(iter([b"abc"]), headers={"Content-Length": "3"}), "3"),
        (Response(iter([b"abc"])), None),
        (("abc", 204), None),
        (Response(b"abc", 304, {"Content-Length": "3"}), None),
        (Response(b"abc", 101), None),
    ],
)
def test_content_length_is_sent_where_it_is_known_and_right(result: Any, length: str | None) -> None:
    assert call(app_of(lambda ctx: result)).header("Content-Length") == length


def test_head_may_announce_a_length_that_it_did_not_make() -> None:
    app = App()
    app.head("/", lambda ctx: Response(headers={"Content-Length": "1000000"}))
    assert call(app, "HEAD").header("Content-Length") == "1000000"


# -- streams ------------------------------------------------------------------------------------------


class Stream:
    """A stream of what it is given, that notes how it was used."""

    def __init__(self, *parts: Any) -> None:
        self.parts = parts
        self.closed = 0

    def __iter__(self) -> Iterator[Any]:
        for part in self.parts:
            if isinstance(part, BaseException):
                raise part
            yield part

    def close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("status", [200, 204, 304, 404])
def test_a_stream_is_closed_once_whether_sent_or_not(method: str, status: int) -> None:
    stream = Stream(b"a", "ж")
    answer = call(app_of(lambda ctx: Response(stream, status)), method)
    sent = method == "GET" and status in (200, 404)
    assert answer.body == ("aж".encode() if sent else b"")
    assert stream.closed == 1


def test_a_stream_is_closed_when_the_client_goes_away() -> None:
    stream = Stream(b"a", b"b")
    started = Started(app_of(lambda ctx: Response(stream)), environ_for())
    assert next(iter(started.body)) == b"a"
    started.close()
    assert stream.closed == 1


def test_a_generator_is_closed_when_the_client_goes_away() -> None:
    events = []

    def generate() -> Iterator[str]:
        try:
            yield "a"
            yield "b"
        except GeneratorExit:
            events.append("exit")
            raise
        finally:
            events.append("finally")

    started = Started(app_of(lambda ctx: generate()), environ_for())
    assert next(iter(started.body)) == b"a"
    started.close()
    assert events == ["exit", "finally"]


@pytest.mark.parametrize("error", [ValueError("mid"), SystemExit(3), KeyboardInterrupt()])
def test_an_error_in_mid_stream_reaches_the_server_and_the_callbacks_run(error: BaseException) -> None:
    called: list[str] = []
    stream = Stream(b"a", error)

    def handler(ctx: Context) -> Response:
        ctx.after_response(lambda: called.append("after"))
        return Response(stream)

    started = Started(app_of(handler), environ_for())
    with pytest.raises(type(error)) as raised:
        list(started.body)
    assert raised.value is error
    assert (called, stream.closed) == ([], 0)
    started.close()
    assert (called, stream.closed) == (["after"], 1)


def test_a_close_that_fails_reaches_the_server_and_the_callbacks_run() -> None:
    called: list[str] = []

    class Failing(Stream):
        def close(self) -> None:
            raise OSError("disk")

    def handler(ctx: Context) -> Response:
        ctx.after_response(lambda: called.append("after"))
        return Response(Failing(b"a"))

    started = Started(app_of(handler), environ_for())
    with pytest.raises(OSError, match="disk"):
        started.close()
    assert called == ["after"]

    # The status of HEAD is out when the stream is closed: a second answer is impossible.
    with pytest.raises(OSError, match="disk"):
        Started(app_of(handler), environ_for("HEAD"))
    assert called == ["after"] * 2


# -- callbacks ----------------------------------------------------------------------------------------


def generate(ctx: Context) -> Iterator[bytes]:
    yield b"a"
    yield b"b"


HANDLERS: list[tuple[str, Callable[[Context], Any]]] = [
    ("text", lambda ctx: "text"),
    ("object", lambda ctx: {}),
    ("nothing", lambda ctx: None),
    ("response", lambda ctx: Response(b"x")),
    ("stream", generate),
    ("no content", lambda ctx: (None, 204)),
    ("not modified", lambda ctx: (None, 304)),
    ("refused", lambda ctx: (None, 404)),
    ("aborted", lambda ctx: ctx.abort_exit(403)),
    ("failed", lambda ctx: 1 / 0),
    ("unfit", lambda ctx: object()),
    ("not encodable", lambda ctx: {"a": object()}),
]


@pytest.mark.parametrize("middlewares", [(), (Context.next, Context.next)])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("handler", [handler for _, handler in HANDLERS], ids=[name for name, _ in HANDLERS])
def test_callbacks_run_after_the_last_byte_last_in_first_out(
    handler: Callable[[Context], Any], method: str, middlewares: Any
) -> None:
    events: list[str] = []

    def registering(ctx: Context) -> Any:
        ctx.after_response(lambda: events.append("first"))
        ctx.after_response(lambda: events.append("second"))
        return handler(ctx)

    app = app_of(registering, *middlewares)
    started = Started(app, environ_for(method))
    events.extend("byte" for _ in started.body)
    assert "first" not in events

    started.close()
    started.close()

    assert events[-2:] == ["second", "first"]
    assert events.count("first") == 1


def test_each_callback_runs_even_if_others_raise(caplog: pytest.LogCaptureFixture) -> None:
    called = []

    def handler(ctx: Context) -> str:
        ctx.after_response(lambda: called.append("a"))
        ctx.after_response(lambda: 1 / 0)
        ctx.after_response(lambda: called.append("b"))
        ctx.after_response(lambda: int("x"))
        return "text"

    assert call(app_of(handler)).status == 200
    assert called == ["b", "a"]
    assert [type(record.exc_info[1]) for record in caplog.records if record.exc_info] == [
        ValueError,
        ZeroDivisionError,
    ]
    assert all("after_response callback" in record.getMessage() for record in caplog.records)


def test_a_callback_that_ends_the_process_lets_the_others_run_first() -> None:
    called = []

    def leave() -> None:
        raise SystemExit(3)

    def handler(ctx: Context) -> str:
        ctx.after_response(lambda: called.append("a"))
        ctx.after_response(leave)
        ctx.after_response(lambda: called.append("b"))
        return "text"

    started = Started(app_of(handler), environ_for())
    with pytest.raises(SystemExit):
        started.close()
    assert called == ["b", "a"]


def test_a_callback_may_register_another() -> None:
    called = []

    def handler(ctx: Context) -> str:
        ctx.after_response(lambda: ctx.after_response(lambda: called.append("late")))
        return "text"

    call(app_of(handler))
    assert called == ["late"]


def test_a_generator_may_register_a_callback_while_it_is_sent() -> None:
    events = []

    def late(ctx: Context) -> Iterator[bytes]:
        yield b"a"
        ctx.after_response(lambda: events.append("after"))
        yield b"b"

    started = Started(app_of(late), environ_for())
    events.extend("byte" for _ in started.body)
    started.close()
    assert events == ["byte", "byte", "after"]


@pytest.mark.parametrize("ending", [SystemExit(1), KeyboardInterrupt(), GeneratorExit()])
@pytest.mark.parametrize("middlewares", [(), (Context.next, Context.next)])
def test_what_is_no_error_is_never_swallowed_and_the_callbacks_run(
    ending: BaseException, middlewares: Any
) -> None:
    called = []

    def handler(ctx: Context) -> str:
        ctx.after_response(lambda: called.append("after"))
        raise ending

    with pytest.raises(type(ending)) as raised:
        app_of(handler, *middlewares)(environ_for(), lambda *_: pytest.fail("a response has begun"))
    assert raised.value is ending
    assert called == ["after"]


def test_what_is_no_error_is_not_swallowed_by_error_handlers_either() -> None:
    called = []

    def on_error(ctx: Context) -> None:
        ctx.after_response(lambda: called.append("after"))
        raise SystemExit(1)

    app = app_of(lambda ctx: 1 / 0)
    app.register_error_handler(ZeroDivisionError, on_error)
    with pytest.raises(SystemExit):
        call(app)
    app.register_error_handler(404, on_error)
    with pytest.raises(SystemExit):
        call(app, path="/missing")
    assert called == ["after", "after"]


@pytest.mark.parametrize("error", [ValueError("refused"), SystemExit(1)])
def test_a_server_that_refuses_the_start_is_not_asked_again(error: BaseException) -> None:
    called = []
    asked = []
    stream = Stream(b"a")

    def handler(ctx: Context) -> Response:
        ctx.after_response(lambda: called.append("after"))
        return Response(stream)

    def start_response(*arguments: Any) -> Any:
        asked.append(arguments)
        raise error

    with pytest.raises(type(error)):
        app_of(handler)(environ_for(), start_response)
    assert (len(asked), called, stream.closed) == (1, ["after"], 1)


# -- files --------------------------------------------------------------------------------------------


def file_app(path: Path, called: list[str], late: bool = False) -> App:
    def handler(ctx: Context) -> Response:
        ctx.after_response(lambda: called.append("after"))
        return ctx.static_file_response(str(path))

    return app_of(handler)


class Wrapper(FileWrapper):
    """A server's own wrapper."""


def test_a_file_goes_to_the_wrapper_of_the_server_which_is_returned_itself(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"content")
    called: list[str] = []
    environ = {**environ_for(), "wsgi.file_wrapper": Wrapper}

    started = Started(file_app(tmp_path / "a.txt", called), environ)

    assert type(started.body) is Wrapper
    assert started.body.filelike.fileno() > 0
    assert b"".join(started.body) == b"content"
    assert called == []
    started.close()
    started.close()
    assert called == ["after"]
    with pytest.raises(ValueError, match="closed"):
        started.body.filelike.fileno()


def test_a_file_without_callbacks_goes_to_the_wrapper_too(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"content")
    app = app_of(lambda ctx: ctx.static_file_response("a.txt", str(tmp_path)))
    started = Started(app, {**environ_for(), "wsgi.file_wrapper": Wrapper})
    assert type(started.body) is Wrapper
    assert b"".join(started.body) == b"content"
    started.close()


@pytest.mark.parametrize(
    ("method", "more", "status", "body"),
    [
        ("GET", {}, 200, b"content"),
        ("HEAD", {}, 200, b""),
        ("GET", {"HTTP_RANGE": "bytes=3-"}, 206, b"tent"),
        ("GET", {"HTTP_IF_NONE_MATCH": "*"}, 304, b""),
    ],
)
@pytest.mark.parametrize("wrapper", [None, FileWrapper])
def test_files_end_with_the_callbacks_in_every_form(
    tmp_path: Path, method: str, more: dict[str, Any], status: int, body: bytes, wrapper: Any
) -> None:
    (tmp_path / "a.txt").write_bytes(b"content")
    called: list[str] = []
    more = {**more, "wsgi.file_wrapper": wrapper} if wrapper else more
    answer = call(file_app(tmp_path / "a.txt", called), method, **more)
    assert (answer.status, answer.body) == (status, body)
    assert called == ["after"]


def test_any_other_open_file_is_a_stream() -> None:
    file = io.BytesIO(b"a\nb\n")
    assert call(app_of(lambda ctx: Response(file))).body == b"a\nb\n"
    assert file.closed


# -- unsent -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("looked_at", [False, True])
def test_a_stream_that_an_error_replaces_is_closed(looked_at: bool) -> None:
    stream = Stream(b"a")

    def failing(ctx: Context) -> None:
        ctx.next()
        if looked_at:
            assert ctx.response.stream is stream
        raise ValueError("after the handler")

    app = app_of(lambda ctx: Response(stream), failing)
    assert call(app).status == 500
    assert stream.closed == 1


def test_a_stream_that_cannot_be_closed_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    class Failing(Stream):
        def close(self) -> None:
            raise OSError("disk")

    def failing(ctx: Context) -> None:
        ctx.next()
        ctx.abort_exit(403)

    caplog.set_level(logging.ERROR, "prologue")
    assert call(app_of(lambda ctx: Response(Failing(b"a")), failing)).status == 403
    assert len(caplog.records) == 1
    assert "unsent response" in caplog.text
    assert "disk" in caplog.text
