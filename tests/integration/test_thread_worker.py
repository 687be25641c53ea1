"""What a client of the thread worker sees, byte by byte."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.servers import PATIENCE, PAYLOAD, Server, gunicorn

WORKER = ("-k", "prologue.server.ThreadWorker")
APP = "tests.integration.bare:app"
CLOSE = b"Host: a\r\nConnection: close\r\n"


@pytest.fixture(scope="module", params=[("auto",), ("python", "--no-sendfile")], ids=["auto", "python"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with either parser of gunicorn."""
    options = (*WORKER, "--threads", "3", "--http-parser", *request.param)
    server = Server(gunicorn(*options, app=APP), tmp_path_factory.mktemp("server"), {})
    try:
        server.wait_until_it_listens()
        yield server
    finally:
        server.kill()


def get(path: str, more: bytes = b"", method: str = "GET", version: str = "1.1") -> bytes:
    return f"{method} {path} HTTP/{version}\r\n".encode() + CLOSE + more + b"\r\n"


def status_of(answer: bytes) -> int:
    assert answer.startswith(b"HTTP/1."), answer[:200]
    return int(answer[9:12])


def parts(answer: bytes) -> tuple[list[bytes], bytes]:
    """Return the lines of the head, and the body."""
    head, _, body = answer.partition(b"\r\n\r\n")
    return head.split(b"\r\n"), body


def joined(chunks: bytes) -> bytes:
    """Return a body that was sent in chunks."""
    whole = b""
    while size := int(chunks.partition(b"\r\n")[0], 16):
        start = chunks.index(b"\r\n") + 2
        whole += chunks[start : start + size]
        assert chunks[start + size : start + size + 2] == b"\r\n"
        chunks = chunks[start + size + 2 :]
    assert chunks == b"0\r\n\r\n"
    return whole


def test_a_response_has_one_date_one_server_and_its_connection(server: Server) -> None:
    lines, body = parts(server.exchange(get("/")))
    assert body == b"index"
    assert [line.split(b":")[0] for line in lines] == [
        *(b"HTTP/1.1 200 OK", b"Server", b"Date", b"Connection", b"Content-Type", b"Content-Length")
    ]
    assert b"Connection: close" in lines


def test_fields_of_the_application_are_kept_and_not_doubled(server: Server) -> None:
    lines, body = parts(server.exchange(get("/own")))
    assert body == b"own"
    names = sorted(line.split(b":")[0].lower() for line in lines[1:])
    assert names == [b"connection", b"content-length", b"content-type", b"date", b"server", b"x-a"]
    assert b"Date: yesterday" in lines
    assert b"SERVER: mine" in lines


def test_requests_are_understood_in_any_pieces(server: Server) -> None:
    request = b"POST /echo?a=b HTTP/1.1\r\n" + CLOSE + b"Content-Length: 5\r\n\r\nhello"
    whole = server.exchange(request)
    assert json.loads(parts(whole)[1])["body"] == "hello"
    for place in range(1, len(request), 7):
        pieces = server.exchange(request[:place], request[place:])
        assert status_of(pieces) == 200, request[:place]
        assert json.loads(parts(pieces)[1])["body"] == "hello"


def test_a_request_of_single_bytes_is_understood(server: Server) -> None:
    request = (
        b"POST /echo HTTP/1.1\r\n" + CLOSE + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for place in range(len(request)):
            client.sendall(request[place : place + 1])
        assert json.loads(parts(client.makefile("rb").read())[1])["body"] == "hello"


def test_pipelined_requests_are_answered_in_order(server: Server) -> None:
    requests = b"".join(
        b"POST /echo?%d HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n%03d" % (number, number)
        for number in range(100)
    )
    answer = server.exchange(requests + get("/"))
    bodies = [json.loads(found) for found in re.findall(rb"\{.*?\}, \"body\".*?\}", answer)]
    assert [int(each["body"]) for each in bodies] == list(range(100))
    assert answer.endswith(b"index")


def test_pipelined_chunked_requests_leave_what_follows_them(server: Server) -> None:
    one = b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    answer = server.exchange(one + one + get("/"))
    assert answer.count(b'"body": "abc"') == 2
    assert answer.endswith(b"index")


@pytest.mark.parametrize("rest", [b"XX", b"zz\r\n", b"\r\n5;\r\n", b"\r\n0\r\nHost: b\r\n\r\n"])
def test_what_follows_a_wrong_body_is_no_request(server: Server, rest: bytes) -> None:
    head = b"POST /forgiving HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = server.exchange(head + b"5\r\nhello" + rest, get("/") * 2)
    assert answer.count(b"forgiven") == 1
    assert answer.count(b"HTTP/1.1 ") == 1


def test_a_connect_ends_its_connection(server: Server) -> None:
    answer = server.exchange(b"CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n" + get("/"))
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"\r\nConnection: close\r\n" in answer


@pytest.mark.parametrize(
    ("request_", "kept"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", True),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Close\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\nHost: a\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n", True),
        (b"GET /iterated HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n", False),
        (b"GET /iterated HTTP/1.1\r\nHost: a\r\n\r\n", True),
        (b"GET /short HTTP/1.1\r\nHost: a\r\n\r\n", False),
        (b"GET /short?list HTTP/1.1\r\nHost: a\r\n\r\n", False),
        (b"GET /crash HTTP/1.1\r\nHost: a\r\n\r\n", False),
        (b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", True),
        (b"POST /unread HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n" + b"x" * 60_000, True),
        (b"POST /unread HTTP/1.1\r\nHost: a\r\nContent-Length: 70000\r\n\r\n" + b"x" * 70_000, False),
        (
            b"POST /unread HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            True,
        ),
    ],
)
def test_a_connection_is_kept_where_both_may(server: Server, request_: bytes, kept: bool) -> None:
    answer = server.exchange(request_ + get("/")) if kept else server.exchange(request_)
    assert (answer.count(b"HTTP/1.") == 2) is kept


def test_a_stream_is_chunked_for_http_1_1_and_closed(server: Server) -> None:
    lines, body = parts(server.exchange(get("/iterated")))
    assert b"Transfer-Encoding: chunked" in lines
    assert body == b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"
    lines, body = parts(server.exchange(get("/iterated", version="1.0")))
    assert lines[0] == b"HTTP/1.0 200 OK"
    assert body == b"onetwo"
    server.until(lambda: len(server.pids("closed")) >= 2)


def test_what_was_written_goes_before_what_is_returned(server: Server) -> None:
    assert parts(server.exchange(get("/written")))[1] == b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"


@pytest.mark.parametrize("query", ["", "?list"])
def test_no_more_is_sent_than_content_length_says(server: Server, query: str) -> None:
    assert parts(server.exchange(get(f"/long{query}")))[1] == b"too "


@pytest.mark.parametrize(
    ("path", "method", "length"),
    [
        ("/", "HEAD", b"5"),
        ("/status?304+Not+Modified", "GET", b"4"),
        ("/status?204+No+Content", "GET", None),
        ("/iterated", "HEAD", None),
    ],
)
def test_some_responses_have_no_body(server: Server, path: str, method: str, length: bytes | None) -> None:
    lines, body = parts(server.exchange(get(path, method=method)))
    assert body == b""
    found = [line.split(b": ")[1] for line in lines if line.startswith(b"Content-Length")]
    assert found == ([] if length is None else [length])
    assert b"Transfer-Encoding: chunked" not in lines


@pytest.mark.parametrize(
    "path",
    [
        "/crash",
        "/misleading",
        "/text",
        "/silent",
        "/status?2000+OK",
        "/status?OK",
        "/status?200OK",
        "/status?20x+OK",
        "/status?",
    ],
)
def test_an_error_of_the_application_is_a_page(server: Server, path: str) -> None:
    answer = server.exchange(get(path))
    assert status_of(answer) == 500
    assert b"wrong on purpose" not in answer
    assert b"secret" not in answer


def test_an_error_in_the_middle_of_a_response_breaks_it_off(server: Server) -> None:
    answer = server.exchange(get("/crash_later"))
    assert answer.endswith(b"5\r\nbegun\r\n")
    assert "ValueError: wrong on purpose" in server.log()


@pytest.mark.parametrize("query", ["", "?length"])
def test_a_wrapped_file_is_sent_from_where_it_stands(server: Server, query: str) -> None:
    lines, body = parts(server.exchange(get(f"/wrapped{query}")))
    if b"Transfer-Encoding: chunked" in lines:  # without sendfile, of what it does not know the size
        body = joined(body)
    assert body == (PAYLOAD[1000:2_001_000] if query else PAYLOAD[1000:])
    assert parts(server.exchange(get(f"/wrapped{query}", method="HEAD")))[1] == b""


def test_a_file_that_the_system_cannot_send_is_read(server: Server) -> None:
    assert b"in memory" in server.exchange(get("/unsendable"))
    assert b"Linux version" in server.exchange(get("/unsendable?proc"))


def test_interim_responses_come_before_the_response(server: Server) -> None:
    answer = server.exchange(get("/hints"))
    first, second, rest = answer.split(b"\r\n\r\n", 2)
    assert first == b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload"
    assert second == b"HTTP/1.1 102 Processing"
    assert status_of(rest) == 200
    assert server.exchange(get("/hints", version="1.0")).startswith(b"HTTP/1.0 200 OK\r\n")


def test_trailers_go_both_ways(server: Server) -> None:
    chunked = b"Transfer-Encoding: chunked\r\nTE: trailers\r\n\r\n5\r\nhello\r\n0\r\nX-T: a\r\n"
    answer = server.exchange(get("/trailers", chunked, "POST"))
    assert b'[[["X-T", "a"]], true]' in answer
    assert answer.endswith(b"0\r\nX-Sum: 42\r\n\r\n")
    assert parts(server.exchange(get("/trailers")))[1] == b"[[], false]"


def test_a_client_is_told_to_continue_once(server: Server) -> None:
    head = b"POST /echo HTTP/1.1\r\n" + CLOSE + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as client:
        client.sendall(head)
        answer = client.makefile("rb")
        assert answer.readline() + answer.readline() == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"hello")
        assert json.loads(parts(answer.read())[1])["body"] == "hello"


@pytest.mark.parametrize("checker", ["wsgiref", "webtest"])
def test_the_protocol_is_kept(server: Server, checker: str) -> None:
    errors = server.log().count("Traceback")
    assert server.exchange(get(f"/validated?{checker}")).endswith(b"valid: \r\n0\r\n\r\n")
    answer = server.exchange(get(f"/validated?{checker}", b"Content-Length: 5\r\n\r\nhello", "POST"))
    assert b"5\r\nhello\r\n" in answer
    assert server.log().count("Traceback") == errors


@pytest.mark.parametrize("size", [10, 65_536, 65_537, 1_000_000])
def test_bodies_of_all_sizes_arrive_whole(server: Server, size: int) -> None:
    body = bytes(range(97, 107)) * (size // 10 + 1)
    head = b"POST /lines HTTP/1.1\r\n" + CLOSE + b"Content-Length: %d\r\n\r\n" % size
    assert parts(server.exchange(head, body[:size]))[1] == body[:size]


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\n X: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        (b"get / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 400),
        (b"GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", (400, 414)),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: identity\r\nContent-Length: 5\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 101 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nA: " + b"b" * 9000 + b"\r\n\r\n", 431),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n\r\n", (400, 501)),
        (b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nExpect: more\r\nContent-Length: 5\r\n\r\n", 417),
        (b"\x16\x03\x01\x02\x00\x01\x00", 400),
        (b"POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
    ],
)
def test_a_bad_request_is_told_and_the_connection_closed(
    server: Server, request_: bytes, status: Any
) -> None:
    answer = server.exchange(request_ + b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert status_of(answer) in (status if isinstance(status, tuple) else (status,))
    assert answer.count(b"\r\nConnection: close\r\n") == answer.count(b"\r\nConnection: ") == 1


def test_a_client_may_go_away_after_any_byte(server: Server) -> None:
    request = b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n0123456789"
    for end in range(len(request) + 1):
        with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as client:
            client.sendall(request[:end])
            if end % 2:  # a reset in the place of an end
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    assert server.get("/")[0] == 200
    assert "goes on after an error" not in server.log()


def test_a_client_may_go_away_while_it_is_answered(server: Server) -> None:
    whole = server.exchange(get("/iterated"))
    tracebacks = server.log().count("Traceback")
    for end in range(len(whole) + 1):
        with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as client:
            client.sendall(get("/iterated"))
            if end:
                client.recv(end, socket.MSG_WAITALL)
            if end % 2:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    assert server.exchange(get("/iterated"))[-10:] == whole[-10:]
    assert server.log().count("Traceback") == tracebacks


def test_a_body_that_breaks_off_is_given_as_far_as_it_came(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as client:
        client.sendall(b"POST /echo HTTP/1.1\r\n" + CLOSE + b"Content-Length: 10\r\n\r\nhello")
        client.shutdown(socket.SHUT_WR)
        assert json.loads(parts(client.makefile("rb").read())[1])["body"] == "hello"


def test_more_connections_than_threads_are_all_served(server: Server) -> None:
    clients = [socket.create_connection(("127.0.0.1", server.port), PATIENCE) for _ in range(20)]
    for _ in range(3):
        for client in clients:
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        for client in clients:
            answer = b""
            while not answer.endswith(b"index"):
                answer += client.recv(65536)
    for client in clients:
        client.close()


def test_requests_run_beside_each_other(server: Server) -> None:
    clients = [socket.create_connection(("127.0.0.1", server.port), PATIENCE) for _ in range(2)]
    for client in clients:
        client.sendall(get("/meet"))
    for client in clients:
        assert client.makefile("rb").read().endswith(b"met")
        client.close()
