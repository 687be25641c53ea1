"""What a client of a real gunicorn sees of files, streams and bodies."""

from __future__ import annotations

import hashlib
import http.client
import socket
from collections.abc import Iterator

import pytest

from tests.integration.servers import PATIENCE, PAYLOAD, Server

CLOSE = b"Host: a\r\nConnection: close\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def status_of(answer: bytes) -> int:
    assert answer.startswith(b"HTTP/1.1 "), answer
    return int(answer[9:12])


def body_of(answer: bytes) -> bytes:
    return answer.partition(b"\r\n\r\n")[2]


def test_a_file_arrives_whole(shared: Server) -> None:
    status, body = shared.get("/file")
    assert status == 200
    assert hashlib.sha256(body).digest() == hashlib.sha256(PAYLOAD).digest()


@pytest.mark.parametrize(
    ("wanted", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=1000001-2000000", 1_000_001, 2_000_001),
        ("bytes=3071000-", 3_071_000, 3_072_000),
        ("bytes=-7", 3_071_993, 3_072_000),
    ],
)
def test_a_part_of_a_file_is_that_part(shared: Server, wanted: str, start: int, end: int) -> None:
    with shared.connection() as connection:
        connection.request("GET", "/file", headers={"Range": wanted})
        response = connection.getresponse()
        body = response.read()
    assert response.status == 206
    assert response.headers["Content-Range"] == f"bytes {start}-{end - 1}/3072000"
    assert body == PAYLOAD[start:end]


@pytest.mark.parametrize(("path", "length"), [("/file", "3072000"), ("/pid", None), ("/stream", None)])
def test_head_has_the_headers_and_no_body(shared: Server, path: str, length: str | None) -> None:
    answer = shared.exchange(b"HEAD %s HTTP/1.1\r\n%s\r\n" % (path.encode(), CLOSE))
    assert status_of(answer) == 200
    assert body_of(answer) == b""
    if length is not None:
        assert f"Content-Length: {length}\r\n".encode() in answer


def test_a_stream_arrives_in_order(shared: Server) -> None:
    expected = "".join(f"part {number}\n" for number in range(1000)).encode()
    assert shared.get("/stream") == (200, expected)


def test_a_body_with_a_length_is_read(shared: Server) -> None:
    body = bytes(range(256)) * 100
    head = b"POST /echo HTTP/1.1\r\n%sContent-Length: %d\r\n\r\n" % (CLOSE, len(body))
    answer = shared.exchange(head, body[:1], body[1:])
    assert (status_of(answer), body_of(answer)) == (200, body)


def test_a_chunked_body_is_read(shared: Server) -> None:
    body = bytes(range(256)) * 100
    head = b"POST /echo HTTP/1.1\r\n%sTransfer-Encoding: chunked\r\n\r\n" % CLOSE
    pieces = [chunk(body[:3]), chunk(body[3:20_000]), chunk(body[20_000:]), b"0\r\n\r\n"]
    answer = shared.exchange(head, *pieces)
    assert (status_of(answer), body_of(answer)) == (200, body)


@pytest.mark.parametrize(
    ("framing", "pieces"),
    [
        (b"Content-Length: 14", [b"a=1", b"&a=%D0%B6&b"]),
        (b"Transfer-Encoding: chunked", [chunk(b"a=1"), chunk(b"&a=%D0%B6&b"), b"0\r\n\r\n"]),
    ],
)
def test_a_urlencoded_form_is_read(shared: Server, framing: bytes, pieces: list[bytes]) -> None:
    kind = b"Content-Type: application/x-www-form-urlencoded\r\n"
    answer = shared.exchange(b"POST /form HTTP/1.1\r\n%s%s%s\r\n\r\n" % (CLOSE, kind, framing), *pieces)
    assert (status_of(answer), body_of(answer).decode()) == (200, '{"a":["1","ж"],"b":[""]}')


@pytest.mark.parametrize(
    ("framing", "body"),
    [
        (b"Content-Length: 100001", b"x" * 100_001),
        (b"Transfer-Encoding: chunked", chunk(b"x" * 100_001) + b"0\r\n\r\n"),
        (b"Transfer-Encoding: chunked", chunk(b"x" * 1000) * 101 + b"0\r\n\r\n"),
    ],
)
def test_a_body_over_the_limit_is_refused(shared: Server, framing: bytes, body: bytes) -> None:
    answer = shared.exchange(b"POST /echo HTTP/1.1\r\n%s%s\r\n\r\n" % (CLOSE, framing), body)
    assert status_of(answer) == 413


@pytest.mark.parametrize(
    ("framing", "body"),
    [
        (b"Transfer-Encoding: chunked", b"5\r\nhello\r\nzz\r\nworld\r\n0\r\n\r\n"),
        (b"Transfer-Encoding: chunked", b"-5\r\nhello\r\n0\r\n\r\n"),
        (b"Transfer-Encoding: chunked", b"5\r\nhello, world\r\n0\r\n\r\n"),
        (b"Transfer-Encoding: chunked", b"0x5\r\nhello\r\n0\r\n\r\n"),
        (b"Transfer-Encoding: chunked\r\nContent-Length: 5", chunk(b"hello") + b"0\r\n\r\n"),
        (b"Transfer-Encoding: nonsense", b"hello"),
        (b"Content-Length: five", b"hello"),
        (b"Content-Length: 5\r\nContent-Length: 6", b"hello!"),
    ],
)
def test_a_malformed_body_is_the_fault_of_the_client(shared: Server, framing: bytes, body: bytes) -> None:
    answer = shared.exchange(b"POST /echo HTTP/1.1\r\n%s%s\r\n\r\n" % (CLOSE, framing), body)
    assert status_of(answer) in (400, 501), answer
    assert shared.get("/pid")[0] == 200


@pytest.mark.parametrize(
    ("framing", "body"),
    [
        (b"Content-Length: 10", b"hello"),
        (b"Transfer-Encoding: chunked", b"a\r\nhello"),
        (b"Transfer-Encoding: chunked", b"ffffffffffffffff\r\nhello"),
        (b"Transfer-Encoding: chunked", b"5\r\nhello\r\n"),
    ],
)
def test_a_body_that_breaks_off_is_no_error_of_the_server(
    shared: Server, framing: bytes, body: bytes
) -> None:
    errors = shared.log().count("Traceback")
    with socket.create_connection(("127.0.0.1", shared.port), PATIENCE) as client:
        client.sendall(b"POST /echo HTTP/1.1\r\n%s%s\r\n\r\n" % (CLOSE, framing) + body)
        client.shutdown(socket.SHUT_WR)
        answer = client.recv(65536)
    assert status_of(answer) == 400
    assert shared.log().count("Traceback") == errors


def test_a_client_that_expects_it_is_told_to_continue(shared: Server) -> None:
    with socket.create_connection(("127.0.0.1", shared.port), PATIENCE) as client:
        client.sendall(b"POST /echo HTTP/1.1\r\n%sContent-Length: 5\r\nExpect: 100-continue\r\n\r\n" % CLOSE)
        received = client.makefile("rb")
        assert received.readline() == b"HTTP/1.1 100 Continue\r\n"
        assert received.readline() == b"\r\n"
        client.sendall(b"hello")
        answer = received.read()
    assert (status_of(answer), body_of(answer)) == (200, b"hello")


@pytest.mark.parametrize("path", ["/endless", "/file"])
def test_a_client_that_goes_away_ends_its_response_only(shared: Server, path: str) -> None:
    seen = {event: len(shared.pids(event)) for event in ("stopped", "after")}
    with socket.create_connection(("127.0.0.1", shared.port), PATIENCE) as client:
        client.sendall(b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % path.encode())
        assert client.recv(100)
    if path == "/endless":
        shared.until(lambda: all(len(shared.pids(event)) == count + 1 for event, count in seen.items()))
        assert [event for event, _ in shared.events()][-2:] == ["stopped", "after"]
    assert shared.get("/pid")[0] == 200


def test_an_error_is_a_page_without_details_and_the_worker_goes_on(shared: Server) -> None:
    status, body = shared.get("/error")
    assert status == 500
    assert b"wrong on purpose" not in body
    assert "ValueError: wrong on purpose" in shared.log()
    assert shared.get("/pid")[0] == 200


@pytest.fixture
def kept(shared: Server) -> Iterator[http.client.HTTPConnection]:
    """A connection that a threaded worker keeps; the sync worker closes it, and it is opened again."""
    with shared.connection() as connection:
        yield connection


def test_answers_on_one_connection_do_not_mix(kept: http.client.HTTPConnection) -> None:
    body = b"x" * 50_000  # gunicorn closes a connection when a longer one is not read
    for method, path, sent, status in (
        ("GET", "/stream", None, 200),
        ("HEAD", "/file", None, 200),
        ("POST", "/unread", body, 200),
        ("POST", "/echo", body, 200),
        ("OPTIONS", "/pid", None, 204),
        ("GET", "/file", None, 200),
        ("GET", "/nowhere", None, 404),
        ("GET", "/pid", None, 200),
    ):
        kept.request(method, path, body=sent)
        response = kept.getresponse()
        answer = response.read()
        assert response.status == status, (path, answer)
    assert answer.isdigit()


def test_a_threaded_worker_keeps_connections(kept: http.client.HTTPConnection, shared: Server) -> None:
    ports = set()
    for _ in range(3):
        kept.request("GET", "/pid")
        assert kept.sock is not None
        ports.add(kept.sock.getsockname()[1])
        kept.getresponse().read()
    assert len(ports) == (3 if "Using worker: sync" in shared.log() else 1)
