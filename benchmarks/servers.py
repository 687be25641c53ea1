"""The servers that the benchmarks start, the application that they serve, and wrk."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["ANNOUNCE", "CANDIDATES", "GTHREAD", "OURS", "Server", "prepare", "processor", "wrk"]

OURS = "ours"
GTHREAD = "gthread, C parser"
_FRAMEWORK = Path(__file__).parents[1] / "framework"
_SIZES = {"": 1.0, "k": 1e3, "m": 1e6, "us": 1e-6, "ms": 1e-3, "s": 1.0}

#: Every application begins with this: it tells which processes have loaded it.
ANNOUNCE = """
import os

open(os.path.join(os.environ["BENCHMARK_LOADED"], str(os.getpid())), "w").close()
"""

APPLICATION = ANNOUNCE + """
import sqlite3
import threading
from wsgiref.util import FileWrapper

from prologue import App

TEN = b"x" * 10_000
FILE = os.environ["BENCHMARK_FILE"]
DATABASE = os.environ["BENCHMARK_DATABASE"]
local = threading.local()


def plaintext(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "13")])
    return [b"Hello, World!"]


def ten(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "10000")])
    return [TEN]


def file(environ, start_response):
    start_response("200 OK", [("Content-Length", "1048576")])
    return environ.get("wsgi.file_wrapper", FileWrapper)(open(FILE, "rb"))


def post(environ, start_response):
    length = b"%d" % len(environ["wsgi.input"].read())
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(length)))])
    return [length]


def database(environ, start_response):
    connection = getattr(local, "connection", None)
    if connection is None:
        connection = local.connection = sqlite3.connect(DATABASE)
    ((name, price),) = connection.execute("SELECT name, price FROM item WHERE id = 7")
    body = b'{"name": "%b", "price": %d}' % (name.encode(), price)
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


framework = App()
framework.get("/framework", lambda ctx: "Hello, World!")
PATHS = {
    "/": plaintext,
    "/framework": framework.__call__,  # what our worker calls; each of them is a function
    "/ten": ten,
    "/file": file,
    "/post": post,
    "/database": database,
}


def app(environ, start_response):
    return PATHS[environ["PATH_INFO"]](environ, start_response)
"""

WAITRESS = (
    "import waitress, application\n"
    "waitress.serve(application.app, host='127.0.0.1', port=PORT, threads=THREADS,\n"
    "    connection_limit=1000, asyncore_use_poll=True)"
)
CHEROOT = (
    "import cheroot.wsgi, application\n"
    "cheroot.wsgi.Server(('127.0.0.1', PORT), application.app, numthreads=THREADS,\n"
    "    request_queue_size=2048).start()"
)


def _gunicorn(*options: str) -> list[str]:
    command = ["-m", "gunicorn", "--no-control-socket", "-b", "127.0.0.1:PORT", "--threads", "THREADS"]
    return [*command, "--workers", "WORKERS", "--keep-alive", "20", *options, "application:app"]


CANDIDATES: dict[str, list[str]] = {
    OURS: _gunicorn("-k", "prologue.server.ThreadWorker"),
    GTHREAD: _gunicorn("-k", "gthread", "--http-parser", "fast"),
    "gthread, Python parser": _gunicorn("-k", "gthread", "--http-parser", "python"),
    "sync": [word for word in _gunicorn("-k", "sync") if word not in ("--threads", "THREADS")],
    "waitress": ["-c", WAITRESS],
    "cheroot": ["-c", CHEROOT],
    "granian": [
        *("-m", "granian", "--interface", "wsgi", "--host", "127.0.0.1", "--port", "PORT", "--no-ws"),
        *("--workers", "WORKERS", "--blocking-threads", "THREADS", "application:app"),
    ],
}


class Server:
    """A candidate that listens.

    Args:
        name: of the candidate.
        directory: with the application.
        threads, workers: how many.
    """

    def __init__(self, name: str, directory: Path, threads: int, workers: int) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        numbers = {"PORT": self.port, "THREADS": threads, "WORKERS": workers}
        command = [
            re.sub("PORT|THREADS|WORKERS", lambda found: str(numbers[found[0]]), word)
            for word in CANDIDATES[name]
        ]
        loaded = Path(tempfile.mkdtemp(dir=directory))
        with (directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *command],
                cwd=directory,
                env={
                    **os.environ,
                    "PYTHONPATH": f"{directory}{os.pathsep}{_FRAMEWORK}",
                    "BENCHMARK_LOADED": str(loaded),
                    "BENCHMARK_FILE": str(directory / "file"),
                    "BENCHMARK_DATABASE": str(directory / "database"),
                },
                stdout=log,
                stderr=log,
            )
        end = time.monotonic() + 20
        while time.monotonic() < end and self.process.poll() is None:
            try:
                with socket.create_connection(("127.0.0.1", self.port), 20) as client:
                    client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                    answers = client.recv(65536).startswith(b"HTTP/1.1 200")
            except OSError:
                answers = False
            # Listening would not do: gunicorn's master does before its workers, and the first worker to be
            # there would get all connections.
            if answers and len(list(loaded.iterdir())) >= workers:
                return
            time.sleep(0.05)
        self.stop()
        raise RuntimeError(f"{name} does not listen:\n{(directory / 'log').read_text()[-2000:]}")

    def _processes(self) -> list[Path]:
        found = [Path(f"/proc/{self.process.pid}")]
        for process in found:
            for task in (process / "task").iterdir():
                found += [Path(f"/proc/{child}") for child in (task / "children").read_text().split()]
        return found

    def cpu(self) -> float:
        """Return the CPU seconds of all its processes so far."""
        ticks = 0
        for process in self._processes():
            fields = (process / "stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def memory(self) -> float:
        """Return the resident megabytes of all its processes."""
        pages = sum(int((process / "statm").read_text().split()[1]) for process in self._processes())
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def prepare(directory: Path) -> None:
    """Write the application and what it reads."""
    import sqlite3

    (directory / "application.py").write_text(APPLICATION)
    (directory / "file").write_bytes(os.urandom(1 << 20))
    with sqlite3.connect(directory / "database") as connection:
        connection.execute("CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT, price INTEGER)")
        connection.executemany("INSERT INTO item VALUES (?, ?, ?)", [(i, f"item {i}", i) for i in range(100)])
    connection.close()


def _number(text: str) -> float:
    digits, unit = re.fullmatch(r"([0-9.]+)([a-z]*)", text.strip().lower()).groups()  # type: ignore[union-attr]
    return float(digits) * _SIZES[unit]


def wrk(
    server: Server,
    path: str,
    connections: int,
    seconds: float,
    directory: Path,
    *,
    script: str = "",
    keep: bool = True,
) -> dict[str, float]:
    """Let wrk ask as fast as it is answered; return what it measured.

    Raises:
        RuntimeError: not all requests were answered with 200.
    """
    command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}", "--latency"]
    if script:
        file = directory / "wrk.lua"
        file.write_text(script)
        command += ["-s", str(file)]
    if not keep:
        command += ["-H", "Connection: close"]
    before = server.cpu()
    output = subprocess.run(
        [*command, f"http://127.0.0.1:{server.port}{path}"], capture_output=True, text=True, check=True
    ).stdout
    cpu = server.cpu() - before
    requests = int(re.search(r"(\d+) requests in", output)[1])  # type: ignore[index]
    if re.search(r"Non-2xx", output) or not requests:
        log = (directory / "log").read_text(errors="replace")
        raise RuntimeError(f"{path}: not all requests were answered with 200:\n{output}\n{log[-4000:]}")
    return {
        "requests/s": float(re.search(r"Requests/sec:\s+([0-9.]+)", output)[1]),  # type: ignore[index]
        "p50 ms": 1e3 * _number(re.search(r"\n +50%\s+(\S+)", output)[1]),  # type: ignore[index]
        "p99 ms": 1e3 * _number(re.search(r"\n +99%\s+(\S+)", output)[1]),  # type: ignore[index]
        "CPU s/1000": 1e3 * cpu / max(1, requests),
        "MB": server.memory(),
    }


@contextmanager
def processor(first: bool) -> Iterator[None]:
    """Let what is started run on the first processor only, or on the others only, where there are several."""
    allowed = os.sched_getaffinity(0)
    chosen = {min(allowed)} if first else allowed - {min(allowed)}
    os.sched_setaffinity(0, chosen or allowed)
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)
