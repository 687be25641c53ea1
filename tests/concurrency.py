"""Real threads and real forks for the tests: started together, joined in bounded time, never by sleeping."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Generic, TypeVar

from prologue.lifecycle import single_flight

T = TypeVar("T")

PATIENCE = 30.0
"""Seconds after which something that should have happened never will."""


class Task(Generic[T]):
    """A function that runs in a thread of its own; `result()` returns or raises what it did."""

    def __init__(self, function: Callable[[], T]) -> None:
        self._function = function
        self._value: T
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._value = self._function()
        except BaseException as error:
            self._error = error

    @property
    def ident(self) -> int:
        assert self._thread.ident is not None
        return self._thread.ident

    def error(self) -> BaseException | None:
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "a thread is stuck"
        return self._error

    def result(self) -> T:
        if (error := self.error()) is not None:
            raise error
        return self._value


def together(count: int, function: Callable[[int], T]) -> list[T]:
    """Call `function(0)` to `function(count - 1)`, each in a thread, all released at the same moment."""
    barrier = threading.Barrier(count)

    def start(number: int) -> T:
        barrier.wait(PATIENCE)
        return function(number)

    tasks = [Task(partial(start, number)) for number in range(count)]
    return [task.result() for task in tasks]


def pass_gate(gate: threading.Event) -> None:
    assert gate.wait(PATIENCE), "nobody opened the gate"


def until(condition: Callable[[], object]) -> None:
    """Look every half millisecond until the condition holds.

    Between two looks the processor and the interpreter are left to those who bring it about.
    """
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "the condition never came to hold"
        time.sleep(0.0005)


def until_waiting(count: int) -> None:
    """Give way until so many threads wait for a value that another thread makes."""
    until(lambda: len(single_flight.wait_graph._waiting) == count)


@contextmanager
def impatient_threads() -> Iterator[None]:
    """Switch threads every microsecond, so that races show."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


@contextmanager
def untraced() -> Iterator[None]:
    """Run the block, and the threads that it starts, without the tracer that measures coverage.

    A signal may leave the tracer's own lock locked; and a traced thread of CPython 3.11 that has a signal
    pending for the main thread runs in a circle, with whatever locks it holds, until that thread looks.
    """
    here, in_threads = sys.gettrace(), threading.gettrace()
    sys.settrace(None)
    threading.settrace(None)
    try:
        yield
    finally:
        threading.settrace(in_threads)
        sys.settrace(here)


def in_child(function: Callable[[], Any]) -> Any:
    """Fork, call the function in the child, and return its answer, which passes through JSON."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        # Other threads may live: that such a fork is safe is what some tests are about.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        signal.alarm(20)  # a child that waits for a lock for ever is killed
        try:
            answer = {"value": function()}
        except BaseException:
            answer = {"error": traceback.format_exc()}
        os.write(writing, json.dumps(answer).encode())
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        received = pipe.read()
    assert os.waitpid(child, 0)[1] == 0, "the child died"
    answer = json.loads(received)
    assert "error" not in answer, answer["error"]
    return answer["value"]


def run_script(source: str) -> str:
    """Run a program in a new interpreter, where warnings are errors, and return what it printed."""
    outcome = subprocess.run(
        [sys.executable, "-W", "error", "-c", source],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert outcome.returncode == 0, outcome.stderr
    assert not outcome.stderr, outcome.stderr
    return outcome.stdout
