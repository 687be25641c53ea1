"""Every database and both engines keep the contract of the pool."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Hashable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pymysql
import pytest
from pymysql.constants.COMMAND import COM_QUERY

from prologue.db import ConnectionPool
from tests.concurrency import until
from tests.db.contract import LONG, PoolContract
from tests.db.driver import Driver, DriverError
from tests.servers import MariaDB, Postgres, free_port


class Maker:
    """Makes pools and closes them."""

    def __init__(self, factory: Callable[..., Any]) -> None:
        self._factory = factory
        self._pools = ExitStack()

    def __call__(self, **options: Any) -> Any:
        pool = self._factory(**options)
        self._pools.callback(pool.close, timeout=0)
        return pool

    def close(self) -> None:
        self._pools.close()


class TestScriptedDriver(PoolContract):
    @pytest.fixture
    def make(self) -> Iterator[Maker]:
        self.driver = Driver()
        maker = Maker(partial(ConnectionPool, self.driver))
        yield maker
        maker.close()

    def make_unreachable(self) -> ConnectionPool:
        driver = Driver()
        driver.connect_error = DriverError("refused")
        return ConnectionPool(driver)

    def write(self, connection: Any, text: str) -> None:
        connection.write(text)

    def notes(self, connection: Any) -> list[str]:
        committed: list[str] = [text for each in self.driver.connections for text in each.committed]
        connection._answer()
        return [*committed, *connection.pending]

    def fail(self, connection: Any) -> None:
        raise DriverError("no such table")

    def identity(self, connection: Any) -> Hashable:
        return int(connection.number)

    def kill(self, connection: Any, identity: Hashable) -> None:
        connection.dead = True


class SQLContract(PoolContract):
    """For databases that speak SQL. Attributes say what differs."""

    parameter = "%s"
    identify: str

    def write(self, connection: Any, text: str) -> None:
        connection.cursor().execute(f"INSERT INTO notes VALUES ({self.parameter})", (text,))

    def notes(self, connection: Any) -> list[str]:
        cursor = connection.cursor()
        cursor.execute("SELECT text FROM notes")
        return [text for (text,) in cursor.fetchall()]

    def fail(self, connection: Any) -> None:
        connection.cursor().execute("SELECT * FROM missing")

    def identity(self, connection: Any) -> Hashable:
        cursor = connection.cursor()
        cursor.execute(self.identify)
        identity: int = cursor.fetchone()[0]
        return identity


class SQLiteContract(SQLContract):
    parameter = "?"
    url: str

    @pytest.fixture
    def make(self, tmp_path: Path) -> Iterator[Maker]:
        maker = Maker(partial(self.made, self.url.format(tmp_path / "app.db")))
        yield maker
        maker.close()

    def made(self, url: str, **options: Any) -> ConnectionPool:
        pool: ConnectionPool = ConnectionPool.from_url(url, **options)
        connection = pool._adapter.connect()
        connection.execute("CREATE TABLE IF NOT EXISTS notes (text TEXT)")
        connection.close()
        return pool

    def make_unreachable(self) -> ConnectionPool:
        return ConnectionPool.from_url("sqlite:////no/such/directory/app.db")

    def identity(self, connection: Any) -> Hashable:
        # A number of the connection's own: addresses of objects are used again.
        try:
            number: int = connection.execute("SELECT number FROM temp.own").fetchone()[0]
        except sqlite3.OperationalError:
            SQLiteContract.count += 1
            number = SQLiteContract.count
            was_in_transaction = connection.in_transaction
            connection.execute("CREATE TEMP TABLE own (number INTEGER)")
            connection.execute("INSERT INTO own VALUES (?)", (number,))
            assert not was_in_transaction
            connection.commit()
        return number

    count = 0

    def kill(self, connection: Any, identity: Hashable) -> None:
        connection.close()


class TestSQLiteFile(SQLiteContract):
    url = "sqlite:///{}"


class TestSQLiteMemory(SQLiteContract):
    url = "sqlite:///:memory:"

    # The child of a fork starts with an empty database, so there is nothing to compare.
    test_the_child_of_a_fork_has_connections_of_its_own = None  # type: ignore[assignment]


class ServerContract(SQLContract):
    """For databases at the other end of a wire."""

    def ask(self, connection: Any, statement: str) -> None:
        """Send a statement and leave the answer."""
        raise NotImplementedError

    def ask_and_raise(self, connection: Any, statement: str, error: type[BaseException]) -> None:
        """Do what a thread does that is interrupted between a question and its answer."""
        self.ask(connection, statement)
        raise error

    @pytest.mark.parametrize("error", [KeyError, SystemExit])
    @pytest.mark.parametrize("statement", ["INSERT INTO notes VALUES ('theirs')", "SELECT 'theirs'"])
    def test_nobody_gets_the_answer_to_the_question_of_another(
        self, make: Callable[..., Any], statement: str, error: type[BaseException]
    ) -> None:
        pool = make(max_connections=1)
        with pytest.raises(error), pool.connection(LONG) as connection:
            self.ask_and_raise(connection, statement, error)
        with pool.connection(LONG) as connection:
            self.write(connection, "mine")
            assert self.notes(connection) == ["mine"]

    @pytest.mark.parametrize("error", [KeyError, SystemExit])
    @pytest.mark.parametrize("by_the_pool", [False, True])
    def test_neither_does_one_after_a_borrower_that_gives_back_in_any_case(
        self, make: Callable[..., Any], by_the_pool: bool, error: type[BaseException]
    ) -> None:
        pool = make(max_connections=1)

        def use() -> None:
            connection = pool.get_connection(LONG)
            try:
                self.ask_and_raise(connection, "INSERT INTO notes VALUES ('theirs')", error)
            finally:
                pool.release_connection(connection) if by_the_pool else connection.close()

        with pytest.raises(error):
            use()
        with pool.connection(LONG) as connection:
            self.write(connection, "mine")
            assert self.notes(connection) == ["mine"]


class TestPostgres(ServerContract):
    identify = "SELECT pg_backend_pid()"
    engine = "prologue"

    @pytest.fixture
    def make(self, postgres: Postgres) -> Iterator[Maker]:
        with psycopg.connect(postgres.url, autocommit=True) as self.admin:
            self.admin.execute("DROP TABLE IF EXISTS notes")
            self.admin.execute("CREATE TABLE notes (text TEXT)")
            maker = Maker(partial(ConnectionPool.from_url, postgres.url, engine=self.engine))
            yield maker
            maker.close()

    def make_unreachable(self) -> Any:
        url = f"127.0.0.1:{free_port()}:shop:app:secret"
        return ConnectionPool.from_url(url, engine=self.engine)  # type: ignore[call-overload]

    def kill(self, connection: Any, identity: Hashable) -> None:
        self.admin.execute("SELECT pg_terminate_backend(%s, 10000)", (identity,))

    def ask(self, connection: Any, statement: str) -> None:
        connection.execute("BEGIN")
        connection.pgconn.send_query(statement.encode())

    def test_an_error_of_the_borrower_costs_no_check(self, make: Callable[..., Any]) -> None:
        pool = make(max_connections=1)
        for _ in range(3):
            with pytest.raises(KeyError), pool.connection(LONG) as connection:
                self.write_and_raise(connection)
        assert (pool.stats().idle, pool.stats().checks, pool.stats().opened) == (1, 0, 1)


class TestPsycopgPool(TestPostgres):
    engine = "psycopg_pool"


class TestMariaDB(ServerContract):
    identify = "SELECT connection_id()"

    @pytest.fixture
    def make(self, mariadb: MariaDB) -> Iterator[Maker]:
        self.admin = pymysql.connect(
            host="127.0.0.1",
            port=mariadb.port,
            user="app",
            database="test",
            autocommit=True,
            ssl_disabled=True,
        )
        with self.admin, self.admin.cursor() as cursor:
            cursor.execute("CREATE TABLE IF NOT EXISTS notes (text VARCHAR(100))")
            cursor.execute("DELETE FROM notes")
            url = f"mariadb://app@127.0.0.1:{mariadb.port}/test?ssl_disabled=true"
            maker = Maker(partial(ConnectionPool.from_url, url))
            yield maker
            maker.close()

    def make_unreachable(self) -> ConnectionPool:
        return ConnectionPool.from_url(f"mysql://app:secret@127.0.0.1:{free_port()}/shop?ssl_disabled=yes")

    def kill(self, connection: Any, identity: Hashable) -> None:
        with self.admin.cursor() as cursor:
            cursor.execute(f"KILL {identity}")

            def is_gone() -> bool:
                cursor.execute("SELECT 1 FROM information_schema.processlist WHERE id = %s", (identity,))
                return cursor.fetchone() is None

            until(is_gone)

    def ask(self, connection: Any, statement: str) -> None:
        connection._execute_command(COM_QUERY, statement)
