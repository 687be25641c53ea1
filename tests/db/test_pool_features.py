"""Callbacks, leases that last too long, suspending, opening, closing by force, and what a lease costs."""

from __future__ import annotations

import logging
import sys
from types import FrameType
from typing import Any

import pytest

from prologue.db import Adapter, ConnectionPool
from prologue.errors import LeaseError, PoolClosedError, PoolTimeoutError, PoolUnavailableError
from tests.concurrency import Task, until
from tests.db.driver import Driver, DriverError, FakeConnection, Setup


def write(connection: FakeConnection) -> None:
    connection.write("callback")


def fail(connection: FakeConnection) -> None:
    connection.write("callback")
    raise DriverError("no")


# Callbacks


def test_each_new_connection_is_configured_and_left_without_a_transaction() -> None:
    setup = Setup(configure=write)
    with setup.pool.connection(timeout=0) as connection:
        assert (connection.committed, connection.in_transaction) == (["callback"], False)
    setup.borrow_number()
    assert connection.committed == ["callback"]


def test_a_connection_that_cannot_be_configured_is_closed_and_its_error_is_the_cause() -> None:
    setup = Setup(configure=fail)
    with pytest.raises(PoolUnavailableError, match="DriverError: no") as caught:
        setup.pool.get_connection(timeout=0)
    assert isinstance(caught.value.__cause__, DriverError)
    assert len(setup.driver.connections) == 1
    assert setup.driver.open == []


def test_a_check_of_ones_own_replaces_the_adapters_and_leaves_no_transaction() -> None:
    setup = Setup(validation_interval=30, check=write)
    setup.idle(1)
    setup.clock.now += 30
    with setup.pool.connection(timeout=0) as connection:
        assert (connection.checks, connection.committed, connection.in_transaction) == (0, [], False)
    setup = Setup(validation_interval=30, check=fail)
    setup.idle(1)
    setup.clock.now += 30
    assert setup.borrow_number() == 2


def test_without_a_check_of_ones_own_the_adapters_is_done() -> None:
    setup = Setup(validation_interval=30, configure=write)
    setup.idle(1)
    setup.clock.now += 30
    setup.borrow_number()
    assert setup.driver.connections[0].checks == 1


@pytest.mark.parametrize("fails", [False, True])
def test_each_connection_that_comes_back_is_reset_after_commit_and_rollback(fails: bool) -> None:
    setup = Setup(reset=write)
    try:
        with setup.pool.connection() as connection:
            connection.write("mine")
            if fails:
                raise KeyError("mine")
    except KeyError:
        pass
    assert connection.committed == (["callback"] if fails else ["mine", "callback"])
    assert not connection.in_transaction


def test_a_connection_that_cannot_be_reset_is_closed() -> None:
    setup = Setup(reset=fail)
    setup.borrow_number()
    assert setup.driver.open == []


def test_an_adapter_that_resets_is_asked_after_a_commit_too() -> None:
    resets: list[Any] = []

    class Resetting(Adapter):
        def reset(self, connection: Any) -> None:
            resets.append(connection)

    class Committing(Adapter):
        def commit(self, connection: Any) -> None:
            connection.write("by the adapter")
            connection.commit()

    class Saving(Resetting):
        reset_after_commit = False

        def reset(self, connection: Any) -> None:
            super().reset(connection)

    for adapter, count in ((Resetting, 1), (Committing, 0), (Saving, 0)):
        resets.clear()
        setup = Setup(connect=adapter)
        setup.borrow_number()
        assert len(resets) == count, adapter
        expected = ["by the adapter"] if adapter is Committing else []
        assert setup.driver.connections[0].committed == expected


# Leases that last too long, and callers that wait too long


def test_a_lease_that_lasts_too_long_is_logged_once_with_its_age_and_borrower(
    caplog: pytest.LogCaptureFixture,
) -> None:
    setup = Setup(leak_threshold=10)
    with setup.pool.connection():
        setup.tick(9.9)
        assert setup.pool.stats().overdue == 0
        assert caplog.text == ""
        setup.tick(0.2)
        setup.tick(1)
        assert setup.pool.stats().overdue == 1
        assert repr(setup.pool) == (
            "<ConnectionPool 'main' 1 leased, 1 of them overdue, 0 idle, 0 waiting of 10>"
        )
    assert setup.pool.stats().overdue == 0
    assert "a connection has been borrowed for 10.1 s, by" in caplog.text
    assert caplog.text.count("has been borrowed") == 1
    assert "in test_a_lease_that_lasts_too_long_is_logged_once" in caplog.text
    assert "with setup.pool.connection():" in caplog.text
    assert "prologue/db/" not in caplog.text
    held = setup.pool.get_connection()
    setup.tick(10.5)
    assert "borrowed for 10.5 s" in caplog.text
    held.close()


def test_the_keeper_comes_in_time_for_the_next_lease_that_may_be_too_long() -> None:
    setup = Setup(leak_threshold=7, validation_interval=100)
    assert setup.tick() == pytest.approx(7)
    with setup.pool.connection():
        assert setup.tick(4) == pytest.approx(3)
        setup.tick(3)
        assert setup.tick() == pytest.approx(7)


def test_a_slow_checkout_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    setup = Setup(max_connections=1, slow_checkout=2)
    held = setup.pool.get_connection()
    for seconds in (1.9, 2.5):
        task = Task(lambda: setup.pool.get_connection(timeout=30))
        until(lambda: setup.pool.stats().waiting == 1)
        setup.clock.now += seconds
        held.close()
        held = task.result()
    assert caplog.text.count("for a connection") == 1
    assert "waited 2.50 s for a connection" in caplog.text


# Suspending


def test_a_suspended_pool_lends_nothing_until_it_is_resumed() -> None:
    setup = Setup(max_connections=2)
    setup.idle(2)
    held = setup.pool.get_connection()
    setup.pool.suspend()
    assert "suspended, 1 leased, 1 idle" in repr(setup.pool)
    assert setup.pool.stats().suspended
    with pytest.raises(PoolTimeoutError, match=r"suspended, waited 0\.00 s: see resume"):
        setup.pool.get_connection(timeout=0)
    task = Task(lambda: setup.borrow_number(timeout=30))
    until(lambda: setup.pool.stats().waiting == 1)
    held.close()
    setup.tick(1)
    assert setup.pool.stats().waiting == 1
    setup.pool.resume()
    assert task.result() in (1, 2)
    assert setup.pool.stats().idle == 2
    assert setup.driver.attempts == 2


def test_after_it_was_suspended_each_connection_is_checked_before_it_is_lent() -> None:
    setup = Setup(max_connections=3)
    setup.idle(2)
    held = setup.pool.get_connection()
    setup.pool.suspend()
    assert all(connection.checks == 0 for connection in setup.driver.connections)
    setup.driver.kill_all()  # the database is moved to another machine
    setup.pool.resume()
    assert setup.borrow_number() == 3
    held.close()
    assert setup.driver.open == [3]


def test_a_connection_that_is_opened_meanwhile_is_not_lent_by_a_suspended_pool() -> None:
    setup = Setup(at_once=False)
    task = Task(lambda: setup.borrow_number(timeout=30))
    until(lambda: setup.jobs.names == ["open"])
    setup.pool.suspend()
    setup.jobs.run()
    assert (setup.pool.stats().waiting, setup.pool.stats().idle) == (1, 1)
    setup.pool.resume()
    setup.jobs.run()
    assert task.result() == 1


def test_a_suspended_pool_connects_and_checks_nothing() -> None:
    setup = Setup(min_connections=2, validation_interval=5)
    setup.pool.suspend()
    setup.tick(100)
    assert setup.driver.attempts == 0
    setup.pool.resume()
    assert len(setup.driver.open) == 2
    setup.pool.suspend()
    setup.tick(100)
    assert all(connection.checks == 0 for connection in setup.driver.connections)
    setup.pool.close()
    assert setup.driver.open == []


# Opening and closing


def test_opening_fills_the_pool_to_its_minimum() -> None:
    setup = Setup(min_connections=3)
    setup.pool.open()
    assert len(setup.driver.open) == 3
    driver = Driver()
    pool = ConnectionPool(driver, min_connections=3, name="open")
    pool.open(wait=True, timeout=30)
    assert pool.stats().idle == 3
    pool.open(wait=True, timeout=0)
    pool.close(timeout=30)
    with pytest.raises(PoolClosedError):
        pool.open()


def test_opening_that_fails_says_why_as_soon_as_the_database_counts_as_down() -> None:
    driver = Driver()
    driver.connect_error = DriverError("refused")
    pool = ConnectionPool(driver, min_connections=2, name="open")
    error = Task(lambda: pool.open(wait=True, timeout=1000)).error()
    assert isinstance(error, PoolUnavailableError)
    assert "0 of at least 2 connections opened: DriverError" in str(error)
    assert error.__cause__ is driver.connect_error
    pool.close(timeout=30)


def test_opening_takes_no_longer_than_it_may() -> None:
    setup = Setup(at_once=False, min_connections=1)
    with pytest.raises(PoolUnavailableError, match=r"0 of at least 1 .* takes too long"):
        setup.pool.open(wait=True, timeout=0)
    opening = Task(lambda: setup.pool.open(wait=True, timeout=30))
    until(lambda: setup.pool._watchers)
    setup.pool.close(timeout=0)
    assert isinstance(opening.error(), PoolClosedError)
    assert setup.pool._watchers == []


def test_closing_by_force_closes_what_is_in_use() -> None:
    setup = Setup(max_connections=3)
    setup.idle(1)
    lease = setup.pool.connection()
    lease.__enter__()
    held = setup.pool.get_connection()
    setup.pool.close(timeout=0, force=True)
    assert setup.driver.open == []
    assert setup.pool.stats().size == 0
    with pytest.raises(AssertionError, match="used after it was closed"):
        held.write("x")
    held.close()
    setup.driver.connections[0]._answer = lambda: None  # type: ignore[method-assign]
    lease.__exit__(None, None, None)
    stats = setup.pool.stats()
    assert (stats.size, stats.idle, stats.leased, stats.closed) == (0, 0, 0, 2)
    assert [connection.closes for connection in setup.driver.connections] == [1, 1]


def test_a_lease_that_was_dropped_and_then_closed_by_force_is_closed_once() -> None:
    setup = Setup()
    setup.pool.get_connection()
    setup.pool._closed = setup.pool._forced = True
    setup.pool._start(setup.pool._serve(setup.clock()))
    setup.tick()
    assert setup.driver.connections[0].closes == 1
    assert setup.pool.stats().lost == 0


def test_closing_by_force_waits_first() -> None:
    setup = Setup()
    held = setup.pool.get_connection()
    closing = Task(lambda: setup.pool.close(timeout=30, force=True))
    until(lambda: setup.pool._watchers)
    held.write("still works")
    held.close()
    closing.result()
    assert setup.driver.connections[0].closes == 1


def test_one_call_gives_back_and_the_next_is_an_error() -> None:
    setup = Setup()
    held = setup.pool.get_connection()
    setup.pool.release_connection(held)
    with pytest.raises(LeaseError, match="given back already"):
        setup.pool.release_connection(held)


def test_nothing_is_logged_where_nothing_is_wrong(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        setup = Setup(max_connections=2)
        setup.idle(2)
        setup.borrow_number()
        setup.tick(1)
        setup.pool.close()
    assert caplog.text == ""


# What a lease costs


def test_a_lease_costs_so_many_calls() -> None:
    """Calls are what Python code costs; unlike time, they can be counted."""
    setup = Setup()
    setup.idle(1)
    connection = setup.pool.connection
    calls: list[str] = []

    def count(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            calls.append(frame.f_code.co_qualname)
        elif event == "c_call":
            calls.append(argument.__name__)

    sys.setprofile(count)
    with connection():
        pass
    sys.setprofile(None)
    assert calls == [
        "ConnectionPool.connection",
        "Lease.__init__",
        "QuickLease.__enter__",
        "pop",
        "Clock.__call__",
        "QuickLease.__exit__",
        "FakeConnection.commit",
        "FakeConnection._answer",
        "clear",
        "Clock.__call__",
        "append",
        "setprofile",
    ]
