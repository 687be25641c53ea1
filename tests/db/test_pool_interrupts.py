"""A thread may be interrupted anywhere, by an exception or by code that uses the pool: nothing is lost."""

from __future__ import annotations

import gc
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest

from prologue.db import Adapter, ConnectionPool, PoolStats
from tests.concurrency import Task, until, untraced
from tests.db.driver import Driver
from tests.db.interrupts import at_every_point


def block(pool: ConnectionPool) -> None:
    with pool.connection() as connection:
        connection.write("x")


def failing_block(pool: ConnectionPool) -> None:
    try:
        with pool.connection() as connection:
            connection.write("x")
            raise KeyError("mine")
    except KeyError:
        pass


def borrow_and_give_back(pool: ConnectionPool) -> None:
    connection = pool.get_connection()
    connection.write("x")
    connection.close()


def borrowed_block(pool: ConnectionPool) -> None:
    with pool.get_connection() as connection:
        connection.write("x")


USES: list[Callable[[ConnectionPool], None]] = [block, failing_block, borrow_and_give_back, borrowed_block]


class Resetting(Adapter):
    def reset(self, connection: Any) -> None:
        connection.rollback()


class Looking(Adapter):
    """Looks at each connection, and finds one in two dead that is not."""

    def __init__(self, driver: Driver) -> None:
        super().__init__(driver)
        self.looks = 0

    def is_alive(self, connection: Any) -> bool:
        self.looks += 1
        return self.looks % 2 == 0

    def is_disconnect(self, error: BaseException) -> bool:
        return isinstance(error, KeyError)


def settle(pool: ConnectionPool) -> PoolStats:
    """Wait until everything is idle; return the numbers of that moment: in the next one may be checked."""
    seen = [pool.stats()]

    def is_idle() -> bool:
        seen[0] = pool.stats()
        return seen[0].idle == seen[0].size

    until(is_idle)
    return seen[0]


def prove_whole(pool: ConnectionPool, driver: Driver, where: str) -> None:
    """Make sure that the pool lends as many connections as it may, each to one borrower."""
    stats = settle(pool)
    assert (stats.leased, stats.waiting) == (0, 0), where
    assert stats.opened - stats.closed == stats.size, where
    held = [pool.get_connection(30) for _ in range(2)]
    numbers = {connection.number for connection in held}
    assert len(numbers) == 2, where
    assert numbers == set(driver.open), where
    for connection in held:
        assert not connection.in_transaction, where
        connection.close()
    settle(pool)


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("adapter", [Adapter, Resetting, Looking])
def test_an_exception_anywhere_loses_no_connection(
    use: Callable[[ConnectionPool], None], adapter: type[Adapter]
) -> None:
    driver = Driver()
    pool = ConnectionPool(adapter(driver), 2, 2, 30, name="interrupted")
    pool.open(wait=True, timeout=30)
    points = 0
    for interruption in at_every_point():
        try:
            with interruption:
                use(pool)
        except KeyboardInterrupt:
            points += 1
        prove_whole(pool, driver, interruption.where)
    assert points > 5
    pool.close(timeout=30)
    assert all(connection.closes == 1 for connection in driver.connections)


def test_an_exception_anywhere_in_waiting_loses_no_connection_and_leaves_the_queue() -> None:
    driver = Driver()
    pool = ConnectionPool(driver, 0, 2, 30, name="waiting")
    for interruption in at_every_point():
        until(lambda: pool.stats().size == 0)
        try:
            with interruption:
                block(pool)
        except KeyboardInterrupt:
            pass
        prove_whole(pool, driver, interruption.where)
        pool.drain()
    pool.close(timeout=30)


@pytest.mark.parametrize("use", [block, failing_block, borrow_and_give_back])
def test_an_exception_anywhere_in_giving_back_leaves_nobody_waiting(
    use: Callable[[ConnectionPool], None],
) -> None:
    driver = Driver()
    pool = ConnectionPool(driver, 1, 1, 30, name="handing over")
    pool.open(wait=True, timeout=30)

    def wait() -> bool:
        with pool.connection(timeout=30) as connection:
            return connection.holder.acquire(blocking=False) and not connection.holder.release()

    for interruption in at_every_point():
        waiting: list[Task[bool]] = []

        def write(text: str) -> None:
            """What the borrower does: meanwhile somebody begins to wait."""
            waiting.append(Task(wait))  # noqa: B023
            until(lambda: pool._waiters)

        settle(pool)
        with pool.connection() as connection:
            connection.write = write
        try:
            with interruption:
                use(pool)
        except KeyboardInterrupt:
            pass
        for task in waiting:
            assert task.result(), interruption.where
        settle(pool)
    pool.close(timeout=30)


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("inner", [block, failing_block])
def test_a_finalizer_or_signal_handler_may_use_the_pool_anywhere(
    use: Callable[[ConnectionPool], None], inner: Callable[[ConnectionPool], None]
) -> None:
    driver = Driver()
    pool = ConnectionPool(driver, 2, 2, 30, name="handler")
    pool.open(wait=True, timeout=30)
    for interruption in at_every_point(lambda: inner(pool)):
        with interruption:
            use(pool)
        prove_whole(pool, driver, interruption.where)
    pool.close(timeout=30)
    assert driver.open == []


def test_a_lease_may_be_given_back_by_a_finalizer_while_the_pool_is_at_work() -> None:
    """A generator that nobody reads to its end is closed by the collector, wherever that runs."""
    driver = Driver()
    pool = ConnectionPool(driver, 0, 3, 30, name="generators")
    held: list[Any] = []

    def rows() -> Any:
        with pool.connection() as connection:
            yield connection.number

    def drop() -> None:
        held.clear()

    for interruption in at_every_point(drop):
        generator = rows()
        next(generator)
        held.append(generator)
        del generator
        with interruption:
            block(pool)
        held.clear()
        prove_whole(pool, driver, interruption.where)
    pool.close(timeout=30)


def test_giving_back_never_waits_for_the_lock_in_the_thread_that_has_it() -> None:
    pool = ConnectionPool(Driver(), 0, 1, 30, name="held")
    lease = pool.connection()
    lease.__enter__()
    waiting = Task(lambda: pool.with_connection(lambda connection: connection.number, timeout=30))
    until(lambda: pool.stats().waiting == 1)
    with pool._lock:
        lease.__exit__(None, None, None)
    assert waiting.result() == 1
    pool.close(timeout=30)


@untraced()
def test_real_signals_lose_no_connection() -> None:
    driver = Driver()
    pool = ConnectionPool(driver, 2, 2, 30, name="signals")
    pool.open(wait=True, timeout=30)
    interrupted = 0

    def handler(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, handler)
    try:
        while interrupted < 200:
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0001)
                while True:
                    block(pool)
            except KeyboardInterrupt:
                interrupted += 1
            signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.signal(signal.SIGALRM, before)
    gc.collect()
    assert threading.current_thread() is threading.main_thread()
    prove_whole(pool, driver, "after signals")
    pool.close(timeout=30)
