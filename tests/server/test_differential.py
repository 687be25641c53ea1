"""The same bytes to gunicorn's parser and to ours: accepted with the same environ and body, or refused."""

from __future__ import annotations

from typing import Any

import gunicorn
import pytest
from gunicorn.http.errors import LimitRequestHeaders

from prologue.server.parsing import Parser
from tests.server import wire


def closes_earlier(accepted: list[tuple[dict[str, Any], bytes]]) -> bool:
    """Whether the last request has several connection options, or is a CONNECT.

    gunicorn heeds the first field's if it stands alone; RFC 9112, section 9.3, wants "close" heeded anywhere.
    What follows a CONNECT is no request (RFC 9931, section 8); gunicorn closes since 27.
    """
    if not accepted:
        return False
    environ, _ = accepted[-1]
    return "," in environ.get("HTTP_CONNECTION", "") or environ["REQUEST_METHOD"].upper() == "CONNECT"


# gunicorn 27 refuses as much as we do, in other words now and then.
OLDER = gunicorn.version_info < (27,)


def compare(data: bytes, parser: Parser, cfg: Any, **where: Any) -> str:
    """Compare two verdicts, and return how both ended."""
    theirs, their_end = wire.verdict_of_gunicorn(cfg, data, **where)
    ours, our_end = wire.verdict_of_ours(parser, data, **where)
    if our_end == wire.STRICTER and their_end == wire.REFUSED:
        our_end = wire.REFUSED
    if (ours, our_end) != (theirs, their_end):
        assert ours == theirs[: len(ours)], data
        assert (our_end == wire.STRICTER and OLDER) or closes_earlier(ours), data
    return our_end


SETTINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "python": {"http_parser": "python"},
    "limits": {"limit_request_line": 100, "limit_request_fields": 4, "limit_request_field_size": 60},
    "unlimited line": {"limit_request_line": 0},
    "refuse": {"header_map": "refuse"},
    "dangerous": {"header_map": "dangerous"},
    "lenient": {"permit_unconventional_http_method": True, "permit_unconventional_http_version": True},
    "folding": {"permit_obsolete_folding": True, "strip_header_spaces": True},
    "casefold": {"casefold_http_method": True},
    "tls": {"certfile": "unused"},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())
@pytest.mark.parametrize("client", [wire.CLIENT, wire.STRANGER], ids=["trusted", "stranger"])
def test_generated_requests_have_the_same_verdict(settings: dict[str, Any], client: Any) -> None:
    cfg = wire.config(**settings)
    parser = Parser(cfg, 30.0)
    count = 1500 if not settings else 250
    ends = [compare(data, parser, cfg, client=client) for data in wire.generated(len(settings), count)]
    # Neither kind is missing: all refused, or all accepted, would prove nothing.
    assert min(ends.count(wire.REFUSED), ends.count(wire.INCOMPLETE)) > count // 20


PLAIN = b"GET /a%41?b HTTP/1.1\r\nHost: shop.example\r\nX-A: 1\r\nX-A: 2\r\n\r\n"
CLOSING = PLAIN.replace(b"Host", b"Connection: close\r\nHost")
POSTED = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab"


@pytest.mark.parametrize("settings", [{}, {"http_parser": "python"}], ids=["default", "python"])
def test_a_repeated_request_means_the_same_as_the_first(settings: dict[str, Any]) -> None:
    cfg = wire.config(**settings)
    parser = Parser(cfg, 30.0)
    connection = wire.connection_of(parser)
    for data in (PLAIN, PLAIN, PLAIN, CLOSING, PLAIN, PLAIN, POSTED, POSTED, POSTED, PLAIN, CLOSING, CLOSING):
        # In one piece, and in two with a vain attempt between them.
        for pieces in ((data,), (data[:20], data[20:])):
            for piece in pieces:
                connection.buffer += piece
                parsed = parser.parse(connection)
            assert parsed is not None
            request, environ = parsed
            ((expected, body),), _ = wire.verdict_of_gunicorn(cfg, data)
            assert wire.plain(environ) == expected
            assert environ["wsgi.input"].read() == body
            assert request.should_close() is (data is CLOSING)
            assert (connection.buffer, connection.scanned) == (b"", 0)
            environ["HTTP_HOST"] = "changed by the application"
            connection.requests += 1


def test_repeated_requests_that_come_with_a_part_of_the_next_are_all_understood() -> None:
    parser = Parser(wire.config(), 30.0)
    connection = wire.connection_of(parser)
    connection.buffer = PLAIN + PLAIN[:20]
    for _ in range(4):
        parsed = parser.parse(connection)
        assert parsed is not None
        assert connection.buffer == PLAIN[:20]
        assert parser.parse(connection) is None
        connection.buffer += PLAIN[20:] + PLAIN[:20]


@pytest.mark.parametrize("target", [b"/shop", b"/shop/a", b"/shopping", b"/", b"/other"])
def test_the_script_name_is_taken_off_the_path(monkeypatch: pytest.MonkeyPatch, target: bytes) -> None:
    monkeypatch.setenv("SCRIPT_NAME", "/shop")
    cfg = wire.config()
    data = b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % target
    assert compare(data, Parser(cfg, 30.0), cfg) == (
        wire.INCOMPLETE if target.startswith(b"/shop") else wire.REFUSED
    )


def test_more_names_of_fields_than_are_remembered_are_understood() -> None:
    cfg = wire.config()
    parser = Parser(cfg, 30.0)
    for number in range(0, 1200, 50):
        fields = b"".join(b"X-%d: a\r\n" % name for name in range(number, number + 50))
        assert compare(b"GET / HTTP/1.1\r\nHost: a\r\n%b\r\n" % fields, parser, cfg) == wire.INCOMPLETE


def test_a_head_that_does_not_end_is_refused() -> None:
    parser = Parser(wire.config(limit_request_fields=10, limit_request_field_size=100), 30.0)
    connection = wire.connection_of(parser)
    connection.buffer = b"GET / HTTP/1.1\r\nHost: a\r\n"
    for _ in range(10):
        connection.buffer += b"a" * 50
        assert parser.parse(connection) is None
    connection.buffer += b"a" * 10_000
    with pytest.raises(LimitRequestHeaders):
        parser.parse(connection)
