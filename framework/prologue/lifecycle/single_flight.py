"""One thread makes a value, the others wait for it, and a wait that would never end is an error."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from enum import Enum
from types import TracebackType
from typing import Any, Final, Generic, Literal, TypeAlias, TypeVar

from prologue.errors import LazyCycleError
from prologue.lifecycle.fork import on_fork

__all__ = ["MISSING", "Missing", "SingleFlight"]

T = TypeVar("T")


class _Sentinel(Enum):
    MISSING = "missing"


Missing: TypeAlias = Literal[_Sentinel.MISSING]
MISSING: Final = _Sentinel.MISSING
"""No value: told apart from ``None``, which is a value."""


class Run(Generic[T]):
    """One run of a function by one thread; others wait for its outcome: a value, an error, or neither."""

    __slots__ = ("done", "error", "finished", "name", "outer", "thread", "traceback", "value")

    def __init__(self, name: str) -> None:
        self.name = name
        self.thread = threading.get_ident()
        self.outer: Run[Any] | None = None
        self.value: T | Missing = MISSING
        self.error: Exception | None = None
        self.traceback: TracebackType | None = None
        self.finished = False
        self.done: threading.Event | None = None  # PERF: made by the first that waits; mostly nobody does


class _WaitGraph:
    """Which thread executes which runs, and which run each waiting thread waits for.

    A wait that would close a circle is refused, so the graph has no circle and nobody waits for ever.
    """

    __slots__ = ("__weakref__", "_executing", "_lock", "_waiting")

    def __init__(self) -> None:
        # Invariant: following a waiting thread to the run it waits for, to the thread of that run, and so on,
        # never comes back to where it started. The innermost lock: only a run's event is used under it.
        self._lock = threading.Lock()
        self._executing: dict[int, Run[Any]] = {}  # thread -> its innermost run
        self._waiting: dict[int, Run[Any]] = {}
        on_fork(self._after_fork)

    def enter(self, run: Run[Any]) -> None:
        with self._lock:
            run.outer = self._executing.get(run.thread)
            self._executing[run.thread] = run

    def finish(self, run: Run[Any]) -> None:
        with self._lock:
            run.finished = True
            if self._executing.get(run.thread) is run:  # unless it was interrupted before it entered
                if run.outer is None:
                    del self._executing[run.thread]
                else:
                    self._executing[run.thread] = run.outer
            if run.done is not None:
                run.done.set()

    def wait(self, run: Run[Any], timeout: float | None = None) -> list[str]:
        """Return when the run has finished, or at once the names of the circle that waiting would close.

        With a timeout, in seconds, it may return before: ``run.finished`` tells.
        """
        thread = threading.get_ident()
        with self._lock:
            if run.finished:
                return []
            if circle := self._circle(run, thread):
                return circle
            if run.done is None:
                run.done = threading.Event()
            self._waiting[thread] = run
        try:
            run.done.wait(timeout)
        finally:
            with self._lock:
                self._waiting.pop(thread, None)
        return []

    def _circle(self, wanted: Run[Any], thread: int) -> list[str]:
        names: list[str] = []
        run: Run[Any] | None = wanted
        while run is not None and not run.finished:
            names += self._names_from(run)
            if run.thread == thread:
                return [*names, wanted.name]
            run = self._waiting.get(run.thread)
        return []

    def _names_from(self, run: Run[Any]) -> list[str]:
        """Name the run and what its thread has begun inside it."""
        names: list[str] = []
        inner = self._executing.get(run.thread)
        while inner is not None and inner is not run:
            names.append(inner.name)
            inner = inner.outer
        return [run.name, *reversed(names)]

    def _after_fork(self) -> None:
        thread = threading.get_ident()
        self._lock = threading.Lock()
        own = self._executing.get(thread)
        self._executing = {} if own is None else {thread: own}
        self._waiting = {}
        while own is not None:
            own.done = None  # nobody waits here, and a thread of the parent may have held the event's lock
            own = own.outer


wait_graph = _WaitGraph()


class SingleFlight(Generic[T]):
    """Run a function in one thread at a time for each key; threads that ask meanwhile share the outcome.

    The owner keeps the values, in its own state, under :attr:`lock`. It calls :meth:`after_fork` from its own
    fork callback, or registers it with :func:`on_fork`.
    """

    __slots__ = ("__weakref__", "_runs", "lock")

    def __init__(self) -> None:
        # Invariant: _runs holds, for each key, the run whose value will be kept, until it is kept or the run
        # fails; the owner's values change only under the lock.
        self.lock = threading.Lock()
        self._runs: dict[Hashable, Run[T]] = {}

    def run(
        self,
        key: Hashable,
        name: str,
        *,
        find: Callable[[], T | Missing],
        make: Callable[[], T],
        keep: Callable[[T], object],
        discard: Callable[[T], object],
    ) -> T:
        """Return the value that is there, or make it once whatever the number of threads.

        A failure reaches every thread that waits for this run and is not remembered: the next call tries
        again. When what ends the run is not an ``Exception`` (``SystemExit``, ``KeyboardInterrupt``), it ends
        that thread only: those who waited try again.

        Args:
            key: what is made; one run for each key at a time.
            name: what is made, for error messages.
            find: return the value or ``MISSING``, or raise; called under :attr:`lock`.
            make: make the value; called without a lock, by one thread.
            keep: store the value; called under :attr:`lock`.
            discard: dispose of a value whose run was overtaken by :meth:`forget`; called without a lock.

        Returns:
            The value found, made, or made by another thread meanwhile.

        Raises:
            LazyCycleError: making the value needs the value; the message names the circle.
            Exception: what ``find``, ``make`` or ``discard`` raises.
        """
        while True:
            run: Run[T] = Run(name)
            leader = run
            try:
                with self.lock:
                    found = find()
                    if found is not MISSING:
                        return found
                    leader = self._runs.setdefault(key, run)
                if leader is run:
                    wait_graph.enter(run)
                    try:
                        made = make()
                    except Exception as error:
                        run.error, run.traceback = error, error.__traceback__
                        raise
                    with self.lock:
                        if self._runs.get(key) is run:
                            keep(made)
                            run.value = made
                elif circle := wait_graph.wait(leader):
                    raise LazyCycleError(f"{' needs '.join(circle)}: make one of them without the next")
                elif leader.error is not None:
                    raise leader.error.with_traceback(leader.traceback)
            finally:
                if leader is run:
                    self._end(key, run)
                value, led = leader.value, leader is run
                # A run holds its error, and the error's traceback this frame: without this line all that the
                # frames hold would live on until the cycle collector runs.
                del run, leader
            if value is not MISSING:
                return value
            if led:
                discard(made)

    def _end(self, key: Hashable, run: Run[T]) -> None:
        with self.lock:
            if self._runs.get(key) is run:
                del self._runs[key]
        wait_graph.finish(run)

    def forget(self, key: Hashable) -> None:
        """Let the run in progress, if any, make its value again. Call it under :attr:`lock`."""
        self._runs.pop(key, None)

    def leads(self, key: Hashable) -> bool:
        """Tell whether the calling thread is making the value of the key."""
        run = self._runs.get(key)
        return run is not None and run.thread == threading.get_ident()

    def after_fork(self) -> None:
        """Start over in the child: only a run of the thread that forked goes on."""
        thread = threading.get_ident()
        self.lock = threading.Lock()
        self._runs = {key: run for key, run in self._runs.items() if run.thread == thread}
