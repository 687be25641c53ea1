"""Asking a WSGI application, and reading its body while it is sent."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from prologue.http_cache.fields import Headers

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

__all__ = ["Answer", "Ask", "Tee", "ask_wsgi", "close"]


class Answer(msgspec.Struct):
    """A response: status line, fields, body; and whether it is known that it belongs to somebody."""

    # PERF: this and `Target` are made for every hit: in 50 ns, and a NamedTuple in 200.

    status: str
    headers: Headers
    body: Any
    personal: bool = False


#: Asks the application, with changes to the request: values by WSGI name, None takes a field away.
Ask = Callable[[Mapping[str, "str | None"]], Answer]


def close(body: object) -> None:
    """Close a body, if it can be closed."""
    function = getattr(body, "close", None)
    if function is not None:
        function()


def ask_wsgi(
    application: WSGIApplication, environ: dict[str, Any], changes: Mapping[str, str | None]
) -> Answer:
    """Ask a WSGI application; its body is still to be iterated and closed.

    Raises:
        RuntimeError: it breaks PEP 3333: it does not start a response.
        Exception: what it raises.
    """
    if changes:
        environ = {name: value for name, value in {**environ, **changes}.items() if value is not None}
    started: list[tuple[str, Headers]] = []
    early: list[bytes] = []
    returned = False

    def start_response(status: str, headers: Headers, exc_info: Any = None) -> Callable[[bytes], object]:
        if exc_info is not None and returned:
            raise exc_info[1].with_traceback(exc_info[2])
        started[:] = [(status, headers)]
        return early.append

    body: Any = application(environ, start_response)
    if not started or early:
        # A generator starts its response when it is asked for its first bytes.
        try:
            chunks = iter(body)
            if not started:
                early.extend(itertools.islice(chunks, 1))
            if not started:
                raise RuntimeError(f"application {application!r} did not call start_response")
        except BaseException:
            close(body)
            raise
        body = _Resumed(itertools.chain(early, chunks), body)
    returned = True
    return Answer(*started[0], body)


class _Resumed:
    """A body whose first bytes were taken already."""

    __slots__ = ("_body", "_chunks")

    def __init__(self, chunks: Iterator[bytes], body: object) -> None:
        self._chunks = chunks
        self._body = body

    def __iter__(self) -> Iterator[bytes]:
        return self._chunks

    def close(self) -> None:
        close(self._body)


class Tee:
    """A body that is kept while it is sent, and handed over whole when it was closed without an error.

    Args:
        body: what is sent.
        limit: the most bytes that are kept.
        length: bytes that the body must have, None when that is not known.
        finish: called with the body when it is complete, with None when it breaks off.
        overflow: called instead, once there are more bytes than the limit.
    """

    __slots__ = (
        "_body",
        "_chunks",
        "_complete",
        "_finish",
        "_iterator",
        "_length",
        "_limit",
        "_overflow",
        "_size",
    )

    def __init__(
        self,
        body: Iterable[Any],
        limit: int,
        length: int | None,
        finish: Callable[[bytes | None], object],
        overflow: Callable[[], object],
    ) -> None:
        self._body = body
        self._iterator: Iterator[Any] | None = None
        self._chunks: list[bytes] = []
        self._size = 0
        self._limit = limit
        self._length = length
        self._complete = False
        self._finish: Callable[[bytes | None], object] | None = finish
        self._overflow = overflow

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            if self._iterator is None:
                self._iterator = iter(self._body)
            chunk = next(self._iterator)
        except StopIteration:
            self._complete = self._length in (None, self._size)
            raise
        except BaseException:
            self._end(None)
            raise
        data: bytes = chunk.encode("utf-8", "replace") if isinstance(chunk, str) else chunk
        if self._finish is not None:
            self._chunks.append(data)
            self._size += len(data)
            # A server may stop where Content-Length says that the end is.
            self._complete = self._size == self._length
            if self._size > self._limit:
                self._finish, self._chunks = None, []
                self._overflow()
        return data

    def drain(self) -> Iterable[bytes]:
        """Read the body to its end, close it and return it; beyond the limit the rest is left to be read."""
        read = []
        for chunk in self:
            read.append(chunk)
            if self._finish is None:
                return _Resumed(itertools.chain(read, self), self)
        self.close()
        return read

    def close(self) -> None:
        """Close the body, then hand it over, if it is complete."""
        try:
            close(self._body)
        except BaseException:
            self._end(None)
            raise
        self._end(b"".join(self._chunks) if self._complete else None)

    def _end(self, body: bytes | None) -> None:
        finish, self._finish = self._finish, None
        self._chunks = []
        if finish is not None:
            finish(body)
