"""What is down is left alone, and asked by one caller at a time."""

from __future__ import annotations

import os
import threading

import pytest

from prologue.cache.breaker import CircuitBreaker
from prologue.errors import CacheOptionError


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def opened(clock: Clock) -> CircuitBreaker:
    breaker = CircuitBreaker(2, 1.0, clock=clock)
    assert not breaker.failed()
    assert breaker.failed()
    return breaker


def test_it_opens_after_so_many_failures_in_a_row() -> None:
    breaker = CircuitBreaker(3, 1.0, clock=Clock())
    reports = [breaker.failed(), breaker.failed(), breaker.succeeded(), breaker.failed(), breaker.failed()]
    assert reports == [False] * 5
    assert (breaker.closed, breaker.allow()) == (True, True)
    assert breaker.failed()
    assert (breaker.closed, breaker.allow()) == (False, False)
    assert not breaker.failed()  # late news of callers that passed before


def test_one_caller_passes_after_a_while() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += 0.99
    assert not breaker.allow()
    clock.now += 0.01
    assert [breaker.allow(), breaker.allow()] == [True, False]


def test_success_of_that_caller_closes_it() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += 1
    assert breaker.allow()
    assert breaker.succeeded()
    assert not breaker.succeeded()
    assert [breaker.allow(), breaker.allow()] == [True, True]
    assert not breaker.failed()  # the count began anew


def test_failure_of_that_caller_keeps_it_open_for_another_while() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += 1
    assert breaker.allow()
    clock.now += 0.5
    assert not breaker.failed()
    clock.now += 0.99
    assert not breaker.allow()
    clock.now += 0.01
    assert breaker.allow()


def test_a_caller_that_never_reports_loses_its_turn() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += 1
    assert breaker.allow()
    clock.now += 1
    assert [breaker.allow(), breaker.allow()] == [True, False]


def test_one_of_many_threads_passes() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += 1
    start, passed = threading.Barrier(8), list[bool]()

    def call() -> None:
        start.wait()
        passed.append(breaker.allow())

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(passed) == [False] * 7 + [True]


def test_it_is_closed_and_usable_in_the_child_of_a_fork() -> None:
    breaker = opened(Clock())
    with breaker._lock:  # as another thread of the parent might
        child = os.fork()
        if not child:
            os._exit(0 if breaker.allow() and not breaker.failed() and breaker.allow() else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert not breaker.closed


@pytest.mark.parametrize(("failures", "retry_after"), [(0, 1.0), (1, 0.0), (-1, 1.0)])
def test_numbers_that_make_no_sense_are_refused(failures: int, retry_after: float) -> None:
    with pytest.raises(CacheOptionError, match="give positive numbers"):
        CircuitBreaker(failures, retry_after)
