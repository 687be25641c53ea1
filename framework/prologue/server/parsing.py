"""From a connection's bytes to a request and its environ.

gunicorn's C parser reads the head of a usual request, and its fields become an environ here. Whatever is
unusual (a body in chunks, an expectation, a name with an underscore, the PROXY protocol, an absolute target,
anything that was refused) is given to gunicorn's own request class, and every head is given to it where the C
parser is missing or switched off. So what gunicorn refuses is refused, in its words.

Refused besides, whatever the release, is what gunicorn 27 refuses: a bare line feed in the head, folded
fields, which an older C parser lets pass, a target that is not made of printable ASCII, and a
Transfer-Encoding without chunks.
"""

from __future__ import annotations

import ipaddress
import os
import re
import time
from io import BufferedReader, BytesIO
from typing import Any

from gunicorn.http import wsgi
from gunicorn.http.body import ChunkedReader
from gunicorn.http.errors import InvalidHeader, InvalidRequestLine, LimitRequestHeaders, NoMoreData
from gunicorn.http.message import MAX_REQUEST_LINE
from gunicorn.http.message import Request as GunicornRequest
from gunicorn.http.unreader import IterUnreader
from gunicorn.util import unquote_to_wsgi_str

from prologue.server.body import ChunkedBody, LengthBody
from prologue.server.connection import Connection

try:
    from gunicorn_h1c._parser_fast import IncompleteError, parse_request
except ImportError:  # gunicorn's own parser does everything
    IncompleteError = parse_request = None

__all__ = ["SMALL_BODY", "Parser", "Request"]

SMALL_BODY = 65536
"""Bytes of a body up to which no thread waits for it: it is complete before the application is called."""

_END_OF_HEAD = re.compile(rb"\n\r?\n")
_NOT_OF_A_TARGET = re.compile(r"[^\x21-\x7e]")
_MANY_NAMES = 1000
_MODEL = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"

# A second field of these makes a message ambiguous (RFC 9110, section 5.3).
_SINGLE = frozenset({"HTTP_HOST", "CONTENT_TYPE", "CONTENT_LENGTH"})
# What gunicorn's own class is better asked about.
_UNUSUAL = frozenset({b"EXPECT", b"TRANSFER-ENCODING"})


class Request:
    """The head of a usual request, with the attributes of gunicorn's own class that hooks and logs read."""

    __slots__ = ("_connection", "_head", "body", "peer_addr", "remote_addr", "scheme", "uri", "version")

    fragment = ""
    proxy_protocol_info = None
    trailers: tuple[tuple[str, str], ...] = ()

    def __init__(
        self,
        head: Any,
        uri: str,
        version: tuple[int, int],
        scheme: str,
        client: Any,
        connection: str | None,
    ) -> None:
        self._head = head
        self._connection = connection
        self.uri = uri
        self.version = version
        self.scheme = scheme
        self.peer_addr = self.remote_addr = client
        self.body: Any = None

    @property
    def method(self) -> str:
        """The method."""
        return str(self._head.method, "latin-1")

    @property
    def path(self) -> str:
        """The path as it was sent."""
        return self.uri.partition("?")[0]

    @property
    def query(self) -> str:
        """The query as it was sent."""
        return self.uri.partition("?")[2]

    def should_close(self) -> bool:
        """Whether the connection is closed behind the response (RFC 9112, section 9.3)."""
        if self._head.method == b"CONNECT":
            return True  # what follows is no request (RFC 9931, section 8)
        if self._connection is None:
            return self.version < (1, 1)
        options = [option.strip(" \t") for option in self._connection.lower().split(",")]
        return "close" in options or (self.version < (1, 1) and options != ["keep-alive"])

    @property
    def headers(self) -> list[tuple[str, str]]:
        """The (NAME, value) pairs."""
        return [(str(name, "latin-1").upper(), str(value, "latin-1")) for name, value in self._head.headers]


class Parser:
    """Makes requests of bytes, by the settings of one worker.

    Args:
        cfg: gunicorn's configuration.
        body_timeout: seconds that a small body has to arrive.
    """

    def __init__(self, cfg: Any, body_timeout: float) -> None:
        self._cfg = cfg
        self._body_timeout = body_timeout
        self._script_name = os.environ.get("SCRIPT_NAME", "")
        self._proxied = cfg.proxy_protocol not in (False, "off")
        # A request of gunicorn's own, made once, knows all limits and whether the C parser is to be used.
        model = GunicornRequest(cfg, IterUnreader([_MODEL]), ("127.0.0.1", 0))
        line = model.limit_request_line or 1024 * 1024
        self._max_head = model.max_buffer_headers + line
        self._limits = (
            min(line, MAX_REQUEST_LINE) if model.limit_request_line else line,
            model.limit_request_fields,
            model.limit_request_field_size,
        )
        odd = cfg.casefold_http_method or cfg.permit_unconventional_http_method
        odd = odd or cfg.permit_unconventional_http_version
        self._parse = parse_request if getattr(model, "_use_fast", False) and not odd else None
        # PERF: from the name of a field as it was sent to its key in the environ; it grows to `_MANY_NAMES`.
        self._keys: dict[bytes, str | None] = {}
        self._trusted = cfg.forwarded_allow_ips
        self._networks = [ipaddress.ip_network(each, strict=False) for each in self._trusted if each != "*"]
        self._scheme_headers = tuple(
            (f"HTTP_{name.replace('-', '_')}", value) for name, value in cfg.secure_scheme_headers.items()
        )
        self._plain_scheme = "https" if cfg.is_ssl else "http"
        self._base = {
            **wsgi.base_environ(cfg),
            "wsgi.errors": _Errors(cfg),
            "wsgi.multithread": True,
            "wsgi.url_scheme": self._plain_scheme,
            "SCRIPT_NAME": self._script_name,
        }

    def connection_environ(self, sock: Any, client: Any, server: Any) -> dict[str, Any]:
        """Return what every request of a connection has in its environ."""
        environ = {**self._base, "gunicorn.socket": sock}
        if isinstance(client, tuple):
            environ["REMOTE_ADDR"] = client[0]
            environ["REMOTE_PORT"] = str(client[1])
        else:
            environ["REMOTE_ADDR"] = os.fsdecode(client)
        if isinstance(server, tuple):
            environ["SERVER_NAME"] = server[0]
            environ["SERVER_PORT"] = str(server[1])
        return environ

    def scheme_headers_of(self, client: Any) -> tuple[tuple[str, str], ...]:
        """Return the fields in which a client may tell the scheme: all or none."""
        if not isinstance(client, tuple) or "*" in self._trusted:
            return self._scheme_headers
        address = ipaddress.ip_address(client[0])
        return self._scheme_headers if any(address in network for network in self._networks) else ()

    def parse(self, connection: Connection, *, ended: bool = False) -> tuple[Any, dict[str, Any]] | None:
        """Take the next request out of a connection's buffer.

        Args:
            connection: with a buffer that is not empty.
            ended: whether nothing will follow.

        Returns:
            The request and its environ, or None while the head or a small body is not complete.

        Raises:
            gunicorn.http.errors.ParseException: the request is refused.
        """
        data = connection.buffer
        repeated = data == connection.last
        if repeated and connection.known is not None:
            fields, environ = connection.known
            connection.scanned = 0
            connection.buffer = b""
            return Request(*fields), environ | {"wsgi.input": BytesIO()}
        # Parsed before, in vain: not again before it is worth it.
        if connection.scanned and not _END_OF_HEAD.search(data, max(0, connection.scanned - 3)):
            self._wait_for_more(connection)
            return None
        # An empty line is allowed before a request, and some releases of the C parser measure nothing then.
        if self._parse is None or data[:2] == b"\r\n" or (self._proxied and connection.requests == 0):
            return self._parse_slowly(connection, ended=ended)
        try:
            head = self._parse(data, 0, *self._limits)
        except IncompleteError:
            self._wait_for_more(connection)
            return None
        except ValueError as error:
            self._parse_slowly(connection, ended=ended)  # which refuses it, and says why
            raise InvalidRequestLine(str(error)) from error
        connection.scanned = 0
        consumed = head.consumed
        if data.count(b"\n", 0, consumed) != data.count(b"\r\n", 0, consumed):
            raise InvalidRequestLine("bare line feed")

        environ = connection.environ.copy()
        keys = self._keys
        for name, value in head.headers:
            key = keys.get(name) or self._key(name)
            if key is None or (key in environ and key in _SINGLE):
                return self._parse_slowly(connection, ended=ended)
            text = str(value, "latin-1")
            environ[key] = f"{environ[key]},{text}" if key in environ else text
        uri = str(head.path, "latin-1")
        if uri[0] != "/" or uri[:2] == "//" or "#" in uri or not (uri.isascii() and uri.isprintable()):
            return self._parse_slowly(connection, ended=ended)
        path, _, environ["QUERY_STRING"] = uri.partition("?")
        if self._script_name:
            if not path.startswith(self._script_name):
                return self._parse_slowly(connection, ended=ended)  # which refuses it, and says why
            path = path[len(self._script_name) :]
        environ["PATH_INFO"] = unquote_to_wsgi_str(path) if "%" in path else path
        environ["RAW_URI"] = uri
        environ["REQUEST_METHOD"] = str(head.method, "latin-1")
        scheme = self._plain_scheme
        if connection.scheme_headers:
            told = None
            for key, secure in connection.scheme_headers:
                value = environ.get(key)
                if value is not None:
                    scheme = "https" if value == secure else "http"
                    if told not in (None, scheme) or "," in value:
                        return self._parse_slowly(connection, ended=ended)  # contradictions are refused
                    told = environ["wsgi.url_scheme"] = scheme
        version = (1, head.minor_version)
        environ["SERVER_PROTOCOL"] = "HTTP/1.1" if version[1] else "HTTP/1.0"
        if "SERVER_NAME" not in environ:
            _set_server(environ, connection, scheme)
        if connection.proxied:
            environ.update(connection.proxied)

        known = (head, uri, version, scheme, connection.client, environ.get("HTTP_CONNECTION"))
        request = Request(*known)
        digits = environ.get("CONTENT_LENGTH")
        if digits is None:
            connection.buffer = data[consumed:]
            # PERF: a client that repeats a request byte by byte, as most programs do, is understood at once:
            # plaintext takes its thread 35 instead of 39 microseconds.
            connection.last = data if consumed == len(data) else b""
            connection.known = (known, environ.copy()) if repeated else None
            environ["wsgi.input"] = BytesIO()
        else:
            if not digits.isdecimal() or len(digits) > 18:
                return self._parse_slowly(connection, ended=ended)
            if not self._take_body(connection, request, environ, consumed, int(digits), ended=ended):
                return None
        return request, environ

    def _take_body(
        self,
        connection: Connection,
        request: Any,
        environ: dict[str, Any],
        start: int,
        length: int,
        *,
        ended: bool,
    ) -> bool:
        """Give a request its body of a known length; False where it is small and not complete."""
        data = connection.buffer
        end = start + length
        if len(data) >= end or (ended and length <= SMALL_BODY):
            environ["wsgi.input"] = BytesIO(data[start:end])
            connection.buffer = data[end:]
        elif length <= SMALL_BODY:
            if not connection.needed:
                connection.needed = end
                connection.deadline = time.monotonic() + self._body_timeout
            return False
        else:
            connection.buffer = data[start:]
            request.body = LengthBody(connection, length)
            environ["wsgi.input"] = BufferedReader(request.body, SMALL_BODY)
        connection.needed = 0
        return True

    def _wait_for_more(self, connection: Connection) -> None:
        connection.scanned = len(connection.buffer)
        if connection.scanned > self._max_head:
            raise LimitRequestHeaders("max buffer headers")

    def _key(self, name: bytes) -> str | None:
        """Return the environ's key for a field, or None for what is unusual."""
        upper = name.upper()
        if not name:
            raise InvalidHeader("a folded field")
        if b"_" in upper or upper in _UNUSUAL:
            return None
        text = str(upper, "latin-1")
        key = text.replace("-", "_")
        if text not in ("CONTENT-TYPE", "CONTENT-LENGTH"):
            key = f"HTTP_{key}"
        if len(self._keys) < _MANY_NAMES:
            self._keys[name] = key
        return key

    def _parse_slowly(self, connection: Connection, *, ended: bool) -> tuple[Any, dict[str, Any]] | None:
        """Let gunicorn's own classes understand the head of the next request."""
        data = connection.buffer
        if _folded(data) and not self._cfg.permit_obsolete_folding:
            raise InvalidHeader("a folded field")
        unreader = IterUnreader([data])
        try:
            request = GunicornRequest(self._cfg, unreader, connection.client, connection.requests + 1)
        except NoMoreData:
            self._wait_for_more(connection)
            return None
        if _NOT_OF_A_TARGET.search(request.uri):
            raise InvalidRequestLine(f"not printable ASCII: {request.uri}")
        if request.method == "CONNECT":
            request.force_close()
        expected = request._expected_100_continue
        request._expected_100_continue = False  # which it would answer without waiting for a full socket
        server = connection.environ.get("SERVER_NAME")
        address = (server, connection.environ["SERVER_PORT"]) if server is not None else _path_of(connection)
        _, environ = wsgi.create(request, connection.sock, connection.client, address, self._cfg)
        environ["wsgi.errors"] = connection.environ["wsgi.errors"]
        environ["wsgi.multithread"] = True
        if request.proxy_protocol_info:
            connection.proxied = wsgi.proxy_environ(request)
        environ.update(connection.proxied)
        connection.scanned = 0
        reader, request.body = request.body.reader, None
        start = len(data) - len(unreader.buf.getvalue())
        chunked = isinstance(reader, ChunkedReader)
        if not chunked and any(name == "TRANSFER-ENCODING" for name, _ in request.headers):
            raise InvalidHeader("TRANSFER-ENCODING", req=request)
        if expected:
            connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        if chunked or expected:  # a body to wait for with a thread
            connection.buffer = data[start:]
            connection.needed = 0
            request.body = (
                ChunkedBody(connection, request) if chunked else LengthBody(connection, reader.length)
            )
            environ["wsgi.input"] = BufferedReader(request.body, SMALL_BODY)
        elif not self._take_body(connection, request, environ, start, reader.length, ended=ended):
            return None
        return request, environ


class _Errors(wsgi.WSGIErrorsWrapper):  # type: ignore[misc]  # gunicorn has no types
    """``wsgi.errors``: the files of gunicorn's error log as they are now, for USR1 opens them again."""

    def __init__(self, cfg: Any) -> None:
        self._cfg = cfg

    def write(self, data: str) -> None:
        """Write to every file of the log."""
        wsgi.WSGIErrorsWrapper(self._cfg).write(data)


def _folded(data: bytes) -> bool:
    """Whether a line of the head begins with white space."""
    head = data.partition(b"\r\n\r\n")[0]
    return b"\n " in head or b"\n\t" in head


def _path_of(connection: Connection) -> str:
    return str(os.fsdecode(connection.sock.getsockname()))


def _set_server(environ: dict[str, Any], connection: Connection, scheme: str) -> None:
    """Name the server of a unix socket after the Host field, as gunicorn does."""
    parts = environ.get("HTTP_HOST", "").split(":")
    if not parts[0]:
        parts = [_path_of(connection), ""]
    elif len(parts) == 1:
        parts.append("443" if scheme == "https" else "80")
    environ["SERVER_NAME"], environ["SERVER_PORT"] = parts[0], parts[1]
