"""Days that pass in no time, clocks that jump, and closing at any moment."""

from __future__ import annotations

import threading
import time
from functools import partial
from typing import Any

import pytest

from prologue.db import ConnectionPool
from prologue.errors import PoolClosedError
from tests.concurrency import Task, pass_gate, run_script, together, until
from tests.db.driver import Driver, Setup
from tests.db.interrupts import at_every_point


def pass_time(setup: Setup, seconds: float) -> int:
    """Let the keeper do what is due until so much time has passed; return how often it came."""
    end = setup.clock.now + seconds
    visits = 0
    while setup.clock.now < end:
        pause = setup.tick()
        assert pause is not None
        assert pause >= 0
        setup.clock.now = min(end, setup.clock.now + max(pause, 1e-3))
        visits += 1
    return visits


def test_a_pool_that_was_idle_for_a_day_lends_a_connection_that_works() -> None:
    setup = Setup(min_connections=2)
    setup.idle(4)
    visits = pass_time(setup, 24 * 3600)
    assert 24 * 3600 / 30 <= visits < 24 * 3600 / 10  # no busier than its intervals ask
    stats = setup.pool.stats()
    assert (stats.idle, stats.size) == (2, 2)
    assert min(setup.driver.open) > 50  # replaced every half hour
    setup.driver.kill_all()
    for connection in setup.driver.connections[-2:]:
        connection.dead = False
    assert setup.borrow_number() in setup.driver.open


def test_idle_connections_go_in_time_although_they_are_checked_in_between() -> None:
    setup = Setup(idle_timeout=100, validation_interval=10, max_lifetime=1e6)
    setup.idle(2)
    setup.clock.now += 1
    setup.borrow_number()
    pass_time(setup, 90)
    assert setup.driver.connections[0].checks >= 4
    assert setup.driver.connections[1].checks >= 4
    assert setup.borrow_number() == 1  # last in, first out, whatever was checked in between
    pass_time(setup, 20)
    assert setup.driver.open == [1]
    pass_time(setup, 110)
    assert setup.driver.open == []


def test_a_check_in_the_background_is_no_use_that_would_let_the_connection_be_lent_first() -> None:
    setup = Setup(validation_interval=30)
    setup.idle(2)
    setup.clock.now += 20
    assert setup.borrow_number() == 1
    setup.tick(10)
    assert [connection.checks for connection in setup.driver.connections] == [0, 1]
    assert setup.borrow_number() == 1


def test_one_that_is_idle_for_too_long_is_not_lent_although_the_keeper_is_late() -> None:
    setup = Setup(idle_timeout=100, validation_interval=60, max_lifetime=1e6)
    setup.idle(1)
    setup.tick(60)
    setup.clock.now += 41  # fresh, for it was checked
    assert setup.borrow_number() == 2


def test_one_of_the_minimum_stays_however_long_it_is_idle() -> None:
    setup = Setup(min_connections=1, idle_timeout=100, validation_interval=60, max_lifetime=1e6)
    setup.idle(1)
    for _ in range(10):
        pass_time(setup, 70)
        assert setup.borrow_number() == 1


def test_a_jump_of_the_clock_throws_nothing_away() -> None:
    setup = Setup(min_connections=3, max_lifetime=3600)
    setup.idle(3)
    setup.clock.now += 700  # the machine was asleep
    setup.borrow_number()
    setup.tick()
    assert setup.driver.open == [1, 2, 3]


def test_the_wall_clock_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> float:
        raise AssertionError("the wall clock was asked")

    monkeypatch.setattr(time, "time", refuse)
    setup_driver = Driver()
    pool = ConnectionPool(setup_driver, name="monotonic")
    monkeypatch.setattr("logging.time.time", time.monotonic)
    with pool.connection(timeout=30):
        pass
    pool.close(timeout=30)


def test_a_rollback_that_hangs_holds_up_nobody_but_its_caller() -> None:
    gate = threading.Event()
    driver = Driver()
    pool = ConnectionPool(driver, max_connections=2, name="hanging")
    held = pool.get_connection(timeout=30)
    driver.connections[0].rollback = partial(pass_gate, gate)  # type: ignore[method-assign]
    task = Task(held.close)
    assert pool.with_connection(lambda connection: connection.number, timeout=30) == 2
    gate.set()
    task.result()
    until(lambda: pool.stats().idle == 2)
    pool.close(timeout=30)


def test_many_threads_may_close() -> None:
    driver = Driver()
    pool = ConnectionPool(driver, min_connections=2, name="closing")
    pool.open(wait=True, timeout=30)
    together(4, lambda number: pool.close(timeout=30))
    assert [connection.closes for connection in driver.connections] == [1, 1]


def test_a_signal_handler_may_close_the_pool_anywhere() -> None:
    driver = Driver()

    def use(pool: ConnectionPool) -> None:
        try:
            with pool.connection(timeout=30):
                pass
        except PoolClosedError:
            pass

    interruptions = at_every_point(lambda: pools[-1].close(timeout=0))
    pools: list[Any] = []
    for interruption in interruptions:
        pools.append(ConnectionPool(driver, name="signalled"))
        if len(pools) % 2:
            pools[-1].open()
        with interruption:
            use(pools[-1])
        pools[-1].close(timeout=30)
        assert pools[-1].stats().size == 0, interruption.where
    assert all(connection.closes == 1 for connection in driver.connections)


def test_a_pool_may_be_closed_at_exit() -> None:
    assert run_script(
        "import atexit, sqlite3\n"
        "from prologue.db import ConnectionPool\n"
        "pool = ConnectionPool.from_url('sqlite:///:memory:')\n"
        "def end():\n"
        "    pool.close(timeout=10)\n"
        "    print(pool.stats().size, pool.stats().closed)\n"
        "atexit.register(end)\n"
        "with pool.connection() as connection:\n"
        "    print(connection.execute('SELECT 1').fetchone())\n"
    ).splitlines() == ["(1,)", "0 1"]
