"""What every benchmark shares: interleaved rounds, medians and ratios, one table and one JSON file.

Machines are shared and change their pace while a benchmark runs. So everything that is compared is
measured in turn in each of many short rounds, in another order each time; a ratio is taken inside a
round, and what is reported is the median over the rounds. Times are CPU time of this process: what
others run on the machine does not count.
"""

from __future__ import annotations

import argparse
import gc
import importlib.metadata
import json
import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

__all__ = ["Options", "Report", "Run", "clock", "interleave", "ratio", "read_options"]

clock = time.process_time

#: Does something so many times, and returns the seconds that it took.
Run = Callable[[int], float]

RESULTS = Path(__file__).parent / "results"

_QUICK_ROUNDS = 2
_QUICK_SLOT = 0.0005


class Options(argparse.Namespace):
    """What the command line asks for."""

    cases: list[str]
    check: bool
    json: Path
    quick: bool
    rounds: int
    #: Seconds that each candidate gets in a round.
    slot: float


def read_options(
    name: str,
    description: str,
    cases: Sequence[str],
    rounds: int,
    slot: float = 0.004,
    arguments: Sequence[str] | None = None,
    extend: Callable[[argparse.ArgumentParser], object] = lambda parser: None,
) -> Options:
    """Read the command line that all benchmarks have in common.

    Args:
        name: of the benchmark, and of its file among the results.
        description: for ``--help``.
        cases: what can be measured.
        rounds: how many by default.
        slot: seconds that each candidate gets in a round.
        arguments: default ``sys.argv``.
        extend: adds options of its own.

    Raises:
        SystemExit: the command line is wrong; status 2.
    """
    parser = argparse.ArgumentParser(name, description=description)
    file = RESULTS / f"{name}.json"
    parser.add_argument("--rounds", type=int, default=rounds, help=f"default {rounds}")
    parser.add_argument("--cases", default=",".join(cases), help="default: %(default)s")
    parser.add_argument("--json", type=Path, default=file, help="write the figures to this file")
    parser.add_argument("--quick", action="store_true", help="see that it runs; the figures mean little")
    parser.add_argument("--check", action="store_true", help="exit with status 1 when a bar is missed")
    extend(parser)
    options = parser.parse_args(arguments, Options())
    options.cases = str(options.cases).split(",")
    unknown = [case for case in options.cases if case not in cases]
    if unknown:
        parser.error(f"no case {', '.join(unknown)}; there are {', '.join(cases)}")
    if options.rounds < 1:
        parser.error(f"--rounds must be 1 or more, not {options.rounds}")
    options.slot = slot
    if options.quick:
        options.rounds, options.slot = min(options.rounds, _QUICK_ROUNDS), _QUICK_SLOT
    return options


def interleave(runs: Mapping[str, Run], options: Options) -> dict[str, list[float]]:
    """Measure candidates in turn.

    Each candidate pays for the garbage it makes, and for none of the others'.

    Args:
        runs: the candidates by name.
        options: rounds and slot.

    Returns:
        Seconds a call, one figure a round, by name.
    """
    calls = {name: _calibrate(run, options.slot) for name, run in runs.items()}
    names = list(runs)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    gc.collect()
    gc.freeze()
    for number in range(options.rounds):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            gc.collect()
            seconds[name].append(runs[name](calls[name]) / calls[name])
    gc.unfreeze()
    return seconds


def _calibrate(run: Run, slot: float) -> int:
    """Return how many calls fill a slot."""
    calls = 1
    while (taken := run(calls)) < slot / 4:
        calls *= 2
    return max(1, round(calls * slot / taken))


def ratio(ours: Iterable[float], theirs: Iterable[float]) -> float:
    """Return the median of the ratios, each taken within a round."""
    return median(one / other for one, other in zip(ours, theirs, strict=True))


class Report:
    """The figures of one benchmark, printed as they come and written as JSON at the end.

    Args:
        name: of the benchmark.
        options: of its command line.
        ours: the candidate that the others are compared with.
        distributions: whose versions count.
    """

    def __init__(self, name: str, options: Options, ours: str, distributions: Iterable[str]) -> None:
        self.options = options
        self.ours = ours
        self.data: dict[str, Any] = {
            "benchmark": name,
            "rounds": options.rounds,
            "versions": versions(distributions),
            "missing": [],
            "cases": {},
            "bars": [],
        }
        print(", ".join(f"{part} {version}" for part, version in self.data["versions"].items()))
        print(f"{options.rounds} rounds; CPU time; ratio: {ours} ÷ the other, below 1 where {ours} is faster")

    def missing(self, name: str, reason: str) -> None:
        """Say that something is not measured, and why."""
        self.data["missing"].append(name)
        print(f"not measured: {name}: {reason}")

    def case(self, title: str, seconds: Mapping[str, list[float]], unit: str = "µs") -> None:
        """Add what :func:`interleave` returned for one case, fastest first."""
        factor = {"µs": 1e6, "ms": 1e3}[unit]
        ours = seconds[self.ours]
        rows = self.data["cases"][title] = {
            name: {
                "median": median(rounds),
                "best": min(rounds),
                "ratio": ratio(ours, rounds),
            }
            for name, rounds in seconds.items()
        }
        print(f"\n{title:<42} {'median':>9} {'best':>9}   ratio")
        for name, row in sorted(rows.items(), key=lambda item: item[1]["median"]):
            times = f"{row['median'] * factor:>9.2f} {row['best'] * factor:>9.2f} {unit}"
            print(f"  {name:<40} {times} {row['ratio']:>6.2f}")

    def figures(self, title: str, rows: Mapping[str, Mapping[str, float]]) -> None:
        """Add figures of other kinds: by name, then by what they are."""
        self.data["cases"][title] = rows
        print(f"\n{title}")
        for name, row in rows.items():
            print(f"  {name:<40} " + ", ".join(f"{label} {figure:,.3g}" for label, figure in row.items()))

    def ratio(self, title: str, name: str) -> float | None:
        """Return the ratio of ours to another in a case; None where one of them was not measured."""
        row = self.data["cases"].get(title, {}).get(name)
        return None if row is None else row["ratio"]

    def bar(self, title: str, figure: float | None, limit: float) -> None:
        """Compare a figure with the most that it may be; one that is not there is missed."""
        met = figure is not None and figure <= limit
        self.data["bars"].append({"bar": title, "figure": figure, "limit": limit, "met": met})

    def finish(self) -> int:
        """Print the bars, write the file, and return the exit status."""
        bars = self.data["bars"]
        print()
        for bar in bars:
            figure = "not measured" if bar["figure"] is None else f"{bar['figure']:.3g}"
            print(f"{'met   ' if bar['met'] else 'MISSED'} {bar['bar']}: {figure}, at most {bar['limit']:g}")
        text = json.dumps(self.data, indent=1, ensure_ascii=False)
        self.options.json.parent.mkdir(parents=True, exist_ok=True)
        self.options.json.write_text(text + "\n", encoding="utf-8")
        return int(self.options.check and not all(bar["met"] for bar in bars))


def versions(distributions: Iterable[str]) -> dict[str, str]:
    """Return the versions of Python, of Prologue and of what is installed of the distributions."""
    import prologue

    found = {platform.python_implementation(): platform.python_version(), "prologue": prologue.__version__}
    for name in distributions:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
