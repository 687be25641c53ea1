"""The body of a request as ``wsgi.input``: of a known length, or in chunks.

Both read ahead no further than a body needs, and say whether they were read to their end: what follows on a
connection is the next request only then.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

from gunicorn.http.errors import (
    ChunkMissingTerminator,
    InvalidChunkSize,
    InvalidHeader,
    LimitRequestHeaders,
    NoMoreData,
)

if TYPE_CHECKING:
    from prologue.server.connection import Connection

__all__ = ["Body", "ChunkedBody", "LengthBody"]

# RFC 9112, section 7.1: the size of a chunk and its extensions.
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"'
_CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]+")
_CHUNK_EXTENSION = re.compile(rb"[ \t]*;[ \t]*%b(?:[ \t]*=[ \t]*(?:%b|%b))?" % (_TOKEN, _TOKEN, _QUOTED))


class Body(io.RawIOBase):
    """What the two have in common.

    Attributes:
        complete: whether it was read to its end.
    """

    complete = False

    def readable(self) -> bool:
        return True


class LengthBody(Body):
    """A body of a known length: first what was received with the head, then what comes.

    It ends early when the client does, as gunicorn's does.
    """

    def __init__(self, connection: Connection, length: int) -> None:
        self._connection = connection
        self._remaining = length
        self.complete = not length

    def readinto(self, target: Any) -> int:
        """Fill a buffer as far as there is something; 0 at the end.

        Raises:
            ClientTimeout: the client sends too slowly.
            ClientError: the connection is broken.
        """
        connection = self._connection
        view = memoryview(target)[: self._remaining]
        buffered = connection.buffer
        if buffered:
            count = min(len(buffered), len(view))
            view[:count] = buffered[:count]
            connection.buffer = buffered[count:]
        else:
            count = connection.receive_into(view) if view else 0
        self._remaining -= count
        self.complete = not self._remaining
        return count


class ChunkedBody(Body):
    """A body in chunks (RFC 9112, section 7.1), read as strictly as gunicorn 27 does.

    Args:
        connection: with what was received behind the head in its buffer.
        request: gunicorn's own, which knows the limits, and gets the trailers.
    """

    def __init__(self, connection: Connection, request: Any) -> None:
        self._connection = connection
        self._request = request
        # PERF: a place in the data, and not what is left of it, or many small chunks would copy it each.
        self._data = connection.buffer
        self._place = 0
        connection.buffer = b""
        self._left = 0  # of the chunk
        self._begun = False
        self._error: Exception | None = None

    def readinto(self, target: Any) -> int:
        """Fill a buffer as far as there is something; 0 at the end.

        Raises:
            InvalidChunkSize, ChunkMissingTerminator, InvalidHeader, InvalidHeaderName, LimitRequestHeaders:
                the body is not what RFC 9112 says. Then every later call raises it too: where the next
                request begins is not known.
            NoMoreData: it breaks off.
            ClientTimeout: the client sends too slowly.
            ClientError: the connection is broken.
        """
        if self._error is not None:
            raise self._error
        try:
            return self._read(memoryview(target))
        except Exception as error:
            self._error = error
            raise

    def _read(self, view: memoryview) -> int:
        if self.complete or not view:
            return 0
        if not self._left:
            self._left = self._next_size()
            if not self._left:
                self._read_trailers()
                self._connection.buffer = self._data[self._place :]
                self.complete = True
                return 0
        count = min(self._left, len(view), len(self._data) - self._place)
        if count:
            view[:count] = self._data[self._place : self._place + count]
            self._place += count
        else:
            count = self._connection.receive_into(view[: self._left])
            if not count:
                raise NoMoreData()
        self._left -= count
        return count

    def _next_size(self) -> int:
        """Read the line before a chunk, and the end of the chunk before it."""
        if self._begun:
            while len(self._data) - self._place < 2:
                self._receive(ChunkMissingTerminator(self._data[self._place :]))
            end = self._data[self._place : self._place + 2]
            if end != b"\r\n":
                raise ChunkMissingTerminator(end)
            self._place += 2
        self._begun = True
        limit = self._request.limit_request_field_size
        line = self._until(
            b"\r\n", limit, InvalidChunkSize(b"a line of more than %d bytes" % limit), NoMoreData()
        )
        found = size = _CHUNK_SIZE.match(line)
        while found is not None and found.end() < len(line):
            found = _CHUNK_EXTENSION.match(line, found.end())
        if size is None or found is None:
            raise InvalidChunkSize(line)
        return int(size[0], 16)

    def _read_trailers(self) -> None:
        missing = ChunkMissingTerminator(b"")
        while len(self._data) - self._place < 2:
            self._receive(missing)
        if self._data.startswith(b"\r\n", self._place):
            self._place += 2
            return
        limit = self._request.max_buffer_headers
        fields = self._until(b"\r\n\r\n", limit, LimitRequestHeaders("limit request trailers"), missing)
        if fields.count(b"\n") != fields.count(b"\r\n"):
            raise InvalidHeader("bare line feed")
        self._request.trailers = self._request.parse_headers(fields, from_trailer=True)

    def _until(self, end: bytes, limit: int, too_long: Exception, missing: Exception) -> bytes:
        """Return what stands before an end, and go behind it."""
        searched = self._place
        while (found := self._data.find(end, searched)) < 0:
            seen = len(self._data) - self._place
            if seen > limit:
                raise too_long
            self._receive(missing)
            searched = max(0, seen - len(end) + 1)
        if found - self._place > limit:
            raise too_long
        text = self._data[self._place : found]
        self._place = found + len(end)
        return text

    def _receive(self, missing: Exception) -> None:
        """Wait for more; where nothing comes, that is an error."""
        data = self._connection.receive()
        if not data:
            raise missing
        self._data = self._data[self._place :] + data
        self._place = 0
