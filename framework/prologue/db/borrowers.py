"""Who borrowed a connection: the stack at that moment, for those who keep it too long."""

from __future__ import annotations

import sys
from traceback import FrameSummary, format_list
from types import CodeType

__all__ = ["Stack", "describe", "stack_of_borrower"]

DEPTH = 16  # callers; more only hides the one that matters

#: Where somebody called: code and line, the innermost first.
Stack = list[tuple[CodeType, int]]


def stack_of_borrower() -> Stack:
    """Return where the pool was called from: codes and lines, for frames would keep their variables alive."""
    frame = sys._getframe(1)
    stack: Stack = []
    while frame is not None and len(stack) < DEPTH:
        if not frame.f_globals.get("__name__", "").startswith("prologue.db."):
            stack.append((frame.f_code, frame.f_lineno))
        frame = frame.f_back  # type: ignore[assignment]
    return stack


def describe(stack: Stack | None) -> str:
    """Return a stack as a traceback shows it: the outermost caller first."""
    frames = [FrameSummary(code.co_filename, line, code.co_name) for code, line in reversed(stack or [])]
    return "".join(format_list(frames)).rstrip("\n")
