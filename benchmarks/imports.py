"""Measure what ``import prologue`` costs a fresh interpreter, beside bottle, falcon and flask.

Every round starts one interpreter for each, in turn. Their bytecode caches are in a directory of this run
alone and are filled before the first round. Times are CPU time of the child, the start of the interpreter
included; the second table has the start of an empty interpreter taken off, within each round.
"""

from __future__ import annotations

import importlib.util
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence

from measure import Report, Run, interleave, read_options

OURS = "prologue"
EMPTY = "empty interpreter"
PEERS = ("bottle", "falcon", "flask")
#: What only some applications need, and importing the package must not import.
EXTRAS = ("click", "gunicorn", "psycopg", "psycopg_pool", "pymemcache", "redis")


def runner(code: str, environ: dict[str, str]) -> Run:
    """Return what runs code in a fresh interpreter, so many times."""

    def run(calls: int) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        for _ in range(calls):
            subprocess.run([sys.executable, "-c", code], env=environ, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    return run


def imported_extras() -> list[str]:
    """Return which of the extras' libraries ``import prologue`` imports."""
    code = f"import sys, prologue; print(*(sys.modules.keys() & set({EXTRAS})))"
    return subprocess.check_output([sys.executable, "-c", code], text=True).split()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and return the exit status."""
    description = str(__doc__).split("\n", 1)[0]
    options = read_options("imports", description, PEERS, 30, arguments=arguments)
    options.slot = 0.0  # one interpreter a round
    report = Report("imports", options, OURS, PEERS)
    runs = {EMPTY: "pass"}
    for name in (OURS, *options.cases):
        if importlib.util.find_spec(name):
            runs[name] = f"import {name}"
        else:
            report.missing(name, "it must be installed")
    with tempfile.TemporaryDirectory() as cache:
        environ = {**os.environ, "PYTHONPYCACHEPREFIX": cache}
        environ.pop("PYTHONDONTWRITEBYTECODE", None)
        seconds = interleave({name: runner(code, environ) for name, code in runs.items()}, options)
    empty = seconds[EMPTY]
    report.case("import, interpreter included", seconds, "ms")
    report.case(
        "import alone",
        {
            name: [one - start for one, start in zip(rounds, empty, strict=True)]
            for name, rounds in seconds.items()
            if name != EMPTY
        },
        "ms",
    )
    extras = imported_extras()
    report.figures("extras", {OURS: {f"imports {name}": 1 for name in extras} or {"imported": 0}})
    report.bar("libraries of extras that it imports", len(extras), 0)
    if "bottle" in options.cases:
        report.bar("import alone, prologue ÷ bottle", report.ratio("import alone", "bottle"), 1.6)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
