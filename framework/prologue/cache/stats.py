"""What a cache tells about itself."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CacheStats", "Counters"]


class Counters:
    """What every cache counts itself, by the names of :class:`CacheStats`."""

    def __init__(self) -> None:
        self.hits = 0
        self.misses = 0
        self.loads = 0
        self.load_failures = 0
        self.stale_served = 0
        self.errors = 0
        self.undecodable = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheStats:
    """What a cache did in this process since it was made; after a fork the child counts anew.

    The counters are kept without a lock: on a free-threaded build simultaneous events may count once.

    Attributes:
        name: of the cache.
        hits: fresh values found.
        misses: values not found, expired or invalidated.
        loads: factories that returned a value.
        load_failures: factories that raised an error.
        stale_served: stale values returned by ``get_or_set``.
        errors: operations that failed because the store did not answer, and counted as a miss.
        undecodable: values that could not be decoded, and counted as a miss.
        evictions: entries removed to make room.
        expirations: entries removed because their time was over.
        entries: entries there are, where the cache knows.
        weight: their weight, where the cache weighs.
        available: false while a circuit breaker keeps callers away from the store.
        levels: the statistics of each level of a multi-level cache, the nearest first.
    """

    name: str
    hits: int = 0
    misses: int = 0
    loads: int = 0
    load_failures: int = 0
    stale_served: int = 0
    errors: int = 0
    undecodable: int = 0
    evictions: int = 0
    expirations: int = 0
    entries: int | None = None
    weight: float | None = None
    available: bool = True
    levels: tuple[CacheStats, ...] = ()

    @property
    def hit_ratio(self) -> float:
        """Hits by lookups, 0 to 1; 0 before the first lookup."""
        lookups = self.hits + self.misses
        return self.hits / lookups if lookups else 0.0
