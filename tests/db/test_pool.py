"""What borrowers see: leases, transactions, order, limits, closing."""

from __future__ import annotations

import copy
import logging
from functools import partial
from typing import Any

import pytest

from prologue.db import ConnectionPool
from prologue.db.entry import Claim, Waiter
from prologue.errors import (
    LeaseError,
    PoolClosedError,
    PoolError,
    PoolFullError,
    PoolTimeoutError,
    PoolUnavailableError,
)
from tests.concurrency import Task, until
from tests.db.driver import DriverError, Setup


def write_and_fail(connection: Any) -> None:
    connection.write("undone")
    raise KeyError("mine")


def test_nothing_is_opened_before_the_first_use() -> None:
    setup = Setup(min_connections=3)
    assert setup.driver.attempts == 0
    assert repr(setup.pool) == "<ConnectionPool 'main' 0 leased, 0 idle, 0 waiting of 10>"


def test_the_first_use_opens_the_minimum() -> None:
    setup = Setup(min_connections=3)
    setup.borrow_number()
    assert len(setup.driver.open) == 3
    assert repr(setup.pool) == "<ConnectionPool 'main' 0 leased, 3 idle, 0 waiting of 10>"


def test_the_block_gives_the_drivers_connection_and_commits() -> None:
    setup = Setup()
    with setup.pool.connection() as connection:
        connection.write("a")
    assert connection is setup.driver.connections[0]
    assert connection.committed == ["a"]
    assert setup.pool.stats().idle == 1


def test_a_block_that_raises_rolls_back_and_raises_on() -> None:
    setup = Setup()
    with pytest.raises(KeyError), setup.pool.connection() as connection:
        write_and_fail(connection)
    assert (connection.committed, connection.pending, connection.in_transaction) == ([], [], False)
    assert setup.pool.stats().idle == 1


def test_a_connection_that_came_back_with_an_error_is_checked_before_it_is_lent_again() -> None:
    setup = Setup()
    with pytest.raises(KeyError):
        with setup.pool.connection() as connection:
            raise KeyError("mine")
    assert connection.checks == 0
    setup.borrow_number()
    setup.borrow_number()
    assert connection.checks == 1


def test_a_commit_that_fails_reaches_the_borrower_and_is_rolled_back() -> None:
    setup = Setup()
    setup.driver.commit_error = DriverError("conflict")
    with pytest.raises(DriverError, match="conflict"):
        with setup.pool.connection() as connection:
            connection.write("a")
    assert not connection.in_transaction
    assert setup.pool.stats().idle == 1


def test_with_connection_returns_what_the_function_returns() -> None:
    setup = Setup()
    assert setup.pool.with_connection(lambda connection: connection.number) == 1


def test_a_lease_is_one_block_at_a_time() -> None:
    setup = Setup()
    lease = setup.pool.connection()
    with lease:
        with pytest.raises(LeaseError, match="in use"):
            lease.__enter__()
    with lease as connection:
        assert connection.number == 1
    lease.__exit__(None, None, None)
    assert setup.pool.stats().idle == 1


def test_a_borrowed_connection_does_what_the_drivers_does() -> None:
    setup = Setup()
    connection = setup.pool.get_connection()
    connection.write("a")
    connection.commit()
    connection.label = "x"
    assert setup.driver.connections[0].committed == ["a"]
    assert vars(setup.driver.connections[0])["label"] == "x"
    assert repr(connection) == "<PooledConnection <connection 1>>"
    del connection.label
    assert "label" not in vars(setup.driver.connections[0])
    setup.pool.release_connection(connection)
    assert setup.pool.stats().idle == 1


def test_giving_a_connection_back_undoes_what_was_not_committed() -> None:
    setup = Setup()
    connection = setup.pool.get_connection()
    connection.write("a")
    connection.close()
    assert (setup.driver.connections[0].pending, setup.driver.connections[0].committed) == ([], [])


def test_a_borrowed_connection_is_a_block_too() -> None:
    setup = Setup()
    with setup.pool.get_connection() as connection:
        connection.write("a")
    assert setup.driver.connections[0].committed == ["a"]
    with pytest.raises(KeyError), setup.pool.get_connection() as connection:
        write_and_fail(connection)
    assert setup.driver.connections[0].committed == ["a"]
    with setup.pool.get_connection() as connection:
        connection.close()
    assert setup.pool.stats().leased == 0


def test_a_connection_that_was_given_back_can_do_nothing_even_when_it_is_lent_again() -> None:
    setup = Setup()
    first = setup.pool.get_connection()
    first.close()
    second = setup.pool.get_connection()
    for use in (
        lambda: first.number,
        lambda: setattr(first, "number", 0),
        lambda: delattr(first, "number"),
        first.__enter__,
        partial(setup.pool.release_connection, first),
    ):
        with pytest.raises(LeaseError, match="given back"):
            use()
    first.close()  # documented: does nothing
    assert repr(first) == "<PooledConnection given back>"
    assert second.number == 1
    assert setup.pool.stats().leased == 1


@pytest.mark.parametrize("foreign", [object(), Setup().driver()])
def test_what_is_not_of_this_pool_cannot_be_given_back(foreign: Any) -> None:
    with pytest.raises(LeaseError, match="not borrowed from here"):
        Setup().pool.release_connection(foreign)


def test_a_connection_of_another_pool_cannot_be_given_back() -> None:
    setup = Setup()
    connection = setup.pool.get_connection()
    with pytest.raises(LeaseError, match="not borrowed from here"):
        Setup().pool.release_connection(connection)
    assert connection.number == 1


def test_a_borrowed_connection_cannot_be_copied() -> None:
    connection = Setup().pool.get_connection()
    with pytest.raises(TypeError, match="copied"):
        copy.copy(connection)


def test_a_connection_that_is_dropped_is_closed_and_replaced(caplog: pytest.LogCaptureFixture) -> None:
    setup = Setup(max_connections=1)
    setup.pool.get_connection()
    assert setup.pool.stats().leased == 1
    setup.tick()
    assert setup.pool.stats().lost == 1
    assert "dropped without being given back" in caplog.text
    assert setup.borrow_number() == 2
    assert setup.driver.open == [2]


def test_idle_connections_are_lent_last_in_first_out() -> None:
    setup = Setup()
    held = [setup.pool.get_connection() for _ in range(3)]
    for index in (1, 2, 0):
        held[index].close()
    assert [setup.pool.get_connection().number for _ in range(1)] == [1]
    setup.tick()  # the one just dropped is closed
    assert [setup.borrow_number(), setup.borrow_number()] == [3, 3]


def test_those_who_wait_are_served_first_come_first_served() -> None:
    setup = Setup(max_connections=1)
    held = setup.pool.get_connection()
    order: list[int] = []
    tasks = []

    def borrow(index: int) -> None:
        with setup.pool.connection(timeout=30):
            order.append(index)

    for index in range(5):
        tasks.append(Task(partial(borrow, index)))
        until(lambda: setup.pool.stats().waiting == index + 1)  # noqa: B023
    held.close()
    for task in tasks:
        task.result()
    assert order == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("way", ["connection", "get_connection"])
def test_who_comes_while_another_waits_takes_nothing_that_is_idle(way: str) -> None:
    setup = Setup(max_connections=1)
    setup.idle(1)
    first = Waiter(setup.clock())
    setup.pool._waiters.append(first)  # it has joined the queue, and not looked at what is idle
    with pytest.raises(PoolTimeoutError):
        setup.pool.connection(0).__enter__() if way == "connection" else setup.pool.get_connection(0)
    assert len(first.served) == 1
    assert not first.done.locked()


def test_one_who_gives_up_in_the_moment_in_which_it_is_served_leaves_the_connection_to_the_next() -> None:
    setup = Setup(max_connections=1)
    setup.idle(1)
    gone, next_one = Waiter(setup.clock()), Waiter(setup.clock())
    setup.pool._waiters.extend([gone, next_one])

    class Leaving(list[Claim]):
        def append(self, claim: Claim) -> None:
            setup.pool._leave(gone)
            super().append(claim)

    gone.served = Leaving()
    setup.pool._pair()
    assert (len(gone.served), len(next_one.served)) == (0, 1)


def test_there_are_never_more_than_the_maximum_and_trying_does_not_wait() -> None:
    setup = Setup(max_connections=2)
    held = [setup.pool.get_connection() for _ in range(2)]
    with pytest.raises(PoolTimeoutError, match=r"'main' 2 leased.*2 of 2 in use, waited 0.00 s") as caught:
        setup.pool.get_connection(timeout=0)
    assert isinstance(caught.value, TimeoutError)
    assert caught.value.__cause__ is None
    assert setup.driver.attempts == 2
    held[0].close()
    assert setup.borrow_number() == 1
    assert setup.pool.stats().timeouts == 1


def test_a_caller_waits_as_long_as_it_says() -> None:
    pool = ConnectionPool(Setup().driver, max_connections=1, connection_timeout=0.02)
    with pool.connection(timeout=5):
        with pytest.raises(PoolTimeoutError, match=r"waited 0\.0[2-9]"):
            pool.get_connection()
    pool.close()


@pytest.mark.parametrize("timeout", [-1, float("nan")])
def test_a_timeout_below_zero_is_an_error(timeout: float) -> None:
    with pytest.raises(ValueError, match="timeout must be at least 0"):
        Setup().pool.get_connection(timeout)


def test_no_more_than_max_waiting_may_wait() -> None:
    setup = Setup(max_connections=1, max_waiting=1)
    held = setup.pool.get_connection()
    task = Task(lambda: setup.borrow_number(timeout=30))
    until(lambda: setup.pool.stats().waiting == 1)
    with pytest.raises(PoolFullError, match="1 callers wait already"):
        setup.pool.get_connection()
    held.close()
    assert task.result() == 1
    assert setup.pool.stats().refused == 1


def test_a_waiter_that_is_interrupted_loses_nothing() -> None:
    setup = Setup(max_connections=1)

    def interrupt(function: Any, name: str) -> None:
        if name.endswith("open"):
            function()  # the connection is granted, and then the caller is interrupted
            raise KeyboardInterrupt

    setup.pool._spawn = interrupt
    with pytest.raises(KeyboardInterrupt) as caught:
        setup.pool.get_connection()
    setup.tick()
    assert caught.value.__traceback__ is not None  # which keeps the variables of all frames
    stats = setup.pool.stats()
    assert (stats.idle, stats.leased, stats.waiting, stats.lost) == (1, 0, 0, 0)


def test_a_waiter_that_is_interrupted_before_it_is_served_leaves_the_queue() -> None:
    setup = Setup(at_once=False)

    def interrupt(function: Any, name: str) -> None:
        raise KeyboardInterrupt

    setup.pool._spawn = interrupt
    with pytest.raises(KeyboardInterrupt):
        setup.pool.get_connection()
    assert setup.pool.stats().waiting == 0


def test_a_closed_pool_lends_nothing_and_closes_what_comes_back() -> None:
    setup = Setup()
    setup.idle(2)
    held = setup.pool.get_connection()
    setup.pool.close(timeout=0)
    assert setup.driver.open == [1]
    assert repr(setup.pool) == "<ConnectionPool 'main' closed, 1 leased, 0 idle, 0 waiting of 10>"
    with pytest.raises(PoolClosedError):
        setup.pool.get_connection()
    held.write("still works")
    held.close()
    assert setup.driver.open == []
    setup.pool.close()
    assert all(connection.closes == 1 for connection in setup.driver.connections)
    assert setup.tick() is None


def test_closing_says_that_connections_are_still_in_use(caplog: pytest.LogCaptureFixture) -> None:
    setup = Setup()
    with setup.pool.connection():
        setup.pool.close(timeout=0)
    assert "1 leased" in caplog.text
    assert "not empty 0.00 s after it was closed" in caplog.text


def test_closing_tells_those_who_wait_and_waits_for_what_is_in_use() -> None:
    setup = Setup(max_connections=1)
    held = setup.pool.get_connection()
    waiting = Task(lambda: setup.pool.get_connection(timeout=30))
    until(lambda: setup.pool.stats().waiting == 1)
    closing = Task(lambda: setup.pool.close(timeout=30))
    assert isinstance(waiting.error(), PoolClosedError)
    held.close()
    closing.result()
    assert setup.pool.stats().size == 0


def test_an_unused_pool_closes() -> None:
    setup = Setup(min_connections=2)
    setup.pool.close()
    assert setup.driver.attempts == 0


def test_draining_replaces_the_idle_at_once_and_the_others_when_they_come_back() -> None:
    setup = Setup()
    setup.idle(2)
    held = setup.pool.get_connection()
    setup.pool.drain()
    assert setup.driver.open == [1]
    held.close()
    assert setup.driver.open == []
    assert setup.borrow_number() == 3


def test_a_connection_asked_for_before_draining_is_not_lent() -> None:
    setup = Setup(at_once=False)
    with pytest.raises(PoolUnavailableError):
        setup.pool.get_connection(timeout=0)
    setup.pool.drain()
    setup.jobs.run_all()
    assert setup.driver.open == []


def test_the_pool_grows_and_shrinks_when_it_is_told() -> None:
    setup = Setup(max_connections=1)
    setup.idle(1)
    setup.pool.resize(max_connections=4, min_connections=3)
    assert len(setup.driver.open) == 3
    held = [setup.pool.get_connection() for _ in range(4)]
    setup.pool.resize(max_connections=2, min_connections=0)
    for connection in held:
        connection.close()
    assert len(setup.driver.open) == 2
    setup.pool.resize(max_connections=1)
    assert len(setup.driver.open) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_connections": 0}, "max_connections=0"),
        ({"min_connections": 3, "max_connections": 2}, "min_connections=3, max_connections=2"),
        ({"min_connections": -1}, "min_connections=-1"),
        ({"connection_timeout": -1}, "connection_timeout must be at least 0"),
        ({"validation_interval": float("nan")}, "validation_interval must be at least 0"),
        ({"max_connecting": 0}, "max_connecting must be at least 1"),
        ({"max_waiting": 0}, "max_waiting must be at least 1"),
        ({"validation_timeout": 0}, "validation_timeout must be above 0"),
        ({"connect_timeout": 0}, "connect_timeout must be above 0"),
        ({"max_lifetime": 0}, "max_lifetime must be above 0"),
        ({"idle_timeout": -1}, "idle_timeout must be above 0"),
    ],
)
def test_a_number_out_of_range_is_an_error(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Setup(**options)


def test_a_size_out_of_range_changes_nothing() -> None:
    setup = Setup()
    with pytest.raises(ValueError, match="min_connections=11, max_connections=10"):
        setup.pool.resize(min_connections=11)
    assert setup.pool.stats().min_connections == 0


def test_every_error_of_a_pool_is_a_pool_error() -> None:
    for error in (LeaseError, PoolClosedError, PoolFullError, PoolTimeoutError, PoolUnavailableError):
        assert issubclass(error, PoolError)


def test_a_snapshot_adds_up() -> None:
    setup = Setup(min_connections=2)
    held = setup.pool.get_connection()
    stats = setup.pool.stats()
    assert (stats.size, stats.idle, stats.leased, stats.opened, stats.acquires) == (2, 1, 1, 2, 1)
    assert (stats.waits, stats.wait_seconds, stats.available) == (1, 0.0, True)
    held.close()
    setup.borrow_number()
    assert (setup.pool.stats().acquires, setup.pool.stats().waits) == (2, 1)


def test_a_driver_that_cannot_close_is_only_logged(caplog: pytest.LogCaptureFixture) -> None:
    setup = Setup()
    setup.idle(1)
    setup.driver.close_error = DriverError("no farewell")
    with caplog.at_level(logging.WARNING, "prologue.db"):
        setup.pool.close()
    assert "no farewell" in caplog.text
    assert setup.pool.stats().closed == 1
