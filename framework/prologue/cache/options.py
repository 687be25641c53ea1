"""How long values live, and what happens when they cannot be made: one frozen set of options."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeAlias

from prologue.errors import CacheOptionError

__all__ = ["CacheOptions", "Duration", "seconds"]

Duration: TypeAlias = float | timedelta
"""Seconds, or a timedelta."""


def seconds(value: Duration, name: str) -> float:
    """Return a duration in seconds.

    Args:
        value: seconds, or a timedelta; zero or more, and finite.
        name: what it is, for the error message.

    Raises:
        CacheOptionError: it is negative, infinite, not a number or of another type.
    """
    # PERF: the usual types first; this runs for every value that is stored.
    if (type(value) is float or type(value) is int) and 0 <= value < math.inf:
        return float(value)
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise CacheOptionError(f"{name} must be seconds or a timedelta, not {value!r}")
    if not 0 <= value < math.inf:
        raise CacheOptionError(f"{name} must be zero or more and finite, not {value!r}")
    return float(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheOptions:
    """The defaults of a cache, or what replaces them for one entry. Durations are seconds or timedeltas.

    Attributes:
        ttl: how long a value is fresh; 0: for ever. Default 0.
        jitter: the part of the ttl, from 0 up to 1, by which it is shortened at random, so that values stored
            together do not expire together. Default 0.
        stale: how long after its ttl a value is kept, to be served when a new one cannot be made (fail-safe).
            Default 0: no fail-safe.
        throttle: after a factory failed and a stale value was served, how long that value counts as fresh, so
            that what is down is not asked for every request. Default 30 s; it never prolongs ``stale``.
        soft_timeout: how long ``get_or_set`` waits for a factory before it returns the stale value, if there
            is one, while the factory goes on in the background. Default ``None``: no such limit.
        hard_timeout: how long ``get_or_set`` waits in any case before it raises ``CacheTimeoutError``; the
            factory goes on in the background. Default ``None``: no limit.
        eager: the part of the ttl, between 0 and 1, after which a hit starts a refresh in the background.
            Default ``None``: never.
        negative_ttl: the ttl of a value ``None`` that a factory returned. Default ``None``: as others.
        lease: seconds for which one process holds the right to run the factory of a key, by a lock in the
            shared store; the others wait for its value that long. Default 0: each process makes its own.

    Raises:
        CacheOptionError: an option is out of range, or makes no sense beside another.
    """

    ttl: Duration = 0.0
    jitter: float = 0.0
    stale: Duration = 0.0
    throttle: Duration = 30.0
    soft_timeout: Duration | None = None
    hard_timeout: Duration | None = None
    eager: float | None = None
    negative_ttl: Duration | None = None
    lease: Duration = 0.0

    def __post_init__(self) -> None:
        for name in ("ttl", "stale", "throttle", "lease"):
            object.__setattr__(self, name, seconds(getattr(self, name), name))
        for name in ("soft_timeout", "hard_timeout", "negative_ttl"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, seconds(getattr(self, name), name))
        if not 0 <= self.jitter < 1:
            raise CacheOptionError(f"jitter is a part of the ttl, from 0 up to 1, not {self.jitter!r}")
        if self.eager is not None and not 0 < self.eager < 1:
            raise CacheOptionError(f"eager is a part of the ttl, between 0 and 1, not {self.eager!r}")
        if self.soft_timeout is not None:
            if not self.stale:
                raise CacheOptionError("soft_timeout serves stale values: set stale, or use hard_timeout")
            if self.hard_timeout is not None and seconds(self.soft_timeout, "") >= seconds(
                self.hard_timeout, ""
            ):
                raise CacheOptionError(
                    f"soft_timeout {self.soft_timeout} must be less than hard_timeout {self.hard_timeout}"
                )
