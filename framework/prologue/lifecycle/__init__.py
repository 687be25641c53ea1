"""What a process opens, runs once and closes: fork guard, single flights, resources, startup and shutdown.

Importing this package, or an application that uses it, opens nothing and starts no thread. Throughout:

* **Fork.** In the child of a fork every object registered with :func:`on_fork` starts over: locks are made
  anew and never acquired, what the parent opened is forgotten and stays unclosed (:func:`abandon`).
* **Locks.** No lock is held while a handler, an opener or a closer runs, or while a thread waits.
* **Threads.** Every public method may be called from any thread.
"""

from prologue.lifecycle.events import Lifecycle, ShutdownManager
from prologue.lifecycle.fork import abandon, on_fork
from prologue.lifecycle.resources import Resource, Resources, opening_order
from prologue.lifecycle.single_flight import MISSING, Missing, SingleFlight
from prologue.lifecycle.steps import check_callable

__all__ = [
    "MISSING",
    "Lifecycle",
    "Missing",
    "Resource",
    "Resources",
    "ShutdownManager",
    "SingleFlight",
    "abandon",
    "check_callable",
    "on_fork",
    "opening_order",
]
