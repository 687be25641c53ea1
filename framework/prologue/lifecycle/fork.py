"""The fork guard: the one owner of the package's process-global state.

A child inherits memory and open files, and none of the threads: a lock that another thread held stays locked
for ever, and a socket is shared with the parent. Objects that own such things register here.
"""

from __future__ import annotations

import atexit
import itertools
import os
import weakref
from collections.abc import Callable
from functools import partial
from types import MethodType
from typing import Any

from prologue.lifecycle.steps import name_of, run_each

__all__ = ["abandon", "on_fork"]

# Single dict operations only, each atomic: there is no lock here that a fork could find held.
_fork_callbacks: dict[int, tuple[weakref.ref[Any], Callable[[Any], object]]] = {}
_fork_keys = itertools.count()
_abandoned: list[object] = []


def on_fork(method: Callable[[], object]) -> None:
    """Call a bound method in the child after every fork of this process.

    The registration is weak: it ends with the object of the method. Methods run in the order of registration,
    each even if another raises; errors are logged, and never stop the fork. The method runs while other
    threads no longer exist: it makes locks anew and acquires none, and hands what the parent opened to
    :func:`abandon`.

    Args:
        method: a bound method without arguments; its object must be weakly referable.

    Raises:
        TypeError: it is not a bound method: any other callable would be dropped at once.
    """
    if not isinstance(method, MethodType):
        raise TypeError(
            f"on_fork needs a bound method, not {method!r}: it is kept only as long as its object"
        )
    key = next(_fork_keys)

    def drop(_: object, callbacks: dict[int, Any] = _fork_callbacks) -> None:
        callbacks.pop(key, None)

    _fork_callbacks[key] = weakref.ref(method.__self__, drop), method.__func__


def abandon(value: object) -> None:
    """Keep a value that the parent process opened, unused and unclosed, until this process ends.

    Dropping the last reference would run finalizers, and these flush buffers and send farewells on files and
    sockets that the parent still uses. Call it from a method registered with :func:`on_fork`.

    Args:
        value: what the parent opened.
    """
    _abandoned.append(value)


def _tell_of_fork() -> None:
    alive = [
        (f"fork: {name_of(function)}", partial(function, owner))
        for reference, function in list(_fork_callbacks.values())
        if (owner := reference()) is not None
    ]
    run_each(alive)


def _leave_abandoned_unfinalized() -> None:
    # The end of the interpreter would run the finalizers after all. A reference that nothing gives back
    # prevents it.
    if _abandoned:
        import ctypes

        ctypes.pythonapi.Py_IncRef(ctypes.py_object(_abandoned))


os.register_at_fork(after_in_child=_tell_of_fork)
atexit.register(_leave_abandoned_unfinalized)
