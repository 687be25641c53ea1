"""A pool in an application: its place among the resources, the connections of requests, errors as 503."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from prologue import App, Context, Response, Settings
from prologue.db import Adapter, ConnectionPool, ReplicatedPool, init_connection_pool
from prologue.errors import (
    LeaseError,
    LifecycleError,
    PoolClosedError,
    PoolError,
    PoolFullError,
    PoolTimeoutError,
    PoolUnavailableError,
    SettingsError,
)
from prologue.lifecycle import Lifecycle
from tests.calling import Started, call, environ_for
from tests.concurrency import PATIENCE, Task, in_child, pass_gate, run_script, together, until
from tests.db.driver import Driver, DriverError, Setup
from tests.servers import Postgres

Handler = Callable[[Context], Any]


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/notes.db"


@pytest.fixture
def app(url: str) -> Iterator[App]:
    """An application with a pool of two connections to a table ``notes``."""
    app = App()
    init_connection_pool(app, url, max_connections=2, connection_timeout=20.0)
    with pool_of(app).connection() as connection:
        connection.execute("CREATE TABLE notes (text TEXT PRIMARY KEY)")
    yield app
    app.lifecycle.shutdown()


def pool_of(app: App, name: str = "connection_pool") -> Any:
    return app.resources[name]


def notes(app: App) -> list[str]:
    assert pool_of(app).stats().leased == 0
    with pool_of(app).connection() as connection:
        return [text for (text,) in connection.execute("SELECT text FROM notes ORDER BY text")]


def write(connection: Any, text: str) -> None:
    connection.execute("INSERT INTO notes VALUES (?)", (text,))


class Wrong(Exception):
    """Raised on purpose."""


# -- the resource -------------------------------------------------------------------------------------


def test_the_pool_is_a_resource_that_is_opened_on_first_use_and_closed_at_shutdown(url: str) -> None:
    lifecycle = Lifecycle()  # an App has one; it works alone too
    init_connection_pool(lifecycle, url, max_connections=3)
    lifecycle.startup()
    pool = lifecycle.resources["connection_pool"]
    assert repr(pool) == "<ConnectionPool 'main' 0 leased, 0 idle, 0 waiting of 3>"
    with pool.connection() as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert lifecycle.shutdown() == []
    assert pool.stats().size == 0
    with pytest.raises(PoolClosedError):
        pool.get_connection()


def test_importing_and_assembling_opens_nothing_and_starts_no_thread() -> None:
    printed = run_script(
        "import sys, threading\n"
        "import prologue\n"
        "print('prologue.db' in sys.modules)\n"
        "from prologue.db import init_connection_pool\n"
        "app = prologue.App()\n"
        "init_connection_pool(app, 'sqlite:////nowhere/at/all.db', wait=True, min_connections=2)\n"
        "print(threading.active_count(), app.resources['connection_pool'].stats().size)\n"
    )
    assert printed.split() == ["False", "1", "0"]


@pytest.mark.parametrize("kind", ["function", "adapter", "pool"])
def test_a_function_an_adapter_or_a_pool_will_do(kind: str) -> None:
    driver = Driver()
    app = App()
    databases: dict[str, Any] = {
        "function": driver,
        "adapter": Adapter(driver),
        "pool": ConnectionPool(driver),
    }
    init_connection_pool(app, databases[kind])
    app.get("/", lambda ctx: str(ctx.with_connection(lambda connection: connection.number)))
    assert call(app).text == "1"
    app.lifecycle.shutdown()
    assert driver.open == []


def test_several_pools_have_names(tmp_path: Path) -> None:
    app = App()
    for name in ("connection_pool", "reports"):
        init_connection_pool(app, f"sqlite:///{tmp_path}/{name}.db", name=name)

    @app.get("/")
    def files(ctx: Context) -> list[str]:
        sql = "SELECT file FROM pragma_database_list"
        with ctx.connection() as main, ctx.connection(name="reports") as reports:
            assert ctx.with_connection(lambda connection: connection is reports, name="reports")
            return [Path(one.execute(sql).fetchone()[0]).name for one in (main, reports)]

    assert call(app).text == '["connection_pool.db","reports.db"]'
    assert [pool_of(app, name).name for name in app.resources] == ["main", "reports"]
    app.lifecycle.shutdown()


def test_replicas_serve_readers_of_an_application(tmp_path: Path) -> None:
    app = App()
    urls = [f"sqlite:///{tmp_path}/{name}.db" for name in ("primary", "one", "two")]
    init_connection_pool(
        app, primary=urls[0], replicas=urls[1:], choice="least-leased", max_connections=2, wait=True
    )

    @app.get("/")
    def files(ctx: Context) -> list[str]:
        sql = "SELECT file FROM pragma_database_list"
        return [
            Path(ctx.with_connection(lambda c: c.execute(sql).fetchone()[0], readonly=readonly)).stem
            for readonly in (True, False)
        ]

    assert [call(app).text for _ in range(2)] == ['["one","primary"]'] * 2
    pool = pool_of(app)
    assert isinstance(pool, ReplicatedPool)
    assert list(pool.stats()) == ["main", "main replica 1", "main replica 2"]
    assert [stats.max_connections for stats in pool.stats().values()] == [2, 2, 2]
    app.lifecycle.shutdown()
    assert [stats.size for stats in pool.stats().values()] == [0, 0, 0]


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((), {}, TypeError, "either a database or primary="),
        (("sqlite:///a.db",), {"primary": "sqlite:///b.db"}, TypeError, "either a database or primary="),
        (("sqlite:///a.db",), {"replicas": ["sqlite:///b.db"]}, TypeError, "needs primary="),
        ((Setup().pool,), {"max_connections": 3}, TypeError, "is a pool: give max_connections when it is"),
        (("nosql://a",), {}, SettingsError, "no adapter"),
        (("sqlite:///a.db",), {"max_connections": 0}, ValueError, "max_connections=0"),
        (("sqlite:///a.db",), {"name": "taken"}, LifecycleError, "'taken' is there already"),
    ],
)
def test_what_cannot_work_is_refused_at_once(
    arguments: tuple[Any, ...], options: dict[str, Any], error: type[Exception], message: str
) -> None:
    app = App()
    app.lazy("taken", dict)
    with pytest.raises(error, match=message):
        init_connection_pool(app, *arguments, **options)


# -- startup ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("least", "opened"), [(0, 1), (1, 1), (3, 3)])
def test_waiting_at_startup_fills_the_pool_to_its_minimum(least: int, opened: int) -> None:
    driver = Driver()
    app = App()
    init_connection_pool(app, driver, min_connections=least, wait=True)
    assert driver.attempts == 0
    app.lifecycle.startup()
    assert pool_of(app).stats().idle == opened
    app.lifecycle.shutdown()


def test_startup_does_not_end_before_the_last_connection_is_there() -> None:
    driver = Driver()
    gate = threading.Event()

    def connect() -> Any:
        if driver.attempts == 2:
            asked.set()
            pass_gate(gate)
        return driver()

    asked = threading.Event()
    app = App()
    init_connection_pool(app, connect, min_connections=3, max_connecting=1, connection_timeout=30, wait=True)
    startup = Task(app.lifecycle.startup)
    pass_gate(asked)
    until(lambda: pool_of(app).stats().leased == 2)  # held until all are there, so that each is another
    assert not app.lifecycle.started
    gate.set()
    startup.result()
    assert pool_of(app).stats().idle == 3
    app.lifecycle.shutdown()


def test_waiting_at_startup_raises_what_keeps_the_pool_empty() -> None:
    driver = Driver()
    driver.connect_error = DriverError("password authentication failed")
    app = App()
    init_connection_pool(app, driver, wait=True, connection_timeout=0.2)
    with pytest.raises(PoolUnavailableError, match="password authentication failed") as caught:
        app.lifecycle.startup()
    assert caught.value.__cause__ is driver.connect_error
    driver.connect_error = None
    app.lifecycle.startup()
    app.lifecycle.shutdown()


def test_a_replica_that_is_down_at_startup_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    down = Driver()
    down.connect_error = DriverError("refused")
    app = App()
    init_connection_pool(
        app, primary=Driver(), replicas=[down, Driver()], wait=True, connection_timeout=0.2, min_connections=1
    )
    app.lifecycle.startup()
    stats = pool_of(app).stats()
    assert [stats["main"].idle, stats["main replica 2"].idle] == [1, 1]
    assert "a replica is not available at startup" in caplog.text
    app.lifecycle.shutdown()


def test_a_primary_that_is_down_at_startup_is_an_error() -> None:
    down = Driver()
    down.connect_error = DriverError("refused")
    app = App()
    init_connection_pool(app, primary=down, replicas=[Driver()], wait=True, connection_timeout=0.1)
    with pytest.raises(PoolUnavailableError):
        app.lifecycle.startup()
    app.lifecycle.shutdown()


# -- requests -----------------------------------------------------------------------------------------


def test_blocks_of_one_request_are_one_transaction(app: App) -> None:
    @app.post("/{text}")
    def put(ctx: Context) -> str:
        with ctx.connection() as connection:
            write(connection, ctx.get_path_params("text"))
            with pytest.raises(sqlite3.IntegrityError):
                ctx.with_connection(lambda inner: write(inner, ctx.get_path_params("text")))
            ctx.with_connection(lambda inner: write(inner, "milk"))
            assert ctx.with_connection(lambda inner: inner is connection, readonly=True)
        return "done"

    assert call(app, "POST", "/tea").text == "done"
    assert notes(app) == ["milk", "tea"]


def test_a_handler_that_raises_leaves_nothing(app: App) -> None:
    @app.get("/")
    def fail(ctx: Context) -> None:
        with ctx.connection() as connection:
            write(connection, "tea")
            ctx.with_connection(lambda inner: write(inner, "milk"))
            raise Wrong

    assert call(app).status == 500
    assert notes(app) == []


def test_a_block_around_the_rest_of_the_chain_is_the_transaction_of_the_handler(app: App) -> None:
    def transaction(ctx: Context) -> None:
        with ctx.connection():
            ctx.next()

    def fail(ctx: Context) -> None:
        with ctx.connection() as connection:
            write(connection, "tea")
        raise Wrong

    def put(ctx: Context) -> str:
        with ctx.connection() as connection:
            write(connection, "milk")
        return "done"

    app.get("/fail", fail, middlewares=[transaction])
    app.get("/put", put, middlewares=[transaction])
    assert [call(app, path=path).status for path in ("/fail", "/put")] == [500, 200]
    assert notes(app) == ["milk"]


def test_an_answer_after_the_block_has_no_wrapper_for_it(app: App) -> None:
    @app.get("/")
    def read(ctx: Context) -> str:
        return str(ctx.with_connection(lambda connection: connection.execute("SELECT 1").fetchone()[0]))

    started = Started(app, environ_for())
    assert started.body == [b"1"]
    assert pool_of(app).stats().leased == 0


def test_a_block_that_the_handler_never_leaves_ends_with_the_response(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    @app.get("/")
    def forget(ctx: Context) -> str:
        write(ctx.connection().__enter__(), "tea")
        return "text"

    started = Started(app, environ_for())
    assert pool_of(app).stats().leased == 1
    started.close()
    assert "a block was not left" in caplog.text
    assert notes(app) == []


@pytest.mark.parametrize("error", [Wrong, SystemExit])
def test_it_ends_with_an_error_too(app: App, error: type[BaseException]) -> None:
    @app.get("/")
    def forget(ctx: Context) -> str:
        write(ctx.connection().__enter__(), "tea")
        raise error

    try:
        assert call(app).status == 500
    except SystemExit:
        assert error is SystemExit
    assert notes(app) == []


def test_a_callback_after_the_response_may_use_a_connection(app: App) -> None:
    def note(ctx: Context) -> None:
        with ctx.connection() as connection:
            write(connection, "sent")

    @app.get("/")
    def answer(ctx: Context) -> str:
        ctx.after_response(lambda: note(ctx))
        return "text"

    assert call(app).text == "text"
    assert notes(app) == ["sent"]


def test_requests_in_threads_have_connections_of_their_own(app: App) -> None:
    both = threading.Barrier(2)
    seen: list[int] = []

    @app.get("/")
    def meet(ctx: Context) -> str:
        with ctx.connection() as connection:
            seen.append(id(connection))
            both.wait(PATIENCE)
            assert ctx.with_connection(lambda inner: inner is connection)
        return "met"

    assert together(2, lambda _: call(app).text) == ["met", "met"]
    assert len(set(seen)) == 2
    assert pool_of(app).stats().leased == 0


def test_the_child_of_a_fork_has_connections_of_its_own(app: App) -> None:
    @app.get("/")
    def count(ctx: Context) -> str:
        with ctx.connection() as connection:
            write(connection, "child")
            return str(id(connection))

    pool = pool_of(app)
    with pool.connection() as connection:
        connection.execute("SELECT 1")
        assert in_child(lambda: [call(app).status, pool.stats().opened]) == [200, 1]
    assert notes(app) == ["child"]


# -- streams ------------------------------------------------------------------------------------------


@pytest.fixture
def streaming(app: App) -> App:
    @app.get("/")
    def stream(ctx: Context) -> Response:
        def rows() -> Iterator[str]:
            with ctx.connection() as connection:
                write(connection, "read")
                for (number,) in connection.execute("VALUES (1), (2), (3)"):
                    yield f"{number}\n"

        return Response(rows())

    return app


def test_a_stream_holds_its_connection_while_it_is_read(streaming: App) -> None:
    pool = pool_of(streaming)
    started = Started(streaming, environ_for())
    assert pool.stats().leased == 0  # nothing is read yet
    rows = iter(started.body)
    assert next(rows) == b"1\n"
    assert pool.stats().leased == 1
    assert list(rows) == [b"2\n", b"3\n"]
    assert pool.stats().leased == 0
    started.close()
    assert notes(streaming) == ["read"]


def test_a_client_that_goes_away_gives_the_connection_back(streaming: App) -> None:
    started = Started(streaming, environ_for())
    assert next(iter(started.body)) == b"1\n"
    started.close()
    assert notes(streaming) == []


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_stream_that_is_never_read_takes_no_connection(streaming: App, method: str) -> None:
    acquires = pool_of(streaming).stats().acquires
    Started(streaming, environ_for(method)).close()
    assert pool_of(streaming).stats().acquires == acquires


def test_a_stream_without_a_close_gives_the_connection_back_too(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    @app.get("/")
    def stream(ctx: Context) -> Response:
        def rows() -> Iterator[str]:
            with ctx.connection():
                yield "row"
                yield "row"

        return Response(map(str, rows()))  # a map cannot be closed

    started = Started(app, environ_for())
    rows = iter(started.body)
    assert next(rows) == b"row"
    started.close()
    assert pool_of(app).stats().leased == 0
    assert "a block was not left" in caplog.text


def test_a_stream_that_fails_is_rolled_back(app: App) -> None:
    @app.get("/")
    def stream(ctx: Context) -> Response:
        def rows() -> Iterator[str]:
            with ctx.connection() as connection:
                write(connection, "read")
                yield "row"
                raise Wrong

        return Response(rows())

    with pytest.raises(Wrong):
        call(app)
    assert notes(app) == []


# -- no connection ------------------------------------------------------------------------------------


def refusing(error: PoolError) -> App:
    def refuse(ctx: Context) -> None:
        raise error

    app = App()
    app.get("/", refuse)
    return app


def after(seconds: float) -> PoolError:
    error = PoolUnavailableError("the database is down")
    error.retry_after = seconds
    return error


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (PoolTimeoutError("all in use"), "1"),
        (PoolFullError("too many wait"), "1"),
        (PoolClosedError("closed"), "1"),
        (PoolUnavailableError("no answer"), "1"),
        (after(0.01), "1"),
        (after(2.1), "3"),
        (after(30.0), "30"),
    ],
)
def test_no_connection_is_503_and_one_line_in_the_log(
    error: PoolError, seconds: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        answer = call(refusing(error))
    assert (answer.status, answer.header("Retry-After")) == (503, seconds)
    assert "503 Service Unavailable" in answer.text
    assert str(error) not in answer.text  # the numbers of a pool are not for clients
    (record,) = caplog.records
    assert (record.levelname, record.exc_info) == ("WARNING", None)
    assert record.message.endswith(f"no database connection: {error}")


def test_a_mistake_with_a_lease_is_an_error_of_the_program(caplog: pytest.LogCaptureFixture) -> None:
    answer = call(refusing(LeaseError("given back already")))
    assert (answer.status, answer.header("Retry-After")) == (500, None)
    assert caplog.records[0].exc_info is not None


@pytest.mark.parametrize("error", [PoolTimeoutError, PoolError, TimeoutError, 503])
def test_a_registered_handler_wins(error: Any) -> None:
    app = refusing(PoolTimeoutError("all in use"))
    app.register_error_handler(error, lambda ctx: {"error": type(ctx.error).__name__})
    answer = call(app)
    assert (answer.status, answer.text) == (503, '{"error":"PoolTimeoutError"}')
    assert answer.header("Retry-After") == ("1" if error == 503 else None)


def test_an_exhausted_pool_is_503_within_the_deadline_of_the_request(url: str) -> None:
    app = App(Settings(request_timeout=0.05))
    init_connection_pool(app, url, max_connections=1, connection_timeout=600)
    app.get("/", lambda ctx: ctx.with_connection(lambda connection: "text"))
    with pool_of(app).connection():
        answer = call(app)
    assert (answer.status, answer.header("Retry-After")) == (503, "1")
    app.lifecycle.shutdown()


def test_a_database_that_is_down_is_503_until_it_is_back() -> None:
    setup = Setup()
    app = App()
    init_connection_pool(app, setup.pool)
    app.get("/", lambda ctx: ctx.with_connection(lambda connection: "text", timeout=0))
    setup.driver.connect_error = DriverError("refused")
    for _ in range(6):
        setup.clock.now += 10
        assert call(app).status == 503
    attempts = setup.driver.attempts
    answer = call(app)  # the next attempt is a second away
    assert (answer.status, answer.header("Retry-After")) == (503, "1")
    assert setup.driver.attempts == attempts
    setup.driver.connect_error = None
    setup.clock.now += 10
    assert call(app).status == 200
    app.lifecycle.shutdown()


def test_the_error_tells_when_the_pool_tries_again() -> None:
    setup = Setup()
    setup.driver.connect_error = DriverError("refused")

    def pause() -> float:
        with pytest.raises(PoolUnavailableError) as caught:
            setup.pool.get_connection(timeout=0)
        return caught.value.retry_after

    for attempt in range(1, 10):
        seconds = pause()
        assert setup.driver.attempts == attempt
        setup.clock.now += seconds * 0.75
        assert pause() == pytest.approx(seconds * 0.25)
        assert setup.driver.attempts == attempt
        setup.clock.now += seconds * 0.251


def test_without_a_failure_the_error_of_slow_connecting_says_a_second() -> None:
    setup = Setup(at_once=False)
    with pytest.raises(PoolUnavailableError, match="connecting takes too long") as caught:
        setup.pool.get_connection(timeout=0)
    assert caught.value.retry_after == 1.0


def test_a_request_after_shutdown_is_503(app: App) -> None:
    app.get("/", lambda ctx: ctx.with_connection(lambda connection: "text"))
    assert call(app).status == 200
    app.lifecycle.shutdown()
    assert call(app).status == 503


def test_without_a_pool_the_error_says_how_to_make_one(caplog: pytest.LogCaptureFixture) -> None:
    app = App()
    app.get("/", lambda ctx: ctx.with_connection(lambda connection: "text", name="reports"))
    assert call(app).status == 500
    assert "init_connection_pool(app, url, name='reports')" in caplog.text


# -- a real server ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    with Postgres(tmp_path_factory.mktemp("postgres")) as server:
        yield server


@pytest.fixture
def on_postgres(postgres: Postgres) -> Iterator[App]:
    app = App()
    init_connection_pool(
        app, lambda: psycopg.connect(postgres.url, connect_timeout=5), max_connections=4, wait=True
    )

    @app.get("/")
    def backend(ctx: Context) -> str:
        with ctx.connection(timeout=20) as connection:
            outer = connection.info.backend_pid
            with ctx.connection() as inner:
                (pid,) = inner.execute("SELECT pg_backend_pid()").fetchone()
                assert pid == outer
            return str(pid)

    yield app
    app.lifecycle.shutdown()


def test_threads_share_the_connections_of_a_server(on_postgres: App) -> None:
    seen = together(8, lambda _: {call(on_postgres).text for _ in range(25)})
    assert len(set().union(*seen)) <= 4
    stats = pool_of(on_postgres).stats()
    assert (stats.leased, stats.timeouts, stats.lost) == (0, 0, 0)


def test_the_child_of_a_fork_connects_to_the_server_anew(on_postgres: App) -> None:
    ours = call(on_postgres).text
    assert in_child(lambda: call(on_postgres).text) != ours
    assert call(on_postgres).text == ours


def test_a_server_that_is_killed_is_503_and_one_that_is_back_is_used(
    on_postgres: App, postgres: Postgres
) -> None:
    assert call(on_postgres).status == 200
    postgres.kill()
    call(on_postgres)  # the connection breaks while it is used, or before
    answer = call(on_postgres)
    assert (answer.status, answer.header("Retry-After")) in [(503, "1"), (503, "2")]
    postgres.start()
    until(lambda: call(on_postgres).status == 200)


def test_the_second_engine_serves_requests(postgres: Postgres) -> None:
    app = App(Settings(request_timeout=60))
    init_connection_pool(
        app, postgres.url, engine="psycopg_pool", min_connections=2, max_connections=4, wait=True
    )

    @app.get("/")
    def nested(ctx: Context) -> str:
        with ctx.connection() as connection:
            with pytest.raises(psycopg.errors.UndefinedTable):
                ctx.with_connection(lambda inner: inner.execute("SELECT * FROM nothing"))
            return str(connection.execute("SELECT 1").fetchone()[0])

    assert together(4, lambda _: call(app).text) == ["1"] * 4
    assert pool_of(app).stats().leased == 0
    app.lifecycle.shutdown()
    assert call(app).status == 503
