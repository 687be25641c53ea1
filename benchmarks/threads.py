"""How many workers and threads an application can use: what the guide's figure is drawn from.

Needs wrk. Three applications, which differ in how long they compute and how long they wait, are asked by 64
connections, with 1 to 32 threads and one or two workers. ``--figure FILE`` draws what was measured.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from measure import Report, read_options
from servers import ANNOUNCE, OURS, Server, wrk

__all__ = ["draw", "main"]

APPLICATION = ANNOUNCE + """
import time

# Work is counted, not timed: a thread that waits for its turn computes nothing.
ADDITIONS = 60_000  # take about a millisecond


def app(environ, start_response):
    computed, waited = (float(each) for each in (environ["QUERY_STRING"] or "0,0").split(","))
    sum(range(int(ADDITIONS * computed)))
    if waited:
        time.sleep(waited / 1000)
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""

THREADS = (1, 2, 4, 8, 16, 32)
WORKERS = (1, 2)
CONNECTIONS = 64
#: By name: milliseconds that are computed and waited.
CASES = {"computes 2 ms": (2.0, 0.0), "computes 1 ms, waits 4 ms": (1.0, 4.0), "waits 20 ms": (0.1, 20.0)}

#: Requests a second, by case, workers and threads.
Speeds = Mapping[str, Mapping[int, Mapping[int, float]]]

_PANEL = 230  # of the figure, in pixels
_HEIGHT = 170
_LEFT = 50
_TOP = 40


def draw(speeds: Speeds) -> str:
    """Return a figure as SVG: for each case the requests a second over the threads, a line for each number of
    workers.
    """
    width = _LEFT + len(speeds) * (_PANEL + _LEFT)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {_TOP + _HEIGHT + 50}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{_TOP + _HEIGHT + 50}" fill="#ffffff"/>',
    ]
    for number, (title, by_workers) in enumerate(speeds.items()):
        left = _LEFT + number * (_PANEL + _LEFT)
        most = max(speed for by_threads in by_workers.values() for speed in by_threads.values())
        bottom = _TOP + _HEIGHT
        parts.append(f'<text x="{left}" y="{_TOP - 24}" font-weight="bold">{title}</text>')
        parts.append(f'<text x="{left}" y="{_TOP - 9}" fill="#666666">requests a second</text>')
        parts.append(f'<path d="M{left} {_TOP}V{bottom}H{left + _PANEL}" fill="none" stroke="#888888"/>')
        for share in (0.5, 1.0):
            y = bottom - share * _HEIGHT
            parts.append(f'<path d="M{left} {y:.0f}h{_PANEL}" stroke="#dddddd"/>')
            parts.append(f'<text x="{left - 5}" y="{y + 4:.0f}" text-anchor="end">{most * share:,.0f}</text>')
        for workers, by_threads in by_workers.items():
            color = {1: "#1f6fb4", 2: "#d1630f"}[workers]
            step = _PANEL / (len(by_threads) - 1)
            points = [
                (left + place * step, bottom - speed / most * _HEIGHT)
                for place, speed in enumerate(by_threads.values())
            ]
            line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
            parts.append(f'<polyline points="{line}" fill="none" stroke="{color}" stroke-width="2"/>')
            parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{color}"/>' for x, y in points]
            name = f"{workers} worker{'s' if workers > 1 else ''}"
            place = left + 70 * (workers - 1)
            parts.append(f'<text x="{place}" y="{bottom + 34}" fill="{color}">{name}</text>')
            for place, threads in enumerate(by_threads):
                x = left + place * step
                parts.append(f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{threads}</text>')
        parts.append(f'<text x="{left + _PANEL}" y="{bottom + 34}" text-anchor="end">threads</text>')
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


def _measure(case: str, workers: int, threads: int, seconds: float, directory: Path) -> float:
    computed, waited = CASES[case]
    server = Server(OURS, directory, threads, workers)
    try:
        return wrk(server, f"/?{computed},{waited}", CONNECTIONS, seconds, directory)["requests/s"]
    finally:
        server.stop()


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write and draw; return the exit status."""

    def extend(parser: Any) -> None:
        parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement; default 1")
        parser.add_argument("--figure", type=Path, help="draw the figures to this file, as SVG")

    # Commas separate cases on the command line, and so here: the cases go by their number.
    numbers = {str(number): case for number, case in enumerate(CASES, 1)}
    options = read_options(
        "threads", __doc__ or "", list(numbers), rounds=2, arguments=arguments, extend=extend
    )
    report = Report("threads", options, OURS, ("gunicorn", "gunicorn_h1c"))
    if shutil.which("wrk") is None:
        report.missing("everything", "wrk is not installed")
        return 1
    seconds = 1.0 if options.quick else options.seconds
    speeds: dict[str, dict[int, dict[int, float]]] = {}
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "application.py").write_text(APPLICATION)
        for case in (numbers[number] for number in options.cases):
            found: dict[tuple[int, int], float] = {}
            for _ in range(options.rounds):
                for place in product(WORKERS, THREADS):
                    # The best of the rounds: what else runs on a machine can only slow.
                    found[place] = max(found.get(place, 0.0), _measure(case, *place, seconds, directory))
            speeds[case] = {
                workers: {threads: found[workers, threads] for threads in THREADS} for workers in WORKERS
            }
            rows = {
                f"{workers} workers": {f"{threads} threads": speed for threads, speed in row.items()}
                for workers, row in speeds[case].items()
            }
            report.figures(case, rows)
    if options.figure is not None:
        options.figure.write_text(draw(speeds), encoding="utf-8")
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
