"""How long things take, counted in buckets."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

__all__ = ["BOUNDS", "SHORT", "Counts", "Histogram"]

#: Upper bounds of the buckets, in seconds: those that OpenTelemetry advises for connection pools.
BOUNDS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0)
SHORT: Final = BOUNDS[0]


@dataclass(frozen=True, slots=True)
class Histogram:
    """Durations, counted in buckets.

    Attributes:
        counts: how many durations are in each bucket: those up to each of :data:`BOUNDS` and above the bound
            before, and at the end those above the last bound.
        seconds: all durations together.
    """

    counts: tuple[int, ...]
    seconds: float

    @property
    def count(self) -> int:
        """How many durations there are."""
        return sum(self.counts)


class Counts:
    """A histogram that is being made; the caller guards it."""

    __slots__ = ("counts", "seconds")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.seconds = 0.0

    def add(self, seconds: float) -> None:
        """Count one duration."""
        self.counts[bucket(seconds)] += 1
        self.seconds += seconds

    def merge(self, counts: Iterable[int], seconds: float) -> None:
        """Count what was counted elsewhere."""
        self.counts = [ours + theirs for ours, theirs in zip(self.counts, counts, strict=True)]
        self.seconds += seconds

    def freeze(self) -> Histogram:
        """Return what was counted so far."""
        return Histogram(tuple(self.counts), self.seconds)


def bucket(seconds: float) -> int:
    """Return the number of the bucket of a duration."""
    return bisect_left(BOUNDS, seconds)
