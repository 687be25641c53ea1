"""The same bytes to gunicorn's own thread worker and to ours, over sockets: accepted alike, or refused."""

from __future__ import annotations

import base64
import html
import json
import re
import socket
from collections.abc import Iterator
from typing import Any

import gunicorn as installed
import pytest

from tests.integration.servers import PATIENCE, Server, gunicorn
from tests.server import wire

# gunicorn 27 refuses as much as we do, in other words now and then.
OLDER = installed.version_info < (27,)
_OWN = {"REMOTE_PORT", "SERVER_PORT"}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server]]:
    """gunicorn's own worker, and ours."""
    both = []
    for kind in ("gthread", "prologue.server.ThreadWorker"):
        command = gunicorn("-k", kind, "--threads", "2", app="tests.integration.bare:mirror")
        both.append(Server(command, tmp_path_factory.mktemp("differential"), {}))
    try:
        for server in both:
            server.wait_until_it_listens()
        yield both[0], both[1]
    finally:
        for server in both:
            server.kill()


def answers(server: Server, data: bytes) -> bytes:
    """Send bytes and an end; return all that comes back."""
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as client:
        received = b""
        try:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            while block := client.recv(65536):
                received += block
        except ConnectionError:
            pass  # it does not want to read more
    return received


def accepted(received: bytes) -> list[tuple[dict[str, str], str]]:
    """Return what the application was given: environ and body of each request."""
    seen = [json.loads(base64.b64decode(told)) for told in re.findall(rb"\r\nX-Seen: (\S+)\r\n", received)]
    return [
        ({key: value for key, value in environ.items() if key not in _OWN}, body) for environ, body in seen
    ]


def may_end_earlier(environ: dict[str, Any], page: str) -> bool:
    """Whether ours closes, or refuses, on purpose where an older gunicorn goes on."""
    if "," in environ.get("HTTP_CONNECTION", "") or environ.get("REQUEST_METHOD", "").upper() == "CONNECT":
        return True
    return OLDER and any(word in page for word in wire.STRICTER_WORDS)


@pytest.mark.parametrize("seed", [101, 102, 103])
def test_generated_requests_are_understood_alike(servers: tuple[Server, Server], seed: int) -> None:
    theirs, ours = servers
    ends = []
    for data in wire.generated(seed, 1000):
        their_answer, our_answer = answers(theirs, data), answers(ours, data)
        expected, found = accepted(their_answer), accepted(our_answer)
        assert found == expected[: len(found)], data
        if len(found) < len(expected):
            last = found[-1][0] if found else {}
            assert may_end_earlier(last, html.unescape(our_answer.decode("latin-1"))), data
        ends.append(len(found))
    assert ends.count(0) > 100  # refused
    assert ends.count(2) > 100  # understood, and the one behind it
    assert "Traceback" not in ours.log()
    assert "goes on after an error" not in ours.log()
