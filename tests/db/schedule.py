"""A scheduler for threads: one runs at a time, and a seed says which goes on after each of its steps.

A step ends after each call that the pool's code makes into C, and at the start of each of its functions:
there and only there what threads share has changed. So the same seed gives the same interleaving.
"""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import prologue.db
from tests.concurrency import PATIENCE

PACKAGE = str(Path(prologue.db.__file__).parent)
HASTE = 0.02  # how probable it is that a time limit passes although others could go on


class Schedule:
    """Runs functions in threads of which the seed lets one go on at a time."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.steps = 0
        self._turns: list[threading.Semaphore] = []
        self._running: set[int] = set()
        self._blocked: dict[int, tuple[Callable[[], bool], bool]] = {}
        self._expired: set[int] = set()
        self._errors: list[BaseException] = []
        self._finished = threading.Event()
        self._own = threading.local()

    def run(self, *functions: Callable[[], object]) -> None:
        """Run the functions to their ends; raise what the first of them that fails raises."""
        self._turns = [threading.Semaphore(0) for _ in functions]
        self._running = set(range(len(functions)))
        threads = [
            threading.Thread(target=self._work, args=(number, function), daemon=True)
            for number, function in enumerate(functions)
        ]
        for thread in threads:
            thread.start()
        self._pass_on()
        assert self._finished.wait(PATIENCE), "the scheduler is stuck"
        for error in self._errors:
            raise error
        for thread in threads:
            thread.join(PATIENCE)

    def block(self, condition: Callable[[], bool], may_expire: bool) -> bool:
        """Let others go on until the condition holds; return false if the time limit has passed instead."""
        number = self._own.number
        while not condition():
            self._blocked[number] = (condition, may_expire)
            self._pass_on()
            self._turns[number].acquire()
            if number in self._expired:
                self._expired.discard(number)
                break
        self._blocked.pop(number, None)
        return condition()

    def _work(self, number: int, function: Callable[[], object]) -> None:
        self._own.number = number
        self._turns[number].acquire()
        sys.setprofile(self._step)
        try:
            function()
        except BaseException as error:
            self._errors.append(error)
        finally:
            sys.setprofile(None)
            self._running.discard(number)
            self._pass_on()

    def _step(self, frame: FrameType, event: str, argument: object) -> None:
        code = frame.f_code
        # Finalizers run wherever the collector does, also inside this scheduler.
        if (
            event in ("call", "c_return")
            and code.co_filename.startswith(PACKAGE)
            and code.co_name != "__del__"
        ):
            self.steps += 1
            self._pass_on()
            self._turns[self._own.number].acquire()

    def _pass_on(self) -> None:
        ready = [n for n in sorted(self._running) if n not in self._blocked or self._blocked[n][0]()]
        hasty = [n for n in sorted(self._running) if n not in ready and self._blocked[n][1]]
        if hasty and (not ready or self.chance.random() < HASTE):
            number = self.chance.choice(hasty)
            self._expired.add(number)
            self._turns[number].release()
        elif ready:
            self._turns[self.chance.choice(ready)].release()
        else:
            if self._running:
                self._errors.append(AssertionError("every thread waits for another"))
            self._finished.set()


class ScheduledLock:
    """A lock for the threads of a schedule, reentrant if it is used as a block."""

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self._owner: object = None
        self._depth = 0

    def acquire(self, timeout: float = -1) -> bool:
        if self._owner is not None and not self._schedule.block(lambda: self._owner is None, timeout >= 0):
            return False
        self._owner = threading.get_ident()
        return True

    def release(self) -> None:
        assert self._owner is not None
        self._owner = None

    def locked(self) -> bool:
        return self._owner is not None

    def __enter__(self) -> None:
        if self._owner != threading.get_ident():
            self.acquire()
        self._depth += 1

    def __exit__(self, *exception: object) -> None:
        self._depth -= 1
        if not self._depth:
            self.release()
