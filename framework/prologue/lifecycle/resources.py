"""Named resources of an application, opened when first used and closed in reverse order."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final, Generic, Protocol, TypeVar

from prologue.errors import ClosedResourceError, LifecycleError
from prologue.lifecycle.fork import on_fork
from prologue.lifecycle.steps import Step, run_each

__all__ = ["Resource", "Resources", "opening_order"]

T = TypeVar("T")

opening_order: Final = itertools.count(1)
"""Numbers for :attr:`Resource.opened`: ``next(opening_order)`` is greater than every number before."""


class Resource(Protocol):
    """What :class:`Resources` can hold, for example a ``LazyResource``."""

    @property
    def opened(self) -> int | None:
        """Its number from :data:`opening_order` while it is open in this process, else ``None``."""

    def get(self) -> Any:
        """Return the object, opened once on first use; raise ``ClosedResourceError`` once closed."""

    def close(self) -> None:
        """Close the object if it is open, and open it no more in this process."""


class _Ready(Generic[T]):
    """A resource that needs no opening. What a process inherited and never used is not its to close."""

    __slots__ = ("__weakref__", "_close", "_value", "opened")

    def __init__(self, value: T, close: Callable[[T], object]) -> None:
        self._value = value
        self._close = close
        self.opened: int | None = next(opening_order)
        on_fork(self._after_fork)

    def get(self) -> T:
        if self.opened is None:
            self.opened = next(opening_order)
        return self._value

    def close(self) -> None:
        if self.opened is not None:
            self._close(self._value)

    def _after_fork(self) -> None:
        self.opened = None


class Resources:
    """Named resources of an application: opened on first access, closed in reverse order of opening.

    ``resources["name"]`` is the object itself. Membership tests and iteration go over the names and open
    nothing. After a fork the child starts over: what the parent opened stays unclosed, and opens anew on
    first access.
    """

    __slots__ = ("__weakref__", "_closed", "_lock", "_resources", "_shut")

    def __init__(self) -> None:
        # Invariant: changes to the three attributes below happen under the lock; names only ever come.
        self._lock = threading.Lock()
        self._resources: dict[str, Resource] = {}
        self._closed: set[str] = set()
        self._shut = False
        on_fork(self._after_fork)

    def add(self, name: str, resource: Resource) -> None:
        """Register a resource under a name; it is opened when first asked for.

        Args:
            name: the name, not used before.
            resource: a ``LazyResource``, or any object with ``get()``, ``close()`` and ``opened``.

        Raises:
            LifecycleError: the name is in use, or the resources are closed.
        """
        with self._lock:
            if self._shut:
                raise LifecycleError(f"resource {name!r} comes too late: the resources are closed")
            if name in self._resources:
                raise LifecycleError(f"resource {name!r} is there already: choose another name")
            self._resources[name] = resource

    def add_ready(self, name: str, value: T, close: Callable[[T], object]) -> None:
        """Register an object that needs no opening, such as a connection pool or a cache.

        It counts as opened now; in the child of a fork, which shares the object, from its first access there.
        So the object itself must be fit for use after a fork; what is not is given as a ``LazyResource``.

        Args:
            name: the name, not used before.
            value: the object.
            close: called with the object when the resources close.

        Raises:
            LifecycleError: the name is in use, or the resources are closed.
        """
        self.add(name, _Ready(value, close))

    def __getitem__(self, name: str) -> Any:
        """Return the object of that name, opened once for the process on first access.

        Raises:
            KeyError: there is no such name; the message lists those there are.
            ClosedResourceError: it was closed, as at shutdown.
            LazyCycleError: opening it needs itself.
            Exception: what opening it raises; the next access tries again.
        """
        try:
            resource = self._resources[name]
        except KeyError:
            names = ", ".join(map(repr, self._resources)) or "none"
            raise KeyError(f"no resource {name!r}; there are: {names}") from None
        if name in self._closed:
            raise ClosedResourceError(f"resource {name!r} is closed: use it before shutdown")
        return resource.get()

    def __contains__(self, name: object) -> bool:
        return name in self._resources

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._resources))

    def __len__(self) -> int:
        return len(self._resources)

    def __repr__(self) -> str:
        return f"<Resources {', '.join(map(self._describe, self)) or 'none'}>"

    def _describe(self, name: str) -> str:
        if name in self._closed:
            return f"{name!r} closed"
        return f"{name!r} {'open' if self._resources[name].opened is not None else 'not open'}"

    def close(self) -> list[Exception]:
        """Close what is open, in reverse order of opening, and let nothing be opened any more.

        Each is closed even if another fails to; the errors are logged. A resource may use, while it closes,
        those opened before it. Calling again does nothing.

        Returns:
            The errors, in the order in which they came.
        """
        return run_each(self.closing())

    def closing(self) -> Iterator[Step]:
        """Yield one step, a label and a function, for each resource to close, in order."""
        while step := self._next_to_close():
            yield step

    def _next_to_close(self) -> Step | None:
        with self._lock:
            left = [name for name in self._resources if name not in self._closed]
            if not left:
                self._shut = True
                return None
            # What is not open comes last: closing it keeps it from being opened behind our back.
            name = max(left, key=lambda name: self._resources[name].opened or 0)
            self._closed.add(name)
        return f"closing resource {name!r}", self._resources[name].close

    def _after_fork(self) -> None:
        self._lock = threading.Lock()
        self._closed = set()
        self._shut = False
