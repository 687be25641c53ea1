"""The caching proxy, before an origin that sends what the test says, byte for byte."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from examples.caching_proxy.app import Proxy, create_proxy
from tests.calling import Started, call, environ_for

PLAIN = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"


class RawOrigin:
    """Sends the same bytes to every connection, then closes it; keeps what it was sent."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.answer = b""
        self.requests: list[bytes] = []
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                received = b""
                while not self._complete(received):
                    block = connection.recv(65536)
                    if not block:
                        break
                    received += block
                self.requests.append(received)
                connection.sendall(self.answer)

    @staticmethod
    def _complete(received: bytes) -> bool:
        head, end, body = received.partition(b"\r\n\r\n")
        if not end:
            return False
        if b"Transfer-Encoding: chunked" in head:
            return body.endswith(b"0\r\n\r\n")
        length = head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0]
        return len(body) >= int(length or 0)

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(10)


@pytest.fixture
def origin() -> Iterator[RawOrigin]:
    server = RawOrigin()
    yield server
    server.close()


def test_what_the_origin_allows_is_cached(origin: RawOrigin) -> None:
    origin.answer = PLAIN + b"Cache-Control: max-age=60\r\nContent-Length: 3\r\n\r\ntea"
    proxy = create_proxy(origin.url)
    assert [call(proxy, path="/чай").body for _ in range(3)] == [b"tea"] * 3
    assert len(origin.requests) == 1
    assert origin.requests[0].startswith(b"GET /%D1%87%D0%B0%D0%B9 HTTP/1.1\r\n")


def test_method_path_body_and_fields_are_forwarded(origin: RawOrigin) -> None:
    fields = (
        b"X-A: 1\r\nConnection: x-hop\r\nX-Hop: 1\r\nContent-Type: text/plain\r\nContent-Length: 0\r\n\r\n"
    )
    origin.answer = b"HTTP/1.1 201 Created\r\n" + fields
    proxy = Proxy(origin.url)
    more: dict[str, Any] = {"RAW_URI": "/a%2Fb?c=%20", "CONTENT_TYPE": "text/plain", "HTTP_COOKIE": "a=b"}
    more["HTTP_VIA"] = "1.1 before"
    answer = call(proxy, "POST", "/a/b", b"body", **more, HTTP_CONNECTION="close, x-mine", HTTP_X_MINE="1")
    assert (answer.status, answer.header("X-A"), answer.header("X-Hop")) == (201, "1", None)
    head, _, body = origin.requests[0].partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert (lines[0], body) == (b"POST /a%2Fb?c=%20 HTTP/1.1", b"body")
    assert {b"Cookie: a=b", b"Content-Type: text/plain", b"Content-Length: 4", b"Connection: close"} <= set(
        lines
    )
    assert not any(line.startswith(b"X-Mine") for line in lines)
    assert [line for line in lines if line.startswith(b"Via")] == [b"Via: 1.1 before", b"Via: 1.0 prologue"]


def test_a_body_of_unknown_length_is_forwarded(origin: RawOrigin) -> None:
    origin.answer = PLAIN + b"Transfer-Encoding: chunked\r\n\r\n3\r\ntea\r\n0\r\n\r\n"
    environ = environ_for("POST", "/", b"body", HTTP_TRANSFER_ENCODING="chunked", QUERY_STRING="a=b")
    del environ["CONTENT_LENGTH"]
    environ["wsgi.input_terminated"] = True
    started = Started(Proxy(origin.url), environ)
    assert b"".join(started.body) == b"tea"
    started.close()
    assert origin.requests[0].startswith(b"POST /?a=b HTTP/1.1")
    assert origin.requests[0].endswith(b"4\r\nbody\r\n0\r\n\r\n")


def test_interim_responses_are_passed_on(origin: RawOrigin) -> None:
    interim = b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"
    origin.answer = interim + b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\ntea"
    hints: list[list[tuple[str, str]]] = []
    environ = environ_for()
    environ["wsgi.early_hints"] = hints.append
    started = Started(create_proxy(origin.url), environ)
    assert b"".join(started.body) == b"tea"
    started.close()
    assert hints == [[], [("Link", "</a.css>")]]
    assert call(Proxy(origin.url)).body == b"tea"


def test_an_unknown_transfer_coding_is_read_to_the_end(origin: RawOrigin) -> None:
    origin.answer = PLAIN + b"Transfer-Encoding: strange\r\nContent-Length: 1\r\n\r\nall of it"
    assert call(Proxy(origin.url)).body == b"all of it"


@pytest.mark.parametrize("answer", [b"", b"nonsense\r\n\r\n"])
def test_what_the_origin_may_have_seen_is_sent_once(origin: RawOrigin, answer: bytes) -> None:
    origin.answer = answer
    assert call(Proxy(origin.url)).status == 502
    assert len(origin.requests) == 1


def test_an_incomplete_body_is_an_error_and_is_not_stored(origin: RawOrigin) -> None:
    head = PLAIN + b"Cache-Control: max-age=60\r\nContent-Length: 9\r\n\r\n"
    origin.answer = head + b"part"
    proxy = create_proxy(origin.url)
    started = Started(proxy, environ_for())
    with pytest.raises(Exception, match="IncompleteRead"):
        list(started.body)
    started.close()
    origin.answer = head + b"the whole"
    assert call(proxy).body == b"the whole"


def test_an_origin_that_is_not_there_is_a_bad_gateway() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert call(create_proxy(f"http://127.0.0.1:{port}")).status == 502
