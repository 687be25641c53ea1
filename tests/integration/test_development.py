"""The development server, as `app.run()` starts it in debug."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

from tests.integration.conftest import Start
from tests.integration.servers import embedded
from tests.servers import free_port


def test_the_development_server_serves_and_shows_errors(start: Start) -> None:
    call = "import logging; logging.basicConfig(level=logging.INFO)\n"
    call += "app.run(port=0, use_reloader=False, workers=3, timeout=60)"
    server = start(embedded(call), DEBUG="yes")
    assert "the development server makes no use of workers, timeout" in server.log()
    assert server.get("/stream")[0] == 200
    status, body = server.get("/error")
    assert status == 500
    assert b"ValueError: wrong on purpose" in body
    assert b"debugger" not in body.lower()
    assert server.get("/?__debugger__=yes&cmd=resource&f=debugger.js")[0] == 404

    assert server.stop(signal.SIGINT) == 0
    assert [event for event, _ in server.events()] == ["startup", "shutdown"]


PROGRAM = """\
from tests.integration.application import app

app.get("/version", lambda ctx: "VERSION")

if __name__ == "__main__":
    app.run(port=PORT)
"""


def test_a_changed_source_is_loaded_again(start: Start, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    source = PROGRAM.replace("PORT", str(free_port()))
    program.write_text(source.replace("VERSION", "1"))
    server = start([str(program)], DEBUG="yes")
    assert server.get("/version") == (200, b"1")

    program.write_text(source.replace("VERSION", "2.0"))
    server.until(lambda: server.get("/version") == (200, b"2.0"))

    first, second = server.pids("startup")
    assert first != second
    assert server.pids("shutdown") == [first]


def test_the_port_of_another_program_is_told(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        server = start(embedded(f"app.run(port={port})"), listens=False, DEBUG="yes")
        assert server.wait() == 1
    assert f"OSError: [Errno 98] cannot listen on 127.0.0.1:{port}: Address already in use" in server.log()
