"""The answer to one request: what an application may do with ``start_response``, and the bytes of it.

The rules are gunicorn's: no hop-by-hop fields of the application, no bytes where a status or HEAD allows
none, never more bytes than Content-Length says, chunks where HTTP/1.1 knows no length. Different are three
things: the application's own ``Date`` and ``Server`` are kept, a list and a file have a Content-Length,
and a connection is closed after a body that was shorter than its Content-Length.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from email.utils import formatdate
from typing import Any

from gunicorn import SERVER
from gunicorn.http.message import TOKEN_RE
from gunicorn.http.wsgi import HEADER_VALUE_RE, FileWrapper
from gunicorn.util import has_fileno, is_hoppish

from prologue.server.connection import BLOCK, Connection

__all__ = ["Response"]

_MANY_NAMES = 1000
_KEPT = frozenset({"date", "server"})  # hop-by-hop for gunicorn, which then sends its own

_PLAIN = "plain"  # what a field is that means nothing to the server

_SHORT = 64  # characters of a value that is remembered

# PERF: what has been checked is not checked again: the kinds of names; of short fields their kinds and lines;
# the numbers of statuses. And the server's own lines of this second (see `_first_lines`).
_kinds: dict[str, str] = {}
_fields: dict[tuple[str, str], tuple[str, str]] = {}
_numbers: dict[str, int] = {}
_lines: tuple[int, dict[tuple[tuple[int, int], str, str, str], str]] = (0, {})


class Response:
    """One answer.

    It is ``environ["prologue.exchange"]``: :meth:`send_interim`, :meth:`request_trailers` and
    :meth:`send_trailers` are for applications. The other attributes are those that gunicorn's hooks and logs
    know.

    Args:
        request: what is answered.
        connection: to whom.
        method: of the request.
        keep: whether the connection may be kept.
        sendfile: whether the system may send files.
    """

    __slots__ = (
        "_connection",
        "_connection_field",
        "_method",
        "_omits_body",
        "_own",
        "_own_lines",
        "_sendfile",
        "_trailers",
        "chunked",
        "headers",
        "headers_sent",
        "must_close",
        "request",
        "response_length",
        "sent",
        "status",
        "status_code",
        "upgrade",
    )

    def __init__(
        self, request: Any, connection: Connection, method: str, *, keep: bool, sendfile: bool
    ) -> None:
        self.request = request
        self._connection = connection
        self._method = method
        self._sendfile = sendfile
        self.must_close = not keep
        self.status: str | None = None
        self.status_code = 0
        self.headers: list[tuple[str, str]] = []
        self.headers_sent = False
        self.response_length: int | None = None
        self.sent = 0
        self.chunked = False
        self.upgrade = False
        self._omits_body = False
        self._own = ""  # which of Date and Server are the application's own
        self._own_lines: list[str] = []  # the headers as they are sent
        self._trailers: Sequence[tuple[str, str]] = ()

    # -- for the application ------------------------------------------------------------------------------

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], None]:
        """Set status and headers (PEP 3333).

        Returns:
            A function that sends bytes at once.

        Raises:
            TypeError, ValueError: they cannot be sent.
            AssertionError: they were set before, and there is no ``exc_info``.
            BaseException: that of ``exc_info``, where headers have been sent already.
        """
        if exc_info:
            try:
                if self.headers_sent:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None
            self.headers, self.response_length, self._own, self.upgrade = [], None, "", False
            self._own_lines = []
        elif self.status is not None:
            raise AssertionError("start_response was called before: give it exc_info to replace what was set")
        number = _numbers.get(status)
        if number is None:
            number = _check_status(status)
        self.status = status
        self.status_code = number
        self._take(headers)
        omits = self._method == "HEAD" or number in (204, 304) or number < 200
        self._omits_body = omits
        if number < 200 or number == 204:  # RFC 9110, section 8.6
            self.headers = [field for field in self.headers if field[0].lower() != "content-length"]
            self._own_lines = [f"{name}: {value}\r\n" for name, value in self.headers]
            self.response_length = None
        self.chunked = self.response_length is None and not omits and self.request.version > (1, 0)
        return self.write

    def write(self, data: bytes) -> None:
        """Send bytes of the body at once.

        Raises:
            TypeError: they are no bytes.
            ClientError: the client has gone, or reads too slowly.
        """
        if not isinstance(data, bytes):
            raise TypeError(f"the body of a response is made of bytes, not of {data!r}")
        if self._omits_body:
            data = b""
        elif self.response_length is not None:
            data = data[: self.response_length - self.sent]
        self.sent += len(data)
        if self.chunked and data:
            data = b"%X\r\n%b\r\n" % (len(data), data)
        if not self.headers_sent:
            self._connection.send_both(self._head(), data)
        elif data:
            self._connection.send(data)

    def send_interim(self, status: str, headers: Iterable[tuple[str, str]]) -> None:
        """Send an interim response (RFC 9110, section 15.2), such as ``103 Early Hints``.

        Nothing is sent to a client of HTTP/1.0, and nothing once the response has begun.

        Args:
            status: three digits from 100 to 199 but 101, a space and a reason.
            headers: of this response.

        Raises:
            ValueError: the status is no interim one, or a field cannot be sent.
            ClientError: the client has gone.
        """
        if not (status[:1] == "1" and status[1:3].isdecimal() and status[3:4] == " ") or status[:3] == "101":
            raise ValueError(f"the status {status!r} is not that of an interim response")
        _check_value("status", status)
        fields = []
        for name, value in headers:
            _check_name(name)
            _check_value(name, value)
            fields.append(f"{name}: {value}\r\n")
        if self.headers_sent or self.request.version < (1, 1):
            return
        self._connection.send(f"HTTP/1.1 {status}\r\n{''.join(fields)}\r\n".encode("latin-1"))

    def send_early_hints(self, headers: Iterable[tuple[str | bytes, str | bytes]]) -> None:
        """Send ``103 Early Hints``: gunicorn's ``environ["wsgi.early_hints"]``."""
        self.send_interim("103 Early Hints", [(_text(name), _text(value)) for name, value in headers])

    def send_trailers(self, trailers: Iterable[tuple[str, str]]) -> bool:
        """Set the fields to send behind the body (RFC 9110, section 6.5).

        Returns:
            Whether they will be sent: only behind a body in chunks, which is one without Content-Length for a
            client of HTTP/1.1, and only to a client that says ``TE: trailers``.

        Raises:
            ValueError: a field cannot be sent, or not as a trailer.
        """
        fields = list(trailers)
        for name, value in fields:
            _check_name(name)
            _check_value(name, value)
            if is_hoppish(name) or name.lower() in ("content-length", "host", "trailer", "authorization"):
                raise ValueError(f"the field {name!r} cannot be sent as a trailer")
        wanted = any(
            name == "TE" and "trailers" in value.lower().replace(" ", "").split(",")
            for name, value in self.request.headers
        )
        if not (self.chunked and wanted):
            return False
        self._trailers = fields
        return True

    def request_trailers(self) -> list[tuple[str, str]]:
        """Return the (NAME, value) fields behind the request's body, once that has been read to its end."""
        return list(self.request.trailers)

    # -- for the worker -----------------------------------------------------------------------------------

    def force_close(self) -> None:
        """Close the connection after this response."""
        self.must_close = True

    def should_close(self) -> bool:
        """Whether the connection is closed after this response."""
        return self.must_close

    def send_body(self, body: Iterable[bytes]) -> None:
        """Send what an application has returned.

        Raises:
            Exception: what the iterable raises, and what :meth:`write` does.
        """
        if (type(body) is list or type(body) is tuple) and not (self.headers_sent or self._trailers):
            self._send_whole(body[0] if len(body) == 1 else b"".join(body))
            return
        if not (isinstance(body, FileWrapper) and self._send_file(body)):
            for part in body:
                if part or not self.headers_sent:
                    self.write(part)
        if not self.headers_sent:
            self._connection.send(self._head())
        if self.chunked:
            fields = "".join([f"{name}: {value}\r\n" for name, value in self._trailers])
            self._connection.send(f"0\r\n{fields}\r\n".encode("latin-1"))
        elif self.response_length is not None and self.sent < self.response_length and not self._omits_body:
            self.must_close = True  # the client waits for bytes that do not come

    def _send_whole(self, data: bytes) -> None:
        """Send a response whose body is known: it needs no chunks (PEP 3333, "Handling the
        Content-Length Header").
        """
        if type(data) is not bytes:
            raise TypeError(f"the body of a response is made of bytes, not of {data!r}")
        length = len(data)
        if self._omits_body:
            data = b""
        elif self.response_length is None:
            if self.status is not None:
                self._set_length(length)
        elif length > self.response_length:
            data = data[: self.response_length]
        elif length < self.response_length:
            self.must_close = True
        self.sent = len(data)
        # PERF: up to some kilobytes a copy is cheaper than the second buffer of sendmsg.
        if length <= BLOCK:
            self._connection.begin_answer(self._head() + data)
        else:
            self._connection.begin_answer(self._head(), data)

    def _set_length(self, length: int) -> None:
        self.chunked = False
        self.response_length = length
        self.headers.append(("Content-Length", f"{length}"))
        self._own_lines.append(f"Content-Length: {length}\r\n")

    def _send_file(self, wrapper: Any) -> bool:
        """Let the system send a file; False where it cannot."""
        file = wrapper.filelike
        if not self._sendfile or self.status is None or not has_fileno(file):
            return False
        fileno = file.fileno()
        try:
            offset = os.lseek(fileno, 0, os.SEEK_CUR)
            count = os.fstat(fileno).st_size - offset
        except OSError:
            return False
        if self._omits_body:
            return True
        # A file without a size, such as those of /proc, is read; and so is one that goes behind other bytes.
        if count <= 0 or self.headers_sent or self._trailers:
            return False
        if self.response_length is None:
            self._set_length(count)
        else:
            count = min(count, self.response_length)
        self._connection.begin_file(self._head(), fileno, offset, count)
        self.sent = count
        return True

    def _take(self, headers: list[tuple[str, str]]) -> None:
        """Check the application's headers, and keep those that are not hop-by-hop."""
        kept, lines = self.headers, self._own_lines
        for field in headers:
            known = _fields.get(field) if type(field) is tuple else None
            kind, line = known if known is not None else _check_field(*field)
            if kind == _PLAIN or self._keeps(kind, field[1]):
                kept.append(field)
                lines.append(line)

    def _keeps(self, kind: str, value: str) -> bool:
        """Heed a field that means something to the server; return whether it is sent as it is."""
        value = value.strip(" \t").lower()
        if kind == "content-length":
            if not (value.isdecimal() and value.isascii()):
                raise ValueError(f"Content-Length is a number, not {value!r}")
            self.response_length = int(value)
        elif kind in _KEPT:
            self._own += kind
        elif kind == "connection":
            self.must_close = self.must_close or value == "close"
            # WebSockets over the bare socket, which gunicorn lets pass.
            self.upgrade = self.upgrade or value == "upgrade"
            return False
        else:
            return kind == "upgrade" and value == "websocket"
        return True

    def _head(self) -> bytes:
        """Return the head, once.

        Raises:
            AssertionError: the application has not called ``start_response``.
            ClientError: somebody else has answered in the meantime.
        """
        if self.status is None:
            raise AssertionError("the application has not called start_response")
        self._connection.claim_answer()
        self.headers_sent = True
        if self.response_length is None and not self.chunked and not self._omits_body:
            self.must_close = True
        kind = "upgrade" if self.upgrade else "close" if self.must_close else "keep-alive"
        fields = "".join(self._own_lines)
        if self.chunked:
            fields = f"Transfer-Encoding: chunked\r\n{fields}"
        return f"{_first_lines(self.request.version, self.status, kind, self._own)}{fields}\r\n".encode(
            "latin-1"
        )


def _first_lines(version: tuple[int, int], status: str, connection: str, own: str) -> str:
    """Return the lines of a head that are the server's."""
    global _lines
    second = int(time.time())
    key = (version, status, connection, own)
    made, lines = _lines
    if made == second and (text := lines.get(key)) is not None:
        return text
    text = f"HTTP/{version[0]}.{version[1]} {status}\r\n"
    if "server" not in own:
        text += f"Server: {SERVER}\r\n"
    if "date" not in own:
        text += f"Date: {formatdate(second, usegmt=True)}\r\n"
    text += f"Connection: {connection}\r\n"
    if made != second:
        _lines = (second, {key: text})
    elif len(lines) < _MANY_NAMES:
        lines[key] = text
    return text


def _check_status(status: str) -> int:
    """Check a status; return its number."""
    code = status[:3]
    if not (code.isdecimal() and code.isascii()) or status[3:4] not in (" ", ""):
        raise ValueError(f"the status {status!r} is not three digits, a space and a reason")
    _check_value("status", status)
    if len(_numbers) < _MANY_NAMES:
        _numbers[status] = int(code)
    return int(code)


def _check_field(name: str, value: str) -> tuple[str, str]:
    """Check a field; return what it means to the server, and its line."""
    kind = _kinds.get(name) or _check_name(name)
    # PERF: the two methods take a third of the time of the expression.
    if type(value) is not str or not (value.isascii() and value.isprintable()):
        _check_value(name, value)
    checked = kind, f"{name}: {value}\r\n"
    if len(value) <= _SHORT:
        if len(_fields) >= _MANY_NAMES:
            _fields.clear()
        _fields[name, value] = checked
    return checked


def _check_name(name: str) -> str:
    """Check the name of a field; return what it means to the server, in lower case, or `_PLAIN`."""
    if not isinstance(name, str):
        raise TypeError(f"the name of a header is a string, not {name!r}")
    if not TOKEN_RE.fullmatch(name):
        raise ValueError(f"the name of a header is a token (RFC 9110, section 5.6.2), not {name!r}")
    kind = name.lower()
    if kind != "content-length" and not is_hoppish(kind):
        kind = _PLAIN
    if len(_kinds) < _MANY_NAMES:
        _kinds[name] = kind
    return kind


def _check_value(name: str, value: str) -> None:
    """Check the value of a field, or the status."""
    if not isinstance(value, str):
        raise TypeError(f"the value of {name} is a string, not {value!r}")
    if not HEADER_VALUE_RE.fullmatch(value):
        # SECURITY: the value may be secret, and the message is logged.
        raise ValueError(f"the value of {name} has a character that no header may have, such as a line feed")


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")
