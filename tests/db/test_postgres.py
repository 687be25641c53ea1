"""The PostgreSQL adapter: what it sees on the socket, asks, resets, closes and takes for a disconnect."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from psycopg.pq import ExecStatus, TransactionStatus
from psycopg.rows import dict_row

from prologue.db import ConnectionPool, PostgresAdapter
from prologue.errors import SettingsError
from tests.concurrency import Task, until
from tests.servers import Postgres


@pytest.fixture
def adapter(postgres: Postgres) -> PostgresAdapter:
    return PostgresAdapter(postgres.url)


@pytest.fixture
def connection(adapter: PostgresAdapter) -> Iterator[psycopg.Connection[Any]]:
    connection = adapter.connect()
    yield connection
    connection.close()


@pytest.fixture
def admin(postgres: Postgres) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(postgres.url, autocommit=True) as admin:
        yield admin


def terminate(admin: psycopg.Connection[Any], connection: psycopg.Connection[Any]) -> None:
    admin.execute("SELECT pg_terminate_backend(%s, 10000)", (connection.info.backend_pid,))


def queries(admin: psycopg.Connection[Any], connection: Any) -> str:
    """What the server says the connection last did."""
    pid = connection.info.backend_pid
    row = admin.execute(
        "SELECT state || ' ' || query FROM pg_stat_activity WHERE pid = %s", (pid,)
    ).fetchone()
    return "gone" if row is None else str(row[0])


def test_a_quiet_connection_is_alive_and_nothing_is_sent(
    adapter: PostgresAdapter, connection: psycopg.Connection[Any], admin: psycopg.Connection[Any]
) -> None:
    connection.execute("SELECT 'last'")
    connection.rollback()
    assert adapter.is_alive(connection)
    adapter.commit(connection)
    adapter.reset(connection)
    assert queries(admin, connection) == "idle ROLLBACK"


def test_a_terminated_connection_is_seen_and_told(
    adapter: PostgresAdapter, connection: psycopg.Connection[Any], admin: psycopg.Connection[Any]
) -> None:
    terminate(admin, connection)
    until(lambda: not adapter.is_alive(connection))
    with pytest.raises(psycopg.OperationalError, match="administrator command"):
        adapter.check(connection)
    adapter.close(connection)
    assert connection.closed


def test_a_closed_connection_is_not_alive_and_cannot_be_reset(
    adapter: PostgresAdapter, connection: psycopg.Connection[Any]
) -> None:
    connection.close()
    assert not adapter.is_alive(connection)
    with pytest.raises(psycopg.OperationalError):
        adapter.check(connection)
    with pytest.raises(psycopg.OperationalError, match="closed or broken"):
        adapter.reset(connection)
    adapter.close(connection)


def test_what_the_server_has_to_say_is_read_before_the_connection_is_lent(
    adapter: PostgresAdapter, connection: psycopg.Connection[Any], admin: psycopg.Connection[Any]
) -> None:
    connection.execute("LISTEN news")
    connection.commit()
    admin.execute("NOTIFY news, 'hello'")
    until(lambda: not adapter.is_alive(connection))
    adapter.check(connection)
    assert adapter.is_alive(connection)


def test_a_check_begins_no_transaction(adapter: PostgresAdapter, connection: psycopg.Connection[Any]) -> None:
    adapter.check(connection)
    assert connection.info.transaction_status == TransactionStatus.IDLE


class Libpq:
    """As libpq's connection, with a test at the other end."""

    def __init__(self, end: socket.socket, answer: bytes | None = None, settings: Any = None) -> None:
        self.socket = end.fileno()
        self._answer = answer
        self._settings = settings or {}
        self._flushes = [1, 0]

    def send_query(self, query: bytes) -> None:
        assert query == b""

    def flush(self) -> int:
        return self._flushes.pop(0) if self._flushes else 0

    def is_busy(self) -> int:
        return self._answer is None

    def consume_input(self) -> None:
        pass

    def get_result(self) -> Any:
        if self._answer:
            return SimpleNamespace(status=ExecStatus.FATAL_ERROR, get_error_message=self._answer.decode)
        return None

    def parameter_status(self, name: bytes) -> Any:
        return self._settings.get(name)


def check(adapter: PostgresAdapter, answer: bytes | None = None, settings: Any = None) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        adapter.check(SimpleNamespace(pgconn=Libpq(ours, answer, settings)))  # type: ignore[arg-type]


def test_a_check_has_a_time_limit() -> None:
    with pytest.raises(TimeoutError, match=r"within 0\.05 s"):
        check(PostgresAdapter(ping_timeout=0.05))


def test_an_error_in_answer_to_a_check_is_told() -> None:
    with pytest.raises(psycopg.OperationalError, match="going down"):
        check(PostgresAdapter(), b"going down")


@pytest.mark.parametrize("wanted", ["any", "primary", "read-write", "standby"])
def test_a_standby_is_left_when_a_primary_was_wanted(wanted: str) -> None:
    adapter = PostgresAdapter(target_session_attrs=wanted)
    check(adapter, b"", {b"in_hot_standby": b"off"})
    if wanted in ("primary", "read-write"):
        with pytest.raises(psycopg.OperationalError, match="in_hot_standby is on"):
            check(adapter, b"", {b"in_hot_standby": b"on"})
    else:
        check(adapter, b"", {b"in_hot_standby": b"on"})


@pytest.mark.parametrize("statement", ["SELECT 1", "SELECT * FROM missing"])
def test_a_transaction_is_rolled_back_in_whatever_state(
    adapter: PostgresAdapter, connection: psycopg.Connection[Any], statement: str
) -> None:
    try:
        connection.execute(statement)
    except psycopg.errors.UndefinedTable:
        pass
    adapter.reset(connection)
    assert connection.info.transaction_status == TransactionStatus.IDLE


def test_a_commit_is_sent_when_there_is_something_to_commit(
    adapter: PostgresAdapter, connection: psycopg.Connection[Any], admin: psycopg.Connection[Any]
) -> None:
    connection.execute("SELECT 1")
    adapter.commit(connection)
    assert queries(admin, connection) == "idle COMMIT"


@pytest.mark.parametrize("engine", ["prologue", "psycopg_pool"])
@pytest.mark.parametrize("borrow", ["connection", "get_connection"])
def test_a_transaction_that_failed_is_not_committed_in_silence(
    postgres: Postgres, admin: psycopg.Connection[Any], engine: str, borrow: str
) -> None:
    """The server would answer COMMIT with ROLLBACK, and the borrower would take its work for done."""
    pool: Any = ConnectionPool.from_url(postgres.url, engine=engine, max_connections=1)  # type: ignore[call-overload]
    admin.execute("DROP TABLE IF EXISTS kept; CREATE TABLE kept (number integer)")

    def spoil() -> None:
        with getattr(pool, borrow)(30) as connection:
            connection.execute("INSERT INTO kept VALUES (1)")
            with pytest.raises(psycopg.errors.UndefinedTable):
                connection.execute("SELECT * FROM missing")

    with pytest.raises(psycopg.errors.InFailedSqlTransaction, match="nothing of it can be committed"):
        spoil()
    with pool.connection(30) as connection:  # it is as good as new
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)
    assert (pool.stats().leased, pool.stats().opened, pool.stats().checks) == (0, 1, 0)
    pool.close()


def test_a_commit_of_a_failed_transaction_sends_nothing(
    adapter: PostgresAdapter, connection: psycopg.Connection[Any], admin: psycopg.Connection[Any]
) -> None:
    with pytest.raises(psycopg.errors.UndefinedTable):
        connection.execute("SELECT * FROM missing")
    with pytest.raises(psycopg.errors.InFailedSqlTransaction):
        adapter.commit(connection)
    assert queries(admin, connection) == "idle in transaction (aborted) SELECT * FROM missing"
    adapter.reset(connection)
    adapter.commit(connection)
    assert queries(admin, connection) == "idle ROLLBACK"


def test_a_query_that_still_runs_is_cancelled_and_its_connection_closed(
    postgres: Postgres, admin: psycopg.Connection[Any]
) -> None:
    pool = ConnectionPool.from_url(postgres.url, max_connections=1)
    borrowed = pool.get_connection()
    pid = borrowed.info.backend_pid
    borrowed.pgconn.send_query(b"SELECT pg_sleep(1000)")
    borrowed.pgconn.flush()
    until(lambda: "pg_sleep" in queries(admin, borrowed))
    borrowed.close()
    with pool.connection(timeout=30) as connection:
        assert connection.info.backend_pid != pid
    gone = "SELECT 1 FROM pg_stat_activity WHERE pid = %s"
    until(lambda: admin.execute(gone, (pid,)).fetchone() is None)
    pool.close()


def test_closing_does_not_depend_on_the_cancelling(adapter: PostgresAdapter) -> None:
    class Gone:
        closed = False

        class pgconn:
            transaction_status = TransactionStatus.ACTIVE

        def cancel_safe(self, timeout: float) -> None:
            raise psycopg.OperationalError("cancellation failed")

        def close(self) -> None:
            self.closed = True

    connection = Gone()
    adapter.close(connection)  # type: ignore[arg-type]
    assert connection.closed


@pytest.mark.parametrize(
    ("error", "disconnect"),
    [
        (psycopg.OperationalError("the connection is lost"), True),
        (psycopg.errors.AdminShutdown(), True),
        (psycopg.errors.CrashShutdown(), True),
        (psycopg.errors.CannotConnectNow(), True),
        (psycopg.errors.IdleInTransactionSessionTimeout(), True),
        (psycopg.errors.ReadOnlySqlTransaction(), True),
        (psycopg.errors.ConnectionFailure(), True),
        (psycopg.errors.UndefinedTable(), False),
        (psycopg.errors.QueryCanceled(), False),
        (psycopg.errors.SerializationFailure(), False),
        (psycopg.errors.DeadlockDetected(), False),
        (psycopg.errors.TooManyConnections(), False),
        (psycopg.InterfaceError("the connection is closed"), False),
        (KeyError("mine"), False),
        (KeyboardInterrupt(), False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_errors_that_end_a_connection(error: BaseException, disconnect: bool) -> None:
    assert PostgresAdapter().is_disconnect(error) is disconnect


def test_options_are_those_of_psycopg(postgres: Postgres) -> None:
    adapter = PostgresAdapter(postgres.url, row_factory=dict_row, autocommit=True, application_name="shop")
    pool = ConnectionPool(adapter)
    with pool.connection() as connection:
        row = connection.execute("SELECT current_setting('application_name') AS name").fetchone()
        assert row == {"name": "shop"}
        assert connection.autocommit
    pool.close()


def test_behind_pgbouncer_nothing_is_prepared(postgres: Postgres) -> None:
    pool = ConnectionPool.from_url(f"{postgres.url}?pgbouncer=true")
    with pool.connection() as connection:
        for _ in range(7):
            connection.execute("SELECT 1 WHERE 1 = %s", (1,))
        assert connection.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (0,)
    pool.close()
    assert PostgresAdapter(pgbouncer=True, prepare_threshold=3).options["prepare_threshold"] == 3


def test_the_keepalives_are_set_on_the_socket(connection: psycopg.Connection[Any]) -> None:
    with socket.socket(fileno=socket.dup(connection.fileno())) as copy:
        assert copy.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert copy.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30
        assert copy.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000


@pytest.mark.parametrize(
    ("wanted", "setting", "is_refused"),
    [
        ("any", "default_transaction_read_only", False),
        ("primary", "default_transaction_read_only", False),
        ("read-write", "default_transaction_read_only", True),
    ],
)
def test_a_server_that_became_read_only_is_left_when_one_that_writes_was_wanted(
    postgres: Postgres, wanted: str, setting: str, is_refused: bool
) -> None:
    adapter = PostgresAdapter(postgres.url, target_session_attrs=wanted)
    connection = adapter.connect()
    adapter.check(connection)
    connection.execute(f"SET {setting} = on")
    connection.commit()
    if is_refused:
        with pytest.raises(psycopg.OperationalError, match=f"{setting} is on"):
            adapter.check(connection)
    else:
        adapter.check(connection)
    connection.close()


def test_an_unknown_option_is_named() -> None:
    with pytest.raises(SettingsError, match="no option 'row_factorie'"):
        PostgresAdapter(row_factorie=dict_row)


def test_connections_move_between_threads(adapter: PostgresAdapter) -> None:
    connection = Task(adapter.connect).result()
    assert Task(lambda: connection.execute("SELECT 1").fetchone()).result() == (1,)
    Task(lambda: adapter.close(connection)).result()
    assert connection.closed
