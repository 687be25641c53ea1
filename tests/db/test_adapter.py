"""What the pool asks of an adapter: to look before lending, and to say which errors end a connection."""

from __future__ import annotations

from typing import Any

import pytest

from prologue.db import Adapter, ConnectionPool
from tests.concurrency import until
from tests.db.driver import Driver, FakeConnection


class LookingAdapter(Adapter):
    """Sees which connections are dead; a KeyError ends one."""

    looks = 0

    def is_alive(self, connection: FakeConnection) -> bool:
        self.looks += 1
        if isinstance(self.interrupt, BaseException):
            raise self.interrupt
        return not connection.dead

    def is_disconnect(self, error: BaseException) -> bool:
        return isinstance(error, KeyError)

    interrupt: BaseException | None = None


def make_pool(**options: Any) -> tuple[Driver, LookingAdapter, ConnectionPool]:
    driver = Driver()
    adapter = LookingAdapter(driver)
    return driver, adapter, ConnectionPool(adapter, connection_timeout=30, **options)


def test_a_fresh_connection_is_looked_at_each_time_it_is_lent() -> None:
    driver, adapter, pool = make_pool()
    for _ in range(3):
        pool.with_connection(lambda connection: None)
    assert adapter.looks == 2
    assert [connection.checks for connection in driver.connections] == [0]
    pool.close()


def test_one_that_looks_dead_is_checked_and_so_are_all_others() -> None:
    driver, _, pool = make_pool(max_connections=3)
    leases = [pool.connection() for _ in range(3)]
    for lease in leases:
        lease.__enter__()
    for lease in leases:
        lease.__exit__(None, None, None)
    driver.connections[2].dead = True  # the one given back last
    with pool.connection() as connection:
        assert connection.number in (1, 2)
        assert connection.checks == 1
    assert pool.stats().acquires == 4
    until(lambda: driver.open == [1, 2])
    pool.close()


def test_one_that_looked_dead_and_answers_is_lent() -> None:
    _, adapter, pool = make_pool(max_connections=1)
    pool.with_connection(lambda connection: None)
    adapter.is_alive = lambda connection: False  # type: ignore[method-assign]
    with pool.connection() as connection:
        assert (connection.number, connection.checks) == (1, 1)
    pool.close()


def test_a_look_that_is_interrupted_loses_no_connection() -> None:
    _, adapter, pool = make_pool(max_connections=1)
    pool.with_connection(lambda connection: None)
    adapter.interrupt = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        pool.get_connection()
    adapter.interrupt = None
    pool.with_connection(lambda connection: None)
    assert (pool.stats().leased, pool.stats().acquires) == (0, 2)
    pool.close()


@pytest.mark.parametrize(("error", "is_closed"), [(KeyError("mine"), True), (ValueError("mine"), False)])
def test_an_error_that_ends_a_connection_closes_it(error: Exception, is_closed: bool) -> None:
    driver, _, pool = make_pool()
    with pytest.raises(type(error)), pool.connection():
        raise error
    until(lambda: bool(driver.connections[0].closes) == is_closed)
    with pytest.raises(type(error)), pool.get_connection():
        raise error
    assert len(driver.connections) == 1 + is_closed
    pool.close()


class ProvingAdapter(LookingAdapter):
    """Knows after a reset that the connection works."""

    reset_after_commit = False
    reset_is_proof = True

    def reset(self, connection: FakeConnection) -> None:
        connection.rollback()


def write_and_raise(connection: FakeConnection, error: BaseException) -> None:
    connection.write("undone")
    raise error


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt()])
@pytest.mark.parametrize("options", [{}, {"configure": lambda connection: None}])
def test_an_error_costs_no_check_where_the_reset_is_proof(
    options: dict[str, Any], error: BaseException
) -> None:
    pool = ConnectionPool(ProvingAdapter(Driver()), connection_timeout=30, max_connections=1, **options)
    with pytest.raises(type(error)), pool.connection() as connection:
        write_and_raise(connection, error)
    with pool.connection(timeout=0) as connection:
        assert (connection.number, connection.checks, connection.pending) == (1, 0, [])
    pool.close()


def test_a_connection_whose_reset_fails_is_closed_whatever_it_would_prove() -> None:
    driver = Driver()
    pool = ConnectionPool(ProvingAdapter(driver), connection_timeout=30)
    connection = pool.get_connection()
    driver.kill_all()
    connection.close()
    until(lambda: driver.open == [])
    pool.close()


def test_an_adapter_that_resets_otherwise_says_anew_whether_it_is_proof() -> None:
    class Derived(ProvingAdapter):
        pass

    class Overriding(ProvingAdapter):
        def reset(self, connection: FakeConnection) -> None:
            pass

    assert [adapter.reset_is_proof for adapter in (Adapter, Derived, Overriding)] == [False, True, False]
    assert [adapter.reset_after_commit for adapter in (Adapter, Derived, Overriding)] == [False, False, True]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_a_connection_whose_borrower_was_interrupted_may_owe_an_answer_and_is_closed(
    interruption: type[BaseException],
) -> None:
    driver = Driver()
    pool = ConnectionPool(driver, connection_timeout=30)
    with pytest.raises(interruption), pool.connection():
        raise interruption
    if interruption is GeneratorExit:  # comes where a generator gives something out, not in the driver
        assert pool.with_connection(lambda connection: connection.checks) == 1
    else:
        until(lambda: driver.open == [])
    pool.close()


def test_a_connection_that_answers_something_else_fails_its_check(caplog: pytest.LogCaptureFixture) -> None:
    driver = Driver()
    pool = ConnectionPool(driver, connection_timeout=30, validation_interval=0)
    with pool.connection() as connection:
        connection.behind = True
    with pool.connection() as connection:
        assert connection.number == 2
    until(lambda: driver.open == [2])
    assert "out of step" in caplog.text
    pool.close()


def test_callbacks_leave_looking_and_disconnects_to_the_adapter() -> None:
    driver, adapter, pool = make_pool(max_connections=1, reset=lambda connection: None)
    pool.with_connection(lambda connection: None)
    looks = adapter.looks
    pool.with_connection(lambda connection: None)
    assert adapter.looks == looks + 1
    with pytest.raises(KeyError), pool.connection():
        raise KeyError("mine")
    until(lambda: driver.open == [])
    pool.close()


def test_a_commit_that_fails_so_ends_the_connection_too() -> None:
    driver, _, pool = make_pool()
    driver.commit_error = KeyError("lost")
    with pytest.raises(KeyError, match="lost"), pool.connection():
        pass
    until(lambda: driver.open == [])
    pool.close()
