"""The body of a request as ``wsgi.input``."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from gunicorn.http.unreader import Unreader

if TYPE_CHECKING:
    from prologue.server.connection import Connection

__all__ = ["BufferedUnreader", "LengthBody"]


class LengthBody(io.RawIOBase):
    """A body of a known length: first what was received with the head, then what comes.

    It ends early when the client does, as gunicorn's does.

    Attributes:
        remaining: bytes that have not been read.
    """

    def __init__(self, connection: Connection, length: int) -> None:
        self._connection = connection
        self.remaining = length

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        """Fill a buffer as far as there is something; 0 at the end.

        Raises:
            ClientTimeout: the client sends too slowly.
            ClientError: the connection is broken.
        """
        connection = self._connection
        view = memoryview(target)[: self.remaining]
        buffered = connection.buffer
        if buffered:
            count = min(len(buffered), len(view))
            view[:count] = buffered[:count]
            connection.buffer = buffered[count:]
        else:
            count = connection.receive_into(view) if view else 0
        self.remaining -= count
        return count


class BufferedUnreader(Unreader):  # type: ignore[misc]  # gunicorn has no types
    """What gunicorn's parser reads from: the buffer, and the socket once the head is complete."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self._connection = connection
        self.buf.write(connection.buffer)
        self.head_complete = False

    def chunk(self) -> bytes:
        """Return more bytes; none before the head is complete, for no thread waits for a head."""
        return self._connection.receive() if self.head_complete else b""

    def give_back(self) -> None:
        """Return to the connection what belongs to the next request."""
        self._connection.buffer = self.buf.getvalue()
