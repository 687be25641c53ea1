"""One table of requests through our cache, nginx and Varnish; where they differ the RFC says who is right."""

from __future__ import annotations

import http.client
import itertools
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest

from examples.caching_proxy.app import create_proxy
from prologue.http_cache.dates import format_date
from tests.servers.nginx import Nginx
from tests.servers.varnish import Varnish

Fields = dict[str, str]


class Origin(ThreadingHTTPServer):
    """Answers every path as its row says, and counts the requests of each."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.calls: dict[str, int] = {}
        self.rows: dict[str, Row] = {}

    @property
    def port(self) -> int:
        return int(self.server_address[1])


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Origin

    def answer(self) -> None:
        calls = self.server.calls
        number = calls[self.path] = calls.get(self.path, 0) + 1
        row = self.server.rows.get(self.path)
        length = int(self.headers.get("Content-Length", "0"))
        self.rfile.read(length)
        body = f"{number}0123456789".encode()
        self.send_response(200 if row is None else row.status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in () if row is None else row.response:
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_POST = answer

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Row(NamedTuple):
    """A response, requests for it one after the other, and how often each cache asks the origin.

    `why` names what another than ours does otherwise, with the paragraph that is in its way.
    """

    name: str
    response: list[tuple[str, str]]
    requests: list[tuple[str, Fields]]
    ours: int
    nginx: int
    varnish: int
    why: str = ""
    status: int = 200


GET: tuple[str, Fields] = ("GET", {})
FRESH = ("Cache-Control", "max-age=600")
DAY = 86_400
NOW = 1_700_000_000.0


def asked(**fields: str) -> tuple[str, Fields]:
    return "GET", {name.replace("_", "-"): value for name, value in fields.items()}


ROWS = [
    Row("max-age", [FRESH], [GET, GET], 1, 1, 1),
    Row(
        "s-maxage over max-age",
        [("Cache-Control", "max-age=0, s-maxage=600")],
        [GET, GET],
        1,
        1,
        1,
    ),
    Row("no-store", [("Cache-Control", "no-store")], [GET, GET], 2, 2, 2),
    Row("private", [("Cache-Control", "private, max-age=600")], [GET, GET], 2, 2, 2),
    Row("no-cache", [("Cache-Control", "no-cache, max-age=600")], [GET, GET], 2, 2, 2),
    Row("upper case", [("Cache-Control", "MAX-AGE=600")], [GET, GET], 1, 1, 1),
    Row("quoted seconds", [("Cache-Control", 'max-age="600"')], [GET, GET], 1, 2, 2, "both: 9111 5.2"),
    Row("Age counts", [FRESH, ("Age", "700")], [GET, GET], 2, 1, 2, "nginx: 9111 4.2.3"),
    Row("Expires of the past", [("Expires", "0")], [GET, GET], 2, 2, 1, "Varnish: 9111 5.3"),
    Row("nothing stated", [], [GET, GET], 2, 2, 1, "Varnish gives a life of its own: 9111 4.2.2"),
    Row("Vary, same", [FRESH, ("Vary", "X")], [asked(X="1"), asked(X="1")], 1, 1, 1),
    Row("Vary, other", [FRESH, ("Vary", "X")], [asked(X="1"), asked(X="2")], 2, 2, 2),
    Row("Vary, absent is not empty", [FRESH, ("Vary", "X")], [GET, asked(X="")], 2, 1, 2, "nginx: 9111 4.1"),
    Row("Vary *", [FRESH, ("Vary", "*")], [GET, GET], 2, 2, 2),
    Row("Vary * in a list", [FRESH, ("Vary", "X, *")], [GET, GET], 2, 1, 1, "both: 9110 12.5.5"),
    Row(
        "Authorization",
        [FRESH],
        [asked(Authorization="x"), asked(Authorization="y")],
        2,
        1,
        2,
        "nginx: 9111 3.5",
    ),
    Row(
        "Authorization, public",
        [("Cache-Control", "public, max-age=600")],
        [asked(Authorization="x"), asked(Authorization="y")],
        1,
        1,
        2,
        "Varnish passes, which is allowed",
    ),
    Row("HEAD from GET", [FRESH], [GET, ("HEAD", {})], 1, 1, 1),
    Row("POST invalidates", [FRESH], [GET, ("POST", {}), GET], 3, 2, 2, "both: 9111 4.4"),
    Row("condition", [FRESH, ("ETag", '"a"')], [GET, asked(If_None_Match='"a"')], 1, 1, 1),
    Row("range", [FRESH], [GET, asked(Range="bytes=1-2")], 1, 1, 1),
    Row("404 with a life", [FRESH], [GET, GET], 1, 1, 1, status=404),
    Row("404 without", [], [GET, GET], 2, 2, 1, "Varnish gives a life of its own: 9111 4.2.2", status=404),
    Row("request: no-store", [FRESH], [asked(Cache_Control="no-store"), GET], 2, 1, 1, "both: 9111 5.2.1.5"),
    Row(
        "request: no-cache",
        [FRESH],
        [GET, asked(Cache_Control="no-cache")],
        2,
        1,
        1,
        "both ignore it: 9111 5.2.1.4",
    ),
    Row(
        "request: only-if-cached",
        [FRESH],
        [asked(Cache_Control="only-if-cached")],
        0,
        1,
        1,
        "both: 9111 5.2.1.7",
    ),
    Row(
        "CDN-Cache-Control",
        [("Cache-Control", "no-store"), ("CDN-Cache-Control", "max-age=600")],
        [GET, GET],
        1,
        2,
        2,
        "both: 9213 2.2",
    ),
    Row(
        "must-understand",
        [("Cache-Control", "no-store, must-understand, max-age=600")],
        [GET, GET],
        1,
        2,
        2,
        "both: 9111 5.2.2.3",
    ),
    Row(
        "heuristic",
        [("Last-Modified", format_date(NOW - DAY))],
        [GET, GET],
        1,
        2,
        1,
        "nginx makes no guess, which is allowed",
    ),
    Row(
        "Set-Cookie",
        [FRESH, ("Set-Cookie", "a=b")],
        [GET, GET],
        1,
        2,
        2,
        "both are careful, as our safe profile: 9111 7.3",
    ),
]


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    server = Origin()
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


class Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def ports(origin: Origin, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, int]]:
    ours = make_server("127.0.0.1", 0, create_proxy(f"http://127.0.0.1:{origin.port}"), handler_class=Quiet)
    thread = threading.Thread(target=ours.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    with Nginx(tmp_path_factory.mktemp("nginx"), origin.port) as nginx:
        with Varnish(tmp_path_factory.mktemp("varnish"), origin.port) as varnish:
            yield {"ours": ours.server_port, "nginx": nginx.port, "varnish": varnish.port}
    ours.shutdown()
    thread.join()
    ours.server_close()


numbers = itertools.count()


def send(port: int, path: str, method: str, fields: Fields) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request(method, path, headers=fields)
    connection.getresponse().read()
    connection.close()


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_a_row_of_requests_reaches_the_origin_as_often_as_it_should(
    row: Row, origin: Origin, ports: dict[str, int]
) -> None:
    found = {}
    for name, port in ports.items():
        path = f"/{name}/{next(numbers)}"
        origin.rows[path] = row
        for method, fields in row.requests:
            send(port, path, method, fields)
        found[name] = origin.calls.get(path, 0)
    assert found == {"ours": row.ours, "nginx": row.nginx, "varnish": row.varnish}, row.why
    assert bool(row.why) is (len(set(found.values())) > 1)
