"""Addresses of databases: every part, the two forms, errors that name the part and hide the password."""

from __future__ import annotations

import sys

import pymysql
import pytest

from prologue.db import Adapter, ConnectionPool, PostgresAdapter, SQLiteAdapter
from prologue.db.urls import DatabaseURL, adapter_from_url
from prologue.errors import MissingExtraError, SettingsError


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("sqlite:///app.db", DatabaseURL("sqlite", path="app.db")),
        ("SQLite:////var/app%20one.db", DatabaseURL("sqlite", path="/var/app one.db")),
        ("sqlite:///a@b.db?x=1&y=%26", DatabaseURL("sqlite", path="a@b.db", options={"x": "1", "y": "&"})),
        ("postgresql://", DatabaseURL("postgresql")),
        (
            "postgresql://app:p%40%2F%3A+%25@db.example:5433/shop?application_name=a%20b+c",
            DatabaseURL(
                "postgresql",
                (("db.example", 5433),),
                "shop",
                "app",
                "p@/:+%",
                {"application_name": "a b+c"},
            ),
        ),
        ("postgresql://app:a@b:c@h/d", DatabaseURL("postgresql", (("h", 0),), "d", "app", "a@b:c")),
        (
            "postgres://h1:1,[::1]:65535,h3/d",
            DatabaseURL("postgres", (("h1", 1), ("::1", 65535), ("h3", 0)), "d"),
        ),
        ("postgresql://%2Fvar%2Frun/d", DatabaseURL("postgresql", (("/var/run", 0),), "d")),
        (
            "localhost:5432:mydb:user:password",
            DatabaseURL("postgresql", (("localhost", 5432),), "mydb", "user", "password"),
        ),
        ("h:5432:d:u:a:b%40::c@/?", DatabaseURL("postgresql", (("h", 5432),), "d", "u", "a:b%40::c@/?")),
        ("[::1]:5432:d:u:", DatabaseURL("postgresql", (("::1", 5432),), "d", "u", "")),
    ],
)
def test_an_address_is_taken_apart(url: str, parts: DatabaseURL) -> None:
    assert DatabaseURL.parse(url) == parts


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("oracle://user:secret@host/db", "'oracle': use one of mariadb, mysql, postgres, postgresql, sqlite"),
        ("", "0 colons instead of 4"),
        ("host:5432:secret", "2 colons instead of 4"),
        (":5432:db:user:secret", "the host is empty"),
        ("host::db:user:secret", "the port is empty"),
        ("host:5432::user:secret", "the database is empty"),
        ("host:5432:db::secret", "the user is empty"),
        ("host:secret:db:user:secret", "port is not a number"),
        ("host:0:db:user:secret", "port is not a number from 1 to 65535"),
        ("postgresql://user:secret@host:65536/db", "port is not"),
        ("postgresql://user:secret@host:٣/db", "port is not"),
        ("postgresql://user:sec/ret@host/db", "@ after the host"),
        ("postgresql://user:secret?@host/db", "not name=value"),
        ("postgresql://user:12/secret@host/db", "@ after the host"),
        ("postgresql://user:secret@h[ost/db", "host is malformed"),
        ("postgresql://user:secret@host/db?secret", "not name=value"),
        ("postgresql://user:secret@host/db?sslmodus=secret", "no option 'sslmodus'"),
        ("postgresql://user:secret@host/db?pgbouncer=secret", "pgbouncer is neither true nor false"),
        ("mysql://user:secret@h1,h2/db", "one host only"),
        ("mysql://user:secret@host/db?ssl=secret", "no option 'ssl': there are charset, .*write_timeout$"),
        ("mysql://user:secret@host/db?read_timeout=secret", "option read_timeout is malformed"),
        ("mysql://user:secret@host/db?ssl_disabled=secret", "option ssl_disabled is malformed"),
        ("sqlite:///app.db?busy_timeout=-1", "option busy_timeout is malformed"),
        ("sqlite:///app.db?busy_timeout=nan", "option busy_timeout is malformed"),
        ("sqlite:///app.db?mode=ro", "no option 'mode'"),
        ("sqlite://app.db", "three slashes"),
        ("sqlite:///", "three slashes"),
        ("sqlite://", "three slashes"),
    ],
)
def test_a_wrong_part_is_named_and_the_password_is_not_shown(url: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message) as caught:
        ConnectionPool.from_url(url)
    shown = str(caught.value)
    assert "secret" not in shown.replace("'secret'", "")
    assert caught.value.__cause__ is None


def test_a_string_that_libpq_cannot_read_is_not_shown() -> None:
    with pytest.raises(SettingsError, match="libpq cannot read") as caught:
        PostgresAdapter("postgresql://user:secret@host:port:port/db?=")
    assert caught.value.__suppress_context__


def test_the_password_is_in_no_repr() -> None:
    adapter = adapter_from_url("postgresql://app:secret@db.example:5433/shop")
    assert repr(adapter) == "<PostgresAdapter app@db.example:5433/shop>"
    pool = ConnectionPool(adapter)
    mysql = adapter_from_url("mysql://app:secret@db.example/shop")
    parts = DatabaseURL.parse("mysql://app:secret@db.example/shop?password=secret")
    for value in (pool, mysql, vars(mysql), parts):
        assert "secret" not in repr(value)


def test_postgres_gets_a_time_limit_and_keepalives_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def options(url: str) -> dict[str, object]:
        adapter = adapter_from_url(url)
        assert isinstance(adapter, PostgresAdapter)
        return adapter.options

    assert options("postgresql://app:secret@h:1/d") == {
        "host": "h",
        "port": "1",
        "user": "app",
        "password": "secret",
        "dbname": "d",
        "connect_timeout": 5,
        "keepalives_idle": 30,
        "keepalives_interval": 10,
        "keepalives_count": 3,
        "tcp_user_timeout": 30_000,
    }
    chosen = options("postgresql://h/d?connect_timeout=9&keepalives_idle=7&tcp_user_timeout=0")
    assert (chosen["connect_timeout"], chosen["keepalives_idle"], chosen["tcp_user_timeout"]) == (
        "9",
        "7",
        "0",
    )
    several = options("postgresql://a,b:1/d")
    assert (several["host"], several["port"], several["connect_timeout"]) == ("a,b", "5432,1", 2)
    assert "port" not in options("postgresql://a,b/d")
    assert options("postgresql:///d?host=/var/run")["host"] == "/var/run"
    assert options("postgresql://h/d?pgbouncer=true")["prepare_threshold"] is None
    assert "prepare_threshold" not in options("postgresql://h/d?pgbouncer=no")
    assert options("h:1:d:u:p:q")["password"] == "p:q"
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "3")
    assert "connect_timeout" not in options("postgresql://h/d")


def test_sqlite_takes_a_busy_timeout() -> None:
    adapter = adapter_from_url("sqlite:///:memory:?busy_timeout=0.25")
    assert isinstance(adapter, SQLiteAdapter)
    connection = adapter.connect()
    assert connection.execute("PRAGMA busy_timeout").fetchone() == (250,)
    connection.close()


@pytest.mark.parametrize(
    ("url", "module", "extra"),
    [("postgresql://h/d", "psycopg", "postgres"), ("mariadb://h/d", "pymysql", "mysql")],
)
def test_a_driver_that_is_not_installed_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, url: str, module: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError) as caught:
        adapter_from_url(url)
    assert caught.value.extra == extra


def test_any_driver_fits_the_generic_adapter() -> None:
    adapter = adapter_from_url("mysql://app:secret@127.0.0.1:1/shop?connect_timeout=1")
    assert type(adapter) is Adapter
    assert adapter.is_alive(None)
    assert not adapter.is_disconnect(KeyError("mine"))
    with pytest.raises(Exception, match=r"127\.0\.0\.1") as caught:
        adapter.connect()
    assert "secret" not in str(caught.value)
    assert type(adapter_from_url("mysql:///shop?unix_socket=/run/mysqld.sock")) is Adapter


@pytest.mark.parametrize(("text", "disabled"), [("true", True), ("no", False)])
def test_mysql_without_tls(monkeypatch: pytest.MonkeyPatch, text: str, disabled: bool) -> None:
    monkeypatch.setattr(pymysql, "connect", lambda **arguments: arguments["ssl_disabled"])
    assert adapter_from_url(f"mysql://app@db.example/shop?ssl_disabled={text}").connect() is disabled
