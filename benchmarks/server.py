"""The thread worker beside gunicorn's own workers and other servers.

Needs wrk. Each candidate is a server of its own process that is measured in turn in each round; a ratio is
taken inside a round. The machine's other work disturbs all of them: what lasts is the ratio.

``python benchmarks/server.py --check`` compares the ratios with the bars; ``--cases plaintext,close``
measures some cases only.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from measure import Options, Report, read_options

__all__ = ["main"]

OURS = "ours"
GTHREAD = "gthread, C parser"
_HERE = Path(__file__).parent
_FRAMEWORK = _HERE.parent / "framework"

APPLICATION = """
import os
import sqlite3
import threading

from prologue import App

TEN = b"x" * 10_000
FILE = os.environ["BENCHMARK_FILE"]
DATABASE = os.environ["BENCHMARK_DATABASE"]
local = threading.local()
served = {}


def plaintext(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "13")])
    return [b"Hello, World!"]


def ten(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "10000")])
    return [TEN]


def file(environ, start_response):
    start_response("200 OK", [("Content-Length", "1048576")])
    return environ["wsgi.file_wrapper"](open(FILE, "rb"))


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
PATHS = {"/": plaintext, "/ten": ten, "/file": file, "/post": post, "/database": database}


def app(environ, start_response):
    return PATHS.get(environ["PATH_INFO"], framework)(environ, start_response)
"""

WAITRESS = (
    "import waitress, application\n"
    "waitress.serve(application.app, host='127.0.0.1', port=PORT, threads=THREADS)"
)
CHEROOT = (
    "import cheroot.wsgi, application\n"
    "cheroot.wsgi.Server(('127.0.0.1', PORT), application.app, numthreads=THREADS).start()"
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
_ALONE = {"waitress", "cheroot"}  # one process only

#: By name: path, threads, workers, connections, whether they are kept, wrk's script.
CASES: dict[str, tuple[str, int, int, int, bool, str]] = {
    "plaintext": ("/", 4, 1, 16, True, ""),
    "plaintext 1 connection": ("/", 4, 1, 1, True, ""),
    "plaintext 64 connections": ("/", 4, 1, 64, True, ""),
    "plaintext 512 connections": ("/", 8, 1, 512, True, ""),
    "plaintext 2 workers": ("/", 4, 2, 16, True, ""),
    "close": ("/", 4, 1, 16, False, ""),
    "framework": ("/framework", 4, 1, 16, True, ""),
    "10 kB": ("/ten", 4, 1, 16, True, ""),
    "1 MB file": ("/file", 4, 1, 16, True, ""),
    "POST 10 kB": ("/post", 4, 1, 16, True, 'wrk.method = "POST"; wrk.body = string.rep("x", 10000)'),
    "database": ("/database", 4, 1, 16, True, ""),
}
OPEN_LOOP = "open loop"
FAIRNESS = "fairness"
_SIZES = {"": 1.0, "k": 1e3, "m": 1e6, "us": 1e-6, "ms": 1e-3, "s": 1.0}


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
        with (directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *command],
                cwd=directory,
                env={
                    **os.environ,
                    "PYTHONPATH": f"{directory}{os.pathsep}{_FRAMEWORK}",
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
                    if client.recv(65536).startswith(b"HTTP/1.1 200"):
                        return  # listening alone would not do: gunicorn's master does before its workers
            except OSError:
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


def _number(text: str) -> float:
    digits, unit = re.fullmatch(r"([0-9.]+)([a-z]*)", text.strip().lower()).groups()  # type: ignore[union-attr]
    return float(digits) * _SIZES[unit]


def closed_loop(server: Server, case: str, seconds: float, directory: Path) -> dict[str, float]:
    """Let wrk ask as fast as it is answered."""
    path, _, _, connections, kept, script = CASES[case]
    command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}", "--latency"]
    if script:
        file = directory / "wrk.lua"
        file.write_text(script)
        command += ["-s", str(file)]
    if not kept:
        command += ["-H", "Connection: close"]
    before = server.cpu()
    output = subprocess.run(
        [*command, f"http://127.0.0.1:{server.port}{path}"], capture_output=True, text=True, check=True
    ).stdout
    cpu = server.cpu() - before
    requests = int(re.search(r"(\d+) requests in", output)[1])  # type: ignore[index]
    wrong = re.search(r"Non-2xx.*", output)
    if wrong or not requests:
        log = (directory / "log").read_text(errors="replace")
        raise RuntimeError(f"{case}: not all requests were answered with 200:\n{output}\n{log[-4000:]}")
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


def saturation(server: Server, seconds: float) -> float:
    """Return how many plaintext requests a second a server answers to the sender of :func:`open_loop`."""
    result = _sender(server, 50_000 * seconds, 0.1, 16)  # all due at once
    return float(len(result["latencies"]) / result["seconds"])


def open_loop(server: Server, rate: float, seconds: float) -> dict[str, float]:
    """Send plaintext requests at a rate, from another process."""
    result = _sender(server, rate, seconds, 64)
    latencies = result["latencies"]
    return {
        "rate/s": rate,
        "p50 ms": 1e3 * latencies[len(latencies) // 2],
        "p99 ms": 1e3 * latencies[int(len(latencies) * 0.99)],
        "lost": result["lost"],
    }


def _sender(server: Server, rate: float, seconds: float, connections: int) -> dict[str, Any]:
    arguments = [str(server.port), str(rate), str(seconds), str(connections), "keep"]
    command = [sys.executable, str(_HERE / "open_loop.py"), *arguments]
    with processor(first=True):
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    result: dict[str, Any] = json.loads(output)
    return result


def jain(server: Server, connections: int, seconds: float) -> float:
    """Keep so many connections busy; return Jain's index of the requests that each was served."""
    import select

    request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    poll = select.epoll()
    clients = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(connections)]
    by_number = {client.fileno(): client for client in clients}
    for client in clients:
        poll.register(client, select.EPOLLIN)
        client.send(request)
    for length in (seconds / 2, seconds):  # the first is to warm up
        served = dict.fromkeys(by_number, 0)
        end = time.monotonic() + length
        while time.monotonic() < end:
            for number, _ in poll.poll(0.1):
                if by_number[number].recv(65536).endswith(b"Hello, World!"):
                    served[number] += 1
                    by_number[number].send(request)
    for client in clients:
        client.close()
    counts = served.values()
    return sum(counts) ** 2 / (len(counts) * sum(count * count for count in counts))


def _prepare(directory: Path) -> None:
    import sqlite3

    (directory / "application.py").write_text(APPLICATION)
    (directory / "file").write_bytes(os.urandom(1 << 20))
    with sqlite3.connect(directory / "database") as connection:
        connection.execute("CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT, price INTEGER)")
        connection.executemany("INSERT INTO item VALUES (?, ?, ?)", [(i, f"item {i}", i) for i in range(100)])
    connection.close()


def _medians(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {label: median(each[label] for each in rounds) for label in rounds[0]}


class Measurement:
    """All that is measured, and the figures."""

    def __init__(self, options: Options, names: Sequence[str], directory: Path, report: Report) -> None:
        self._options = options
        self._names = names
        self._directory = directory
        self._report = report
        self.rounds: dict[str, dict[str, list[dict[str, float]]]] = {}

    def case(self, title: str) -> None:
        """Measure one case of wrk, round by round."""
        _, threads, workers, _, _, _ = CASES[title]
        names = [name for name in self._names if workers == 1 or name not in _ALONE]
        found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
        servers = {name: Server(name, self._directory, threads, workers) for name in names}
        try:
            for number in range(self._options.rounds):
                shift = number % len(names)
                for name in names[shift:] + names[:shift]:
                    seconds = self._options.slot
                    found[name].append(closed_loop(servers[name], title, seconds, self._directory))
        finally:
            for server in servers.values():
                server.stop()
        self.rounds[title] = found
        self._report.figures(title, {name: _medians(rounds) for name, rounds in found.items()})

    def open_loop(self) -> None:
        """Measure latency at 70 % of each one's saturation; sender and server share no processor."""
        names = [name for name in self._names if name in (OURS, GTHREAD)]
        found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
        for _ in range(self._options.rounds):
            for name in names:
                with processor(first=False):
                    server = Server(name, self._directory, 4, 1)
                try:
                    rate = round(0.7 * saturation(server, self._options.slot))
                    found[name].append(open_loop(server, rate, self._options.slot * 2))
                finally:
                    server.stop()
        self.rounds[OPEN_LOOP] = found
        self._report.figures(OPEN_LOOP, {name: _medians(rounds) for name, rounds in found.items()})

    def fairness(self) -> None:
        """Measure Jain's index over 512 connections on 8 threads."""
        rows: dict[str, list[dict[str, float]]] = {}
        for name in self._names:
            if name in (OURS, GTHREAD):
                server = Server(name, self._directory, 8, 1)
                try:
                    rows[name] = [{"Jain's index": jain(server, 512, self._options.slot * 2)}]
                finally:
                    server.stop()
        self.rounds[FAIRNESS] = rows
        self._report.figures(FAIRNESS, {name: _medians(rounds) for name, rounds in rows.items()})

    def ratio(self, title: str, label: str, one: str, other: str, other_title: str = "") -> float | None:
        """Return the median over the rounds of one figure in terms of another."""
        ones = self.rounds.get(title, {}).get(one)
        others = self.rounds.get(other_title or title, {}).get(other)
        if not ones or not others:
            return None
        return median(a[label] / b[label] for a, b in zip(ones, others, strict=True))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write; return the exit status."""
    cases = [*CASES, OPEN_LOOP, FAIRNESS]

    def extend(parser: Any) -> None:
        parser.add_argument("--candidates", default=";".join(CANDIDATES), help="separated by semicolons")
        parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement; default 5")

    options = read_options("server", __doc__ or "", cases, rounds=3, arguments=arguments, extend=extend)
    options.slot = 1.0 if options.quick else options.seconds
    names = [name for name in CANDIDATES if name in options.candidates.split(";")]
    packages = ("gunicorn", "gunicorn_h1c", "granian", "waitress", "cheroot")
    report = Report("server", options, OURS, packages)
    if shutil.which("wrk") is None:
        report.missing("everything", "wrk is not installed")
        return 1
    for name in ("granian", "waitress", "cheroot"):
        if (
            name in names
            and subprocess.run([sys.executable, "-c", f"import {name}"], capture_output=True).returncode
        ):
            names.remove(name)
            report.missing(name, "it is not installed")
    with tempfile.TemporaryDirectory() as directory:
        _prepare(Path(directory))
        measurement = Measurement(options, names, Path(directory), report)
        for title in options.cases:
            if title == OPEN_LOOP:
                measurement.open_loop()
            elif title == FAIRNESS:
                measurement.fairness()
            else:
                measurement.case(title)
    _compare(measurement, report, options.cases)
    return report.finish()


def _compare(measurement: Measurement, report: Report, cases: Sequence[str]) -> None:
    """Add the bars of the measured cases, each as the most that a ratio may be."""
    speed = "requests/s"
    for title, times in (("plaintext", 6), ("framework", 6), ("plaintext 512 connections", 4), ("close", 2)):
        if title in cases:
            figure = measurement.ratio(title, speed, GTHREAD, OURS)
            report.bar(f"{title}: gthread's requests/s ÷ ours", figure, 1 / times)
    if {"plaintext", "framework"} <= set(cases):
        figure = measurement.ratio("plaintext", speed, OURS, OURS, "framework")
        report.bar("requests/s of the bare callable ÷ the framework's", figure, 1 / 0.9)
    if OPEN_LOOP in cases:
        figure = measurement.ratio(OPEN_LOOP, "p99 ms", OURS, GTHREAD)
        report.bar("p99 at 70 % of saturation: ours ÷ gthread's", figure, 0.5)
    if FAIRNESS in cases:
        index = measurement.rounds[FAIRNESS][OURS][0]["Jain's index"]
        report.bar("512 connections: 1 - Jain's index", 1 - index, 0.1)


if __name__ == "__main__":
    sys.exit(main())
