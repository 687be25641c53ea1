"""The last step of a request: a Response becomes WSGI's status, headers and iterable.

A body goes out as one list of one ``bytes`` with its length. A wrapper object is made only for what is
streamed and for callbacks; a file goes to the server's own wrapper untouched, so that it can use
sendfile, and callbacks ride on the file's ``close``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from prologue.files import FileBody
from prologue.response import BINARY, Response, status_line

if TYPE_CHECKING:
    from prologue.context import Context

__all__ = ["ClosingBody", "discard", "run_callbacks", "send"]

logger = logging.getLogger("prologue")


def send(response: Response, ctx: Context, start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Start a response and return its body.

    HEAD, 1xx, 204 and 304 send no body (RFC 9110 sections 9.3.2 and 6.4.1); 204 and 304 no type, as PEP 3333
    checkers demand. Content-Length is set where the length is known.

    Raises:
        BaseException: what the server's ``start_response`` and the ``close`` of an unsent body raise.
    """
    environ = ctx.environ
    status = response.status
    stream = response.stream
    head = environ["REQUEST_METHOD"] == "HEAD"
    bodiless = status < 200 or status in (204, 304)
    # PERF: a copy, changed without the checks of Headers: half the time of this function.
    fields = response.headers.items()
    names = [name.lower() for name, _ in fields]
    knows_length = "content-length" in names
    sets_length = not bodiless and stream is None and not (head and knows_length)
    if knows_length and (bodiless or sets_length):
        fields = _without("content-length", fields)
    if sets_length:
        fields.append(("Content-Length", f"{len(response.body)}"))
    if status in (204, 304):
        fields = _without("content-type", fields)
    elif "content-type" not in names:
        fields.append(("Content-Type", BINARY))
    try:
        start_response(status_line(status), fields)
    except BaseException:
        _close(stream)
        raise
    if bodiless or head:
        _close(stream)
        return () if not ctx._after else ClosingBody((), ctx)
    if stream is None:
        body = response.body
        chunks = [body] if body else []
        return chunks if not ctx._after else ClosingBody(chunks, ctx)
    if isinstance(stream, FileBody) and "wsgi.file_wrapper" in environ:
        if ctx._after:
            stream.on_close = lambda: run_callbacks(ctx)
        wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](stream, 64 * 1024)
        return wrapped
    return ClosingBody(stream, ctx)


class ClosingBody:
    """A body that encodes text, and runs the callbacks of a request when it is closed."""

    __slots__ = ("_ctx", "_stream")

    def __init__(self, stream: Iterable[bytes] | Iterable[str], ctx: Context) -> None:
        self._stream = stream
        self._ctx = ctx

    def __iter__(self) -> Iterator[bytes]:
        for part in self._stream:
            yield part.encode("utf-8", "replace") if isinstance(part, str) else part

    def close(self) -> None:
        """Close the stream, then run the callbacks, whatever the stream's ``close`` raises."""
        try:
            _close(self._stream)
        finally:
            run_callbacks(self._ctx)


def discard(ctx: Context) -> None:
    """Close the body of a response that will not be sent; log what that raises."""
    for unsent in (ctx._response, ctx._result):
        if isinstance(unsent, Response) and unsent.stream is not None:
            stream, unsent.stream = unsent.stream, None
            try:
                _close(stream)
            except Exception:
                logger.exception("closing the body of an unsent response failed, request %s", ctx.request_id)


def run_callbacks(ctx: Context) -> None:
    """Run the ``after_response`` callbacks of a request, last in first out; log what they raise."""
    callbacks = ctx._after
    while callbacks:
        callback = callbacks.pop()
        try:
            callback()
        except Exception:
            logger.exception("after_response callback %r failed, request %s", callback, ctx.request_id)
        except BaseException:
            run_callbacks(ctx)
            raise


def _without(name: str, fields: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [field for field in fields if field[0].lower() != name]


def _close(stream: Any) -> None:
    close = getattr(stream, "close", None)
    if close is not None:
        close()
