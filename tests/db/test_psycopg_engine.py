"""What is particular to the engine psycopg_pool; the rest is in the contract."""

from __future__ import annotations

import pickle
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack

import psycopg
import pytest
from psycopg.pq import TransactionStatus

from prologue.db import ConnectionPool, PostgresAdapter, SQLiteAdapter
from prologue.db.psycopg_engine import PsycopgPool
from prologue.errors import (
    LeaseError,
    MissingExtraError,
    PoolClosedError,
    PoolError,
    PoolUnavailableError,
    SettingsError,
)
from tests.concurrency import Task, in_child, together, until
from tests.servers import Postgres, Proxy

LONG = 30.0


@pytest.fixture
def pools() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def proxy(postgres: Postgres) -> Iterator[Proxy]:
    with Proxy(postgres.port) as proxy:
        yield proxy


def make_pool(pools: ExitStack, url: str, **options: float) -> PsycopgPool:
    pool = PsycopgPool(PostgresAdapter(url), **options)  # type: ignore[arg-type]
    pools.callback(pool.close, timeout=0)
    return pool


def url_of(port: int) -> str:
    return f"postgresql://app:secret@127.0.0.1:{port}/postgres?connect_timeout=2"


def number(pool: PsycopgPool, timeout: float = LONG) -> int:
    with pool.connection(timeout) as connection:
        return int(connection.info.backend_pid)


def test_the_engine_is_chosen_by_name(postgres: Postgres) -> None:
    assert type(ConnectionPool.from_url(postgres.url, engine="psycopg_pool")) is PsycopgPool
    assert type(ConnectionPool.from_url(postgres.url)) is ConnectionPool
    with pytest.raises(SettingsError, match="no pool engine 'other'"):
        ConnectionPool.from_url(postgres.url, engine="other")  # type: ignore[call-overload]
    with pytest.raises(SettingsError, match=r"for PostgreSQL, not <SQLiteAdapter ':memory:'>"):
        PsycopgPool(SQLiteAdapter(":memory:"))


def test_the_extra_is_named_when_psycopg_pool_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = PostgresAdapter()
    monkeypatch.setitem(sys.modules, "psycopg_pool", None)
    with pytest.raises(MissingExtraError) as caught:
        PsycopgPool(adapter)
    assert caught.value.extra == "postgres"


def test_nothing_is_opened_before_the_first_use(pools: ExitStack, proxy: Proxy) -> None:
    pool = make_pool(pools, url_of(proxy.port), min_connections=1)
    pool.resize(max_connections=3)
    pool.drain()
    assert (pool.stats().size, pool.stats().max_connections, proxy.connections) == (0, 3, 0)
    assert repr(pool) == "<PsycopgPool 'main' 0 leased, 0 idle, 0 waiting of 3>"
    number(pool)
    assert proxy.connections >= 1
    pool.close()
    assert repr(pool).startswith("<PsycopgPool 'main' closed, 0 leased")


def test_the_minimum_is_opened_when_asked(pools: ExitStack, proxy: Proxy) -> None:
    pool = make_pool(pools, url_of(proxy.port), min_connections=2, connection_timeout=0.2)
    assert pool.connection_timeout == 0.2
    proxy.refuse()
    pool.open()
    with pytest.raises(PoolUnavailableError, match=r"0 of at least 2 .*: .*refused") as caught:
        pool.open(wait=True)
    assert isinstance(caught.value.__cause__, psycopg.OperationalError)
    assert not pool.available
    proxy.repair()
    pool.open(wait=True, timeout=LONG)
    assert pool.available
    assert pool.stats().idle >= 2
    proxy.refuse()
    pool.resize(min_connections=3)
    until(lambda: pool.stats().open_errors > 4)
    assert pool.available  # what is there works on
    proxy.repair()
    pool.close()
    with pytest.raises(PoolClosedError):
        pool.open()


def test_closing_ends_the_wait_for_the_minimum(pools: ExitStack, proxy: Proxy) -> None:
    proxy.deaf()
    pool = make_pool(pools, url_of(proxy.port), min_connections=1)
    task = Task(lambda: pool.open(wait=True, timeout=LONG))
    until(lambda: pool.stats().size == 1)
    pool.close()
    assert isinstance(task.error(), PoolClosedError)


def test_one_who_waits_gets_a_connection_soon_after_the_database_is_back(
    pools: ExitStack, proxy: Proxy
) -> None:
    proxy.refuse()
    pool = make_pool(pools, url_of(proxy.port), max_connections=1)
    task = Task(lambda: number(pool))
    until(lambda: pool.stats().open_errors > 4)  # psycopg_pool alone would be in a pause of seconds
    proxy.repair()
    began = time.monotonic()
    assert task.result() > 0
    assert time.monotonic() - began < 2


def test_the_minimum_comes_back_without_callers(pools: ExitStack, proxy: Proxy) -> None:
    pool = make_pool(pools, url_of(proxy.port), min_connections=2, max_connections=2)
    number(pool)
    until(lambda: pool.stats().idle == 2)
    proxy.refuse()
    proxy.cut()
    with pytest.raises(PoolUnavailableError):
        number(pool, timeout=0.3)
    proxy.repair()
    until(lambda: pool.stats().idle == 2)


def test_nobody_tries_while_nobody_asks(pools: ExitStack, proxy: Proxy) -> None:
    proxy.refuse()
    pool = make_pool(pools, url_of(proxy.port))
    with pytest.raises(PoolUnavailableError):
        number(pool, timeout=0.2)
    until(lambda: pool.stats().size == 0)
    errors = pool.stats().open_errors
    time.sleep(0.3)
    assert pool.stats().open_errors - errors <= 2


def test_connecting_that_takes_too_long_is_told(pools: ExitStack, proxy: Proxy) -> None:
    proxy.deaf()
    pool = make_pool(pools, url_of(proxy.port))
    with pytest.raises(PoolUnavailableError, match="connecting takes too long"):
        number(pool, timeout=0.1)


def test_a_fresh_connection_is_not_asked_and_an_old_one_is(pools: ExitStack, postgres: Postgres) -> None:
    pool = make_pool(pools, postgres.url, validation_interval=1000)
    first = number(pool)
    assert number(pool) == first
    assert pool.stats().checks == 0
    pool = make_pool(pools, postgres.url, validation_interval=0)
    first = number(pool)
    assert number(pool) == first
    assert pool.stats().checks >= 1


def test_after_an_error_a_connection_is_asked_where_its_reset_proves_nothing(
    pools: ExitStack, postgres: Postgres
) -> None:
    class Own(PostgresAdapter):
        reset_is_proof = False

    pool = PsycopgPool(Own(postgres.url), max_connections=1)
    pools.callback(pool.close, timeout=0)
    with pytest.raises(KeyError), pool.connection(LONG):
        raise KeyError("mine")
    number(pool)
    assert pool.stats().checks == 1


def test_one_that_broke_makes_the_others_suspect(pools: ExitStack, postgres: Postgres) -> None:
    pool = make_pool(pools, postgres.url, max_connections=2)
    with pool.connection(LONG), pool.connection(LONG):
        pass
    with pytest.raises(psycopg.OperationalError), pool.connection(LONG):
        raise psycopg.OperationalError("the connection is lost")
    with pool.connection(LONG), pool.connection(LONG):
        assert pool.stats().checks >= 1


def test_silence_replaces_all_at_once(pools: ExitStack, proxy: Proxy) -> None:
    adapter = PostgresAdapter(url_of(proxy.port), ping_timeout=0.2)
    pool = PsycopgPool(adapter, 0, 4, validation_interval=0)
    pools.callback(pool.close, timeout=0)
    with ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(pool.connection(LONG))
    proxy.half_open()
    number(pool)
    assert pool.stats().check_errors == 1


def test_a_failing_commit_reaches_the_borrower_and_ends_the_connection(
    pools: ExitStack, postgres: Postgres
) -> None:
    pool = make_pool(pools, postgres.url, max_connections=1)
    first = number(pool)
    lease = pool.connection(LONG)
    connection = lease.__enter__()
    connection.execute("SELECT 1")
    with psycopg.connect(postgres.url, autocommit=True) as admin:
        admin.execute("SELECT pg_terminate_backend(%s, 10000)", (first,))
    with pytest.raises(psycopg.OperationalError):
        lease.__exit__(None, None, None)
    assert number(pool) != first


def test_a_borrowed_connection_is_the_drivers_in_all_but_its_end(
    pools: ExitStack, postgres: Postgres
) -> None:
    pool = make_pool(pools, postgres.url)
    connection = pool.get_connection(LONG)
    connection.prepare_threshold = 9
    assert connection.prepare_threshold == 9
    connection.mark = 1
    del connection.mark
    with pytest.raises(AttributeError):
        _ = connection.mark
    with pytest.raises(TypeError, match="cannot be copied or pickled"):
        pickle.dumps(connection)
    assert "postgres" in repr(connection)
    with connection as same:
        assert same is connection
    with pytest.raises(LeaseError), connection:
        pass
    with pytest.raises(PoolError):
        pool.release_connection(connection)


def test_a_connection_that_became_old_while_idle_is_not_lent(pools: ExitStack, postgres: Postgres) -> None:
    pool = make_pool(pools, postgres.url, max_connections=1, max_lifetime=0.3)
    first = number(pool)
    until(lambda: pool.stats().idle == 1)
    time.sleep(0.35)
    assert number(pool) != first


def test_a_lease_held_across_a_fork_ends_in_the_child_without_touching_the_connection(
    pools: ExitStack, postgres: Postgres
) -> None:
    pool = make_pool(pools, postgres.url)
    lease = pool.connection(LONG)
    connection = lease.__enter__()
    connection.execute("SELECT 1")
    assert in_child(lambda: lease.__exit__(None, None, None)) is None
    assert connection.info.transaction_status == TransactionStatus.INTRANS
    lease.__exit__(None, None, None)


def test_a_crowd_opens_one_engine(pools: ExitStack, postgres: Postgres) -> None:
    pool = make_pool(pools, postgres.url, max_connections=2)
    assert len(set(together(8, lambda _: number(pool)))) <= 2
    assert pool.stats().opened <= 2


def test_a_pool_that_is_closed_at_once_twice_is_closed(pools: ExitStack, postgres: Postgres) -> None:
    pool = make_pool(pools, postgres.url)
    number(pool)
    tasks = [Task(pool.close) for _ in range(2)]
    for task in tasks:
        task.result()
    assert pool.stats().size == 0
