"""Responses without a socket."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from prologue.server import writing
from prologue.server.connection import Connection
from prologue.server.writing import Response
from tests.server.wire import CLIENT, Silence


class Request:
    version = (1, 1)
    trailers: tuple[tuple[str, str], ...] = ()
    headers = (("TE", "gzip, trailers"),)


def response(method: str = "GET") -> tuple[Response, Silence]:
    sock: Any = Silence()
    connection = Connection(sock, CLIENT, {}, (), 0.0)
    connection.begin(0.0, 30.0)
    return Response(Request(), connection, method, keep=True, sendfile=True), sock


def test_start_response_may_be_called_again_with_an_error_only() -> None:
    made, sock = response()
    made.start_response("204 No Content", [("Content-Length", "3"), ("Server", "mine")])
    with pytest.raises(AssertionError, match="start_response was called before"):
        made.start_response("200 OK", [])
    try:
        raise ValueError("wrong")
    except ValueError:
        made.start_response("500 Wrong", [("X-A", "b")], sys.exc_info())
        made.send_body([b"sorry"])
        with pytest.raises(ValueError, match="wrong"):
            made.start_response("500 Wrong", [], sys.exc_info())
    assert sock.sent.startswith(b"HTTP/1.1 500 Wrong\r\nServer: gunicorn\r\nDate: ")
    assert sock.sent.endswith(b"X-A: b\r\nContent-Length: 5\r\n\r\nsorry")
    assert b"mine" not in sock.sent


@pytest.mark.parametrize("status", ["204 No Content", "199 Odd"])
def test_some_statuses_have_no_content_length(status: str) -> None:
    made, sock = response()
    made.start_response(status, [("Content-Length", "3"), ("X-A", "b"), ("content-length", "3")])
    made.send_body([b"abc"])
    assert made.headers == [("X-A", "b")]
    assert sock.sent.lower().count(b"content-length") == 0
    assert sock.sent.endswith(b"\r\nX-A: b\r\n\r\n")


@pytest.mark.parametrize(
    ("status", "headers", "error"),
    [
        ("200 OK\r\nX: y", [], ValueError),
        ("200\r\n", [], ValueError),
        ("2٠0 OK", [], ValueError),
        ("200 OK", [("X", "a\r\nY: b")], ValueError),
        ("200 OK", [("X", "a\0")], ValueError),
        ("200 OK", [("X", "\u0416")], ValueError),
        ("200 OK", [("X", 1)], TypeError),
        ("200 OK", [(b"X", "a")], TypeError),
        ("200 OK", [("X\r\nY", "a")], ValueError),
        ("200 OK", [("", "a")], ValueError),
        ("200 OK", [("Content-Length", "-1")], ValueError),
        ("200 OK", [("Content-Length", "1_0")], ValueError),
    ],
)
def test_what_could_split_a_response_is_refused(status: str, headers: Any, error: type[Exception]) -> None:
    made, sock = response()
    with pytest.raises(error):
        made.start_response(status, headers)
    assert sock.sent == b""


@pytest.mark.parametrize(
    "name", ["Connection", "Keep-Alive", "TE", "Transfer-Encoding", "Upgrade", "Trailers"]
)
def test_hop_by_hop_fields_are_dropped(name: str) -> None:
    made, sock = response()
    made.start_response("200 OK", [(name, "a"), ("X-Kept", "\xe9")])
    made.send_body([b""])
    assert made.headers == [("X-Kept", "\xe9"), ("Content-Length", "0")]
    assert sock.sent.count(b"\r\nConnection: keep-alive\r\n") == 1


def test_an_upgrade_to_websocket_is_let_through() -> None:
    made, sock = response()
    made.start_response("101 Switching Protocols", [("Connection", "Upgrade"), ("Upgrade", "websocket")])
    made.send_body([])
    assert b"\r\nConnection: upgrade\r\nUpgrade: websocket\r\n" in sock.sent


@pytest.mark.parametrize(
    ("status", "headers", "error"),
    [
        ("200 OK", [], ValueError),
        ("101 Switching Protocols", [], ValueError),
        ("1x3 Early", [], ValueError),
        ("103\r\n", [], ValueError),
        ("103 Early\r\nX: y", [], ValueError),
        ("103 Early Hints", [("Link", "a\r\nX: y")], ValueError),
        ("103 Early Hints", [("Li nk", "a")], ValueError),
    ],
)
def test_a_wrong_interim_response_is_refused(status: str, headers: Any, error: type[Exception]) -> None:
    made, sock = response()
    with pytest.raises(error):
        made.send_interim(status, headers)
    assert sock.sent == b""


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("Content-Length", "5", ValueError),
        ("Transfer-Encoding", "chunked", ValueError),
        ("Host", "a", ValueError),
        ("X-A", "b\r\nX: y", ValueError),
        ("X A", "b", ValueError),
    ],
)
def test_a_wrong_trailer_is_refused(name: str, value: str, error: type[Exception]) -> None:
    made, _ = response()
    made.start_response("200 OK", [])
    with pytest.raises(error):
        made.send_trailers([(name, value)])


def test_trailers_follow_a_body_that_is_a_list_too() -> None:
    made, sock = response()
    made.start_response("200 OK", [])
    assert made.send_trailers([("X-A", "b")])
    made.send_body([b"one", b"two"])
    assert sock.sent.endswith(b"3\r\none\r\n3\r\ntwo\r\n0\r\nX-A: b\r\n\r\n")


def test_a_connection_that_was_answered_by_the_watchdog_is_not_answered_again() -> None:
    sock: Any = Silence()
    sock.shutdown = lambda how: None
    connection = Connection(sock, CLIENT, {}, (), 0.0)
    connection.begin(0.0, 30.0)
    made = Response(Request(), connection, "GET", keep=True, sendfile=True)
    assert not connection.abandon(0, b"another request")
    assert connection.abandon(1, b"in its place")
    assert not connection.abandon(1, b"twice")
    made.start_response("200 OK", [])
    with pytest.raises(ConnectionError, match="took too long"):
        made.send_body([b"late"])
    assert sock.sent == b"in its place"


def test_fields_that_were_checked_before_are_sent_again() -> None:
    for number in range(1100):  # more than are remembered
        made, sock = response()
        made.start_response("200 OK", [("Content-Length", "2"), ("Server", "mine"), ("X-A", f"{number}")])
        made.send_body([b"ab"])
        assert made.response_length == 2
        assert sock.sent.count(b"Server: ") == 1
        assert sock.sent.endswith(b"\r\nX-A: %d\r\n\r\nab" % number)
    assert len(writing._fields) <= 1000


def test_a_field_in_a_list_is_a_field() -> None:
    made, sock = response()
    fields: Any = [["X-A", "b"], ["Content-Length", "0"]]
    made.start_response("200 OK", fields)
    made.send_body([])
    assert sock.sent.endswith(b"\r\nX-A: b\r\nContent-Length: 0\r\n\r\n")
