"""A reverse proxy with the HTTP cache in front; ORIGIN in the environment says of what:
http://127.0.0.1:9000.

The proxy forwards method, path as it was sent, body and end-to-end fields, and asks the origin once: what the
origin may have seen is never sent again. Interim responses (102, 103) are passed on where the server has a
way for them.
"""

import http.client
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import quote, urlsplit

from prologue import App, Settings
from prologue.cache import InMemoryCache
from prologue.http_cache import HTTPCache

HOP_BY_HOP = {
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
}
HOP_BY_HOP |= {"trailer", "transfer-encoding", "upgrade"}

Fields = list[tuple[str, str]]


def end_to_end(fields: Fields) -> Fields:
    """Leave out what is for one connection (RFC 9110 section 7.6.1)."""
    named = {
        name.strip().lower()
        for key, value in fields
        if key.lower() == "connection"
        for name in value.split(",")
    }
    return [(key, value) for key, value in fields if key.lower() not in HOP_BY_HOP | named]


class Response(http.client.HTTPResponse):
    """A response that hands interim ones on; http.client takes any but 100 for the final one."""

    on_interim: Callable[[Fields], object] | None = None

    def _read_status(self) -> tuple[str, int, str]:
        while True:
            version, status, reason = super()._read_status()  # type: ignore[misc]
            if status not in (102, 103):
                return version, status, reason
            fields = end_to_end(list(http.client.parse_headers(self.fp).items()))
            if self.on_interim is not None:
                self.on_interim(fields)


class Proxy:
    """Forwards every request to an origin."""

    def __init__(self, origin: str, timeout: float = 30.0) -> None:
        parts = urlsplit(origin)
        self._connect = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._address = parts.netloc
        self._timeout = timeout

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        hints = environ.get("wsgi.early_hints")

        class Answer(Response):
            on_interim = staticmethod(hints) if hints is not None else None

        connection = self._connect(self._address, timeout=self._timeout)
        connection.response_class = Answer
        try:
            self._send(connection, environ)
            response = connection.getresponse()
        except (OSError, http.client.HTTPException):
            connection.close()
            start_response("502 Bad Gateway", [("Content-Type", "text/plain"), ("Content-Length", "12")])
            return [b"Bad Gateway\n"]
        fields = response.getheaders()
        if response.getheader("Transfer-Encoding") and not response.chunked:
            # An unknown coding ends with the connection, whatever the length says (RFC 9112 section 6.3).
            response.length = None
            fields = [field for field in fields if field[0].lower() != "content-length"]
        start_response(f"{response.status} {response.reason}", end_to_end(fields))
        return Body(connection, response)

    def _send(self, connection: http.client.HTTPConnection, environ: dict[str, Any]) -> None:
        path = environ.get("RAW_URI") or environ.get("REQUEST_URI")
        if not path:
            path = quote((environ.get("SCRIPT_NAME", "") + environ["PATH_INFO"]).encode("latin-1")) or "/"
            path += f"?{environ['QUERY_STRING']}" if environ.get("QUERY_STRING") else ""
        fields = [
            (name[5:].replace("_", "-").title(), value)
            for name, value in environ.items()
            if name.startswith("HTTP_")
        ]
        fields.append(("Via", f"{environ['SERVER_PROTOCOL'].removeprefix('HTTP/')} prologue"))
        if environ.get("CONTENT_TYPE"):
            fields.append(("Content-Type", environ["CONTENT_TYPE"]))
        length = environ.get("CONTENT_LENGTH")
        chunked = not length and environ.get("wsgi.input_terminated") and "HTTP_TRANSFER_ENCODING" in environ
        connection.putrequest(environ["REQUEST_METHOD"], path, skip_host=True, skip_accept_encoding=True)
        for name, value in end_to_end(fields):
            connection.putheader(name, value)
        if length:
            connection.putheader("Content-Length", length)
        elif chunked:
            connection.putheader("Transfer-Encoding", "chunked")
        connection.putheader("Connection", "close")
        body = blocks(environ["wsgi.input"], int(length) if length else None) if length or chunked else None
        connection.endheaders(body, encode_chunked=bool(chunked))


def blocks(stream: Any, left: int | None) -> Iterator[bytes]:
    """Read a body in blocks, as much as there is, or as its length says."""
    while left != 0:
        block = stream.read(65536 if left is None else min(left, 65536))
        if not block:
            return
        left = None if left is None else left - len(block)
        yield block


class Body:
    """The body of a response, read while it is sent; its connection is closed with it."""

    def __init__(self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse) -> None:
        self._connection = connection
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        while block := self._response.read1(65536):
            yield block
        if self._response.length:
            raise http.client.IncompleteRead(b"", self._response.length)

    def close(self) -> None:
        self._response.close()
        self._connection.close()


def create_proxy(origin: str) -> HTTPCache:
    """Make a proxy for an origin, with a cache that does what the RFC lets a shared one do."""
    return HTTPCache(Proxy(origin), InMemoryCache(max_entries=10_000), profile="rfc9111")


app = App(Settings(app_name="caching proxy"))
app.mount("/", create_proxy(os.environ.get("ORIGIN", "http://127.0.0.1:9000")))

if __name__ == "__main__":
    app.run()
