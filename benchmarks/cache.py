"""Measure what operations of caches in memory cost: ours beside cachetools, theine, dogpile and Django's.

A cache of cachetools is not safe for threads; it gets the lock that its documentation advises. ``dict`` is
what nothing can be faster than, ``functools.lru_cache`` what knows neither expiry nor invalidation.
"""

from __future__ import annotations

import functools
import itertools
import sys
import threading
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from importlib.util import find_spec
from typing import Any, NamedTuple

from measure import Options, Report, Run, clock, interleave, read_options

OURS = "prologue"
TTL = 60
CAPACITY = 1000
RESIDENTS = [f"user:{number}" for number in range(CAPACITY // 2)]
THREADS = 4
CASES = ("hit", "threads", "set")

Get = Callable[[str], Any]
Set = Callable[[str], Any]


class Peer(NamedTuple):
    """A way to make a cache for CAPACITY entries that live TTL seconds."""

    module: str | None
    build: Callable[[], tuple[Get, Set | None]]
    evicts: bool = True

    @property
    def installed(self) -> bool:
        return self.module is None or find_spec(self.module) is not None


def plain_dict() -> tuple[Get, Set]:
    values: dict[str, int] = {}

    def set_value(key: str) -> None:
        values[key] = 1

    return values.get, set_value


def lru_cache() -> tuple[Get, None]:
    return functools.lru_cache(CAPACITY)(lambda key: 1), None


def prologue(policy: Any) -> tuple[Get, Set]:
    from prologue.cache import InMemoryCache

    cache = InMemoryCache(CAPACITY, policy=policy)
    store = cache.set

    def set_value(key: str) -> None:
        store(key, 1, TTL)

    return cache.get, set_value


def cachetools_cache(kind: str, *arguments: Any) -> tuple[Get, Set]:
    import cachetools

    cache: Any = getattr(cachetools, kind)(CAPACITY, *arguments)
    lock = threading.Lock()

    def get(key: str) -> Any:
        with lock:
            return cache.get(key)

    def set_value(key: str) -> None:
        with lock:
            cache[key] = 1

    return get, set_value


def theine_cache() -> tuple[Get, Set]:
    import theine

    cache: Any = theine.Cache(CAPACITY)
    life = timedelta(seconds=TTL)

    def set_value(key: str) -> None:
        cache.set(key, 1, life)

    def get(key: str) -> Any:
        return cache.get(key)[0]

    return get, set_value


def dogpile_region() -> tuple[Get, Set]:
    from dogpile.cache import make_region

    region: Any = make_region().configure("dogpile.cache.memory", expiration_time=TTL)

    def set_value(key: str) -> None:
        region.set(key, 1)

    return region.get, set_value


def django_locmem() -> tuple[Get, Set]:
    from django.conf import settings
    from django.core.cache.backends.locmem import LocMemCache

    if not settings.configured:
        settings.configure()
    cache: Any = LocMemCache("benchmark", {"OPTIONS": {"MAX_ENTRIES": CAPACITY}})

    def set_value(key: str) -> None:
        cache.set(key, 1, TTL)

    return cache.get, set_value


PEERS = {
    "dict": Peer(None, plain_dict, evicts=False),
    "functools.lru_cache": Peer(None, lru_cache),
    OURS: Peer(None, functools.partial(prologue, "w-tinylfu")),
    f"{OURS}, s3-fifo": Peer(None, functools.partial(prologue, "s3-fifo")),
    f"{OURS}, lru": Peer(None, functools.partial(prologue, "lru")),
    "cachetools LRU + lock": Peer("cachetools", functools.partial(cachetools_cache, "LRUCache")),
    "cachetools TTL + lock": Peer("cachetools", functools.partial(cachetools_cache, "TTLCache", TTL)),
    "theine": Peer("theine", theine_cache),
    "dogpile": Peer("dogpile", dogpile_region, evicts=False),
    "django locmem": Peer("django", django_locmem),
}


def warm(peer: Peer) -> tuple[Get, Set | None]:
    """Build a peer and store the residents.

    Raises:
        RuntimeError: one of them is not found afterwards.
    """
    get, set_value = peer.build()
    for key in RESIDENTS:
        if set_value is not None:
            set_value(key)
        if get(key) != 1:
            raise RuntimeError(f"{key} is not there")
    return get, set_value


def measure_hits(get: Get) -> Run:
    def run(calls: int) -> float:
        keys = itertools.islice(itertools.cycle(RESIDENTS), calls)
        start = clock()
        for key in keys:
            get(key)
        return clock() - start

    return run


def measure_threads(get: Get) -> Run:
    """Return what has four threads find values at once; the time is that on the wall."""

    def run(calls: int) -> float:
        rounds = max(1, calls // THREADS // len(RESIDENTS))
        barrier = threading.Barrier(THREADS + 1)

        def work() -> None:
            barrier.wait()
            for _ in range(rounds):
                for key in RESIDENTS:
                    get(key)
            barrier.wait()

        threads = [threading.Thread(target=work) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        barrier.wait()
        start = time.perf_counter()
        barrier.wait()
        seconds = time.perf_counter() - start
        for thread in threads:
            thread.join()
        return seconds * calls / (rounds * THREADS * len(RESIDENTS))

    return run


def measure_sets(set_value: Set) -> Run:
    """Return what stores keys that were never there, so that others leave."""
    numbers = itertools.count()

    def run(calls: int) -> float:
        keys = [f"new:{number}" for number in itertools.islice(numbers, calls)]
        start = clock()
        for key in keys:
            set_value(key)
        return clock() - start

    return run


def hit(report: Report, options: Options, peers: dict[str, Peer]) -> None:
    title = "get of a hit"
    report.case(
        title, interleave({name: measure_hits(warm(peer)[0]) for name, peer in peers.items()}, options)
    )
    report.bar(f"{title}, {OURS} ÷ dogpile", report.ratio(title, "dogpile"), 0.35)
    report.bar(f"{title}, {OURS} ÷ cachetools LRU + lock", report.ratio(title, "cachetools LRU + lock"), 1.0)


def threads(report: Report, options: Options, peers: dict[str, Peer]) -> None:
    title = f"hits by {THREADS} threads"
    options.slot *= 10  # threads take turns of 5 ms
    report.case(
        title, interleave({name: measure_threads(warm(peer)[0]) for name, peer in peers.items()}, options)
    )
    options.slot /= 10
    for name in peers:
        if not name.startswith((OURS, "dict", "functools")):
            report.bar(f"{title}, {OURS} ÷ {name}", report.ratio(title, name), 0.5)


def store(report: Report, options: Options, peers: dict[str, Peer]) -> None:
    title = "set with a time to live, with eviction"
    runs = {}
    for name, peer in peers.items():
        _, set_value = warm(peer)
        if peer.evicts and set_value is not None:
            runs[name] = measure_sets(set_value)
            runs[name](2 * CAPACITY)
    report.case(title, interleave(runs, options))
    for name in ("cachetools TTL + lock", "theine"):
        report.bar(f"{title}, {OURS} ÷ {name}", report.ratio(title, name), 0.8)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and return the exit status."""
    options = read_options(
        "cache", str(__doc__).split("\n", 1)[0], CASES, 100, slot=0.01, arguments=arguments
    )
    report = Report("cache", options, OURS, ("cachetools", "theine", "dogpile.cache", "django"))
    peers = {name: peer for name, peer in PEERS.items() if peer.installed}
    for name in PEERS.keys() - peers.keys():
        report.missing(name, f"{PEERS[name].module} must be installed")
    measures = {"hit": hit, "threads": threads, "set": store}
    for case in options.cases:
        measures[case](report, options, peers)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
