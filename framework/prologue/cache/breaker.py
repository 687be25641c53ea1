"""A circuit breaker: what is down is left alone, and asked by one caller now and then whether it is back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from prologue.errors import CacheOptionError
from prologue.lifecycle import on_fork

__all__ = ["CircuitBreaker"]


class CircuitBreaker:
    """Let callers through while what they call works; turn all but one at a time away while it does not.

    Closed, everybody passes. After so many failures in a row it opens: for a while nobody passes. Then one
    caller passes (half-open): if it succeeds the breaker closes, if not it stays open for another while. Who
    passed reports how it went; one that never does loses its turn after a while. For any thread.

    Args:
        failures: how many failures in a row open it.
        retry_after: seconds for which it stays open before one caller tries again.
        clock: seconds on a clock that does not go back.

    Raises:
        CacheOptionError: one of the numbers is not positive.
    """

    __slots__ = ("__weakref__", "_clock", "_count", "_failures", "_lock", "_retry_after", "_retry_at")

    def __init__(
        self, failures: int = 3, retry_after: float = 1.0, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        if failures < 1 or retry_after <= 0:
            raise CacheOptionError(
                f"a breaker with failures={failures!r}, retry_after={retry_after!r}: give positive numbers"
            )
        self._failures = failures
        self._retry_after = retry_after
        self._clock = clock
        # Invariant: _retry_at is None while closed, else the moment from which one caller may pass. Both
        # change under the lock; _retry_at is read without it, so that a closed breaker costs next to nothing.
        self._lock = threading.Lock()
        self._count = 0
        self._retry_at: float | None = None
        on_fork(self._after_fork)

    @property
    def closed(self) -> bool:
        """Whether everybody passes."""
        return self._retry_at is None

    def allow(self) -> bool:
        """Tell whether the caller may go on; it then reports :meth:`succeeded` or :meth:`failed`."""
        if self._retry_at is None:
            return True
        now = self._clock()
        with self._lock:
            if self._retry_at is not None:
                if now < self._retry_at:
                    return False
                self._retry_at = now + self._retry_after  # the next turn, should this caller never report
            return True

    def succeeded(self) -> bool:
        """Report a success.

        Returns:
            Whether it closed the breaker.
        """
        # PERF: the usual case takes no lock; a failure that another thread counts meanwhile stays counted.
        if self._retry_at is None and not self._count:
            return False
        with self._lock:
            closes = self._retry_at is not None
            self._count = 0
            self._retry_at = None
        return closes

    def failed(self) -> bool:
        """Report a failure.

        Returns:
            Whether it opened the breaker.
        """
        now = self._clock()
        with self._lock:
            self._count += 1
            if self._count < self._failures:
                return False
            opens = self._retry_at is None
            self._retry_at = now + self._retry_after
        return opens

    def _after_fork(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self._retry_at = None
