"""Steps that are all run, whatever one of them raises: shutdown handlers, closers, callbacks after a fork."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import TypeAlias

__all__ = ["Step", "check_callable", "name_of", "run_each"]

Step: TypeAlias = tuple[str, Callable[[], object]]
"""A label for the log, and the function to call."""

_logger = logging.getLogger("prologue.lifecycle")


def run_each(steps: Iterable[Step]) -> list[Exception]:
    """Run every step even if another raises; log and return the errors.

    What is not an ``Exception`` (``SystemExit``, ``KeyboardInterrupt``) is raised again after the last step.
    """
    errors: list[Exception] = []
    interruption: BaseException | None = None
    for label, function in steps:
        try:
            function()
        except Exception as error:
            _logger.error("%s failed", label, exc_info=error)
            errors.append(error)
        except BaseException as error:
            if interruption is None:
                interruption = error
    if interruption is not None:
        raise interruption
    return errors


def check_callable(function: object, what: str) -> None:
    """Refuse, where it is given, what could not be called later.

    Raises:
        TypeError: it cannot be called; the message says what was to be.
    """
    if not callable(function):
        raise TypeError(f"{what} is a function, not {function!r:.200}")


def name_of(function: Callable[..., object]) -> str:
    """Return a name of the function for messages."""
    return getattr(function, "__qualname__", None) or repr(function)
