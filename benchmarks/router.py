"""Measure the router alone: lookups, building and memory, beside Falcon's compiled router and werkzeug's Map.

- Lists of routes of real services: the mean lookup over all routes, and over those with parameters. The
  lists are not part of the repository; without them these cases are left out.
- Made-up sets of 100 to 100,000 routes of one depth. The same number of paths is looked up in each, spread
  evenly over the set, so that the processor's caches hold as much of each; lookups of every path of the
  set in a random order, where they cannot, are shown beside it.

Every answer is checked before it is timed. Building includes the first lookup, which is when all three
compile or sort their routes. Falcon's lookup has no method in it, those of the others do.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import sys
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from random import Random
from statistics import median
from typing import NamedTuple, Protocol

from measure import Options, Report, Run, clock, interleave, ratio, read_options

OURS = "prologue"
DATA = Path(__file__).parents[2] / "shared" / "data" / "routes"
LISTS = ("github", "gplus", "parse", "static")
SIZES = (100, 1_000, 10_000, 100_000)
QUICK_SIZES = (100, 200)
PROBES = 100
BUILDS = 3


class Entry(NamedTuple):
    """A route, a path that it matches, and the parameters in it."""

    method: str
    template: str
    #: The same as werkzeug writes it.
    rule: str
    path: str
    params: dict[str, str]


class Candidate(Protocol):
    """A router with routes in it."""

    #: The largest set that it builds in a few seconds.
    largest: int

    def __init__(self, routes: Sequence[Entry]) -> None: ...

    def find(self, route: Entry) -> tuple[str, dict[str, str]]:
        """Return the template and the parameters that a lookup of the route's path finds."""

    def run(self, routes: Sequence[Entry]) -> Run:
        """Return what looks all the routes up, so many times."""


class PrologueRouter:
    """Ours: one call finds by method and path."""

    largest = 100_000

    def __init__(self, routes: Sequence[Entry]) -> None:
        from prologue.routing import TrieRouter

        self.router = TrieRouter()
        for route in routes:
            self.router.add_route(route.template, route.template, (route.method,))

    def find(self, route: Entry) -> tuple[str, dict[str, str]]:
        match = self.router.find_route(route.method, route.path)
        return (match.target, match.params) if match else ("", {})

    def run(self, routes: Sequence[Entry]) -> Run:
        find = self.router.find_route
        probes = [(route.method, route.path) for route in routes]

        def run(calls: int) -> float:
            start = clock()
            for _ in range(calls):
                for method, path in probes:
                    find(method, path)
            return clock() - start

        return run


class Resource:
    """What a route of Falcon's leads to."""

    def on_get(self, req: object, resp: object) -> None:
        """Answer nothing; so do the others."""

    on_post = on_put = on_patch = on_delete = on_get


class FalconRouter:
    """Falcon's: one call finds a template's resource, whatever the method."""

    largest = 1_000  # 10,000 take it 14 s

    def __init__(self, routes: Sequence[Entry]) -> None:
        from falcon.routing import CompiledRouter

        self.router = CompiledRouter()
        for template in dict.fromkeys(route.template for route in routes):
            self.router.add_route(template, Resource())

    def find(self, route: Entry) -> tuple[str, dict[str, str]]:
        found = self.router.find(route.path)
        return (found[3], found[2]) if found else ("", {})

    def run(self, routes: Sequence[Entry]) -> Run:
        find = self.router.find
        probes = [route.path for route in routes]

        def run(calls: int) -> float:
            start = clock()
            for _ in range(calls):
                for path in probes:
                    find(path)
            return clock() - start

        return run


class WerkzeugRouter:
    """werkzeug's: a Map bound once; one call finds by path and method."""

    largest = 1_000  # 10,000 take it 5 s

    def __init__(self, routes: Sequence[Entry]) -> None:
        from werkzeug.routing import Map, Rule

        rules = [Rule(route.rule, endpoint=route.template, methods=[route.method]) for route in routes]
        self.adapter = Map(rules).bind("localhost")

    def find(self, route: Entry) -> tuple[str, dict[str, str]]:
        endpoint, params = self.adapter.match(route.path, route.method)
        return endpoint, dict(params)

    def run(self, routes: Sequence[Entry]) -> Run:
        match = self.adapter.match
        probes = [(route.path, route.method) for route in routes]

        def run(calls: int) -> float:
            start = clock()
            for _ in range(calls):
                for path, method in probes:
                    match(path, method)
            return clock() - start

        return run


CANDIDATES: dict[str, type[Candidate]] = {
    OURS: PrologueRouter,
    "falcon": FalconRouter,
    "werkzeug": WerkzeugRouter,
}


def read_list(path: Path) -> list[Entry]:
    """Read a list of routes from its file."""
    routes = json.loads(path.read_text(encoding="utf-8"))["routes"]
    return [
        Entry(one["method"], one["template"], one["template_werkzeug"], one["probe"], one["expect"])
        for one in routes
    ]


def made_up(size: int) -> list[Entry]:
    """Make routes such as ``/gjbdcmwq/yhfkplsn/{id}/wtrpolkd``: one depth and length, whatever the size."""
    random = Random(size)
    width = next(number for number in range(1, size) if number**3 >= size)
    words = ["".join(random.choices("abcdefghijklmnopqrstuvwxyz", k=8)) for _ in range(width)]
    routes = [
        Entry("GET", f"/{a}/{b}/{{id}}/{c}", f"/{a}/{b}/<id>/{c}", f"/{a}/{b}/x1/{c}", {"id": "x1"})
        for a in words
        for b in words
        for c in words
    ]
    return routes[:size]


def check(name: str, candidate: Candidate, routes: Sequence[Entry]) -> None:
    """Make sure that every route is found at its path, with its parameters.

    Raises:
        RuntimeError: one is not.
    """
    for route in routes:
        found = candidate.find(route)
        if found != (route.template, route.params):
            wanted = f"{route.template} with {route.params}"
            raise RuntimeError(f"{name} finds {found} at {route.path}, not {wanted}")


def measure_list(title: str, routes: Sequence[Entry], names: Sequence[str], report: Report) -> None:
    """Measure the mean lookup in a list of routes."""
    candidates = {name: CANDIDATES[name](routes) for name in names}
    for name, candidate in candidates.items():
        check(name, candidate, routes)
    with_params = [route for route in routes if route.params]
    for part, probes in (("all", routes), ("with parameters", with_params)):
        if probes:
            runs = {name: candidate.run(probes) for name, candidate in candidates.items()}
            report.case(f"{title}, {part}", per_lookup(interleave(runs, report.options), len(probes)))


def per_lookup(seconds: dict[str, list[float]], lookups: int) -> dict[str, list[float]]:
    """Divide what a pass took by its lookups."""
    return {name: [one / lookups for one in rounds] for name, rounds in seconds.items()}


def measure_sizes(sizes: Sequence[int], names: Sequence[str], report: Report) -> None:
    """Measure lookups in sets of growing size."""
    sets = {size: made_up(size) for size in sizes}
    print(f"\nmade-up sets: {PROBES} paths are looked up in each, spread evenly over it")
    runs: dict[str, Run] = {}
    whole: dict[str, Run] = {}
    for size, routes in sets.items():
        probes = routes[:: size // PROBES][:PROBES]
        for name in names:
            if size <= CANDIDATES[name].largest:
                candidate = CANDIDATES[name](routes)
                check(name, candidate, routes)
                runs[f"{name} {size}"] = candidate.run(probes)
                if name == OURS:
                    whole[f"{name} {size}"] = candidate.run(Random(size).sample(routes, size))
    # All sizes in one go: what grows with the size is a ratio too, and is taken within a round.
    seconds = per_lookup(interleave(runs, report.options), PROBES)
    for size in sizes:
        found = {name: seconds[key] for name in names if (key := f"{name} {size}") in seconds}
        report.case(f"{size:,} routes", found)
    growth = ratio(seconds[f"{OURS} {sizes[-1]}"], seconds[f"{OURS} {sizes[0]}"])
    report.figures("growth", {OURS: {f"{sizes[-1]:,} ÷ {sizes[0]:,} routes": growth}})
    if sizes is SIZES:
        report.bar(f"lookup at {sizes[-1]:,} ÷ at {sizes[0]:,} routes", growth, 1.5)
    rounds = Options(**{**vars(report.options), "rounds": min(report.options.rounds, 5)})
    everywhere = interleave(whole, rounds)
    report.figures(
        "every path of the set, in random order",
        {f"{size:,} routes": {"µs": median(everywhere[f"{OURS} {size}"]) / size * 1e6} for size in sizes},
    )


def measure_builds(sizes: Sequence[int], names: Sequence[str], report: Report) -> None:
    """Measure the time of building a router, and the memory it holds after every path was looked up."""
    for size in sizes:
        routes = made_up(size)
        able = [name for name in names if size <= CANDIDATES[name].largest]
        seconds: dict[str, list[float]] = {name: [] for name in able}
        for _ in range(min(BUILDS, report.options.rounds)):
            for name in able:
                seconds[name].append(build(CANDIDATES[name], routes))
        report.case(f"build {size:,} routes", seconds, "ms")
        held = {name: {"MB": memory(CANDIDATES[name], routes) / 1e6} for name in able}
        report.figures(f"memory of {size:,} routes", held)
        if size == SIZES[-1]:
            # The best: others on the machine can only add to it.
            report.bar(f"seconds to build {size:,} routes", min(seconds[OURS]), 2.0)


def build(kind: type[Candidate], routes: Sequence[Entry]) -> float:
    """Return the seconds until a router with these routes has found one."""
    gc.collect()
    gc.freeze()
    start = clock()
    kind(routes).find(routes[0])
    taken = clock() - start
    gc.unfreeze()
    return taken


def memory(kind: type[Candidate], routes: Sequence[Entry]) -> int:
    """Return the bytes that a router holds, the routes' own text not counted."""
    tracemalloc.start()
    candidate = kind(routes)
    for route in routes:
        candidate.find(route)
    gc.collect()
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return held


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and return the exit status."""

    def extend(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--data", type=Path, default=DATA, help="the directory of the lists of routes")

    cases = [*LISTS, "sizes", "builds"]
    description = str(__doc__).split("\n", 1)[0]
    options = read_options("router", description, cases, 200, arguments=arguments, extend=extend)
    report = Report("router", options, OURS, ("falcon", "werkzeug"))
    names = [name for name in CANDIDATES if importlib.util.find_spec(name)]
    for name in CANDIDATES.keys() - names:
        report.missing(name, "it must be installed")
    for title in LISTS:
        if title in options.cases:
            path = options.data / f"{title}.json"
            if path.exists():
                measure_list(title, read_list(path), names, report)
            else:
                report.missing(title, f"there is no {path.name} in the directory of route lists; see --data")
    if "github" in options.cases:
        title = "github, with parameters"
        report.bar(f"{title}, {OURS} ÷ falcon", report.ratio(title, "falcon"), 0.9)
    sizes = QUICK_SIZES if options.quick else SIZES
    if "sizes" in options.cases:
        measure_sizes(sizes, names, report)
    if "builds" in options.cases:
        measure_builds(sizes, names, report)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
