"""PostgreSQL that is killed, stopped, demoted, and a network that breaks: both engines.

The faults of the pool's list, and where each is tested:

* here: 1 killed and restarted, 2 cut, reset, blackhole, half-open, 3 and 4 connecting that is refused, slow,
  hangs, 12 a rollback that hangs, 16 changed credentials and a demoted primary;
* with the scripted driver (tests/db): 5 to 9 stampede, spike, saturation, interrupted and stale leases, 10
  lost leases, 11 closing, 12 errors, 14 and 15 clocks;
* for every database (tests/db/contract.py): 9, 10, 11, 13 forks;
* SQLite (tests/db/test_sqlite.py): 17.

Exact bounds are measured by tests/stress/stress_postgres.py; here they have room for a busy machine.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import psycopg
import pytest

from prologue.db import ConnectionPool, PostgresAdapter
from prologue.errors import PoolError, PoolUnavailableError
from tests.concurrency import Task, until
from tests.servers import Postgres, Proxy, free_port

LONG = 30.0
SLACK = 2.0  # seconds, for a machine that does other things too
ENGINES = ["prologue", "psycopg_pool"]
MakePool = Callable[..., Any]


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    with Postgres(tmp_path_factory.mktemp("postgres")) as server:
        yield server


@pytest.fixture
def proxy(postgres: Postgres) -> Iterator[Proxy]:
    with Proxy(postgres.port) as proxy:
        yield proxy


@pytest.fixture
def pools() -> Iterator[ExitStack]:
    """Where a test puts its pools, to be closed."""
    with ExitStack() as stack:
        yield stack


def url_of(port: int) -> str:
    return f"postgresql://app:secret@127.0.0.1:{port}/postgres?connect_timeout=2"


def make_pool(pools: ExitStack, port: int, engine: str = "prologue", **options: Any) -> Any:
    pool: Any = ConnectionPool.from_url(url_of(port), engine=engine, **options)  # type: ignore[call-overload]
    pools.callback(pool.close, timeout=0)
    return pool


def read(pool: Any, timeout: float = LONG) -> int:
    """Read in a borrowed connection; return the number of its server process."""
    with pool.connection(timeout) as connection:
        row = connection.execute("SELECT pg_backend_pid()").fetchone()
        return int(row[0])


def fill(pool: Any, count: int) -> list[int]:
    """Make so many connections idle; return the numbers of their server processes."""
    with ExitStack() as stack:
        connections = [stack.enter_context(pool.connection(LONG)) for _ in range(count)]
        return [connection.info.backend_pid for connection in connections]


def works(pool: Any) -> bool:
    try:
        return read(pool, timeout=1) > 0
    except (PoolError, psycopg.Error):
        return False


# 1: the server is killed


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("stale", [1, 6])
def test_after_a_restart_the_first_checkout_is_good_however_many_are_stale(
    postgres: Postgres, pools: ExitStack, engine: str, stale: int
) -> None:
    pool = make_pool(pools, postgres.port, engine, max_connections=6)
    fill(pool, stale)
    postgres.restart()
    began = time.monotonic()
    assert read(pool) > 0
    assert time.monotonic() - began < SLACK
    assert pool.stats().leased == 0


@pytest.mark.parametrize("engine", ENGINES)
def test_terminated_connections_are_never_seen(postgres: Postgres, pools: ExitStack, engine: str) -> None:
    pool = make_pool(pools, postgres.port, engine, max_connections=4)
    numbers = fill(pool, 4)
    with psycopg.connect(postgres.url, autocommit=True) as admin:
        for number in numbers[1:]:
            admin.execute("SELECT pg_terminate_backend(%s, 10000)", (number,))
    assert set(fill(pool, 4)) & set(numbers) == {numbers[0]}


@pytest.mark.parametrize("engine", ENGINES)
def test_readers_that_try_twice_feel_no_restart(postgres: Postgres, pools: ExitStack, engine: str) -> None:
    pool = make_pool(pools, postgres.port, engine, min_connections=3, max_connections=3)
    end = threading.Event()
    failed: list[Exception] = []
    reads = [0, 0, 0]

    def work(number: int) -> None:
        while not end.is_set():
            try:
                read(pool)
            except (PoolError, psycopg.Error):
                try:
                    read(pool)
                except (PoolError, psycopg.Error) as error:
                    failed.append(error)
            reads[number] += 1
            time.sleep(0.001)

    def all_read() -> None:
        """Wait until nobody is at the second try any more: it is to outlive one restart, not two."""
        before = reads.copy()
        until(lambda: all(now > old for now, old in zip(reads, before, strict=True)))

    tasks = [Task(partial(work, number)) for number in range(3)]
    for _ in range(2):
        all_read()
        postgres.restart()
    all_read()
    end.set()
    for task in tasks:
        task.result()
    assert failed == []


# 2 to 4: the network

BREAKING: dict[str, tuple[Callable[[Proxy], None], ...]] = {
    "cut": (Proxy.refuse, Proxy.cut),
    "reset": (Proxy.refuse, Proxy.reset),
    "deaf": (Proxy.deaf, Proxy.cut),
    "stall": (Proxy.stall,),
    "blackhole": (Proxy.blackhole,),
    "half-open": (Proxy.blackhole, Proxy.half_open),
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("toxic", BREAKING)
def test_a_checkout_ends_in_time_and_the_pool_comes_back(
    proxy: Proxy, pools: ExitStack, engine: str, toxic: str
) -> None:
    options = {"connect_timeout": 0.5} if engine == "prologue" else {}  # psycopg_pool has libpq's alone, 2 s
    pool = make_pool(pools, proxy.port, engine, max_connections=3, validation_interval=0, **options)
    fill(pool, 3)
    for break_it in BREAKING[toxic]:
        break_it(proxy)
    began = time.monotonic()
    with pytest.raises(PoolUnavailableError):
        pool.get_connection(timeout=0.3)
    assert 0.2 < time.monotonic() - began < 0.3 + SLACK
    proxy.repair()
    began = time.monotonic()
    until(lambda: works(pool))
    assert len(set(fill(pool, 3))) == 3
    assert time.monotonic() - began < 5 + SLACK  # what hung ends by its own limits first


def test_a_hung_check_ends_the_others_unasked(proxy: Proxy, pools: ExitStack) -> None:
    adapter = PostgresAdapter(url_of(proxy.port), ping_timeout=LONG)
    pool = ConnectionPool(adapter, 0, 5, validation_interval=0, validation_timeout=0.2)
    pools.callback(pool.close, timeout=0)
    fill(pool, 5)
    proxy.half_open()
    assert read(pool) > 0
    assert pool.stats().check_errors == 1
    proxy.cut()  # so that the thread that checks ends now


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("break_it", [Proxy.refuse, Proxy.deaf])
def test_while_connecting_fails_what_comes_back_is_lent(
    proxy: Proxy, pools: ExitStack, engine: str, break_it: Callable[[Proxy], None]
) -> None:
    pool = make_pool(pools, proxy.port, engine, max_connections=3)
    held = pool.get_connection(LONG)
    break_it(proxy)
    tasks = [Task(lambda: read(pool)) for _ in range(3)]
    until(lambda: pool.stats().waiting == 3)
    number = held.info.backend_pid
    held.close()
    assert [task.result() for task in tasks] == [number] * 3


def test_attempts_that_hang_are_bounded_and_the_capacity_comes_back(proxy: Proxy, pools: ExitStack) -> None:
    proxy.deaf()
    pool = make_pool(pools, proxy.port, max_connections=4, max_connecting=2, connect_timeout=0.2)
    tasks = [Task(lambda: pool.get_connection(0.5)) for _ in range(6)]
    until(lambda: pool.stats().opening > 0)
    assert pool.stats().opening <= 2
    for task in tasks:
        assert isinstance(task.error(), PoolUnavailableError)
    proxy.repair()
    until(lambda: works(pool))
    assert len(set(fill(pool, 4))) == 4


@pytest.mark.parametrize("engine", ENGINES)
def test_a_slow_network_is_no_error(proxy: Proxy, pools: ExitStack, engine: str) -> None:
    proxy.slow(0.02)
    pool = make_pool(pools, proxy.port, engine, validation_interval=0)
    assert read(pool) == read(pool)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_host_that_does_not_exist_is_told(
    pools: ExitStack, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def resolve(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    # The machine's own resolver may take its time: psycopg asks here, in Python.
    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    pool: Any = ConnectionPool.from_url(
        "postgresql://app:secret@host.invalid/postgres",
        engine=engine,  # type: ignore[call-overload]
    )
    pools.callback(pool.close, timeout=0)
    with pytest.raises(PoolUnavailableError, match=r"host\.invalid") as caught:
        pool.get_connection(timeout=1)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("engine", ENGINES)
def test_no_thread_is_left_of_a_pool_whose_network_broke(proxy: Proxy, pools: ExitStack, engine: str) -> None:
    before = set(threading.enumerate())
    pool = make_pool(pools, proxy.port, engine, max_connections=2, validation_interval=0)
    fill(pool, 2)
    proxy.blackhole()
    with pytest.raises(PoolUnavailableError):
        pool.get_connection(timeout=0.1)
    pool.close(timeout=0)
    until(lambda: not set(threading.enumerate()) - before)


# 12: what is done to a connection hangs


@pytest.mark.parametrize("engine", ENGINES)
def test_a_rollback_that_hangs_holds_up_its_borrower_alone(
    postgres: Postgres, pools: ExitStack, engine: str
) -> None:
    pool = make_pool(pools, postgres.port, engine, max_connections=2)
    fill(pool, 2)
    hanging = pool.get_connection(LONG)
    number = hanging.info.backend_pid
    hanging.execute("SELECT 1")
    os.kill(number, signal.SIGSTOP)
    try:
        giving_back = Task(hanging.close)
        others = {read(pool) for _ in range(5)}
        assert number not in others
        assert pool.stats().leased == 1
    finally:
        os.kill(number, signal.SIGCONT)
    giving_back.result()
    until(lambda: pool.stats().idle == 2)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_server_that_is_stopped_is_waited_for_no_longer_than_asked(
    postgres: Postgres, pools: ExitStack, engine: str
) -> None:
    pool = make_pool(pools, postgres.port, engine, max_connections=2, validation_interval=0)
    fill(pool, 2)
    postgres.pause()
    try:
        began = time.monotonic()
        with pytest.raises(PoolUnavailableError):
            pool.get_connection(timeout=0.2)
        assert time.monotonic() - began < 0.2 + SLACK
    finally:
        postgres.resume()
    until(lambda: works(pool))


# 16: credentials, demotion


@pytest.mark.parametrize("engine", ENGINES)
def test_a_password_that_changed_is_told_and_those_connected_work_on(
    postgres: Postgres, pools: ExitStack, engine: str
) -> None:
    pool = make_pool(pools, postgres.port, engine, max_connections=2)
    with psycopg.connect(postgres.url, autocommit=True) as admin:
        with pool.connection(LONG) as connection:
            admin.execute("ALTER ROLE app PASSWORD 'other'")
            try:
                with pytest.raises(PoolUnavailableError, match="password authentication failed"):
                    pool.get_connection(timeout=0.5)
                connection.execute("SELECT 1")
            finally:
                admin.execute("ALTER ROLE app PASSWORD 'secret'")
    until(lambda: works(pool))


def test_writers_follow_the_primary(
    postgres: Postgres, pools: ExitStack, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with Postgres(tmp_path_factory.mktemp("second")) as second:
        for server in (postgres, second):
            with psycopg.connect(server.url, autocommit=True) as admin:
                admin.execute("CREATE TABLE IF NOT EXISTS demoted (number integer)")
        pool = ConnectionPool.from_url(
            f"postgresql://app:secret@127.0.0.1:{postgres.port},127.0.0.1:{second.port}/postgres"
            "?target_session_attrs=read-write",
            max_connections=3,
        )
        pools.callback(pool.close, timeout=0)

        def write(connection: Any) -> int:
            connection.execute("INSERT INTO demoted VALUES (1)")
            return int(connection.info.port)

        fill(pool, 3)
        assert pool.with_connection(write) == postgres.port
        with psycopg.connect(postgres.url, autocommit=True) as admin:
            admin.execute("ALTER SYSTEM SET default_transaction_read_only = on")
            admin.execute("SELECT pg_reload_conf()")
        try:
            ports: list[int] = []
            errors = 0
            while ports[-3:] != [second.port] * 3:
                try:
                    ports.append(pool.with_connection(write, timeout=LONG))
                except psycopg.errors.ReadOnlySqlTransaction:
                    errors += 1
            assert errors <= 3  # one for each connection, at most
            assert not {postgres.port} & set(ports[ports.index(second.port) :])
        finally:
            with psycopg.connect(postgres.url, autocommit=True) as admin:
                admin.execute("ALTER SYSTEM RESET default_transaction_read_only")
                admin.execute("SELECT pg_reload_conf()")


def test_a_demoted_primary_without_a_choice_is_left_all_the_same(
    postgres: Postgres, pools: ExitStack
) -> None:
    pool = make_pool(pools, postgres.port, max_connections=1)
    before = read(pool)
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction), pool.connection() as connection:
        connection.execute("SET TRANSACTION READ ONLY; CREATE TABLE forbidden (number integer)")
    assert read(pool) != before


def test_the_port_of_a_server_that_was_never_there_is_refused_with_its_cause(pools: ExitStack) -> None:
    pool = make_pool(pools, free_port())
    with pytest.raises(PoolUnavailableError, match="refused") as caught:
        pool.get_connection(timeout=LONG)
    assert isinstance(caught.value.__cause__, psycopg.OperationalError)
