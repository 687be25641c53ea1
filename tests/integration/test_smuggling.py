"""No bytes of one request become another one between a proxy and the thread worker.

The proxy marks every request that it sends on. A request without the mark was smuggled.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator

import pytest

from tests.integration.conftest import Start
from tests.integration.servers import PATIENCE, Server, gunicorn
from tests.server import wire
from tests.servers.proxies import Nginx, Proxy, StreamingNginx, Varnish

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"

FRAMINGS = [
    b"Content-Length: %d",
    b"Content-Length: 0",
    b"Content-Length: 4",
    b"Content-Length: %d\r\nContent-Length: 0",
    b"Content-Length: 0\r\nContent-Length: %d",
    b"Content-Length: %d\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: chunked\r\nContent-Length: 4",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: Chunked",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: xchunked\r\nContent-Length: %d",
    b"Transfer-Encoding: gzip, chunked\r\nContent-Length: %d",
    b"Transfer-Encoding : chunked\r\nContent-Length: %d",
    b"Transfer-Encoding:\x0bchunked\r\nContent-Length: %d",
    b"Transfer-Encoding:\tchunked\r\nContent-Length: %d",
    b"Transfer_Encoding: chunked\r\nContent-Length: %d",
    b"Transfer-Encoding:\r\n chunked\r\nContent-Length: %d",
    b"X: a\nTransfer-Encoding: chunked\r\nContent-Length: %d",
    b"X: a\rTransfer-Encoding: chunked\r\nContent-Length: %d",
    b"Content_Length: 4\r\nContent-Length: %d",
    b"Content-Length : 4\r\nContent-Length: %d",
    b"Content-Length: %d, %d",
    b"Content-Length: +%d",
    b"Content-Length: 0x%d",
    b"Content-Length:\r\n %d",
    b"Connection: Content-Length\r\nContent-Length: %d",
    b"Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked",
    b"Expect: 100-continue\r\nContent-Length: %d",
    b"Upgrade: h2c\r\nConnection: Upgrade\r\nContent-Length: %d",
    b"",
]
BODIES = [
    SMUGGLED,
    b"0\r\n\r\n" + SMUGGLED,
    b"1\r\na\r\n0\r\n\r\n" + SMUGGLED,
    b"1\r\naa0\r\n\r\n" + SMUGGLED,
    b"1;\nx\r\na\r\n0\r\n\r\n" + SMUGGLED,
    b"1\na\n0\n\n" + SMUGGLED,
    b"0\r\nX: y\r\n\r\n" + SMUGGLED,
    b"00000000000000001\r\na\r\n0\r\n\r\n" + SMUGGLED,
    b"10000000000000001\r\na\r\n0\r\n\r\n" + SMUGGLED,
    b"%x\r\n%b\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED),
]
LINES = [b"POST /first HTTP/1.1", b"GET /first HTTP/1.1", b"HEAD /first HTTP/1.1", b"POST /first HTTP/1.0"]


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    command = gunicorn(
        "-k", "prologue.server.ThreadWorker", "--threads", "4", app="tests.integration.bare:behind"
    )
    server = Server(command, tmp_path_factory.mktemp("behind"), {})
    try:
        server.wait_until_it_listens()
        yield server
    finally:
        server.kill()


@pytest.fixture(scope="module", params=[Nginx, StreamingNginx, Varnish])
def proxy(
    request: pytest.FixtureRequest, behind: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    with request.param(tmp_path_factory.mktemp("proxy"), behind.port) as proxy:
        yield proxy


def send(proxy: Proxy, data: bytes) -> None:
    with socket.create_connection(("127.0.0.1", proxy.port), PATIENCE) as client:
        try:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            while client.recv(65536):
                pass
        except OSError:
            pass


def no_request_was_smuggled(proxy: Proxy, behind: Server) -> None:
    with socket.create_connection(("127.0.0.1", proxy.port), PATIENCE) as client:
        client.sendall(b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert re.search(rb"\r\n\r\n.*last", client.makefile("rb").read(), re.DOTALL)
    assert behind.pids("smuggled") == []


def test_a_request_without_the_mark_is_noticed(start: Start) -> None:
    server = start(gunicorn("-k", "prologue.server.ThreadWorker", app="tests.integration.bare:behind"))
    assert server.get("/") == (200, b"/")
    assert len(server.pids("smuggled")) == 1


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.split()[0].decode() + line[-3:].decode())
def test_no_framing_makes_two_requests_of_one(proxy: Proxy, behind: Server, line: bytes) -> None:
    for framing in FRAMINGS:
        for body in BODIES:
            fields = framing.replace(b"%d", b"%d" % len(body))
            send(proxy, line + b"\r\nHost: a\r\n" + (fields + b"\r\n" if fields else b"") + b"\r\n" + body)
    no_request_was_smuggled(proxy, behind)


def test_generated_requests_smuggle_nothing(proxy: Proxy, behind: Server) -> None:
    for data in wire.generated(7, 500):
        send(proxy, data)
    no_request_was_smuggled(proxy, behind)
