"""Interleavings chosen by seeds: whichever thread goes on after each step, the invariants hold."""

from __future__ import annotations

from collections import deque
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from prologue.db import entry
from prologue.db.entry import Waiter
from prologue.errors import PoolError
from tests.db.driver import Driver, DriverError, FakeConnection, Setup
from tests.db.schedule import Schedule, ScheduledLock


def use(setup: Setup, schedule: Schedule, holders: dict[FakeConnection, int], number: int) -> None:
    """Borrow a few times in one of the ways that there are."""
    for _ in range(3):
        way = schedule.chance.randrange(5)
        timeout = schedule.chance.choice([0, 1, 30])
        try:
            if way == 0:
                borrowed = setup.pool.get_connection(timeout)
                hold(borrowed._connection(), schedule, holders, number)
                borrowed.close()
                continue
            with setup.pool.connection(timeout) as connection:
                hold(connection, schedule, holders, number)
                if way == 1:
                    raise KeyError("mine")
                if way == 2:
                    connection.dead = True
        except (PoolError, DriverError, KeyError):
            pass
        if way == 3 and schedule.chance.random() < 0.2:
            setup.pool.drain()


def hold(
    connection: FakeConnection, schedule: Schedule, holders: dict[FakeConnection, int], number: int
) -> None:
    assert connection not in holders, "two holders"
    assert not connection.in_transaction, "lent in a transaction"
    assert not connection.closes, "lent after it was closed"
    holders[connection] = number
    connection.pending.append("x")
    connection.in_transaction = True
    schedule.block(lambda: True, False)
    del holders[connection]


def prepare(monkeypatch: pytest.MonkeyPatch, seed: int, **options: Any) -> tuple[Setup, Schedule]:
    schedule = Schedule(seed)
    setup = Setup(**options)
    setup.pool._lock = ScheduledLock(schedule)  # type: ignore[assignment]
    monkeypatch.setattr(entry, "threading", SimpleNamespace(Lock=lambda: ScheduledLock(schedule)))
    monkeypatch.setattr(Driver, "__call__", lambda driver: connect(driver))
    return setup, schedule


def connect(driver: Driver) -> FakeConnection:
    connection = FakeConnection(driver, len(driver.connections) + 1)
    driver.connections.append(connection)
    return connection


@pytest.mark.parametrize("interval", [0.0, 30.0])
def test_every_interleaving_keeps_the_invariants(interval: float, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(30):
        setup, schedule = prepare(monkeypatch, seed, max_connections=2, validation_interval=interval)
        holders: dict[FakeConnection, int] = {}
        schedule.run(*(partial(use, setup, schedule, holders, number) for number in range(3)))
        setup.tick()
        stats = setup.pool.stats()
        assert (stats.leased, stats.waiting, stats.lost) == (0, 0, 0), seed
        assert stats.idle == stats.size <= 2, seed
        assert setup.pool.recovered == 0, seed
        assert stats.opened - stats.closed == stats.size, seed
        assert len(setup.driver.open) == stats.size, seed
        assert all(connection.closes <= 1 for connection in setup.driver.connections), seed
        assert not any(c.in_transaction for c in setup.driver.connections if not c.closes), seed
        assert schedule.steps > 100


def test_whoever_waits_is_served_in_the_order_of_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(30):
        setup, schedule = prepare(monkeypatch, seed, max_connections=1)
        setup.idle(1)
        queue: deque[Waiter] = deque()
        served: list[Waiter] = []

        class Queue(deque[Waiter]):
            def append(self, waiter: Waiter) -> None:
                queue.append(waiter)  # noqa: B023
                super().append(waiter)

            def remove(self, waiter: Waiter) -> None:
                super().remove(waiter)
                served.append(waiter)  # noqa: B023

        def borrow() -> None:
            for _ in range(2):
                with setup.pool.connection():  # noqa: B023
                    assert not setup.pool._idle  # noqa: B023

        setup.pool._waiters = Queue()
        setup.pool._connection_timeout = 1e9
        monkeypatch.setattr("tests.db.schedule.HASTE", 0)
        schedule.run(*(borrow for _ in range(3)))
        assert served == list(queue), seed
        setup.tick()
        assert setup.pool.recovered == 0, seed
        assert setup.pool.stats().acquires == 7
