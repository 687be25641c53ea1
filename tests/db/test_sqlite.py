"""SQLite: the pragmas, one database in memory for all, files that cannot be used."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import pytest

from prologue.db import ConnectionPool, SQLiteAdapter, sqlite
from prologue.errors import PoolUnavailableError
from tests.concurrency import Task, in_child, together, until

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


def test_an_error_of_the_borrower_costs_no_check() -> None:
    pool = ConnectionPool.from_url("sqlite:///:memory:", max_connections=1)
    with pytest.raises(KeyError), pool.connection(30) as connection:
        raise KeyError("mine")
    with pool.connection(timeout=0) as again:
        assert again is connection
    assert pool.stats().checks == 0
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


def until_lent(pool: ConnectionPool) -> None:
    """Wait until the pool has noticed that the database works again."""

    def lends() -> bool:
        try:
            return pool.with_connection(lambda connection: True, timeout=30)
        except PoolUnavailableError:
            return False

    until(lends)


def locked(path: Path) -> sqlite3.Connection:
    """A database in rollback mode that somebody else has locked."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("CREATE TABLE notes (text TEXT)")
    other.execute("BEGIN EXCLUSIVE")
    return other


def test_a_file_that_is_locked_is_told_by_name(tmp_path: Path) -> None:
    other = locked(tmp_path / "app.db")
    pool = ConnectionPool(SQLiteAdapter(tmp_path / "app.db", busy_timeout=0.05))
    with pytest.raises(PoolUnavailableError, match=r"app\.db': database is locked"):
        pool.get_connection(timeout=30)
    other.close()
    until_lent(pool)
    with pool.connection() as connection:
        connection.execute("INSERT INTO notes VALUES ('tea')")
    pool.close()


def test_opening_a_locked_file_takes_less_patience_than_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "OPENING_PATIENCE", 0.05)
    other = locked(tmp_path / "app.db")
    began = time.monotonic()
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        SQLiteAdapter(tmp_path / "app.db", busy_timeout=20).connect()
    assert time.monotonic() - began < 15
    other.close()


def test_a_writer_that_waits_in_vain_is_told_and_the_connection_stays_good(tmp_path: Path) -> None:
    pool = ConnectionPool(SQLiteAdapter(tmp_path / "app.db", busy_timeout=0.05), max_connections=2)
    with pool.connection() as first:
        first.execute("CREATE TABLE notes (text TEXT)")
        first.execute(INSERT, ("first",))
        with pytest.raises(sqlite3.OperationalError, match="locked"), pool.connection() as second:
            second.execute(INSERT, ("second",))
    assert pool.stats().closed == 0
    pool.close()


def test_a_file_that_was_deleted_is_told_and_not_made_again(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    pool = ConnectionPool.from_url(f"sqlite:///{path}")
    with pool.connection() as connection:
        connection.execute("CREATE TABLE notes (text TEXT)")
    path.rename(tmp_path / "away.db")
    with pytest.raises(PoolUnavailableError, match=r"app\.db': the file was deleted while it was in use"):
        pool.get_connection(timeout=30)
    assert not path.exists()
    (tmp_path / "away.db").rename(path)
    until_lent(pool)
    with pool.connection() as connection:
        assert connection.execute("SELECT count(*) FROM notes").fetchone() == (0,)
    pool.close()


def test_a_file_that_was_replaced_is_opened_anew(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    pool = ConnectionPool.from_url(f"sqlite:///{path}", max_connections=2)
    with pool.connection(), pool.connection():
        pass
    with sqlite3.connect(tmp_path / "backup.db") as backup:
        backup.execute("CREATE TABLE notes (text TEXT)")
    backup.close()
    for name in ("app.db-wal", "app.db-shm"):
        (tmp_path / name).unlink()
    (tmp_path / "backup.db").replace(path)
    for _ in range(2):
        with pool.connection(timeout=30) as connection:
            assert connection.execute("SELECT count(*) FROM notes").fetchone() == (0,)
    pool.close()


def test_a_full_disk_is_told_and_what_was_written_is_undone(tmp_path: Path) -> None:
    pool = ConnectionPool.from_url(f"sqlite:///{tmp_path}/app.db", max_connections=1)
    with pool.connection() as connection:
        connection.execute("CREATE TABLE notes (text TEXT)")
        connection.execute("PRAGMA max_page_count = 10")
    with pytest.raises(sqlite3.OperationalError, match="full"), pool.connection() as connection:
        connection.executemany(INSERT, [("x" * 1000,)] * 100)
    with pool.connection() as connection:
        assert connection.execute("SELECT count(*) FROM notes").fetchone() == (0,)
    assert pool.stats().closed == 0
    pool.close()


def test_a_damaged_file_ends_the_connection(tmp_path: Path) -> None:
    adapter = SQLiteAdapter(tmp_path / "app.db")
    connection = adapter.connect()
    connection.execute("CREATE TABLE notes (text TEXT)")
    connection.executemany("INSERT INTO notes VALUES (?)", [("x" * 1000,)] * 100)
    connection.commit()
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    with (tmp_path / "app.db").open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 8192)
    pool = ConnectionPool(adapter)
    with pytest.raises(sqlite3.DatabaseError, match="malformed"), pool.connection() as connection:
        connection.execute("SELECT count(*) FROM notes WHERE text = 'x'").fetchone()
    pool.close()
    assert pool.stats().opened == pool.stats().closed == 1


def test_only_an_error_that_tells_of_the_file_ends_the_connection() -> None:
    adapter = SQLiteAdapter(":memory:")
    connection = adapter.connect()
    with pytest.raises(sqlite3.OperationalError) as caught:
        connection.execute("SELECT * FROM missing")
    assert not adapter.is_disconnect(caught.value)
    assert not adapter.is_disconnect(KeyError("mine"))
    assert adapter.is_alive(connection)
    connection.close()


def test_a_connection_moves_between_threads(tmp_path: Path) -> None:
    pool = ConnectionPool.from_url(f"sqlite:///{tmp_path}/app.db", max_connections=1)
    with pool.connection() as connection:
        Task(lambda: connection.execute("CREATE TABLE notes (text TEXT)")).result()
    pool.close()


def test_the_adapter_says_which_file_it_means(tmp_path: Path) -> None:
    assert repr(SQLiteAdapter("app.db")) == "<SQLiteAdapter 'app.db'>"
