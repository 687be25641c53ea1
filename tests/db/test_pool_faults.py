"""Connections that die, databases that go away, drivers that hang, and what becomes old."""

from __future__ import annotations

from typing import Any

import pytest

from prologue.db import ConnectionPool, state
from prologue.errors import PoolTimeoutError, PoolUnavailableError
from tests.concurrency import Task, until
from tests.db.driver import DriverError, Setup


def test_a_fresh_connection_is_not_checked() -> None:
    setup = Setup(validation_interval=30)
    setup.idle(1)
    setup.clock.now += 29
    setup.borrow_number()
    setup.clock.now += 29
    assert setup.borrow_number() == 1
    assert setup.driver.connections[0].checks == 0


def test_a_connection_that_is_not_fresh_is_checked_and_left_without_a_transaction() -> None:
    setup = Setup(validation_interval=30)
    setup.idle(1)
    setup.clock.now += 30
    with setup.pool.connection(timeout=0) as connection:
        assert (connection.checks, connection.in_transaction) == (1, False)


def test_an_interval_of_zero_checks_every_time() -> None:
    setup = Setup(validation_interval=0)
    for _ in range(3):
        setup.borrow_number()
    assert setup.driver.connections[0].checks == 2
    setup.tick(seconds=0.5)
    assert setup.driver.connections[0].checks == 2


@pytest.mark.parametrize("count", [1, 5, 10])
def test_dead_connections_are_never_lent_however_many(count: int) -> None:
    setup = Setup(validation_interval=30)
    setup.idle(count)
    setup.driver.kill_all()
    setup.clock.now += 30
    assert setup.borrow_number() == count + 1
    assert setup.clock.now == 1030  # nobody slept
    assert setup.pool.stats().check_errors == count


def test_one_broken_connection_makes_the_others_suspect() -> None:
    setup = Setup()
    setup.idle(3)
    setup.driver.connections[0].dead = setup.driver.connections[1].dead = True
    with pytest.raises(DriverError):
        with setup.pool.connection() as connection:
            connection.write("a")
    setup.clock.now += 1
    assert setup.borrow_number() == 3
    assert setup.driver.connections[2].checks == 1
    assert setup.driver.open == [3]


def test_a_fresh_connection_is_lent_before_a_suspect_one_the_newest_first() -> None:
    setup = Setup()
    setup.idle(3)
    with pytest.raises(KeyError):
        with setup.pool.connection():
            raise KeyError("mine")
    assert setup.borrow_number() == 2
    assert setup.driver.connections[0].checks == 0


def test_a_connection_out_while_others_broke_is_checked_when_it_is_back() -> None:
    setup = Setup()
    first, second = setup.pool.get_connection(), setup.pool.get_connection()
    setup.clock.now += 1
    setup.driver.connections[1].dead = True
    second.close()
    setup.clock.now += 1
    first.close()
    setup.borrow_number()
    assert setup.driver.connections[0].checks == 1


def test_old_connections_are_replaced_at_checkout() -> None:
    setup = Setup(max_lifetime=100)  # less a tenth, times the fraction of one half: 95
    setup.idle(1)
    setup.clock.now += 94.9
    assert setup.borrow_number() == 1
    setup.clock.now += 0.2
    assert setup.borrow_number() == 2


def test_old_connections_are_closed_when_they_come_back() -> None:
    setup = Setup(max_lifetime=100)
    with setup.pool.connection():
        setup.clock.now += 95
    assert setup.driver.open == []


def test_old_connections_are_replaced_in_the_background_up_to_the_minimum() -> None:
    setup = Setup(max_lifetime=100, min_connections=2, validation_interval=1000)
    setup.idle(3)
    setup.tick(95)
    assert setup.driver.open == [4, 5]


def test_idle_connections_above_the_minimum_are_closed_in_the_background() -> None:
    setup = Setup(idle_timeout=60, min_connections=1, validation_interval=1000)
    setup.idle(3)
    setup.tick(59)
    assert len(setup.driver.open) == 3
    setup.tick(1)
    assert setup.driver.open == [1]  # the one used last stays


def test_a_connection_idle_for_too_long_is_not_lent() -> None:
    setup = Setup(idle_timeout=60, validation_interval=1000)
    setup.idle(1)
    setup.clock.now += 60
    assert setup.borrow_number() == 2
    setup.pool.resize(min_connections=1)
    setup.clock.now += 60
    assert setup.borrow_number() == 2  # there is no better one


def test_idle_connections_are_checked_in_the_background_one_at_a_time() -> None:
    setup = Setup(at_once=False, validation_interval=30)
    tasks = [Task(setup.pool.get_connection) for _ in range(2)]
    until(lambda: setup.pool.stats().waiting == 2)
    setup.jobs.run_all()
    for task in tasks:
        task.result().close()
    setup.tick(30)
    assert setup.jobs.names == ["check"]
    setup.tick()
    assert setup.jobs.names == ["check"]
    assert setup.pool.stats().idle == 1
    calls = setup.pool.keeper_calls
    setup.jobs.run_all()
    assert setup.pool.keeper_calls > calls  # it looks for the next one
    setup.tick()
    setup.jobs.run_all()
    assert [connection.checks for connection in setup.driver.connections] == [1, 1]
    setup.tick()
    assert setup.jobs.names == []


def test_a_connection_found_dead_in_the_background_is_replaced_up_to_the_minimum() -> None:
    setup = Setup(min_connections=1, validation_interval=30)
    setup.idle(1)
    setup.driver.kill_all()
    setup.tick(30)
    assert setup.driver.open == [2]


def test_callers_ride_out_a_short_failure() -> None:
    setup = Setup(at_once=False)
    setup.driver.connect_error = DriverError("restarting")
    task = Task(lambda: setup.borrow_number(timeout=30))
    until(lambda: setup.jobs.waiting)
    setup.jobs.run()
    assert setup.jobs.names == []  # not before a pause
    assert setup.tick() == pytest.approx(0.04)
    setup.driver.connect_error = None
    setup.tick(0.04)
    setup.jobs.run()
    assert task.result() == 1


def go_down(setup: Setup, error: Exception) -> None:
    """Let connecting fail until the pool believes it."""
    setup.driver.connect_error = error
    task = Task(lambda: setup.pool.get_connection(timeout=30))
    until(lambda: setup.pool.stats().waiting == 1)
    for pause in (0.04, *[0.08] * 10):
        until(lambda: setup.pool.stats().opening == 0)
        assert setup.pool.stats().available
        assert setup.tick() == pytest.approx(pause)
        setup.tick(pause)
    failure = task.error()
    assert isinstance(failure, PoolUnavailableError)
    assert failure.__cause__ is error
    assert "connecting fails: DriverError: refused" in str(failure)


def test_while_the_database_is_down_callers_are_told_at_once_and_why() -> None:
    setup = Setup()
    error = DriverError("refused")
    go_down(setup, error)
    assert not setup.pool.available
    assert not setup.pool.stats().available
    with pytest.raises(PoolUnavailableError, match="down: DriverError: refused") as caught:
        setup.pool.get_connection(timeout=30)
    assert caught.value.__cause__ is error
    assert isinstance(caught.value, ConnectionError)
    assert setup.driver.attempts == 12
    assert setup.pool.stats().refused == 2


def test_one_caller_tries_after_each_pause_and_the_others_need_not_wait_for_it() -> None:
    setup = Setup()
    go_down(setup, DriverError("refused"))
    setup.clock.now += 2
    with pytest.raises(PoolUnavailableError):
        setup.pool.get_connection(timeout=30)
    assert setup.driver.attempts == 13
    setup.clock.now += 2
    setup.jobs.at_once = False
    trying = Task(lambda: setup.borrow_number(timeout=30))
    until(lambda: setup.jobs.names == ["open"])
    with pytest.raises(PoolUnavailableError):
        setup.pool.get_connection(timeout=30)
    setup.driver.connect_error = None
    setup.jobs.run()
    assert trying.result() == 1
    assert setup.pool.stats().available


def test_who_waits_for_a_connection_that_comes_back_with_an_error_gets_it_checked_at_once() -> None:
    setup = Setup(max_connections=1)
    lease = setup.pool.connection()
    lease.__enter__()
    task = Task(lambda: setup.borrow_number(timeout=30))
    until(lambda: setup.pool.stats().waiting == 1)
    lease.__exit__(KeyError, KeyError(), None)
    assert task.result() == 1
    assert setup.driver.connections[0].checks == 1


def test_what_comes_back_just_before_somebody_joins_the_queue_is_checked_for_it() -> None:
    setup = Setup(max_connections=1, validation_interval=0)
    held = setup.pool.get_connection()

    def give_back(now: float) -> None:
        held.close()

    setup.pool._refusal = give_back  # type: ignore[method-assign]
    assert setup.borrow_number() == 1


def test_who_waits_where_every_lease_is_checked_gets_what_comes_back_at_once() -> None:
    setup = Setup(max_connections=1, validation_interval=0)
    held = setup.pool.get_connection()
    task = Task(lambda: setup.borrow_number(timeout=30))
    until(lambda: setup.pool.stats().waiting == 1)
    held.close()
    assert task.result() == 1
    assert setup.driver.connections[0].checks == 1


def test_the_minimum_comes_back_without_callers() -> None:
    setup = Setup(min_connections=2)
    setup.driver.connect_error = DriverError("refused")
    with pytest.raises(PoolUnavailableError):
        setup.pool.get_connection(timeout=0)
    for _ in range(20):
        setup.tick(1.2)  # the longest pause, with jitter
    assert setup.driver.attempts == 22
    setup.driver.connect_error = None
    setup.tick(1.2)
    assert len(setup.driver.open) == 2


def test_while_others_work_a_failure_to_connect_turns_nobody_away() -> None:
    setup = Setup(max_connections=2)
    held = setup.pool.get_connection()
    setup.driver.connect_error = DriverError("too many clients")
    task = Task(lambda: setup.borrow_number(timeout=30))
    until(lambda: setup.pool.stats().waiting == 1)
    for _ in range(10):
        setup.tick(1.2)
    assert setup.pool.stats().waiting == 1
    with pytest.raises(PoolUnavailableError, match="too many clients"):
        setup.pool.get_connection(timeout=0)
    held.close()
    assert task.result() == 1


def test_connecting_that_takes_too_long_holds_no_place_and_is_closed_when_it_comes() -> None:
    setup = Setup(at_once=False, max_connections=1, connect_timeout=5)
    task = Task(lambda: setup.pool.get_connection(timeout=30))
    until(lambda: setup.jobs.names == ["open"])
    assert setup.tick() == pytest.approx(5)
    setup.tick(5)
    assert setup.pool.stats().waiting == 0  # one silence says as much as five refusals
    assert isinstance(task.error(), PoolUnavailableError)
    assert isinstance(task.error().__cause__, TimeoutError)  # type: ignore[union-attr]
    assert setup.pool.stats().size == 0
    late = setup.jobs.waiting.pop()[1]
    setup.clock.now += 2
    assert setup.jobs.names == []
    again = Task(lambda: setup.pool.get_connection(timeout=30))
    until(lambda: setup.jobs.names == ["open"])
    setup.jobs.run()
    again.result().close()
    late()
    assert setup.driver.open == [1]
    stats = setup.pool.stats()
    assert (stats.size, stats.opened, stats.open_errors) == (1, 1, 1)


def test_a_failure_that_comes_too_late_changes_nothing() -> None:
    setup = Setup(at_once=False)
    with pytest.raises(PoolUnavailableError, match="connecting takes too long"):
        setup.pool.get_connection(timeout=0)
    setup.tick(5)
    setup.driver.connect_error = DriverError("late")
    setup.jobs.run()
    assert setup.pool.stats().open_errors == 1


def test_those_who_wait_take_what_comes_first_a_returned_connection_or_a_new_one() -> None:
    setup = Setup()
    held = setup.pool.get_connection()
    setup.jobs.at_once = False
    task = Task(lambda: setup.borrow_number(timeout=30))
    until(lambda: setup.jobs.names == ["open"])
    held.close()
    assert task.result() == 1
    setup.jobs.run()
    assert setup.pool.stats().idle == 2


def test_no_more_than_max_connecting_are_in_the_making_and_one_after_a_failure() -> None:
    setup = Setup(at_once=False, max_connecting=2)
    tasks = [Task(lambda: setup.borrow_number(timeout=30)) for _ in range(5)]
    until(lambda: setup.pool.stats().waiting == 5)
    assert setup.jobs.names == ["open", "open"]
    setup.driver.connect_error = DriverError("once")
    setup.jobs.run()
    setup.jobs.run()
    setup.driver.connect_error = None
    setup.tick(1)
    assert setup.jobs.names == ["open"]
    setup.jobs.run_all()
    for task in tasks:
        task.result()


def test_a_crowd_calls_the_keeper_no_more_often_than_it_can_help() -> None:
    setup = Setup(at_once=False, max_connecting=2, max_connections=10)
    tasks = [Task(lambda: setup.borrow_number(timeout=30)) for _ in range(8)]
    until(lambda: setup.pool.stats().waiting == 8)
    assert setup.pool.keeper_calls == 2
    setup.jobs.run_all()
    for task in tasks:
        task.result()


def test_a_check_that_hangs_is_given_up_and_the_others_go_unchecked() -> None:
    setup = Setup(validation_interval=30, validation_timeout=2)
    setup.idle(3)
    setup.jobs.at_once = False
    setup.clock.now += 30
    task = Task(lambda: setup.borrow_number(timeout=30))
    until(lambda: setup.jobs.names == ["check"])
    hung = setup.jobs.waiting.pop()[1]
    assert setup.tick() == pytest.approx(2)
    setup.tick(2)
    assert setup.jobs.names == ["close", "close", "open"]
    setup.jobs.run_all()
    assert task.result() == 4
    hung()
    assert setup.driver.open == [4]
    stats = setup.pool.stats()
    assert (stats.abandoned, stats.closed, stats.size) == (1, 2, 1)


def test_closing_that_hangs_is_given_up() -> None:
    setup = Setup(max_connections=1)
    setup.idle(1)
    setup.jobs.at_once = False
    setup.pool.drain()
    with pytest.raises(PoolUnavailableError):
        setup.pool.get_connection(timeout=0)
    assert setup.jobs.names == ["close"]  # it still holds the only place
    setup.tick(state.CLOSE_TIMEOUT)
    stats = setup.pool.stats()
    assert (stats.size, stats.abandoned) == (0, 1)
    setup.jobs.run()
    assert setup.pool.stats().closed == 0


def test_a_check_still_running_when_the_pool_closes_ends_in_closing() -> None:
    setup = Setup(validation_interval=30)
    setup.idle(1)
    setup.jobs.at_once = False
    setup.tick(30)
    setup.pool.close(timeout=0)
    assert setup.jobs.names == ["check"]
    setup.jobs.run_all()
    assert setup.driver.open == []
    assert setup.tick() is None


def test_a_connection_lost_by_the_borrower_is_counted_when_it_comes_back(caplog: Any) -> None:
    setup = Setup()
    with pytest.raises(DriverError):
        with setup.pool.connection() as connection:
            connection.dead = True
    assert "came back broken: connection 1 is dead" in caplog.text
    assert setup.driver.open == []


def test_where_no_thread_can_be_started_the_caller_does_the_work() -> None:
    setup = Setup()

    def refuse(function: object, name: str) -> None:
        raise RuntimeError("can't start new thread")

    pool = ConnectionPool(setup.driver, spawn=refuse)
    with pool.connection() as connection:
        assert connection.number == 1
    pool.close()
    assert setup.driver.open == []


def test_a_timeout_with_everything_in_use_is_not_called_down() -> None:
    setup = Setup(max_connections=1)
    with setup.pool.connection():
        with pytest.raises(PoolTimeoutError):
            setup.pool.get_connection(timeout=0)
    assert setup.pool.stats().available


def test_a_failure_to_grow_is_forgotten_when_everything_is_in_use() -> None:
    setup = Setup(max_connections=2)
    first = setup.pool.get_connection()
    setup.driver.connect_error = DriverError("refused")
    with pytest.raises(PoolUnavailableError):
        setup.pool.get_connection(timeout=0)
    setup.pool.resize(max_connections=1)
    with pytest.raises(PoolTimeoutError, match="1 of 1 in use"):
        setup.pool.get_connection(timeout=0)
    first.close()


def test_a_suspect_connection_is_checked_in_the_background_once() -> None:
    setup = Setup()
    with pytest.raises(KeyError), setup.pool.connection():
        raise KeyError("mine")
    setup.tick()
    setup.tick()
    assert setup.driver.connections[0].checks == 1
    assert setup.borrow_number() == 1
    assert setup.driver.connections[0].checks == 1


def test_one_who_waits_is_not_given_a_connection_asked_for_before_draining() -> None:
    setup = Setup(at_once=False)
    task = Task(lambda: setup.borrow_number(timeout=30))
    until(lambda: setup.jobs.names == ["open"])
    setup.pool.drain()
    setup.jobs.run_all()
    assert task.result() == 2
    assert setup.driver.open == [2]


def test_a_check_that_fails_makes_the_others_suspect() -> None:
    setup = Setup(validation_interval=30)
    setup.idle(2)
    setup.clock.now += 29
    setup.borrow_number()
    setup.driver.connections[1].dead = True
    setup.tick(1)
    assert setup.pool.stats().check_errors == 1
    assert setup.borrow_number() == 1
    assert setup.driver.connections[0].checks == 1


def test_closing_after_a_check_that_failed_has_its_own_time_limit() -> None:
    setup = Setup(validation_interval=30, validation_timeout=2)
    setup.idle(1)
    connection = setup.driver.connections[0]
    connection.dead = True
    connection.close = lambda: setup.tick(3)  # type: ignore[assignment, method-assign]
    setup.tick(30)
    stats = setup.pool.stats()
    assert (stats.closed, stats.abandoned) == (1, 0)


def test_after_a_success_failures_count_anew() -> None:
    setup = Setup()
    setup.driver.connect_error = DriverError("refused")
    for _ in range(3):
        with pytest.raises(PoolUnavailableError):
            setup.pool.get_connection(timeout=0)
        setup.clock.now += 2
    setup.driver.connect_error = None
    with setup.pool.connection(timeout=0):
        setup.driver.connect_error = DriverError("refused")
        with pytest.raises(PoolUnavailableError):
            setup.pool.get_connection(timeout=0)
        assert setup.tick() == pytest.approx(0.04)
