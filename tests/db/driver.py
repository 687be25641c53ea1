"""A scripted DB-API driver, a clock that stands still, and jobs that run when a test says so."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from prologue.db import ConnectionPool
from prologue.db.entry import Job


class DriverError(Exception):
    """What the driver raises."""


class FakeConnection:
    """A connection that notices what a pool must never do."""

    def __init__(self, driver: Driver, number: int) -> None:
        self.driver = driver
        self.number = number
        self.dead = False
        self.behind = False  # its answers are those to questions before
        self.closes = 0
        self.checks = 0
        self.in_transaction = False
        self.committed: list[str] = []
        self.pending: list[str] = []
        self.holder = threading.Lock()  # held while somebody uses the connection

    def write(self, text: str) -> None:
        self._answer()
        self.in_transaction = True
        self.pending.append(text)

    def cursor(self) -> FakeConnection.Cursor:
        return self.Cursor(self)

    def commit(self) -> None:
        self._answer()
        if self.driver.commit_error is not None:
            raise self.driver.commit_error
        self.committed += self.pending
        self.pending.clear()
        self.in_transaction = False

    def rollback(self) -> None:
        self._answer()
        self.pending.clear()
        self.in_transaction = False

    def close(self) -> None:
        self.closes += 1
        if self.driver.close_error is not None:
            raise self.driver.close_error

    def _answer(self) -> None:
        assert not self.closes, "used after it was closed"
        if self.dead:
            raise DriverError(f"connection {self.number} is dead")

    class Cursor:
        def __init__(self, connection: FakeConnection) -> None:
            self.connection = connection

        def execute(self, statement: str) -> None:
            self.connection.checks += 1
            self.connection.in_transaction = True
            self.connection._answer()

        def fetchone(self) -> tuple[int] | None:
            return None if self.connection.behind else (1,)

        def close(self) -> None:
            pass

    def __repr__(self) -> str:
        return f"<connection {self.number}>"


class Driver:
    """`driver()` connects; the attributes say how it misbehaves."""

    def __init__(self) -> None:
        self.connections: list[FakeConnection] = []
        self.attempts = 0
        self.connect_error: Exception | None = None
        self.commit_error: Exception | None = None
        self.close_error: Exception | None = None
        self._lock = threading.Lock()

    def __call__(self) -> FakeConnection:
        with self._lock:
            self.attempts += 1
            if self.connect_error is not None:
                raise self.connect_error
            connection = FakeConnection(self, len(self.connections) + 1)
            self.connections.append(connection)
            return connection

    @property
    def open(self) -> list[int]:
        return [connection.number for connection in self.connections if not connection.closes]

    def kill_all(self) -> None:
        for connection in self.connections:
            connection.dead = True


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Jobs:
    """What the pool wants run in threads: kept for later or, if `at_once`, run where it is started."""

    def __init__(self, at_once: bool = True) -> None:
        self.at_once = at_once
        self.waiting: list[tuple[str, Callable[[], object]]] = []

    def __call__(self, function: Callable[[], object], name: str) -> None:
        what = name.rpartition(" ")[2]
        if what == "maintain":
            return
        if self.at_once:
            function()
        else:
            self.waiting.append((what, function))

    @property
    def names(self) -> list[str]:
        return [what for what, _ in self.waiting]

    def run(self, index: int = 0) -> None:
        self.waiting.pop(index)[1]()

    def run_all(self) -> None:
        while self.waiting:
            self.run()


class SteppedPool(ConnectionPool):
    """A pool without a keeper: whoever calls it does itself what cannot wait."""

    keeper_calls = 0
    recovered = 0  # connections whose claims were dropped: none in ordinary life

    def _call_keeper(self) -> None:
        self.keeper_calls += 1
        self._settle()

    def _collect_lost(self, now: float) -> list[Job]:
        reports = self._home.collect()
        self.recovered += len(reports)
        self._home.reports.extend(reports)
        return super()._collect_lost(now)


class Setup:
    """A pool over the scripted driver, without threads of its own: `tick` is what its keeper would do."""

    def __init__(
        self, at_once: bool = True, connect: Callable[[Any], Any] = lambda driver: driver, **options: Any
    ) -> None:
        self.driver = Driver()
        self.clock = Clock()
        self.jobs = Jobs(at_once)
        self.pool = SteppedPool(
            connect(self.driver), clock=self.clock, random=lambda: 0.5, spawn=self.jobs, **options
        )

    def tick(self, seconds: float = 0.0) -> float | None:
        self.clock.now += seconds
        return self.pool._maintain()

    def idle(self, count: int) -> None:
        """Make so many connections idle: the first opened is the one given back last."""
        held = [self.pool.get_connection() for _ in range(count)]
        for connection in reversed(held):
            connection.close()

    def borrow_number(self, timeout: float = 0) -> int:
        """The number of the connection that the next borrower gets."""
        with self.pool.connection(timeout) as connection:
            return int(connection.number)
