"""What the attack tests share: a checked WSGI call, endless bodies, and a measure of growth in CPU time."""

from __future__ import annotations

import gc
import io
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from wsgiref.validate import validator

from prologue import App


class Answer(NamedTuple):
    """What an application answered."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def get(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


class Stream(io.RawIOBase):
    """A request body made while it is read: a head, a block again and again up to a size, a tail.

    ``consumed`` counts the bytes that were read.
    """

    def __init__(self, head: bytes = b"", block: bytes = b"a", size: int = 0, tail: bytes = b"") -> None:
        self._block = block * (64 * 1024 // len(block) + 1)
        self._period = len(block) * (64 * 1024 // len(block) + 1)
        self._head, self._size, self._tail = head, size, tail
        self.consumed = 0
        self.length = len(head) + size + len(tail)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        assert size >= 0, "nobody may ask for all of an endless body"
        offset = self.consumed
        if offset < len(self._head):
            part = self._head[offset : offset + size]
        elif offset < len(self._head) + self._size:
            offset -= len(self._head)
            start = offset % self._period
            part = self._block[start : start + min(size, self._size - offset)]
        else:
            offset -= len(self._head) + self._size
            part = self._tail[offset : offset + size]
        self.consumed += len(part)
        return part


def call(
    app: App,
    path: str = "/",
    method: str = "GET",
    *,
    query: str = "",
    headers: Mapping[str, str] | None = None,
    body: bytes | Stream = b"",
    length: int | None = None,
    terminated: bool = False,
    environ: Mapping[str, Any] | None = None,
) -> Answer:
    """Call an application in process, with `wsgiref.validate` around it.

    Args:
        path: PATH_INFO as it is, that is decoded, its bytes as Latin-1.
        headers: request header fields.
        body: sent with its length, unless `terminated`.
        length: another Content-Length than the body's.
        terminated: the server ends the body, as for chunked requests, and no length is sent.
        environ: more of the environment, stronger than all else.
    """
    stream = Stream(body) if isinstance(body, bytes) else body
    made: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "SERVER_NAME": "shop.example",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "192.0.2.7",
        "HTTP_HOST": "shop.example",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": stream,
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    if terminated:
        made["wsgi.input_terminated"] = True
    elif stream.length or length is not None:
        made["CONTENT_LENGTH"] = str(stream.length if length is None else length)
    for name, value in (headers or {}).items():
        key = name.upper().replace("-", "_")
        made[key if key == "CONTENT_TYPE" else f"HTTP_{key}"] = value
    made.update(environ or {})
    started: list[tuple[str, list[tuple[str, str]]]] = []

    def start_response(status: str, fields: list[tuple[str, str]], _error: Any = None) -> Callable[..., Any]:
        started.append((status, fields))
        return lambda _data: None

    iterable = validator(app)(made, start_response)
    try:
        content = b"".join(iterable)
    finally:
        iterable.close()  # type: ignore[attr-defined]
    status, fields = started[-1]
    return Answer(int(status[:3]), fields, content)


def assert_refused(answer: Answer, *statuses: int) -> None:
    """Check that a hostile request was answered with a client error that tells nothing about the code."""
    assert answer.status in (statuses or range(400, 500)), answer
    assert b"Traceback" not in answer.body
    assert b".py" not in answer.body


def assert_alive(app: App) -> None:
    """Check that the next request is answered right; the application has a route ``/alive``."""
    answer = call(app, "/alive")
    assert (answer.status, answer.body) == (200, b"yes")


def make_app(**options: Any) -> App:
    """Make an application with the route that `assert_alive` asks."""
    app = App(**options)
    app.get("/alive", lambda _ctx: "yes")
    return app


def cpu_seconds(run: Callable[[], object]) -> float:
    """Return the CPU time of this thread that a call takes.

    The collector runs, or new memory would cost more and more; what was there before is kept out of it.
    """
    gc.freeze()
    try:
        start = time.thread_time()
        run()
        return time.thread_time() - start
    finally:
        gc.unfreeze()


def assert_linear(run: Callable[[int], object], size: int, repeat: int = 3) -> None:
    """Check that 16 times the size costs less than 64 times the CPU time: a square would cost 256 times.

    The bound is half-way between the two, so that another program may take most of the caches of the
    processor. The least of several measurements counts, and what is too much is measured again.
    """
    small = large = float("inf")
    for _ in range(8):
        for _ in range(repeat):
            small = min(small, cpu_seconds(lambda: run(size)))
            large = min(large, cpu_seconds(lambda: run(16 * size)))
        if large <= 64 * small:
            return
    raise AssertionError(f"CPU time: {small} s at {size}, {large} s at 16 times as much")
