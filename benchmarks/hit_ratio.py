"""Measure how often caches have what they are asked for: our policies, others', the best there could be.

Requests with Zipf's distribution, and with shifting popularity and scans, are made up; the traces of the
literature are read from ``--data``, one key on a line, perhaps compressed, ``*`` ignored. Any other trace is
given as ``--trace FILE=CAPACITY``.
"""

from __future__ import annotations

import argparse
import gzip
import heapq
import os
import random
import sys
from bisect import bisect
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from itertools import accumulate
from pathlib import Path
from statistics import mean
from typing import Any

from measure import Report, read_options

OURS = "prologue w-tinylfu"
LRU = "prologue lru"
OPTIMUM = "optimum"
TRACES = {"multi1": 1000, "loop": 512, "sprite": 500, "gli": 1000, "cpp": 64}
ZIPF = {"zipf 0.7": 0.7, "zipf 0.9": 0.9, "zipf 1.1": 1.1}
ZIPF_CAPACITY = 1000
ZIPF_KEYS = 50_000
REQUESTS = 200_000
SHIFTING = "shifting"
MEAN_AT_LEAST = 57.5

#: Returns the part of the requests that hit, for keys and a capacity.
Policy = Callable[[Sequence[str], int], float]


def zipf(skew: float, requests: int, draw: random.Random) -> list[str]:
    """Return requests of which the one for the n-th key is as likely as 1 ÷ n to the power of the skew."""
    sums = list(accumulate(1 / (number + 1) ** skew for number in range(ZIPF_KEYS)))
    return [f"key:{bisect(sums, draw.random() * sums[-1])}" for _ in range(requests)]


def shifting(requests: int, draw: random.Random) -> list[str]:
    """Return requests of which the popular keys change, interrupted by keys that come once."""
    keys: list[str] = []
    for phase in range(10):
        popular = zipf(0.9, requests // 12, draw)
        keys += [f"key:{(int(key[4:]) + phase * 300) % ZIPF_KEYS}" for key in popular]
        keys += [f"scan:{phase}:{number}" for number in range(requests // 60)]
    return keys


def read_trace(file: Path) -> list[str]:
    """Read the keys of a trace."""
    text = gzip.decompress(file.read_bytes()).decode() if file.suffix == ".gz" else file.read_text()
    return [f"key:{key}" for line in text.splitlines() if (key := line.strip()) not in ("", "*")]


def ours(policy: Any) -> Policy:
    from prologue.cache import InMemoryCache

    def run(keys: Sequence[str], capacity: int) -> float:
        cache = InMemoryCache(capacity, policy=policy)
        for key in keys:
            if cache.get(key) is None:
                cache.set(key, 1)
        return cache.stats().hit_ratio

    return run


def cachetools_cache(kind: str) -> Policy:
    def run(keys: Sequence[str], capacity: int) -> float:
        import cachetools

        cache: Any = getattr(cachetools, kind)(capacity)
        hits = 0
        for key in keys:
            if cache.get(key) is None:
                cache[key] = 1
            else:
                hits += 1
        return hits / len(keys)

    return run


def theine_cache(keys: Sequence[str], capacity: int) -> float:
    import theine

    cache: Any = theine.Cache(capacity)
    hits = 0
    for key in keys:
        if cache.get(key)[1]:
            hits += 1
        else:
            cache.set(key, 1)
    return hits / len(keys)


def optimum(keys: Sequence[str], capacity: int) -> float:
    """Return what a cache reaches that knows the future (Bélády, 1966): what is needed last goes first."""
    never = len(keys)
    following = [never] * len(keys)
    last: dict[str, int] = {}
    for number in range(len(keys) - 1, -1, -1):
        following[number] = last.get(keys[number], never)
        last[keys[number]] = number
    resident: dict[str, int] = {}  # until when each is needed next
    latest: list[tuple[int, str]] = []
    hits = 0
    for key, needed in zip(keys, following, strict=True):
        hits += key in resident
        if needed == never:
            resident.pop(key, None)
            continue
        resident[key] = needed
        heapq.heappush(latest, (-needed, key))
        while len(resident) > capacity:
            when, other = heapq.heappop(latest)
            if resident.get(other) == -when:
                del resident[other]
    return hits / len(keys)


POLICIES: dict[str, tuple[str | None, Policy]] = {
    OPTIMUM: (None, optimum),
    OURS: (None, ours("w-tinylfu")),
    "prologue s3-fifo": (None, ours("s3-fifo")),
    LRU: (None, ours("lru")),
    "cachetools LRU": ("cachetools", cachetools_cache("LRUCache")),
    "cachetools LFU": ("cachetools", cachetools_cache("LFUCache")),
    "theine": ("theine", theine_cache),
}


def load(
    name: str, extra: Mapping[str, tuple[Path, int]], data: Path | None, quick: bool
) -> tuple[list[str], int] | None:
    """Return the keys and the capacity of a case; None where its trace is not there."""
    requests = REQUESTS // 100 if quick else REQUESTS
    draw = random.Random(name)
    if name in ZIPF:
        return zipf(ZIPF[name], requests, draw), ZIPF_CAPACITY
    if name == SHIFTING:
        return shifting(requests, draw), ZIPF_CAPACITY
    if name in extra:
        file, capacity = extra[name]
        return read_trace(file), capacity
    files = [] if data is None else [*data.glob(name), *data.glob(f"{name}.gz")]
    return (read_trace(files[0]), TRACES[name]) if files else None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and return the exit status."""

    def extend(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--data", type=Path, help="directory of the traces")
        parser.add_argument("--trace", action="append", default=[], help="FILE=CAPACITY: another trace")

    names = [*TRACES, *ZIPF, SHIFTING]
    title = str(__doc__).split("\n", 1)[0]
    options: Any = read_options("hit_ratio", title, names, 1, arguments=arguments, extend=extend)
    report = Report("hit_ratio", options, OURS, ("cachetools", "theine"))
    extra = {}
    for given in options.trace:
        file, _, capacity = given.rpartition("=")
        extra[Path(file).name] = Path(file), int(capacity)
    policies = {}
    for name, (module, policy) in POLICIES.items():
        if module is None or find_spec(module) is not None:
            policies[name] = policy
        else:
            report.missing(name, f"{module} must be installed")
    figures: dict[str, dict[str, float]] = {}
    for name in [*options.cases, *extra]:
        case = load(name, extra, options.data, options.quick)
        if case is None:
            report.missing(name, "there is no such trace in --data")
            continue
        keys, capacity = case
        figures[name] = {policy: 100 * run(keys, capacity) for policy, run in policies.items()}
        report.figures(f"{name}: {len(keys):,} requests, room for {capacity:,}, hit ratio in %",
                       {policy: {"hits": figure} for policy, figure in figures[name].items()})  # fmt: skip
        if name not in extra and name != SHIFTING:
            report.bar(
                f"{name}: LRU's hit ratio less {OURS}'s, in points",
                figures[name][LRU] - figures[name][OURS],
                1,
            )
    measured = [name for name in (*TRACES, *ZIPF) if name in figures]
    if measured:
        means = {policy: mean(figures[name][policy] for name in measured) for policy in policies}
        report.figures(
            f"mean of {', '.join(measured)}", {policy: {"hits": figure} for policy, figure in means.items()}
        )
        if len(measured) == len(TRACES) + len(ZIPF):
            report.bar(f"mean miss ratio of {OURS}", 100 - means[OURS], 100 - MEAN_AT_LEAST)
    return report.finish()


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":  # the same hashes each time, so the same figures
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "PYTHONHASHSEED": "0"})
    sys.exit(main())
