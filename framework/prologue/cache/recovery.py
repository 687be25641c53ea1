"""A thread that makes up for what a store missed, as soon as the store answers again."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable

from prologue.cache.missed import MissedOperations

__all__ = ["Recovery"]

_logger = logging.getLogger("prologue.cache")


class Recovery:
    """Calls a method on a daemon thread now and then, as long as something was missed.

    The child of a fork makes its own.

    Args:
        missed: what was missed.
        make_up: makes up for it, or for a part; the thread ends when its object is gone.
        pause: seconds between two attempts.
    """

    __slots__ = ("_lock", "_make_up", "_missed", "_pause", "_stop", "_thread")

    def __init__(
        self, missed: MissedOperations, make_up: weakref.WeakMethod[Callable[[], object]], pause: float = 0.25
    ) -> None:
        self._missed = missed
        self._make_up = make_up
        self._pause = pause
        self._stop = threading.Event()
        # Invariant: under the lock, _thread is the thread that will see whatever was noted before, or None.
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """See to it that a thread runs; call it after something was noted."""
        with self._lock:
            if self._thread is None and not self._stop.is_set():
                self._thread = threading.Thread(target=self._run, name="prologue-cache-recovery", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Stop; wait for the thread for a second."""
        self._stop.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(1.0)

    def _run(self) -> None:
        while not self._stop.wait(self._pause):
            make_up = self._make_up()
            if make_up is None:
                return
            try:
                make_up()
            except Exception:
                _logger.exception("a cache cannot make up for what its store missed")
            del make_up
            with self._lock:
                if not self._missed:
                    self._thread = None
                    return
