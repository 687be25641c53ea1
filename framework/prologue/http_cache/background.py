"""Refreshing stale responses behind the back of those who got them (RFC 5861 section 3)."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable

from prologue.lifecycle import on_fork

__all__ = ["Refresher"]

logger = logging.getLogger("prologue.http_cache")


class Refresher:
    """Runs refreshes in daemon threads: few at a time, one for each key, and none of them waits for a place.

    Args:
        limit: the most threads. Where they are all busy a refresh is left to a later request.
    """

    __slots__ = ("__weakref__", "_closed", "_limit", "_lock", "_running")

    def __init__(self, limit: int = 4) -> None:
        # Invariant: _running has the thread of each key whose refresh has not ended; none is added once
        # closed.
        self._lock = threading.Lock()
        self._running: dict[Hashable, threading.Thread] = {}
        self._closed = False
        self._limit = limit
        on_fork(self._after_fork)

    def start(self, key: Hashable, refresh: Callable[[], object]) -> bool:
        """Run a refresh unless one of its key runs, no thread is free, or this is closed; return whether."""

        def run() -> None:
            try:
                refresh()
            except Exception:
                logger.exception("refreshing a stale response failed")
            finally:
                with self._lock:
                    self._running.pop(key, None)

        with self._lock:
            if self._closed or key in self._running or len(self._running) >= self._limit:
                return False
            thread = self._running[key] = threading.Thread(target=run, name="http-cache-refresh", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # no more threads, or the interpreter is about to end
                del self._running[key]
                return False
        return True

    def close(self, timeout: float) -> None:
        """Start nothing more, and wait for what runs, so many seconds at the most."""
        with self._lock:
            self._closed = True
            running = list(self._running.values())
        end = time.monotonic() + timeout
        for thread in running:
            thread.join(max(0.0, end - time.monotonic()))

    def _after_fork(self) -> None:
        self._lock = threading.Lock()
        self._running = {}
