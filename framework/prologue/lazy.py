"""Values made on first use, once whatever the number of threads: LazyResource and lazy_property.

* **Threads.** The loader runs in one thread and without a lock; the others wait for its outcome. A read of a
  loaded value takes no lock.
* **Fork.** In the child a :class:`LazyResource` starts over, not loaded and not closed, and the parent's
  value is neither closed nor finalized there. The value of a :class:`lazy_property` is part of its instance
  and stays. A loader that itself forks goes on in the child.
* **Circles.** A loader that needs its own value, through other loaders or other threads too, is an error.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from types import MemberDescriptorType
from typing import Any, Generic, Self, TypeVar, overload

from prologue.errors import ClosedResourceError, LifecycleError
from prologue.lifecycle import MISSING, Missing, SingleFlight, abandon, check_callable, on_fork, opening_order

__all__ = ["LazyResource", "lazy_property"]

T = TypeVar("T")

_logger = logging.getLogger(__name__)


class LazyResource(Generic[T]):
    """A value that is loaded on first use, once per process, and shared by its threads.

    ``None`` is a value like others. The class can be used alone, or registered among the resources of an
    application, which close it at shutdown.

    A value with a lifetime, or one that is reset or closed, may still be in use by a thread that got it
    before: give such a value a ``close`` that bears this.

    Args:
        loader: called without arguments to make the value.
        close: called with the value when it is replaced, reset or closed; default: nothing is called.
        ttl: lifetime of the value in seconds, counted from the end of its loading; default: without end. The
            first ``get()`` after that loads again, in its own thread; the threads that ask meanwhile wait, so
            that nobody gets a value older than this. The old value is closed once the new one is in place.
        name: the name in messages; default: the loader's qualified name.
        clock: a monotonic clock in seconds.

    Raises:
        ValueError: ``ttl`` is not above 0.
        TypeError: ``loader`` or ``close`` cannot be called.
    """

    __slots__ = (
        "__weakref__",
        "_clock",
        "_close",
        "_closed",
        "_flight",
        "_held",
        "_loader",
        "_opened",
        "_ttl",
        "_value",
        "name",
    )

    def __init__(
        self,
        loader: Callable[[], T],
        *,
        close: Callable[[T], object] | None = None,
        ttl: float | None = None,
        name: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if ttl is not None and not ttl > 0:
            raise ValueError(f"ttl must be above 0 seconds, not {ttl!r}; leave it out for no end")
        check_callable(loader, "the loader of a LazyResource")
        if close is not None:
            check_callable(close, "the close of a LazyResource")
        self.name = name or getattr(loader, "__qualname__", None) or repr(loader)
        self._loader = loader
        self._close = close
        self._ttl = math.inf if ttl is None else ttl
        self._clock = clock
        # Invariant: everything below changes only under the lock of the flight.
        self._flight: SingleFlight[T] = SingleFlight()
        self._held: tuple[T, float] | None = None  # the value and when it ends
        self._value: T | Missing = MISSING  # a copy for the fast path; stays MISSING for a value that ends
        self._opened: int | None = None
        self._closed = False
        on_fork(self._after_fork)

    def get(self) -> T:
        """Return the value; load it first if it is not there or has outlived ``ttl``.

        One thread loads; the others wait and get the same value. A failure reaches every waiting thread and
        is not remembered: the next call tries again. ``SystemExit`` and ``KeyboardInterrupt`` end the loading
        thread's call only, and one of those who waited tries again. A value whose loading was overtaken by
        :meth:`reset` is closed and loaded again; nobody gets it.

        Returns:
            The value.

        Raises:
            ClosedResourceError: :meth:`close` was called.
            LazyCycleError: the loader needs this value, or waits for a thread that does; the message names
                the circle.
            Exception: what the loader raises.
        """
        # PERF: one attribute and one identity test when the value is there: 50 to 70 ns with the call; an
        # empty method takes 30 to 58 ns, one with a lock 340 to 540 ns (CPython 3.11 to 3.13, busy machine).
        value = self._value
        if value is not MISSING:
            return value
        held = self._held
        if held is not None and self._clock() < held[1]:
            return held[0]
        return self._load()

    @property
    def initialized(self) -> bool:
        """Whether ``get()`` would return without loading."""
        held = self._held
        return held is not None and self._clock() < held[1]

    @property
    def opened(self) -> int | None:
        """Its number in the order of opening while it holds a value, else ``None``."""
        return self._opened

    def reset(self) -> None:
        """Forget the value and close it; the next ``get()`` loads again. Without a value, do nothing.

        A load in progress starts over. It is safe from any thread.

        Raises:
            LifecycleError: the loader itself calls it.
            Exception: what ``close`` raises; the value is forgotten all the same.
        """
        with self._flight.lock:
            if self._flight.leads(None):
                raise LifecycleError(f"lazy resource {self.name!r}: its loader may not reset it")
            held = self._drop()
        if held is not None:
            self._dispose(held[0])

    def close(self) -> None:
        """Close the value, if there is one, and load no more in this process. Calling again does nothing.

        A load in progress ends with ``ClosedResourceError``, its value closed.

        Raises:
            Exception: what ``close`` raises; the resource is closed all the same.
        """
        with self._flight.lock:
            self._closed = True
            held = self._drop()
        if held is not None:
            self._dispose(held[0])

    def _load(self) -> T:
        replaced: list[T] = []
        value = self._flight.run(
            None,
            self.name,
            find=self._find,
            make=self._loader,
            keep=lambda value: self._keep(value, replaced),
            discard=self._dispose_logged,
        )
        for old in replaced:
            self._dispose_logged(old)
        return value

    def _find(self) -> T | Missing:
        if self._closed:
            raise ClosedResourceError(f"lazy resource {self.name!r} is closed: use it before it is closed")
        held = self._held
        return held[0] if held is not None and self._clock() < held[1] else MISSING

    def _keep(self, value: T, replaced: list[T]) -> None:
        if self._held is None:
            self._opened = next(opening_order)
        else:
            replaced.append(self._held[0])
        self._held = (value, self._clock() + self._ttl)
        if self._ttl == math.inf:
            self._value = value

    def _drop(self) -> tuple[T, float] | None:
        self._flight.forget(None)
        held, self._held = self._held, None
        self._value = MISSING
        self._opened = None
        return held

    def _dispose(self, value: T) -> None:
        if self._close is not None:
            self._close(value)

    def _dispose_logged(self, value: T) -> None:
        # The caller of get() has no part in this value: the failure to close it is not an answer.
        try:
            self._dispose(value)
        except Exception:
            _logger.exception("lazy resource %r: closing a value that is out of use failed", self.name)

    def _after_fork(self) -> None:
        if self._held is not None:
            abandon(self._held)
        self._held = None
        self._value = MISSING
        self._opened = None
        self._closed = False
        self._flight.after_fork()

    def __repr__(self) -> str:
        state = "closed" if self._closed else "initialized" if self.initialized else "not initialized"
        return f"<LazyResource {self.name!r} {state}>"


class lazy_property(Generic[T]):
    """Make a method an attribute that is computed on first use, once per instance.

    One thread computes and the others wait; different instances are computed in parallel. A failure reaches
    every waiting thread and is not remembered. ``del instance.name`` forgets the value: the next read
    computes it again.

    The value is kept in the instance's ``__dict__``, where later reads find it at the cost of a plain
    attribute. A class without one, because of ``__slots__``, declares a slot of the property's name with an
    underscore before it; a read then costs a call::

        class Point:
            __slots__ = ("x", "y", "_length")

            @lazy_property
            def length(self) -> float: ...

    ``super().name`` in a subclass that overrides the property calls the base's function, without keeping its
    value when that would be in the ``__dict__``: there the name belongs to the subclass.

    Args:
        function: the method that computes the value; its docstring becomes the attribute's.

    Raises:
        TypeError: at the making of the class, if the slot is missing, or one lazy property has two names.
            Python 3.11 shows it as the cause of a ``RuntimeError``.
        LazyCycleError: on access, if the function needs the attribute itself, through others too.
    """

    def __init__(self, function: Callable[[Any], T]) -> None:
        self.__doc__ = function.__doc__
        self._function = function
        self._name = ""
        self._flight: SingleFlight[T] = SingleFlight()
        on_fork(self._flight.after_fork)

    def __set_name__(self, owner: type, name: str) -> None:
        if self._name not in ("", name):
            raise TypeError(f"one lazy_property with two names, {self._name!r} and {name!r}: make two")
        self._name = name
        if owner.__dictoffset__ == 0:
            slot = vars(owner).get(f"_{name}")
            if not isinstance(slot, MemberDescriptorType):
                raise TypeError(f"{owner.__qualname__}.{name} has no slot: add '_{name}' to __slots__")
            setattr(owner, name, _SlottedLazyProperty(self._function, name, slot))

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...

    @overload
    def __get__(self, instance: object, owner: type | None = None) -> T: ...

    def __get__(self, instance: object, owner: type | None = None) -> T | Self:
        if instance is None:
            return self
        if not self._name:
            raise TypeError("a lazy_property must be defined in the body of a class")
        if _attribute_of(type(instance), self._name) is not self:
            return self._function(instance)
        values: dict[str, T] = vars(instance)
        name = self._name

        def find() -> T | Missing:
            return values.get(name, MISSING)

        def keep(value: T) -> None:
            values[name] = value

        return self._compute(instance, find, keep)

    def _compute(self, instance: object, find: Callable[[], T | Missing], keep: Callable[[T], None]) -> T:
        return self._flight.run(
            id(instance),
            f"{type(instance).__qualname__}.{self._name}",
            find=find,
            make=lambda: self._function(instance),
            keep=keep,
            discard=_never,
        )


def _never(value: object) -> None:
    """Nothing overtakes the computing of a lazy property, so nothing is discarded."""


def _attribute_of(owner: type, name: str) -> object:
    return next((vars(base)[name] for base in owner.__mro__ if name in vars(base)), None)


class _SlottedLazyProperty(lazy_property[T]):
    """A lazy property whose values are in a slot; the class's own, so that an override does not share it."""

    def __init__(self, function: Callable[[Any], T], name: str, slot: MemberDescriptorType) -> None:
        super().__init__(function)
        self._name = name
        self._slot = slot

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...

    @overload
    def __get__(self, instance: object, owner: type | None = None) -> T: ...

    def __get__(self, instance: object, owner: type | None = None) -> T | Self:
        if instance is None:
            return self
        value = self._find(instance)
        if value is MISSING:
            return self._compute(
                instance, lambda: self._find(instance), lambda value: self._slot.__set__(instance, value)
            )
        return value

    def _find(self, instance: object) -> T | Missing:
        try:
            value: T = self._slot.__get__(instance)
        except AttributeError:
            return MISSING
        return value

    def __delete__(self, instance: object) -> None:
        self._slot.__delete__(instance)
