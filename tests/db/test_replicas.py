"""A primary and its replicas: who serves readers, in time, whatever is down."""

from __future__ import annotations

import logging
from contextlib import closing
from typing import Any

import pytest

from prologue.db import ConnectionPool, ReplicatedPool, SharedConnection
from prologue.errors import LeaseError, PoolClosedError, PoolTimeoutError, PoolUnavailableError
from tests.concurrency import in_child, together
from tests.db.driver import DriverError, Setup


class Database:
    """A primary and replicas over the scripted driver; ``served()`` says which served a reader."""

    def __init__(self, replicas: int = 2, **options: Any) -> None:
        self.setups = [Setup(name=name, max_connections=2) for name in ("main", "r1", "r2", "r3")]
        self.setups = self.setups[: replicas + 1]
        pools = [setup.pool for setup in self.setups]
        self.pool = ReplicatedPool(pools[0], pools[1:], clock=self.setups[0].clock, **options)

    def name_of(self, connection: Any) -> str:
        return next(setup.pool.name for setup in self.setups if setup.driver is connection.driver)

    def served(self, timeout: float = 0, readonly: bool = True) -> str:
        with self.pool.connection(timeout, readonly) as connection:
            return self.name_of(connection)

    def take_down(self, number: int) -> None:
        setup = self.setups[number]
        setup.driver.connect_error = DriverError("refused")
        setup.pool.drain()
        for _ in range(100):
            setup.clock.now += 10
            with pytest.raises(PoolUnavailableError):
                setup.pool.get_connection(timeout=0)
            if not setup.pool.available:
                return
        raise AssertionError("it is still said to be available")

    def bring_up(self, number: int) -> None:
        self.setups[number].driver.connect_error = None
        self.setups[number].clock.now += 10


def test_writers_get_the_primary_and_readers_take_turns_at_the_replicas() -> None:
    database = Database(replicas=3)
    assert [database.served(readonly=False) for _ in range(2)] == ["main", "main"]
    assert [database.served() for _ in range(5)] == ["r1", "r2", "r3", "r1", "r2"]
    assert repr(database.pool).startswith("<ReplicatedPool <ConnectionPool 'main' 0 leased, 1 idle")
    assert database.pool.name == "main"


def test_readers_get_the_replica_with_the_fewest_leases() -> None:
    database = Database(choice="least-leased")
    assert database.served() == "r1"
    with database.pool.connection(readonly=True) as first:
        assert database.name_of(first) == "r1"
        assert [database.served() for _ in range(2)] == ["r2", "r2"]
        with database.pool.connection(readonly=True) as second:
            assert database.name_of(second) == "r2"
            assert database.served() == "r1"


@pytest.mark.parametrize("choice", ["round-robin", "least-leased"])
def test_without_replicas_the_primary_serves_readers(choice: str, caplog: pytest.LogCaptureFixture) -> None:
    database = Database(replicas=0, choice=choice)
    assert [database.served(), database.served()] == ["main", "main"]
    assert "no replica" in repr(database.pool)
    assert caplog.records == []


def test_a_replica_that_is_down_is_passed_over_and_comes_back_by_itself() -> None:
    database = Database()
    database.take_down(1)
    assert [database.served(timeout=5) for _ in range(3)] == ["r2", "r2", "r2"]
    database.bring_up(1)
    # The first reader makes the pool connect anew, without waiting for it.
    assert {database.served(timeout=5) for _ in range(4)} == {"r1", "r2"}


def test_the_primary_serves_readers_while_every_replica_is_down_or_exhausted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    database = Database()
    database.take_down(1)
    held = [database.setups[2].pool.get_connection() for _ in range(2)]
    caplog.clear()
    with caplog.at_level(logging.INFO, "prologue.db"):
        assert [database.served(), database.served()] == ["main", "main"]
        for connection in held:
            connection.close()
        assert [database.served(), database.served()] == ["r2", "r2"]
    told = [record for record in caplog.records if "replica" in record.message]
    assert [record.levelname for record in told] == ["WARNING", "INFO"]
    assert "no replica is available, the primary serves readers" in told[0].message
    assert told[1].message == "pool 'main': a replica serves readers again"


def test_a_closed_replica_is_passed_over() -> None:
    database = Database()
    database.setups[1].pool.close()
    assert [database.served(), database.served()] == ["r2", "r2"]


def test_when_nothing_is_available_the_error_is_that_of_the_primary() -> None:
    database = Database()
    for number in range(3):
        database.take_down(number)
    with pytest.raises(PoolUnavailableError, match="the database is down") as caught:
        database.pool.get_connection(timeout=3, readonly=True)
    assert isinstance(caught.value.__cause__, DriverError)


def test_an_error_of_the_borrower_is_not_taken_for_one_of_the_replica() -> None:
    database = Database()

    def use(connection: Any) -> None:
        raise PoolTimeoutError("of another pool")

    with pytest.raises(PoolTimeoutError, match="another"):
        database.pool.with_connection(use, readonly=True)
    assert [setup.driver.attempts for setup in database.setups] == [0, 1, 0]
    assert all(stats.leased == 0 for stats in database.pool.stats().values())


def test_a_reader_waits_half_of_its_time_for_each_replica_and_the_rest_for_the_primary() -> None:
    class Slow(ConnectionPool):
        """All its connections are in use, and the clock says how long one has waited."""

        def get_connection(self, timeout: float | None = None) -> Any:
            assert timeout is not None
            asked.append((self.name, timeout))
            database.setups[0].clock.now += timeout
            raise PoolTimeoutError(self.name)

    asked: list[tuple[str, float]] = []
    database = Database()
    for setup in database.setups:
        setup.pool.__class__ = Slow  # type: ignore[assignment]
    with pytest.raises(PoolTimeoutError, match="main"):
        database.pool.get_connection(timeout=8.0, readonly=True)
    assert asked == [("r1", 4.0), ("r2", 2.0), ("main", 2.0)]
    asked.clear()
    with pytest.raises(PoolTimeoutError):
        database.pool.get_connection(readonly=True)
    assert asked == [("r2", 2.5), ("r1", 1.25), ("main", 1.25)]
    asked.clear()
    with pytest.raises(PoolTimeoutError):
        database.pool.get_connection()
    assert asked == [("main", 5.0)]


def test_the_timeout_of_its_own_counts_for_writers_too() -> None:
    setup = Setup(max_connections=1)
    pool = ReplicatedPool(setup.pool, [], connection_timeout=0)
    with pool.connection(), pytest.raises(PoolTimeoutError):
        pool.get_connection()
    for readonly in (True, False):
        with pytest.raises(ValueError, match="timeout must be at least 0"):
            pool.get_connection(timeout=-1, readonly=readonly)


def test_borrowing_without_a_block() -> None:
    database = Database()
    for readonly, name in ((True, "r1"), (False, "main")):
        connection = database.pool.get_connection(readonly=readonly)
        assert database.pool.stats()[name].leased == 1
        connection.close()
        assert database.pool.stats()[name].leased == 0


def test_a_block_commits_or_rolls_back_and_is_not_nested_in_itself() -> None:
    database = Database(replicas=1)
    lease = database.pool.connection(readonly=True)
    lease.__exit__(None, None, None)  # not entered: nothing to leave
    with lease as connection:
        connection.write("tea")
        with pytest.raises(LeaseError, match="this lease is in use"):
            lease.__enter__()
    assert connection.committed == ["tea"]

    def spill(connection: Any) -> None:
        connection.write("milk")
        raise DriverError

    with pytest.raises(DriverError):
        database.pool.with_connection(spill, readonly=True)
    assert (connection.committed, connection.pending) == (["tea"], [])
    assert database.pool.with_connection(database.name_of) == "main"


def test_drain_and_close_reach_every_pool() -> None:
    database = Database()
    for readonly in (True, True, False):
        database.served(readonly=readonly)
    database.pool.drain()
    assert [setup.driver.open for setup in database.setups] == [[], [], []]
    for readonly in (True, True, False):
        database.served(readonly=readonly)
    database.pool.close()
    assert [setup.driver.open for setup in database.setups] == [[], [], []]
    for readonly in (True, False):
        with pytest.raises(PoolClosedError):
            database.pool.get_connection(readonly=readonly)


def test_every_pool_is_closed_at_the_end_of_a_block() -> None:
    database = Database()
    with database.pool as pool:
        assert database.served() == "r1"
    for setup in database.setups:
        with pytest.raises(PoolClosedError):
            setup.pool.get_connection(0)
    with pytest.raises(PoolClosedError):
        pool.get_connection(0)


def test_close_waits_for_all_pools_together() -> None:
    class Slow(ConnectionPool):
        def close(self, timeout: float = 5.0, force: bool = False) -> None:
            asked.append(timeout)
            database.setups[0].clock.now += 2

    asked: list[float] = []
    database = Database()
    for setup in database.setups:
        setup.pool.__class__ = Slow  # type: ignore[assignment]
    database.pool.close(timeout=3)
    assert asked == [3, 1, 0]


def test_threads_get_each_replica_equally_often() -> None:
    pools = [
        ConnectionPool(Setup().driver, name=name, max_connections=8, connection_timeout=30)
        for name in ("main", "r1", "r2")
    ]
    with closing(ReplicatedPool(pools[0], pools[1:])) as pool:

        def read(_: int) -> None:
            for _ in range(50):
                with pool.connection(readonly=True):
                    pass

        together(4, read)
        assert {name: stats.acquires for name, stats in pool.stats().items()} == {
            "main": 0,
            "r1": 100,
            "r2": 100,
        }


def test_a_child_of_a_fork_reads_from_the_replicas_too() -> None:
    database = Database()
    database.served()
    with database.pool._lock:  # a thread that does not exist in the child may hold it
        assert in_child(database.served) == "r1"
    assert database.served() == "r2"


@pytest.mark.parametrize(
    ("options", "message"),
    [({"choice": "random"}, "round-robin, least-leased, not 'random'"), ({}, "these have 'main', 'main'")],
)
def test_what_cannot_work_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ReplicatedPool(Setup().pool, [Setup().pool], **options)


def test_nested_blocks_of_readers_and_writers() -> None:
    database = Database(replicas=1)
    cleanups: list[Any] = []
    work = SharedConnection(database.pool, cleanups=cleanups)
    with work.connection() as writer:
        assert database.name_of(writer) == "main"
        with work.connection(readonly=True) as reader:
            assert reader is writer  # it sees what was written
    with work.connection(readonly=True) as reader:
        assert database.name_of(reader) == "r1"
        with work.connection(readonly=True) as the_same:
            assert the_same is reader
        with work.connection() as writer:
            assert database.name_of(writer) == "main"
            with work.connection(readonly=True) as inner:
                assert inner is writer
            writer.write("tea")
        assert writer.committed == ["tea"]  # the writer's block was a transaction of its own
        assert cleanups == [work.close]
        with work.connection(readonly=True) as the_same:
            assert the_same is reader


def test_both_transactions_are_rolled_back_when_neither_is_left() -> None:
    database = Database(replicas=1)
    cleanups: list[Any] = []
    work = SharedConnection(database.pool, cleanups=cleanups)
    reader = work.connection(readonly=True)
    reader.__enter__()
    work.connection().__enter__().write("tea")
    assert cleanups == [work.close]
    work.close()
    assert cleanups == []
    assert [stats.leased for stats in database.pool.stats().values()] == [0, 0]
    assert database.setups[0].driver.connections[0].committed == []
