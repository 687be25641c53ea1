"""Nested blocks on one connection: the outermost is the transaction, the inner ones are savepoints."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from prologue.db import Adapter, ConnectionPool, SharedConnection
from prologue.db.urls import adapter_from_url
from prologue.errors import LeaseError, PoolTimeoutError
from tests.concurrency import in_child
from tests.db.driver import Clock, DriverError, Setup


@pytest.fixture(scope="module", params=["sqlite", "postgresql", "mariadb"])
def adapter(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Adapter]:
    """How to connect to a database with the table ``notes``."""
    if request.param == "sqlite":
        adapter = adapter_from_url(f"sqlite:///{tmp_path_factory.mktemp('sqlite')}/notes.db")
    elif request.param == "postgresql":
        adapter = adapter_from_url(request.getfixturevalue("postgres").url)
    else:
        port = request.getfixturevalue("mariadb").port
        adapter = adapter_from_url(f"mariadb://app@127.0.0.1:{port}/test?ssl_disabled=true")
    connection = adapter.connect()
    cursor = connection.cursor()
    cursor.execute("DROP TABLE IF EXISTS notes")
    cursor.execute("CREATE TABLE notes (text VARCHAR(20) PRIMARY KEY)")
    connection.commit()
    yield adapter
    cursor.execute("DROP TABLE notes")  # other tests have one of their own
    connection.commit()
    connection.close()


@pytest.fixture
def pool(adapter: Adapter) -> Iterator[ConnectionPool]:
    pool = ConnectionPool(adapter, max_connections=1, connection_timeout=20.0)
    with pool.connection() as connection:
        connection.cursor().execute("DELETE FROM notes")
    yield pool
    pool.close()


@pytest.fixture
def work(pool: ConnectionPool) -> SharedConnection:
    return SharedConnection(pool)


def write(connection: Any, text: str) -> None:
    connection.cursor().execute(f"INSERT INTO notes VALUES ('{text}')")


def notes(pool: ConnectionPool) -> list[str]:
    """What is committed: read by a connection that has just been given back."""
    assert pool.stats().leased == 0
    with pool.connection(timeout=20) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT text FROM notes ORDER BY text")
        return [text for (text,) in cursor.fetchall()]


class Wrong(Exception):
    """Raised on purpose."""


@contextmanager
def raised(error: type[BaseException] = Wrong, match: str | None = None) -> Iterator[None]:
    """Expect that the statements inside end with an error."""
    with pytest.raises(error, match=match):
        yield


# -- the outermost block ------------------------------------------------------------------------------


def test_a_block_commits_at_its_end(pool: ConnectionPool, work: SharedConnection) -> None:
    with work.connection() as connection:
        write(connection, "tea")
    assert notes(pool) == ["tea"]


@pytest.mark.parametrize("error", [Wrong, KeyboardInterrupt, GeneratorExit])
def test_a_block_that_raises_is_rolled_back(
    pool: ConnectionPool, work: SharedConnection, error: type[BaseException]
) -> None:
    with raised(error), work.connection() as connection:
        write(connection, "tea")
        raise error
    assert notes(pool) == []


def test_a_function_is_called_in_a_block(pool: ConnectionPool, work: SharedConnection) -> None:
    def put(connection: Any) -> str:
        write(connection, "tea")
        return "done"

    assert work.with_connection(put) == "done"
    assert notes(pool) == ["tea"]


# -- blocks inside ------------------------------------------------------------------------------------


def test_nested_blocks_share_the_connection_and_commit_together(
    pool: ConnectionPool, work: SharedConnection
) -> None:
    with work.connection() as outer:
        with work.connection() as inner:
            assert inner is outer
            write(inner, "tea")
            with work.connection(readonly=True) as innermost:
                assert innermost is outer
        with work.connection() as again:
            write(again, "milk")
    assert notes(pool) == ["milk", "tea"]


def test_an_outer_block_that_raises_undoes_the_inner_ones(
    pool: ConnectionPool, work: SharedConnection
) -> None:
    # Nothing is written before the inner block: that it begins the transaction is no reason to end it.
    with raised(), work.connection():
        with work.connection() as inner:
            write(inner, "tea")
        raise Wrong
    assert notes(pool) == []


@pytest.mark.parametrize("before", [["milk"], []])
def test_an_inner_block_that_raises_undoes_its_own_work_alone(
    pool: ConnectionPool, work: SharedConnection, before: list[str]
) -> None:
    with work.connection() as connection:
        for text in before:
            write(connection, text)
        with raised(), work.connection():
            write(connection, "tea")
            raise Wrong
        write(connection, "water")
    assert notes(pool) == [*before, "water"]


def test_an_interruption_goes_on_although_the_inner_block_cannot_be_undone(
    pool: ConnectionPool, work: SharedConnection
) -> None:
    with raised(KeyboardInterrupt), work.connection(), work.connection() as connection:
        write(connection, "tea")
        connection.close()
        raise KeyboardInterrupt
    assert notes(pool) == []


def test_the_work_of_the_innermost_block_is_undone_with_the_block_around_it(
    pool: ConnectionPool, work: SharedConnection
) -> None:
    with work.connection() as connection:
        with raised(), work.connection():
            with work.connection():
                write(connection, "tea")
            with raised(), work.connection():
                write(connection, "milk")
                raise Wrong
            raise Wrong
        with work.connection():
            write(connection, "water")
    assert notes(pool) == ["water"]


def test_an_error_of_the_database_in_an_inner_block_leaves_the_outer_one_usable(
    pool: ConnectionPool, work: SharedConnection
) -> None:
    with work.connection() as connection:
        write(connection, "tea")
        with pytest.raises(Exception, match=r"(?i)unique|duplicate"), work.connection():
            write(connection, "tea")
        write(connection, "milk")
    assert notes(pool) == ["milk", "tea"]


def test_an_error_that_is_caught_inside_of_a_block_costs_the_block_on_postgresql(
    pool: ConnectionPool, work: SharedConnection
) -> None:
    """Every statement after it fails there, the release too: what was done before is not kept in silence."""

    def inner(connection: Any) -> None:
        write(connection, "milk")
        with pytest.raises(Exception, match=r"(?i)unique|duplicate"):
            write(connection, "tea")

    with work.connection() as connection:
        write(connection, "tea")
        if isinstance(connection, psycopg.Connection):
            with pytest.raises(psycopg.errors.InFailedSqlTransaction):
                work.with_connection(inner)
            kept = []
        else:
            work.with_connection(inner)
            kept = ["milk"]
        write(connection, "water")
    assert notes(pool) == [*kept, "tea", "water"]


def test_an_error_that_is_caught_inside_of_the_outermost_block_costs_it_all_on_postgresql(
    pool: ConnectionPool, work: SharedConnection
) -> None:
    """A server that answers COMMIT with a rollback, and no error, would have the work taken for done."""

    def spoil(connection: Any) -> bool:
        write(connection, "tea")
        with pytest.raises(Exception, match=r"(?i)unique|duplicate"):
            write(connection, "tea")
        return isinstance(connection, psycopg.Connection)

    try:
        assert not work.with_connection(spoil)
        kept = ["tea"]
    except psycopg.errors.InFailedSqlTransaction:
        kept = []
    assert notes(pool) == kept
    with work.connection() as connection:
        write(connection, "water")  # the connection is as good as new
    assert notes(pool) == [*kept, "water"]


def test_a_block_can_be_used_again_but_not_within_itself(
    pool: ConnectionPool, work: SharedConnection
) -> None:
    block = work.connection()
    for text in ("tea", "milk"):
        with block as connection:
            write(connection, text)
            with pytest.raises(LeaseError, match="this block is in use"):
                block.__enter__()
    block.__exit__(None, None, None)  # it is not entered: nothing to leave
    assert notes(pool) == ["milk", "tea"]


# -- what goes wrong ----------------------------------------------------------------------------------


def test_a_transaction_that_an_inner_block_ended_is_not_committed(
    pool: ConnectionPool, work: SharedConnection
) -> None:
    """Some errors of databases end the whole transaction; a rollback by hand stands for them."""

    def inner(connection: Any) -> None:
        connection.rollback()
        raise Wrong

    outer = work.connection()
    connection = outer.__enter__()
    write(connection, "tea")
    with pytest.raises(Exception, match=r"(?i)savepoint") as caught:
        work.with_connection(inner)
    assert isinstance(caught.value.__context__, Wrong)
    assert "everything since the outermost block began" in caught.value.__notes__[0]
    connection.rollback()  # PostgreSQL refuses everything else
    write(connection, "milk")
    with pytest.raises(type(caught.value)) as at_the_end:
        outer.__exit__(None, None, None)
    assert at_the_end.value is caught.value
    assert notes(pool) == []


def test_a_commit_by_hand_in_an_inner_block_is_an_error(pool: ConnectionPool, work: SharedConnection) -> None:
    with raised(Exception, match=r"(?i)savepoint"), work.connection() as connection:
        write(connection, "tea")
        with work.connection():
            connection.commit()
    assert notes(pool) == ["tea"]  # that was committed


def test_a_block_that_ends_before_one_inside_is_an_error_and_rolled_back(
    pool: ConnectionPool, work: SharedConnection
) -> None:
    outer, inner = work.connection(), work.connection()
    write(outer.__enter__(), "tea")
    write(inner.__enter__(), "milk")
    with pytest.raises(LeaseError, match="a block ends before one inside of it"):
        outer.__exit__(None, None, None)
    inner.__exit__(None, None, None)
    assert notes(pool) == []


def test_a_middle_block_that_ends_early_undoes_what_is_inside(
    pool: ConnectionPool, work: SharedConnection
) -> None:
    with work.connection() as connection:
        write(connection, "tea")
        middle, inner = work.connection(), work.connection()
        middle.__enter__()
        inner.__enter__()
        write(connection, "milk")
        with pytest.raises(LeaseError):
            middle.__exit__(None, None, None)
        inner.__exit__(None, None, None)
    assert notes(pool) == ["tea"]


def test_an_error_that_leaves_blocks_in_the_wrong_order_is_kept(
    pool: ConnectionPool, work: SharedConnection
) -> None:
    outer, inner = work.connection(), work.connection()
    write(outer.__enter__(), "tea")
    inner.__enter__()
    outer.__exit__(Wrong, Wrong(), None)
    inner.__exit__(None, None, None)
    assert notes(pool) == []


def test_what_is_not_left_is_rolled_back_by_close(
    pool: ConnectionPool, work: SharedConnection, caplog: pytest.LogCaptureFixture
) -> None:
    block = work.connection()
    write(block.__enter__(), "tea")
    work.connection().__enter__()
    with caplog.at_level(logging.WARNING, "prologue.db"):
        work.close()
    (record,) = caplog.records
    assert record.message.startswith("<ConnectionPool 'main' 1 leased")
    assert record.message.endswith(": a block was not left: its work is rolled back")
    block.__exit__(None, None, None)
    work.close()
    assert notes(pool) == []


def test_the_child_of_a_fork_leaves_its_blocks_without_touching_the_connection(
    pool: ConnectionPool, work: SharedConnection
) -> None:
    def child() -> str:
        with pytest.raises(LeaseError, match="another process") as caught:
            work.connection().__enter__()
        inner.__exit__(None, None, None)
        outer.__exit__(None, None, None)
        work.close()
        return str(caught.value)

    outer, inner = work.connection(), work.connection()
    outer.__enter__()
    connection = inner.__enter__()
    write(connection, "tea")
    assert "leave it first" in in_child(child)
    inner.__exit__(None, None, None)
    outer.__exit__(None, None, None)
    assert notes(pool) == ["tea"]


# -- time and clean-up --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("timeout", "deadline", "waited"),
    [
        (None, None, 3.0),
        (0.5, None, 0.5),
        (None, 2.0, 2.0),
        (None, 10.0, 3.0),
        (7.0, 2.0, 2.0),
        (7.0, 10.0, 7.0),
        (1.0, -1.0, 0.0),
    ],
)
def test_no_block_waits_longer_than_it_says_or_than_its_deadline(
    timeout: float | None, deadline: float | None, waited: float
) -> None:
    class Recorded(ConnectionPool):
        def connection(self, timeout: float | None = None) -> Any:
            asked.append(3.0 if timeout is None else timeout)
            return super().connection(timeout)

    asked: list[float] = []
    clock = Clock()
    pool = Recorded(lambda: sqlite3.connect(":memory:", check_same_thread=False), connection_timeout=3.0)
    absolute = None if deadline is None else clock() + deadline
    work = SharedConnection(pool, absolute, clock=clock)
    try:
        with work.connection(timeout):
            pass
    except PoolTimeoutError:
        assert waited == 0
    except Exception:  # no time for the first connection either
        assert waited == 0
    assert asked == [waited]
    pool.close()


def test_the_clean_up_is_registered_while_a_connection_is_out() -> None:
    setup = Setup()
    cleanups: list[Callable[[], object]] = []
    work = SharedConnection(setup.pool, cleanups=cleanups)
    with work.connection():
        assert cleanups == [work.close]
        with work.connection():
            assert cleanups == [work.close]
    assert cleanups == []
    with raised(), work.connection():
        raise Wrong
    assert cleanups == []
    with work.connection():
        cleanups.clear()  # it runs now, and whoever runs it has taken it
    assert cleanups == []


def test_nothing_is_held_when_no_connection_could_be_borrowed() -> None:
    setup = Setup(max_connections=1)
    cleanups: list[Callable[[], object]] = []
    work = SharedConnection(setup.pool, cleanups=cleanups)
    held = setup.pool.get_connection()
    with pytest.raises(PoolTimeoutError), work.connection(timeout=0):
        pass
    assert cleanups == []
    held.close()
    with work.connection(timeout=0) as connection:
        assert connection.number == 1


def test_a_commit_that_fails_reaches_the_caller_and_the_connection_goes_back() -> None:
    setup = Setup()
    work = SharedConnection(setup.pool)
    setup.driver.commit_error = DriverError("disk full")
    with pytest.raises(DriverError, match="disk full"), work.connection():
        pass
    assert setup.pool.stats().leased == 0
    setup.driver.commit_error = None
    with work.connection() as connection:
        assert connection.number == 1


def test_a_savepoint_that_cannot_be_made_is_an_error_of_the_inner_block() -> None:
    setup = Setup()
    work = SharedConnection(setup.pool)
    with work.connection() as connection:
        connection.dead = True
        with pytest.raises(DriverError), work.connection():
            raise AssertionError("entered")
        connection.dead = False
        connection.write("tea")
    assert connection.committed == ["tea"]
