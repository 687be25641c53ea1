"""What a client sends in a query and in a body: read within limits, each limit before what it limits is held.

Both are read from the environ alone, so that neither needs a whole werkzeug request.
"""

from __future__ import annotations

from io import BytesIO
from typing import IO, TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qsl

from werkzeug.datastructures import ImmutableMultiDict, MultiDict
from werkzeug.exceptions import ClientDisconnected
from werkzeug.wsgi import LimitedStream, get_content_length

from prologue.errors import BodyTooLargeError, HTTPError

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = [
    "BLOCK",
    "Limits",
    "body_stream",
    "check_memory",
    "check_parts",
    "read_query",
    "read_urlencoded",
]

#: Bytes that are read at once.
BLOCK = 64 * 1024

_MAX_QUERY_PARAMETERS = 1000


class Limits(NamedTuple):
    """What a request body may cost; None takes the application's setting."""

    #: Bytes of the whole body.
    body_size: int | None = None
    #: Bytes of all form fields that are no files.
    form_memory_size: int | None = None
    #: Number of fields and files.
    form_parts: int | None = None


def body_stream(environ: WSGIEnvironment, limit: int, *, at_once: bool = False) -> IO[bytes]:
    """Return the body of a request, to be read once and in blocks.

    A body without a length is empty, unless the server marks its end (``wsgi.input_terminated``), as for
    chunked requests. Reading a body that is cut short raises what werkzeug answers with 400.

    Args:
        environ: the request.
        limit: bytes of the whole body.
        at_once: whether a small one is read here; default False.

    Raises:
        BodyTooLargeError: 413, over the limit: here when the length says so, else on reading.
        ClientDisconnected: 400, what was read at once is cut short.
    """
    source = environ["wsgi.input"]
    text = environ.get("CONTENT_LENGTH", "")
    length: int | None
    if text.isdecimal() and text.isascii() and len(text) < 19 and "HTTP_TRANSFER_ENCODING" not in environ:
        # PERF: what is usual is read here: 0.6 µs of the 7 of a form post.
        length = int(text)
    else:
        length = get_content_length(environ) if text else None
    if length is not None:
        if length > limit:
            raise _too_large(limit)
        if at_once and length <= BLOCK:
            return BytesIO(_read_small(source, length))
        return LimitedStream(source, length)  # type: ignore[return-value]
    if environ.get("wsgi.input_terminated"):
        return _BoundedStream(source, limit)  # type: ignore[return-value]
    return BytesIO()


def _read_small(source: IO[bytes], length: int) -> bytes:
    """Return a body of which the length is known and small.

    Raises:
        ClientDisconnected: it is cut short.
    """
    # PERF: a form post takes 7 µs; through werkzeug's LimitedStream, which is Python, 11.
    try:
        body = source.read(length)
        while len(body) < length:
            block = source.read(length - len(body))
            if not block:
                raise ClientDisconnected
            body += block
    except (OSError, ValueError) as error:
        raise ClientDisconnected from error
    return body


class _BoundedStream(LimitedStream):
    """A body of unknown length: reading more than the limit raises, instead of cutting it there."""

    def __init__(self, stream: IO[bytes], limit: int) -> None:
        super().__init__(stream, limit + 1, is_max=True)

    def readinto(self, b: bytearray) -> int | None:  # type: ignore[override]
        size = super().readinto(b)
        if self.is_exhausted:
            raise _too_large(self.limit - 1)
        return size


def _too_large(limit: int) -> BodyTooLargeError:
    return BodyTooLargeError(f"the body has more than {limit} bytes (max_body_size)")


def read_urlencoded(stream: IO[bytes], memory_size: int, parts: int) -> MultiDict[str, str]:
    """Read a urlencoded form and return its fields.

    Args:
        stream: the body.
        memory_size: bytes that it may have.
        parts: fields that it may have.

    Raises:
        HTTPError: 400, it is not UTF-8.
        BodyTooLargeError: 413, over a limit.
    """
    blocks: list[bytes] = []
    size = 0
    while block := stream.read(min(BLOCK, memory_size + 1 - size)):
        blocks.append(block)
        size += len(block)
        check_memory(size, memory_size)
    body = b"".join(blocks)
    check_parts(body.count(b"&") + 1, parts)
    try:
        return MultiDict(_pairs(body.decode()))
    except UnicodeDecodeError as error:
        raise HTTPError(400, "the form is malformed") from error


def check_memory(size: int, limit: int) -> None:
    """Refuse fields of more bytes than the limit."""
    if size > limit:
        raise BodyTooLargeError(f"the form fields have more than {limit} bytes (max_form_memory_size)")


def check_parts(count: int, limit: int) -> None:
    """Refuse more fields and files than the limit."""
    if count > limit:
        raise BodyTooLargeError(f"the form has more than {limit} fields and files (max_form_parts)")


def read_query(environ: WSGIEnvironment) -> ImmutableMultiDict[str, str]:
    """Return the query parameters of a request.

    Raises:
        HTTPError: 400, there are more than 1,000.
    """
    query: str = environ.get("QUERY_STRING", "")
    if query.count("&") >= _MAX_QUERY_PARAMETERS:
        raise HTTPError(400, f"the query has more than {_MAX_QUERY_PARAMETERS} parameters")
    text = query if query.isascii() else query.encode("latin-1", "replace").decode("utf-8", "replace")
    return ImmutableMultiDict(_pairs(text))


def _pairs(text: str) -> list[tuple[str, str]]:
    if "%" in text or "+" in text:
        return parse_qsl(text, keep_blank_values=True, errors="werkzeug.url_quote")
    # PERF: nothing is encoded: 0.6 µs for two fields, where parse_qsl takes 2.0.
    parts = [part.partition("=") for part in text.split("&") if part]
    return [(name, value) for name, _, value in parts]
