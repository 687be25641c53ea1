"""Real servers for the tests: started on a port that the system chooses, and always stopped."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import prologue

PATIENCE = 60.0
"""Seconds after which something that should have happened never will.

More than gunicorn's ``graceful_timeout`` of 30: its master loses the signal for a worker that it is just
forking, and kills that worker only then.
"""

_PATHS = (str(Path(__file__).parents[2]), str(Path(prologue.__file__).parents[1]))
PAYLOAD = bytes(range(256)) * 12_000  # 3,072,000 bytes: many times a socket's buffer

_LISTENING = re.compile(r"(?:Listening at:|Running on) http://127\.0\.0\.1:([0-9]+)")


class Server:
    """A server in a process group of its own, in a temporary directory.

    Attributes:
        port: where it listens.
    """

    def __init__(self, command: Sequence[str], directory: Path, environ: Mapping[str, str]) -> None:
        self.directory = directory
        self.gate = directory / "gate"
        self._events = directory / "events"
        self._log = directory / "log"
        payload = directory / "payload.bin"
        payload.write_bytes(PAYLOAD)
        meant_for_another = {"PORT", "WEB_CONCURRENCY", "GUNICORN_CMD_ARGS"}
        inherited = {name: os.environ[name] for name in os.environ.keys() - meant_for_another}
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-W", "error", *command],
                cwd=directory,
                env={
                    **inherited,
                    "PYTHONPATH": os.pathsep.join(_PATHS),
                    "PYTHONUNBUFFERED": "1",
                    "EVENTS": str(self._events),
                    "GATE": str(self.gate),
                    "PAYLOAD": str(payload),
                    **environ,
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.port = 0

    def wait_until_it_listens(self) -> None:
        self.until(lambda: _LISTENING.search(self.log()) or self.process.poll() is not None)
        found = _LISTENING.search(self.log())
        assert found is not None, self.log()
        self.port = int(found[1])

    def until(self, condition: Callable[[], object]) -> None:
        """Look again and again, in bounded time, until a condition of another process holds."""
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, f"the condition never came to hold\n{self.events()}\n{self.log()}"
            time.sleep(0.005)

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def events(self) -> list[tuple[str, int]]:
        """Return what the application noted: (event, process), in order."""
        if not self._events.exists():
            return []
        lines = self._events.read_text().splitlines()
        return [(line.split()[0], int(line.split()[1])) for line in lines]

    def pids(self, event: str) -> list[int]:
        return [pid for name, pid in self.events() if name == event]

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Tell the server to stop, and return its exit status."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the server does not end\n{self.log()}") from None

    def kill(self) -> None:
        """End every process of the server's group that is left."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                pass
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()

    @contextmanager
    def connection(self) -> Iterator[http.client.HTTPConnection]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            yield connection
        finally:
            connection.close()

    def get(self, path: str, method: str = "GET", **headers: str) -> tuple[int, bytes]:
        """Make one request on a connection of its own; return status and body."""
        with self.connection() as connection:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, headers=named)
            response = connection.getresponse()
            return response.status, response.read()

    def exchange(self, *pieces: bytes) -> bytes:
        """Send bytes as they are, and return all that comes back until the server closes."""
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE) as client:
            for piece in pieces:
                client.sendall(piece)
            received = b""
            while block := client.recv(65536):
                received += block
            return received


HOOKS = ("-c", "python:prologue.server.hooks")


def gunicorn(*options: str, app: str = "tests.integration.application:app") -> list[str]:
    """Return the arguments of Python that start gunicorn from its own command line."""
    return ["-m", "gunicorn", "-b", "127.0.0.1:0", "--no-control-socket", *options, app]


def embedded(call: str = "app.run(port=0)") -> list[str]:
    """Return the arguments of Python that start a program which calls ``app.run``."""
    return ["-c", f"from tests.integration.application import app, note\n{call}\n"]
