"""Startup and shutdown of an application, once each in every process that serves it."""

from __future__ import annotations

import atexit
import itertools
from collections.abc import Callable, Iterator
from typing import TypeVar

from prologue.errors import LifecycleError
from prologue.lifecycle.fork import abandon, on_fork
from prologue.lifecycle.resources import Resources
from prologue.lifecycle.single_flight import MISSING, Missing, SingleFlight
from prologue.lifecycle.steps import Step, check_callable, name_of, run_each

__all__ = ["Lifecycle", "ShutdownManager"]

Handler = TypeVar("Handler", bound=Callable[[], object])


def _nothing(_: None) -> None:
    """Keep or discard the outcome of startup: it has none."""


class Lifecycle:
    """The events of one application in one process: startup once before the first request, shutdown once.

    Handlers take no arguments. After a fork the child starts over: nothing has started, and handlers that the
    parent registered during or after its own startup are not the child's.

    Attributes:
        started: whether startup has completed in this process; it stays true after shutdown. A server's hot
            path reads it, and calls :meth:`startup` only when it is false.
        resources: the named resources, closed at shutdown after the handlers.
    """

    __slots__ = (
        "__weakref__",
        "_completed",
        "_declared",
        "_flight",
        "_shutdown_handlers",
        "_startup_handlers",
        "_stopped",
        "_stopping",
        "resources",
        "started",
    )

    def __init__(self) -> None:
        self.resources = Resources()
        self._startup_handlers: list[Callable[[], object]] = []
        self._shutdown_handlers: list[Callable[[], object]] = []
        # Invariant: everything here and below changes only under the lock of the flight, except that the
        # thread that runs the startup handlers alone counts them.
        self._flight: SingleFlight[None] = SingleFlight()
        on_fork(self._after_fork)
        self._start_over()

    def _start_over(self) -> None:
        self.started = False
        self._stopping = False  # shutdown has begun
        self._stopped = False  # and accepts no more handlers
        self._completed = 0  # startup handlers that have run
        self._declared: tuple[list[Callable[[], object]], list[Callable[[], object]]] | None = None

    def on_startup(self, handler: Handler) -> Handler:
        """Run a function once per process, before the first request; usable as a decorator.

        Handlers run in the order of registration. One registered by a startup handler runs in that startup.

        Args:
            handler: called without arguments.

        Returns:
            The function, unchanged.

        Raises:
            LifecycleError: startup has completed, or shutdown has begun, in this process.
            TypeError: it cannot be called.
        """
        check_callable(handler, "a startup handler")
        with self._flight.lock:
            if self.started or self._stopping:
                raise LifecycleError(
                    f"startup handler {name_of(handler)} comes too late: register it before startup"
                )
            self._startup_handlers.append(handler)
        return handler

    def on_shutdown(self, handler: Handler) -> Handler:
        """Run a function once at the end of a process that has started; usable as a decorator.

        Handlers run in the reverse order of registration. One registered while shutdown runs its handlers is
        the next to run. A startup handler may register here what undoes its work.

        Args:
            handler: called without arguments.

        Returns:
            The function, unchanged.

        Raises:
            LifecycleError: the last shutdown handler has run in this process.
            TypeError: it cannot be called.
        """
        check_callable(handler, "a shutdown handler")
        with self._flight.lock:
            if self._stopped:
                raise LifecycleError(f"shutdown handler {name_of(handler)} comes too late: shutdown is over")
            self._shutdown_handlers.append(handler)
        return handler

    def startup(self) -> None:
        """Run the startup handlers, once per process; return when they have all run.

        Threads that call meanwhile wait. An error reaches every waiting caller and is not remembered: the
        next call goes on with the handler that failed, and does not repeat those before it. Success registers
        :meth:`shutdown` to run at interpreter exit. A startup handler that forks goes on in the child.

        Raises:
            LifecycleError: shutdown has begun in this process.
            LazyCycleError: a startup handler calls ``startup()``, as a request to the application does.
            Exception: what a handler raises.
        """
        if not self.started or self._stopping:
            self._flight.run(
                None, "startup", find=self._find, make=self._start, keep=_nothing, discard=_nothing
            )

    def _find(self) -> Missing | None:
        return None if self.started and not self._stopping else MISSING

    def _start(self) -> None:
        while (handler := self._next_startup_handler()) is not None:
            handler()
            self._completed += 1
        atexit.register(self.shutdown)

    def _next_startup_handler(self) -> Callable[[], object] | None:
        with self._flight.lock:
            if self._stopping:
                raise LifecycleError("startup is not possible any more: shutdown has begun in this process")
            if self._declared is None:
                self._declared = (self._startup_handlers.copy(), self._shutdown_handlers.copy())
            if self._completed < len(self._startup_handlers):
                return self._startup_handlers[self._completed]
            self.started = True
            return None

    def shutdown(self) -> list[Exception]:
        """Run the shutdown handlers, then close the resources; once per process, never raising an error.

        Each handler runs even if another fails; the errors are logged. In a process where startup has not
        completed no handler runs, and only the resources are closed. Another call, even a simultaneous one,
        does nothing. What is not an ``Exception`` (``SystemExit``, ``KeyboardInterrupt``) is raised again at
        the end.

        Returns:
            The errors, in the order in which they came.
        """
        with self._flight.lock:
            if self._stopping:
                return []
            self._stopping = True
        try:
            return run_each(itertools.chain(self._stopping_steps(), self.resources.closing()))
        finally:
            atexit.unregister(self.shutdown)

    def _stopping_steps(self) -> Iterator[Step]:
        while (handler := self._next_shutdown_handler()) is not None:
            yield f"shutdown handler {name_of(handler)}", handler

    def _next_shutdown_handler(self) -> Callable[[], object] | None:
        with self._flight.lock:
            if self.started and self._shutdown_handlers:
                return self._shutdown_handlers.pop()
            self._stopped = True
            return None

    def _after_fork(self) -> None:
        self._flight.after_fork()
        if self._flight.leads(None):
            return  # a startup handler forked and goes on here
        if self._declared is not None:
            abandon((self._startup_handlers, self._shutdown_handlers))
            self._startup_handlers, self._shutdown_handlers = self._declared
        self._start_over()

    def __repr__(self) -> str:
        if self._stopping:
            state = "stopped" if self._stopped else "stopping"
        else:
            state = "started" if self.started else "not started"
        return f"<Lifecycle {state}, {len(self._startup_handlers)} startup handlers>"


class ShutdownManager:
    """The specification's name for the registration of shutdown handlers."""

    __slots__ = ("_lifecycle",)

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._lifecycle = lifecycle

    def add_handler(self, handler: Handler) -> Handler:
        """Register a function as :meth:`Lifecycle.on_shutdown` does."""
        return self._lifecycle.on_shutdown(handler)
