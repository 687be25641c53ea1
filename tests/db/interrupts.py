"""Interrupt the pool's code wherever CPython may: at the start of each function, and after each call into C.

There the interpreter looks whether a signal has come, another thread wants to raise an exception here, or the
collector is due. A profiler is called at these points, and what it raises comes from the call itself.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import prologue.db

PACKAGE = str(Path(prologue.db.__file__).parent)


class Interruption:
    """Call `action` at the point of the given number in the pool's code, in this thread."""

    def __init__(self, number: int, action: Callable[[], object]) -> None:
        self.left = number
        self.action = action
        self.where = ""

    def __enter__(self) -> Interruption:
        sys.setprofile(self._profile)
        return self

    def __exit__(self, *exception: object) -> None:
        sys.setprofile(None)

    def _profile(self, frame: FrameType, event: str, argument: object) -> None:
        code = frame.f_code
        if event in ("call", "c_return") and code.co_filename.startswith(PACKAGE) and not self.where:
            self.left -= 1
            if self.left == 0:
                self.where = f"{event} {argument} {Path(code.co_filename).name}:{frame.f_lineno}"
                self.action()


def interrupt() -> None:
    raise KeyboardInterrupt


def at_every_point(action: Callable[[], object] = interrupt) -> Iterator[Interruption]:
    """Give one interruption after the other, until one finds no point any more."""
    number = 0
    while True:
        number += 1
        interruption = Interruption(number, action)
        yield interruption
        if not interruption.where:
            return
