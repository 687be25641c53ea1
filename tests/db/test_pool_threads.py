"""Real threads, real forks: no connection with two holders, none lost, none shared, no thread left."""

from __future__ import annotations

import gc
import random
import threading
import weakref
from collections.abc import Callable

import pytest

from prologue.db import ConnectionPool
from prologue.db.background import spawn_thread
from prologue.errors import LeaseError, PoolError, PoolTimeoutError
from tests.concurrency import Task, impatient_threads, in_child, pass_gate, together, until
from tests.db.driver import Driver, DriverError, FakeConnection


def threads_of(pool_name: str) -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith(f"pool {pool_name}:")]


def hold(connection: FakeConnection) -> None:
    """Use a connection as its only holder."""
    assert connection.holder.acquire(blocking=False), "two holders"
    assert not connection.in_transaction, "lent in a transaction"
    connection.write("x")
    connection.holder.release()


def test_many_threads_few_connections_and_everything_goes_wrong() -> None:
    driver = Driver()
    pool = ConnectionPool(driver, 1, 3, validation_interval=0.002, idle_timeout=0.2, name="stress")
    failures: list[BaseException] = []

    def work(number: int) -> None:
        chance = random.Random(number)
        for _ in range(60):
            try:
                with pool.connection(timeout=chance.choice([0, 0.001, 30])) as connection:
                    hold(connection)
                    fate = chance.random()
                    if fate < 0.05:
                        connection.dead = True
                    elif fate < 0.15:
                        raise KeyError("mine")
            except (PoolError, DriverError, KeyError):
                pass
            except BaseException as error:
                failures.append(error)
            if chance.random() < 0.02:
                pool.drain()

    with impatient_threads():
        together(8, work)
    assert failures == []
    stats = pool.stats()
    assert (stats.leased, stats.waiting) == (0, 0)
    assert stats.size <= 3
    assert stats.opened - stats.closed - stats.abandoned == stats.size - stats.opening
    assert pool.with_connection(lambda connection: connection.dead, timeout=30) is False
    pool.close(timeout=30)
    assert pool.stats().size == 0
    assert all(connection.closes == 1 for connection in driver.connections)
    until(lambda: threads_of("stress") == [])


def test_a_crowd_at_an_empty_pool_opens_no_more_than_the_maximum() -> None:
    driver = Driver()
    pool = ConnectionPool(driver, max_connections=4, connection_timeout=30, name="crowd")

    def use(number: int) -> None:
        with pool.connection() as connection:
            hold(connection)

    together(40, use)
    assert 1 <= len(driver.connections) <= 4
    assert pool.stats().acquires == 40
    pool.close(timeout=30)


def test_a_spike_is_served_by_what_is_there_while_connecting_takes_its_time() -> None:
    gate = threading.Event()
    gate.set()
    driver = Driver()

    def connect() -> FakeConnection:
        pass_gate(gate)
        return driver()

    pool = ConnectionPool(connect, 5, 50, connection_timeout=30, connect_timeout=30, name="spike")
    pool.open(wait=True, timeout=30)
    gate.clear()

    def use(number: int) -> None:
        with pool.connection() as connection:
            hold(connection)

    together(50, use)
    assert pool.stats().acquires == 50
    assert pool.stats().size <= 7  # with the two that are being opened
    gate.set()
    pool.close(timeout=30)
    assert 5 <= len(driver.connections) <= 7


def test_a_crowd_that_gave_up_is_no_burden_to_those_who_come_later() -> None:
    pool = ConnectionPool(Driver(), max_connections=1, name="crowded")
    held = pool.get_connection(timeout=30)

    def give_up(number: int) -> PoolError | None:
        try:
            pool.get_connection(timeout=0.01)
        except PoolTimeoutError as error:
            return error
        return None

    assert None not in together(30, give_up)
    assert (pool.stats().timeouts, pool.stats().waiting) == (30, 0)
    held.close()
    with pool.connection(timeout=0):
        pass
    pool.close(timeout=30)


def test_a_driver_that_hangs_blocks_nobody_and_is_given_up() -> None:
    gate = threading.Event()
    driver = Driver()
    hanging: list[int] = []

    def connect() -> FakeConnection:
        if len(driver.connections) == 1 and len(hanging) < 2:
            hanging.append(1)
            pass_gate(gate)
        return driver()

    pool = ConnectionPool(connect, max_connections=2, connect_timeout=0.2, name="hang")
    held = pool.get_connection(timeout=30)
    with pytest.raises(PoolTimeoutError):
        pool.get_connection(timeout=0.01)
    held.close()
    with pool.connection(timeout=0):  # the hung attempt is not in the way
        until(lambda: pool.stats().open_errors == 1)
        assert pool.stats().size == 1
    gate.set()
    until(lambda: len([c for c in driver.connections if c.closes]) == 1)  # it came too late
    pool.close(timeout=30)
    until(lambda: threads_of("hang") == [])


def test_a_pool_that_is_forgotten_leaves_no_thread() -> None:
    pool = ConnectionPool(Driver(), name="forgotten")
    with pool.connection(timeout=30):
        pass
    reference = weakref.ref(pool)
    del pool
    until(lambda: gc.collect() is not None and reference() is None)
    until(lambda: threads_of("forgotten") == [])


def test_a_pool_whose_database_is_down_can_be_forgotten_too() -> None:
    driver = Driver()
    driver.connect_error = DriverError("refused")
    pool = ConnectionPool(driver, name="down")
    with pytest.raises(PoolError):
        pool.get_connection(timeout=30)
    reference = weakref.ref(pool)
    del pool, driver  # which has the error, whose traceback has the pool
    until(lambda: gc.collect() is not None and reference() is None)
    until(lambda: threads_of("down") == [])


def test_a_connection_is_given_back_once_by_many_threads() -> None:
    pool = ConnectionPool(Driver(), max_connections=2, name="twice")
    connection = pool.get_connection(timeout=30)

    def give_back(number: int) -> bool:
        try:
            pool.release_connection(connection)
        except LeaseError:
            return False
        return True

    with impatient_threads():
        together(4, give_back)
    stats = pool.stats()
    assert (stats.idle, stats.leased) == (1, 0)
    pool.close(timeout=30)


def test_many_callers_start_one_keeper() -> None:
    started: list[str] = []

    def spawn(function: Callable[[], object], name: str) -> None:
        started.append(name)
        spawn_thread(function, name)

    for _ in range(20):
        pool = ConnectionPool(Driver(), name="one", spawn=spawn)
        with impatient_threads():
            together(4, lambda number, pool=pool: pool._call_keeper())  # type: ignore[misc]
        pool.close(timeout=30)
    assert started == ["pool one: maintain"] * 20


def test_the_thread_starts_again_when_none_could_be_started() -> None:
    refused: list[str] = []

    def spawn(function: object, name: str) -> None:
        if not refused and name.endswith("maintain"):
            refused.append(name)
            raise RuntimeError("can't start new thread")
        spawn_thread(function, name)  # type: ignore[arg-type]

    pool = ConnectionPool(Driver(), min_connections=2, name="again", spawn=spawn)
    with pool.connection(timeout=30):
        until(lambda: pool.stats().size == 2)
    until(lambda: "pool again: maintain" in threads_of("again"))
    pool.close(timeout=30)
    until(lambda: threads_of("again") == [])


def test_the_child_of_a_fork_opens_its_own_and_leaves_the_parents_alone() -> None:
    driver = Driver()
    pool = ConnectionPool(driver, max_connections=3, connection_timeout=30, name="fork")
    lent = pool.get_connection()
    lease = pool.connection()
    raw = lease.__enter__()
    raw.write("the parent's")

    def child() -> list[object]:
        try:
            lent.write("x")
        except LeaseError as error:
            refusal = "another process" in str(error)
        lent.close()
        lease.__exit__(None, None, None)
        untouched = not any(c.closes or c.committed for c in driver.connections) and raw.in_transaction
        with pool.connection() as connection:
            own = connection.number
        answer = [refusal, untouched, own, pool.stats().opened]
        pool.close(timeout=10)
        return [*answer, [c.closes for c in driver.connections]]

    assert in_child(child) == [True, True, 3, 1, [0, 0, 1]]
    lent.write("still mine")
    lent.close()
    lease.__exit__(None, None, None)
    assert raw.committed == ["the parent's"]
    assert pool.stats().idle == 2
    pool.close(timeout=30)


def test_a_fork_while_the_lock_is_held_leaves_the_child_a_pool_that_works() -> None:
    pool = ConnectionPool(Driver(), connection_timeout=10, name="held")
    with pool.connection():
        with pool._lock:
            assert in_child(lambda: pool.with_connection(lambda connection: connection.number)) == 2
    pool.close(timeout=30)


def test_a_fork_while_others_wait_leaves_the_child_without_waiters() -> None:
    pool = ConnectionPool(Driver(), max_connections=1, name="waiting")
    held = pool.get_connection(timeout=30)
    task = Task(lambda: pool.with_connection(lambda connection: connection.number, timeout=30))
    until(lambda: pool.stats().waiting == 1)
    assert in_child(lambda: pool.stats().waiting) == 0
    held.close()
    assert task.result() == 1
    pool.close(timeout=30)


def test_a_lease_dropped_in_the_child_of_a_fork_leaves_the_connection_to_the_parent() -> None:
    driver = Driver()
    pool = ConnectionPool(driver, connection_timeout=10, name="dropped")
    lent = [pool.get_connection(timeout=30)]

    def child() -> list[int]:
        lent.clear()
        with pool.connection():
            pool._maintain()
        pool.close(timeout=10)
        return [pool.stats().lost, driver.connections[0].closes]

    assert in_child(child) == [0, 0]
    lent[0].close()
    pool.close(timeout=30)


def test_what_the_parent_opened_is_not_finalized_in_the_child() -> None:
    driver = Driver()
    pool = ConnectionPool(driver, name="finalized")
    with pool.connection(timeout=30):
        pass
    connection = weakref.ref(driver.connections.pop())
    assert in_child(lambda: gc.collect() >= 0 and connection() is not None) is True
    pool.close(timeout=30)


def test_what_the_parent_lent_is_not_finalized_in_the_child_that_drops_it() -> None:
    driver = Driver()
    pool = ConnectionPool(driver, name="finalized")
    lent = [pool.get_connection(timeout=30)]
    connection = weakref.ref(driver.connections.pop())

    def child() -> bool:
        lent.clear()
        return gc.collect() >= 0 and connection() is not None

    assert in_child(child) is True
    lent[0].close()
    pool.close(timeout=30)
