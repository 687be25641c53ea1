"""The thread worker beside gunicorn's own workers and other servers.

Needs wrk, and a C compiler for the open loop. Each candidate is a server of its own process that is measured
in turn in each round; a ratio is taken inside a round. The machine's other work disturbs all of them: what
lasts is the ratio.

``python benchmarks/server.py --check`` compares the ratios with the bars. ``--cases`` chooses among all
combinations: ``--cases "plaintext close,10 kB 64,database 512 close 2 workers"``.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from itertools import product, starmap
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from measure import Options, Report, read_options
from servers import CANDIDATES, GTHREAD, OURS, Server, prepare, processor, wrk

__all__ = ["main"]

_HERE = Path(__file__).parent

#: By name: path, and wrk's script.
KINDS = {
    "plaintext": ("/", ""),
    "framework": ("/framework", ""),
    "10 kB": ("/ten", ""),
    "1 MB file": ("/file", ""),
    "POST 10 kB": ("/post", 'wrk.method = "POST"; wrk.body = string.rep("x", 10000)'),
    "database": ("/database", ""),
}
_ALONE = {"waitress", "cheroot"}  # one process only


class Case(NamedTuple):
    """One way of asking. Its name leaves out what is usual: 16 kept connections, one worker."""

    kind: str
    connections: int = 16
    keep: bool = True
    workers: int = 1

    @property
    def threads(self) -> int:
        """Of each worker."""
        return 8 if self.connections == 512 else 4

    @property
    def name(self) -> str:
        """As the command line has it."""
        return (
            self.kind
            + ("" if self.connections == 16 else f" {self.connections}")
            + ("" if self.keep else " close")
            + ("" if self.workers == 1 else f" {self.workers} workers")
        )


ALL = list(starmap(Case, product(KINDS, (1, 16, 64, 512), (True, False), (1, 2))))
CASES = {case.name: case for case in ALL}
OPEN_LOOP = "open loop"
FAIRNESS = "fairness"
USUAL = [
    "plaintext",
    "plaintext 1",
    "plaintext 64",
    "plaintext 512",
    "plaintext close",
    "plaintext 2 workers",
    "framework",
    "10 kB",
    "1 MB file",
    "POST 10 kB",
    "database",
    OPEN_LOOP,
    FAIRNESS,
]
# The bare callable in the rounds of the framework, for the two are compared closely.
BARE = "framework: the bare callable"


class Sender:
    """An open-loop sender that is no Python, for it must need less time for a request than the servers.

    Args:
        directory: where it is built.

    Raises:
        FileNotFoundError, subprocess.CalledProcessError: there is no C compiler, or it fails.
    """

    def __init__(self, directory: Path) -> None:
        self._program = directory / "open_loop"
        subprocess.run(["cc", "-O2", "-o", self._program, _HERE / "open_loop.c"], check=True)

    def saturation(self, server: Server, seconds: float) -> float:
        """Return how many plaintext requests a second a server answers."""
        result = self._send(server, 1_000_000 * seconds, 0.1, 16, patience=seconds)  # all due at once
        return result["answers"] / result["seconds"]

    def latency(self, server: Server, rate: float, seconds: float) -> dict[str, float]:
        """Send plaintext requests at a rate."""
        result = self._send(server, rate, seconds, 64)
        milliseconds = {f"{name} ms": 1e3 * result[name] for name in ("p50", "p99", "p99.9")}
        return {
            "rate/s": rate,
            **milliseconds,
            "lost": result["lost"],
            "sender paused ms": 1e3 * result["paused"],
        }

    def _send(
        self, server: Server, rate: float, seconds: float, connections: int, patience: float = 10.0
    ) -> dict[str, float]:
        numbers = [str(number) for number in (server.port, rate, seconds, connections, patience)]
        with processor(first=True):
            output = subprocess.run(
                [self._program, *numbers, "/"], capture_output=True, text=True, check=True
            ).stdout
        result: dict[str, float] = json.loads(output)
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
        case = CASES[title]
        names = [name for name in self._names if case.workers == 1 or name not in _ALONE]
        found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
        bare: list[dict[str, float]] = []
        servers = {name: Server(name, self._directory, case.threads, case.workers) for name in names}
        try:
            for number in range(self._options.rounds):
                shift = number % len(names)
                for name in names[shift:] + names[:shift]:
                    pair = [(case, found[name])]
                    if title == "framework" and name == OURS:
                        pair.append((CASES["plaintext"], bare))
                    for one, rounds in reversed(pair) if number % 2 else pair:
                        rounds.append(self._closed_loop(servers[name], one))
        finally:
            for server in servers.values():
                server.stop()
        if bare:
            self.rounds[BARE] = {OURS: bare}
            self._report.figures(BARE, {OURS: _medians(bare)})
        self.rounds[title] = found
        self._report.figures(title, {name: _medians(rounds) for name, rounds in found.items()})

    def _closed_loop(self, server: Server, case: Case) -> dict[str, float]:
        path, script = KINDS[case.kind]
        seconds = self._options.slot
        return wrk(server, path, case.connections, seconds, self._directory, script=script, keep=case.keep)

    def open_loop(self) -> None:
        """Measure latency at 70 % of each one's saturation; sender and server share no processor."""
        sender = Sender(self._directory)
        names = [name for name in self._names if name in (OURS, GTHREAD)]
        found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
        for _ in range(self._options.rounds):
            for name in names:
                with processor(first=False):
                    server = Server(name, self._directory, 4, 1)
                try:
                    rate = round(0.7 * sender.saturation(server, self._options.slot))
                    found[name].append(sender.latency(server, rate, self._options.slot * 2))
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
        parser.set_defaults(cases=",".join(USUAL))
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
        prepare(Path(directory))
        measurement = Measurement(options, names, Path(directory), report)
        for title in options.cases:
            if title == OPEN_LOOP and shutil.which("cc") is None:
                report.missing(OPEN_LOOP, "there is no C compiler")
            elif title == OPEN_LOOP and len(os.sched_getaffinity(0)) < 2:
                report.missing(OPEN_LOOP, "sender and server need a processor each")
            elif title == OPEN_LOOP:
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
    for title, times in (("plaintext", 6), ("framework", 6), ("plaintext 512", 4), ("plaintext close", 2)):
        if title in cases:
            figure = measurement.ratio(title, speed, GTHREAD, OURS)
            report.bar(f"{title}: gthread's requests/s ÷ ours", figure, 1 / times)
    if "framework" in cases:
        figure = measurement.ratio(BARE, speed, OURS, OURS, "framework")
        report.bar("requests/s of the bare callable ÷ the framework's", figure, 1 / 0.9)
    if OPEN_LOOP in cases:
        figure = measurement.ratio(OPEN_LOOP, "p99 ms", OURS, GTHREAD)
        report.bar("p99 at 70 % of saturation: ours ÷ gthread's", figure, 0.5)
    if FAIRNESS in cases:
        index = measurement.rounds[FAIRNESS][OURS][0]["Jain's index"]
        report.bar("512 connections: 1 - Jain's index", 1 - index, 0.1)


if __name__ == "__main__":
    sys.exit(main())
