"""The pool under a million leases: 64 threads, 8 connections, everything goes wrong at random.

    python -m pytest tests/stress/stress_pool.py

Threads are switched every microsecond; the driver's connections notice two holders, use after closing and a
transaction that was left open. It takes some minutes.
"""

from __future__ import annotations

import ctypes
import random
import threading
import time
from functools import partial
from typing import Any

from prologue.db import ConnectionPool
from prologue.errors import PoolError
from tests.concurrency import impatient_threads, until
from tests.db.driver import Driver, DriverError

THREADS = 64
CONNECTIONS = 8
CYCLES = 1_000_000


class Killed(BaseException):
    """Raised in a thread by another."""


def kill(thread: threading.Thread) -> None:
    """Raise an exception in a thread, wherever it is."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(Killed))


def test_a_million_leases() -> None:
    driver = Driver()
    pool = ConnectionPool(
        driver, 2, CONNECTIONS, 5, validation_interval=0.05, idle_timeout=1, max_lifetime=2, name="stress"
    )
    wrong: list[str] = []
    cycles = [0] * THREADS
    kills = 0

    def hold(connection: Any) -> None:
        connection.holder = mark = object()  # a lock would stay locked in a thread that is killed here
        if connection.in_transaction or connection.closes:
            wrong.append("lent in a transaction, or closed")
        connection.write("x")
        if connection.holder is not mark:
            wrong.append("two holders")

    def work(number: int) -> None:
        chance = random.Random(number)
        while cycles[number] < CYCLES // THREADS:
            try:
                fate = chance.random()
                if fate < 0.1:
                    borrowed = pool.get_connection(timeout=chance.choice([0, 0.001, 5]))
                    hold(borrowed._connection())
                    borrowed.close()
                else:
                    with pool.connection(timeout=chance.choice([0, 0.001, 5, 5, 5])) as connection:
                        hold(connection)
                        if fate < 0.11:
                            connection.dead = True
                        elif fate < 0.2:
                            raise KeyError("mine")
                cycles[number] += 1
            except (PoolError, DriverError, KeyError):
                cycles[number] += 1
            except Killed:
                pass
            except AssertionError as error:
                wrong.append(str(error))

    def survive(number: int) -> None:
        while cycles[number] < CYCLES // THREADS:
            try:
                work(number)
            except Killed:
                pass

    threads = [threading.Thread(target=partial(survive, number), daemon=True) for number in range(THREADS)]
    start = time.monotonic()
    chance = random.Random(0)
    with impatient_threads():
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            stats = pool.stats()
            assert stats.size <= CONNECTIONS
            alive = [thread for thread in threads if thread.is_alive()]
            if alive and min(cycles) < 0.9 * CYCLES // THREADS:
                kill(chance.choice(alive))
                kills += 1
            time.sleep(0.002)
    taken = time.monotonic() - start
    assert wrong == []
    until(lambda: (s := pool.stats()).leased == 0 and s.waiting == 0)
    stats = pool.stats()
    assert stats.opened - stats.closed - stats.abandoned == stats.size - stats.opening
    pool.close(timeout=30)
    assert pool.stats().size == 0
    assert all(connection.closes == 1 for connection in driver.connections)
    print(f"\n{sum(cycles)} leases in {taken:.0f} s, {kills} exceptions thrown into threads, {stats}")
