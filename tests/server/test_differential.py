"""The same bytes to gunicorn's parser and to ours: accepted with the same environ and body, or refused."""

from __future__ import annotations

from typing import Any

import pytest

from prologue.server.parsing import Parser
from tests.server import wire


def closes_earlier(accepted: list[tuple[dict[str, Any], bytes]]) -> bool:
    """Whether the last request has several connection options.

    gunicorn heeds the first field's if it stands alone; RFC 9112, section 9.3, wants "close" heeded anywhere.
    """
    return bool(accepted) and "," in accepted[-1][0].get("HTTP_CONNECTION", "")


def compare(data: bytes, parser: Parser, cfg: Any, **where: Any) -> str:
    """Compare two verdicts, and return how both ended."""
    theirs, their_end = wire.verdict_of_gunicorn(cfg, data, **where)
    ours, our_end = wire.verdict_of_ours(parser, data, **where)
    if (ours, our_end) != (theirs, their_end):
        assert ours == theirs[: len(ours)], data
        assert our_end == wire.STRICTER or closes_earlier(ours), data
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
    count = 2500 if not settings else 400
    ends = [compare(data, parser, cfg, client=client) for data in wire.generated(len(settings), count)]
    # Neither kind is missing: all refused, or all accepted, would prove nothing.
    assert min(ends.count(wire.REFUSED), ends.count(wire.INCOMPLETE)) > count // 20
