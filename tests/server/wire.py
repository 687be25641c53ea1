"""Requests as bytes, usual and odd and hostile ones, and what a parser makes of them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from gunicorn.config import Config
from gunicorn.http import wsgi
from gunicorn.http.errors import NoMoreData
from gunicorn.http.parser import RequestParser

from prologue.server.connection import Connection
from prologue.server.parsing import Parser

CLIENT = ("127.0.0.1", 40_000)
SERVER = ("127.0.0.1", 80)
STRANGER = ("203.0.113.9", 40_000)

INCOMPLETE = "incomplete"
REFUSED = "refused"
STRICTER = "refused for what gunicorn 27 refuses, and older releases do not"

#: Of which the reason for that has one.
STRICTER_WORDS = (
    "bare line feed",
    "folded field",
    "not printable",
    "'TRANSFER-ENCODING'",
    "chunk size: b'5;",
)

#: What a parser makes of bytes: the (environ, body) of each request it accepts, then how it ended.
Verdict = tuple[list[tuple[dict[str, Any], bytes]], str]

_OBJECTS = {"wsgi.input", "wsgi.errors", "wsgi.early_hints", "wsgi.file_wrapper", "gunicorn.socket"}


def config(**settings: Any) -> Config:
    made = Config()
    for name, value in settings.items():
        made.set(name, value)
    return made


class Silence:
    """A socket from which nothing more comes."""

    def __init__(self) -> None:
        self.sent = b""

    def fileno(self) -> int:
        return -1

    def recv(self, size: int) -> bytes:
        return b""

    def recv_into(self, target: memoryview) -> int:
        return 0

    def send(self, data: bytes) -> int:
        self.sent += data
        return len(data)

    def sendmsg(self, parts: tuple[bytes, ...]) -> int:
        return self.send(b"".join(parts))


def plain(environ: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in environ.items() if key not in _OBJECTS}
    return kept | {"wsgi.multithread": True}


def verdict_of_gunicorn(cfg: Config, data: bytes, client: Any = CLIENT, server: Any = SERVER) -> Verdict:
    """What gunicorn's own parser and environ make of bytes."""
    accepted: list[tuple[dict[str, Any], bytes]] = []
    parser = RequestParser(cfg, iter([data]), client)
    while True:
        try:
            request = next(parser)
            _, environ = wsgi.create(request, Silence(), client, server, cfg)
            body = request.body.read()
        except (NoMoreData, StopIteration):
            return accepted, INCOMPLETE
        except Exception:
            return accepted, REFUSED
        accepted.append((plain(environ), body))


def connection_of(parser: Parser, client: Any = CLIENT, server: Any = SERVER) -> Connection:
    """A connection on which nothing was received."""
    sock: Any = Silence()
    environ = parser.connection_environ(sock, client, server)
    return Connection(sock, client, environ, parser.scheme_headers_of(client), 0.0)


def verdict_of_ours(parser: Parser, data: bytes, client: Any = CLIENT, server: Any = SERVER) -> Verdict:
    """What this package's parser makes of bytes."""
    accepted: list[tuple[dict[str, Any], bytes]] = []
    connection = connection_of(parser, client, server)
    connection.buffer = data
    while connection.buffer:
        try:
            parsed = parser.parse(connection, ended=True)
            if parsed is None:
                return accepted, INCOMPLETE
            request, environ = parsed
            connection.begin(0.0, 30.0)
            body = environ["wsgi.input"].read()
        except NoMoreData:
            return accepted, INCOMPLETE
        except Exception as error:
            return accepted, STRICTER if any(word in str(error) for word in STRICTER_WORDS) else REFUSED
        accepted.append((plain(environ), body))
        if request.should_close():
            break
    return accepted, INCOMPLETE


def chunks(*parts: bytes, last: bytes = b"0\r\n\r\n") -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + last


METHODS = [b"GET"] * 6 + [b"POST"] * 6 + [b"HEAD", b"PUT", b"OPTIONS", b"DELETE", b"CONNECT", b"PROPFIND"]
ODD_METHODS = [
    b"get",
    b"G",
    b"GE T",
    b"G#T",
    b"GET\0",
    b"",
    b"PRI",
    b"A" * 21,
    b"G\xc9T",
    b"[GET]",
    b"GET\t",
    b" GET",
]
TARGETS = [b"/"] * 4 + [b"/a/b?c=d&e=%20", b"/%41%2f%00%zz", b"/a;b=c", b"/?", b"/a?b?c", b"/_x_/"]
ODD_TARGETS = [
    b"//a/b",
    b"*",
    b"http://other.example/p?q",
    b"https://other.example",
    b"/\xc3\xa9",
    b"/a%C3%A9",
    b"/a#fragment",
    b"/a?b#c",
    b"",
    b"a:80",
    b"relative",
    b"/\x7f",
    b"/\x01",
    b"/a\tb",
    b"/" + b"a" * 9000,
    b"/?" + b"a" * 8170,
    b"/[",
    b"http://[/",
    b"//[x",
    b"/\\..\\",
    b"://",
    b"?a",
]
VERSIONS = [b"HTTP/1.1"] * 8 + [b"HTTP/1.0"] * 2
ODD_VERSIONS = [
    b"HTTP/0.9",
    b"HTTP/2.0",
    b"HTTP/1.2",
    b"http/1.1",
    b"HTTP/1.1 ",
    b"",
    b"HTTP/11",
    b"HTTP/1.1\t",
    b"FTP/1.1",
]
FIELDS = [
    b"Host: shop.example",
    b"User-Agent: a b c",
    b"Accept: */*",
    b"Cookie: a=b; c_d=e",
    b"Connection: keep-alive",
    b"Connection: close",
    b"Content-Type: text/plain",
    b"X-A: 1",
    b"x-a: 2",
    b"X-Forwarded-Proto: https",
    b"X-Forwarded-For: 10.0.0.1",
]
ODD_FIELDS = [
    b"Host: a",
    b"Host:",
    b"Content-Type: a",
    b"Content-Length: 0",
    b"Content-Length: 5",
    b"Content-Length: +5",
    b"Content-Length: 5, 5",
    b"Content-Length: -1",
    b"Content-Length: 0x5",
    b"Content-Length: 5 ",
    b"Content-Length:",
    b"Content-Length: \xb2",
    b"Content-Length: 1_0",
    b"Content-Length: 99999999999999999999999999",
    b"Content-Length : 5",
    b"Content_Length: 5",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: Chunked",
    b"Transfer-Encoding: chunked, chunked",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: chunked, gzip",
    b"Transfer-Encoding: identity",
    b"Transfer-Encoding: deflate",
    b"Transfer-Encoding: xchunked",
    b"Transfer-Encoding: ,chunked",
    b"Transfer-Encoding:\tchunked",
    b"Transfer-Encoding: chunked\x0b",
    b"Transfer_Encoding: chunked",
    b"Transfer-Encoding : chunked",
    b"Expect: 100-continue",
    b"Expect: 100-CONTINUE",
    b"Expect: something",
    b"X_Forwarded_For: 1",
    b"SCRIPT_NAME: /a",
    b"Script-Name: /a",
    b"X-Forwarded-Proto: http",
    b"X-Forwarded-Proto: https, http",
    b"X-Forwarded-Ssl: on",
    b"X-Forwarded-Protocol: ssl",
    b"X-Forwarded-Ssl: off",
    b" folded",
    b"\tfolded: a",
    b"No colon",
    b": no name",
    b"X-B: a\0b",
    b"X-B: a\rb",
    b"X-B: a\nX-C: b",
    b"X-B: \xe9\xff",
    b"X-B:\x7f",
    b"X\xe9: a",
    b"X(: a",
    b"X!#$%&'*+.^`|~: a",
    b"X-B: " + b"a" * 8200,
    b"X-Long-" + b"a" * 300 + b": a",
    b"Connection: keep-alive, close",
    b"Connection: Upgrade",
    b"Upgrade: h2c",
    b"TE: trailers",
    b"Proxy: http://a",
    b"Trailer: X-T",
]
BODIES = [
    b"",
    b"hello",
    b"hello, world",
    chunks(b"hello"),
    chunks(b"hello", b", world" * 50),
    chunks(b"hello", last=b"0\r\nX-T: a\r\n\r\n"),
    chunks(b"hello", last=b"0\r\nContent-Length: 5\r\n\r\n"),
    chunks(b"hello", last=b"0;x=y\r\n\r\n"),
    b"5;a=b\r\nhello\r\n0\r\n\r\n",
    b"5 \r\nhello\r\n0\r\n\r\n",
    b"5\nhello\r\n0\r\n\r\n",
    b"0x5\r\nhello\r\n0\r\n\r\n",
    b"-5\r\nhello\r\n0\r\n\r\n",
    b"5\r\nhelloXX0\r\n\r\n",
    b"ffffffffffffffffffff\r\nhello\r\n",
    b"5\r\nhello\r\n0\r\n",
    b"\r\n",
]


def generated(seed: int, count: int) -> Iterator[bytes]:
    """Make requests: most nearly right, some with bytes changed, all with another request behind them."""
    chance = random.Random(seed)

    def pick(usual: list[bytes], odd: list[bytes], share: float) -> bytes:
        return chance.choice(odd if chance.random() < share else usual)

    for _ in range(count):
        oddness = chance.choice([0.0, 0.05, 0.05, 0.3])
        fields = [b"Host: shop.example"] if chance.random() < 0.9 else []
        fields += [pick(FIELDS, ODD_FIELDS, oddness + 0.1) for _ in range(chance.randrange(6))]
        body = chance.choice(BODIES)
        kind = chance.random()
        if kind < 0.4:
            fields.append(b"Content-Length: %d" % len(body))
        elif kind < 0.6:
            fields.append(b"Transfer-Encoding: chunked")
        elif kind < 0.95:
            body = b""
        chance.shuffle(fields)
        line = b" ".join(
            [
                pick(METHODS, ODD_METHODS, oddness),
                pick(TARGETS, ODD_TARGETS, oddness),
                pick(VERSIONS, ODD_VERSIONS, oddness),
            ]
        )
        end = b"\r\n" if chance.random() > oddness / 4 else chance.choice([b"\n", b"\r", b"\r\r\n"])
        request = end.join([line, *fields, b"", b""]) + body
        if chance.random() < oddness:
            place = chance.randrange(len(request))
            request = (
                request[:place] + bytes([chance.randrange(256)]) + request[place + chance.randrange(2) :]
            )
        if chance.random() < 0.05:
            request = request[: chance.randrange(len(request))]
        yield request + b"GET /next HTTP/1.1\r\nHost: shop.example\r\n\r\n"
