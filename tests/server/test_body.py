"""Bodies in chunks, as they come in pieces."""

from __future__ import annotations

from io import BufferedReader
from typing import Any

import pytest
from gunicorn.http.errors import (
    ChunkMissingTerminator,
    InvalidChunkSize,
    InvalidHeader,
    InvalidHeaderName,
    LimitRequestHeaders,
    NoMoreData,
)

from prologue.server.body import ChunkedBody, LengthBody
from prologue.server.parsing import Parser
from tests.server import wire

HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
NEXT = b"GET /next HTTP/1.1\r\n"


class Pieces(wire.Silence):
    """A socket from which some pieces come, and then nothing more."""

    def __init__(self, *pieces: bytes) -> None:
        super().__init__()
        self.pieces = list(pieces)

    def recv(self, size: int) -> bytes:
        piece = self.pieces.pop(0) if self.pieces else b""
        if len(piece) > size:
            self.pieces.insert(0, piece[size:])
        return piece[:size]

    def recv_into(self, target: memoryview) -> int:
        piece = self.recv(len(target))
        target[: len(piece)] = piece
        return len(piece)


def body_of(first: bytes, *pieces: bytes, **settings: Any) -> tuple[Any, Any, Any]:
    """Return the connection, the request and the input of a body that begins behind the head."""
    parser = Parser(wire.config(**settings), 30.0)
    connection = wire.connection_of(parser)
    sock: Any = Pieces(*pieces)
    connection.sock = sock
    connection.buffer = HEAD + first
    parsed = parser.parse(connection)
    assert parsed is not None
    assert isinstance(parsed[0].body, ChunkedBody)
    return connection, parsed[0], parsed[1]["wsgi.input"]


WHOLE = b'5\r\nhello\r\n1;a=b;c="d;\\" e" ; f\r\n,\r\n0006\r\n world\r\n0;last\r\nX-T: a\r\nX-U: b\r\n\r\n'


@pytest.mark.parametrize("size", [1, 2, 3, 7, len(WHOLE)])
def test_a_body_is_the_same_in_all_pieces(size: int) -> None:
    data = WHOLE + NEXT
    for place in range(len(WHOLE)):
        rest = data[place:]
        pieces = [rest[start : start + size] for start in range(0, len(rest), size)]
        connection, request, body = body_of(data[:place], *pieces)
        assert body.read() == b"hello, world"
        assert request.body.complete
        assert request.trailers == [("X-T", "a"), ("X-U", "b")]
        # What was read ahead is the next request's.
        assert connection.buffer + b"".join(connection.sock.pieces) == NEXT


def test_nothing_is_read_ahead_of_what_is_asked_for() -> None:
    connection, request, _ = body_of(b"5\r\nhello\r\n3\r\nabc\r\n0\r\n\r\n" + NEXT)
    assert [request.body.read(size) for size in (2, 100, 0, 100)] == [b"he", b"llo", b"", b"abc"]
    assert not request.body.complete
    assert [request.body.read(100), request.body.read(100)] == [b"", b""]
    assert connection.buffer == NEXT


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"x\r\n", InvalidChunkSize),
        (b"\r\n", InvalidChunkSize),
        (b"5 \r\nhello", InvalidChunkSize),
        (b"5;\r\nhello", InvalidChunkSize),
        (b"5;a b\r\nhello", InvalidChunkSize),
        (b"5;a=\r\nhello", InvalidChunkSize),
        (b'5;a="\r\nhello', InvalidChunkSize),
        (b"5;a\rb\r\nhello", InvalidChunkSize),
        (b"5;a\nb\r\nhello", InvalidChunkSize),
        (b"1;" + b"a" * 101, InvalidChunkSize),
        (b"1;" + b"a" * 101 + b"\r\n", InvalidChunkSize),
        (b"5\r\nhelloX0\r\n\r\n", ChunkMissingTerminator),
        (b"5\r\nhello\n0\r\n\r\n", ChunkMissingTerminator),
        (b"5\r\nhello", ChunkMissingTerminator),
        (b"0\r\nX-T: a\r\n", ChunkMissingTerminator),
        (b"0\r\n", ChunkMissingTerminator),
        (b"0\r\nX-T: a\nX-U: b\r\n\r\n", InvalidHeader),
        (b"0\r\nContent-Length: 5\r\n\r\n", InvalidHeaderName),
        (b"0\r\nX-T: " + b"a" * 500, LimitRequestHeaders),
        (b"5\r\nhell", NoMoreData),
        (b"5", NoMoreData),
        (b"5\r\nhello\r\n", NoMoreData),
    ],
)
def test_a_wrong_body_stays_wrong(data: bytes, error: type[Exception]) -> None:
    for first, pieces in ((data, []), (b"", [data]), (b"", [bytes([byte]) for byte in data])):
        _, request, body = body_of(first, *pieces, limit_request_field_size=100, limit_request_fields=4)
        with pytest.raises(error):
            body.read()
        with pytest.raises(error):  # the application has caught the first one, and asks again
            body.read(1)
        assert not request.body.complete


@pytest.mark.parametrize(("length", "complete"), [(0, True), (5, True), (6, False)])
def test_a_body_of_a_known_length_says_whether_it_was_read(length: int, complete: bool) -> None:
    parser = Parser(wire.config(), 30.0)
    connection = wire.connection_of(parser)
    connection.buffer = b"hello"
    body = LengthBody(connection, length)
    assert body.complete is (length == 0)
    assert BufferedReader(body).read() == b"hello"[:length]
    assert body.complete is complete
