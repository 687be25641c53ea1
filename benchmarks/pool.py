"""Measure connection pools over a driver that does nothing: what is left is the pool.

A cycle is to borrow a connection and to give it back, as the documentation of each pool does it. Loads are
some threads that hold each connection for a while, and tell how long callers wait and how evenly they are
served. Two things that are no pools show what the machine allows: threads that only hold, and a queue of
locks in which whoever is through wakes the next. The spike is fifty callers at once at five idle connections,
where another connection comes too late to help.
"""

from __future__ import annotations

import gc
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from typing import Any, NamedTuple

from measure import Options, Report, clock, interleave, ratio, read_options
from pool_peers import OURS, PEERS, HandOff, Pool, installed

CONNECTIONS = 4
THREADS = (1, 4, 16, 64)
HOLDS = {"0": 0.0, "100 µs": 0.0001, "1 ms": 0.001}
LOADS = {
    f"{threads} thread{'' if threads == 1 else 's'} hold {hold}": (threads, HOLDS[hold])
    for threads in THREADS
    for hold in HOLDS
}
CASES = ["cycle", *LOADS, "spike"]
BATCH = 32  # cycles between two looks at the clock, where the connection is not held
NO_POOL = "no pool"
HAND_OFF = "hand-off alone"
REFERENCES = (OURS, NO_POOL, HAND_OFF)


class Load(NamedTuple):
    """What came of one load."""

    rate: float
    waits: list[float]
    jain: float


def cycle_runner(pool: Pool) -> Callable[[int], float]:
    """Return what measures so many cycles of one thread."""

    def run(calls: int) -> float:
        start = clock()
        pool.cycles(calls, None)
        return clock() - start

    return run


def in_threads(count: int, function: Callable[[int], object]) -> float:
    """Call a function in so many threads at once; return the seconds until the last is through."""
    barrier = threading.Barrier(count + 1)

    def work(number: int) -> None:
        barrier.wait()
        function(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    barrier.wait()
    start = time.perf_counter()
    for thread in threads:
        thread.join()
    return time.perf_counter() - start


def measure_load(pool: Pool | None, threads: int, hold_seconds: float, seconds: float) -> Load:
    """Let threads borrow as fast as they can for a while; without a pool they only hold."""
    counts = [0] * threads
    waits: list[list[float]] = [[] for _ in range(threads)]
    hold = partial(time.sleep, hold_seconds)
    end = 0.0

    def work(number: int) -> None:
        while time.perf_counter() < end or not counts[number]:
            if pool is None:
                hold()
                counts[number] += 1
            elif hold_seconds:
                waits[number].append(pool.timed_cycle(hold))
                counts[number] += 1
            else:
                waits[number].append(pool.timed_cycle(int))
                pool.cycles(BATCH, None)
                counts[number] += BATCH + 1

    gc.collect()
    end = time.perf_counter() + seconds
    taken = in_threads(threads, work)
    squares = sum(count * count for count in counts)
    jain = sum(counts) ** 2 / (threads * squares) if squares else 1.0
    return Load(sum(counts) / taken, [wait for own in waits for wait in own], jain)


def measure_loads(pools: dict[str, type[Pool]], title: str, options: Options) -> dict[str, dict[str, float]]:
    """Measure one load with every pool in turn, in several rounds."""
    threads, hold = LOADS[title]
    is_judged = hold == HOLDS["1 ms"] and threads > CONNECTIONS
    seconds = 0.02 if options.quick else 1.0 if is_judged else 0.3
    if hold and threads > CONNECTIONS:
        pools = {**pools, HAND_OFF: HandOff}
    names = [*pools, *([NO_POOL] if hold else [])]
    rounds: dict[str, list[Load]] = {name: [] for name in names}
    for number in range(options.rounds):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            if name == NO_POOL:
                rounds[name].append(measure_load(None, min(threads, CONNECTIONS), hold, seconds))
                continue
            pool = pools[name](CONNECTIONS, CONNECTIONS)
            rounds[name].append(measure_load(pool, threads, hold, seconds))
            pool.close()
    ours = [load.rate for load in rounds[OURS]]
    rows = {}
    for name, loads in rounds.items():
        row = {
            "cycles/s": median(load.rate for load in loads),
            "ratio": ratio([load.rate for load in loads], ours),
        }
        waits = sorted(wait for load in loads for wait in load.waits)
        if waits:
            for label, share in (("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)):
                row[f"{label} ms"] = waits[min(len(waits) - 1, int(share * len(waits)))] * 1e3
            row["Jain"] = median(load.jain for load in loads)
        rows[name] = row
    return rows


def measure_spike(pools: dict[str, type[Pool]], options: Options) -> dict[str, dict[str, float]]:
    """Let fifty callers come at once to five idle connections: 2 ms of use each, 150 ms to connect."""
    rounds: dict[str, list[tuple[float, int]]] = {name: [] for name in pools}
    for _ in range(options.rounds):
        for name, make in pools.items():
            pool = make(5, 50, 0.001 if options.quick else 0.15)
            hold = partial(time.sleep, 0.002)
            taken = in_threads(50, lambda number, pool=pool, hold=hold: pool.cycles(1, hold))  # type: ignore[misc]
            time.sleep(0.01 if options.quick else 0.4)  # until what is being opened is there
            rounds[name].append((taken, pool.size()))
            pool.close()
    return {
        name: {
            "ms": median(taken for taken, _ in results) * 1e3,
            "connections": max(size for _, size in results),
        }
        for name, results in rounds.items()
    }


def best(rows: dict[str, dict[str, float]], what: str, pick: Callable[[Any], float]) -> float | None:
    """Return the best figure of the peers; None where there is none."""
    figures = [row[what] for name, row in rows.items() if name not in REFERENCES]
    return pick(figures) if figures else None


def judge_load(report: Report, title: str, rows: dict[str, dict[str, float]]) -> None:
    """Compare one load with its bars."""
    threads, hold = LOADS[title]
    ours = rows[OURS]
    if not hold:
        if threads == CONNECTIONS:
            report.bar(f"{title}: cycles/s, the best peer ÷ {OURS}", best(rows, "ratio", max), 0.5)
    elif hold == HOLDS["1 ms"] and threads > CONNECTIONS:
        for name in (NO_POOL, HAND_OFF):
            report.bar(f"{title}: cycles/s, {name} ÷ {OURS}", rows[name]["ratio"], 1 / 0.95)
        report.bar(f"{title}: cycles/s, the best peer ÷ {OURS}", best(rows, "ratio", max), 1.0)
        wait = best(rows, "p99.9 ms", min)
        report.bar(
            f"{title}: p99.9 of the wait, {OURS} ÷ the best peer", wait and ours["p99.9 ms"] / wait, 1.0
        )
        report.bar(f"{title}: 1 - Jain's index", 1 - ours["Jain"], 0.01)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and return the exit status."""
    options = read_options("pool", str(__doc__).split("\n", 1)[0], CASES, 7, arguments=arguments)
    report = Report(
        "pool", options, OURS, [pool.distribution for pool in PEERS.values() if pool.distribution]
    )
    pools = installed()
    for name, pool in PEERS.items():
        if name not in pools:
            report.missing(name, f"{pool.distribution} must be installed")
    for title in options.cases:
        if title == "cycle":
            made = {name: pool(CONNECTIONS, CONNECTIONS) for name, pool in pools.items()}
            options.rounds *= 10  # they are short
            report.case(title, interleave({name: cycle_runner(pool) for name, pool in made.items()}, options))
            options.rounds //= 10
            for measured in made.values():
                measured.close()
            report.bar(f"cycle, {OURS} ÷ psycopg_pool", report.ratio(title, "psycopg_pool"), 0.4)
            report.bar(f"cycle, {OURS} ÷ DBUtils", report.ratio(title, "DBUtils PooledDB"), 1.0)
        elif title == "spike":
            rows = measure_spike(pools, options)
            report.figures(title, rows)
            report.bar("spike: connections at the end", rows[OURS]["connections"], 7)
            fastest = best(rows, "ms", min)
            report.bar(
                f"spike: total time, {OURS} ÷ the best peer", fastest and rows[OURS]["ms"] / fastest, 1.0
            )
        else:
            rows = measure_loads(pools, title, options)
            report.figures(f"{title}, {CONNECTIONS} connections", rows)
            judge_load(report, title, rows)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
