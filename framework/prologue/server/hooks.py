"""A configuration of gunicorn that starts and stops the application with each worker process.

``gunicorn -c python:prologue.server.hooks MODULE:app``. A configuration file of your own imports the two
hooks, or calls them in its own hooks of these names. Without them the application starts with its first
request and stops with the interpreter.

gunicorn takes every name of this module that is one of its settings: there are two.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from prologue.lifecycle import Lifecycle

__all__ = ["post_worker_init", "worker_exit"]

# Where WSGI middlewares keep the application that they wrap, and how many of them are looked through.
_WRAPPED = ("app", "wsgi_app", "application")
_DEPTH = 32

# gunicorn.arbiter.Arbiter.WORKER_BOOT_ERROR: the master ends, where it would replace any other worker.
_BOOT_ERROR = 3


def post_worker_init(worker: Any) -> None:
    """Run the startup handlers in a worker that has loaded its application, before it accepts connections.

    Raises:
        SystemExit: with gunicorn's status for a failed boot when a handler fails, so that the master stops
            too, and does not start one worker after another.
    """
    lifecycle = _lifecycle_of(worker)
    if lifecycle is None:
        return
    try:
        lifecycle.startup()
    except Exception:
        worker.log.exception("startup of the application failed: gunicorn stops")
        sys.exit(_BOOT_ERROR)
    except SystemExit as error:
        # A worker that was told to stop meanwhile is not alive; its exit is not the handler's.
        if worker.alive:
            worker.log.error("startup of the application ended with exit(%r): gunicorn stops", error.code)
            sys.exit(_BOOT_ERROR)
        raise


def worker_exit(server: Any, worker: Any) -> None:
    """Run the shutdown handlers at the end of a worker: told to stop, timed out, or after ``max_requests``.

    With threads, a request that has outlived ``graceful_timeout`` may still be running.
    """
    lifecycle = _lifecycle_of(worker)
    # The master calls this hook in its own process for a worker that died unseen.
    if lifecycle is not None and worker.pid == os.getpid():
        lifecycle.shutdown()


def _lifecycle_of(worker: Any) -> Lifecycle | None:
    """Return the lifecycle of the application behind a worker's WSGI callable, or None if it has none."""
    candidate = getattr(worker, "wsgi", None)  # absent when loading the application failed
    for _ in range(_DEPTH):
        lifecycle = getattr(candidate, "lifecycle", None)
        if isinstance(lifecycle, Lifecycle):
            return lifecycle
        candidate = next(filter(None, (getattr(candidate, name, None) for name in _WRAPPED)), None)
    return None
