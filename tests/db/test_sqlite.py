"""SQLite: the pragmas, one database in memory for all, files that cannot be used."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from prologue.db import ConnectionPool, SQLiteAdapter
from prologue.errors import PoolUnavailableError, SettingsError
from tests.concurrency import in_child, together

INSERT = "INSERT INTO notes VALUES (?)"


def test_a_file_is_opened_with_a_write_ahead_log_and_foreign_keys(tmp_path: Path) -> None:
    pool = ConnectionPool.from_url(f"sqlite:///{tmp_path}/app%20one.db", max_connections=2)
    with pool.connection() as connection:
        for pragma, value in (("journal_mode", "wal"), ("foreign_keys", 1), ("busy_timeout", 5000)):
            assert connection.execute(f"PRAGMA {pragma}").fetchone() == (value,)
    pool.close()
    assert (tmp_path / "app one.db").exists()


def test_work_is_committed_or_rolled_back(tmp_path: Path) -> None:
    pool = ConnectionPool.from_url(f"sqlite:///{tmp_path}/app.db")
    with pool.connection() as connection:
        connection.execute("CREATE TABLE notes (text TEXT)")
        connection.execute(INSERT, ("kept",))

    def write_and_fail(connection: sqlite3.Connection) -> None:
        connection.execute(INSERT, ("undone",))
        connection.execute("SELECT * FROM missing")

    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        pool.with_connection(write_and_fail)
    borrowed = pool.get_connection()
    borrowed.execute(INSERT, ("not committed",))
    pool.release_connection(borrowed)
    with pool.connection() as connection:
        assert connection.execute("SELECT text FROM notes").fetchall() == [("kept",)]
    pool.close()


def test_all_connections_to_memory_share_one_database_and_writers_wait_for_each_other() -> None:
    pool = ConnectionPool.from_url("sqlite:///:memory:", max_connections=4, connection_timeout=30)
    with pool.connection() as connection:
        connection.execute("CREATE TABLE notes (number INTEGER)")

    def write(number: int) -> None:
        for _ in range(5):
            with pool.connection() as connection:
                connection.execute(INSERT, (number,))

    together(4, write)
    pool.drain()  # the database outlives its connections
    with pool.connection() as connection:
        assert connection.execute("SELECT count(*), sum(number) FROM notes").fetchone() == (20, 30)
    pool.close()


def test_two_adapters_to_memory_are_two_databases() -> None:
    first, second = SQLiteAdapter(":memory:"), SQLiteAdapter(":memory:")
    one, two = first.connect(), second.connect()
    one.execute("CREATE TABLE notes (text TEXT)")
    assert two.execute("SELECT name FROM sqlite_master").fetchall() == []
    one.close()
    two.close()


def test_the_child_of_a_fork_has_a_memory_database_of_its_own() -> None:
    pool = ConnectionPool.from_url("sqlite:///:memory:")

    def tables() -> int:
        with pool.connection() as connection:
            count: int = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            return count

    with pool.connection() as connection:
        connection.execute("CREATE TABLE notes (text TEXT)")
    assert in_child(tables) == 0
    assert tables() == 1
    pool.close()


def test_a_memory_database_never_used_before_a_fork_works_in_the_child() -> None:
    pool = ConnectionPool.from_url("sqlite:///:memory:")
    assert in_child(lambda: pool.with_connection(lambda c: c.execute("SELECT 1").fetchone()[0])) == 1
    pool.close()


@pytest.mark.parametrize("make", ["directory", "no database"])
def test_a_file_that_cannot_be_opened_is_told_with_its_cause(tmp_path: Path, make: str) -> None:
    path = tmp_path / "app.db"
    if make == "directory":
        path.mkdir()
    else:
        path.write_bytes(b"this is not a database, and long enough to be noticed" * 100)
    pool = ConnectionPool.from_url(f"sqlite:///{path}")
    with pytest.raises(PoolUnavailableError) as caught:
        pool.get_connection(timeout=30)
    assert isinstance(caught.value.__cause__, sqlite3.DatabaseError)
    pool.close()


def test_a_connection_that_the_borrower_closed_is_replaced() -> None:
    pool = ConnectionPool.from_url("sqlite:///:memory:", max_connections=1)
    with pytest.raises(sqlite3.ProgrammingError):
        with pool.connection() as connection:
            connection.close()
    with pool.connection() as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    pool.close()


def test_a_check_finds_out_what_is_broken() -> None:
    adapter = SQLiteAdapter(":memory:")
    connection = adapter.connect()
    adapter.check(connection)
    connection.close()
    with pytest.raises(sqlite3.ProgrammingError):
        adapter.check(connection)


def test_the_busy_timeout_is_the_adapters() -> None:
    connection = SQLiteAdapter(":memory:", busy_timeout=0.25).connect()
    assert connection.execute("PRAGMA busy_timeout").fetchone() == (250,)
    connection.close()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("oracle://user:secret@host/db", "'oracle'"),
        ("host:1:db:user:secret", "'no scheme'"),
        ("sqlite://app.db", "'sqlite'"),
        ("sqlite:///", "without options"),
        ("sqlite:///app.db?mode=ro", "without options"),
    ],
)
def test_a_url_that_no_adapter_reads_is_an_error_without_secrets(url: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message) as caught:
        ConnectionPool.from_url(url)
    assert "secret" not in str(caught.value)
