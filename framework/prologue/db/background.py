"""The threads of a pool: one for each call of a driver, and one that looks after the pool now and then."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import Empty
from typing import Protocol

from prologue.db.entry import Home

__all__ = ["maintain", "spawn_thread"]


class Maintained(Protocol):
    """What the maintaining thread looks after."""

    def _maintain(self) -> float | None:
        """Do what is due; return the seconds until the next time, or ``None`` to end."""


def spawn_thread(function: Callable[[], object], name: str) -> None:
    """Run a function in a daemon thread: one that hangs in a driver must not keep the process from ending."""
    threading.Thread(target=function, name=name, daemon=True).start()


def maintain(pool: Callable[[], Maintained | None], home: Home) -> None:
    """Look after the pool when it is due, or when woken, until it is closed or forgotten.

    The thread keeps no reference to the pool while it sleeps: a pool that nobody uses any more can go.

    Args:
        pool: a weak reference, whose callback wakes the thread.
        home: where anybody calls the thread.
    """
    while True:
        maintained = pool()
        pause = None if maintained is None else maintained._maintain()
        del maintained
        if pause is None:
            return
        try:
            report = home.calls.get(timeout=pause)
        except Empty:
            continue
        if report is not None:
            home.reports.append(report)
