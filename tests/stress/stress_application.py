"""Requests of every kind at once on one pool: what was answered is what the database holds.

``python -m pytest tests/stress/stress_application.py``; REQUESTS in the environment is their number.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

import psycopg

from prologue import App, Context, Response
from prologue.db import init_connection_pool
from tests.calling import Started, environ_for
from tests.concurrency import impatient_threads
from tests.servers import Postgres

THREADS = 16
REQUESTS = int(os.environ.get("REQUESTS", "20000"))


class Wrong(Exception):
    """Raised on purpose."""


def insert(connection: Any, number: int) -> None:
    connection.execute("INSERT INTO rows VALUES (%s)", (number,))


def outer_fails(ctx: Context, number: int) -> str:
    with ctx.connection() as connection:
        insert(connection, number)
        ctx.with_connection(lambda inner: insert(inner, number + 1))
        raise Wrong


def inner_fails(ctx: Context, number: int) -> str:
    with ctx.connection() as connection:
        insert(connection, number)
        try:
            with ctx.connection() as inner:
                insert(inner, number + 1)
                insert(inner, number)  # a duplicate
        except psycopg.errors.UniqueViolation:
            pass
    return str(number)


def both(ctx: Context, number: int) -> str:
    with ctx.connection() as connection:
        ctx.with_connection(lambda inner: insert(inner, number + 1))
        insert(connection, number)
    return f"{number},{number + 1}"


def never_left(ctx: Context, number: int) -> str:
    insert(ctx.connection().__enter__(), number)
    return ""


def streamed(ctx: Context, number: int) -> Response:
    def parts() -> Iterator[str]:
        with ctx.connection() as connection:
            insert(connection, number)
            yield str(number)

    return Response(parts())


def test_what_is_answered_is_what_is_stored(tmp_path: Path) -> None:
    app = App()
    handlers = {
        handler.__name__: handler for handler in (outer_fails, inner_fails, both, never_left, streamed)
    }
    app.get(
        "/{kind}/{number:int}", lambda ctx: handlers[ctx.path_params["kind"]](ctx, ctx.path_params["number"])
    )

    def client(thread: int) -> list[int]:
        random = Random(thread)
        mine = []
        for turn in range(REQUESTS // THREADS):
            kind = random.choice([*handlers])
            number = (turn * THREADS + thread) * 2
            started = Started(app, environ_for(path=f"/{kind}/{number}"))
            leaves = kind == "streamed" and random.random() < 0.5
            body = next(iter(started.body)) if leaves else b"".join(started.body)
            started.close()
            if started.status.startswith("200") and not leaves:
                mine += [int(part) for part in body.split(b",") if part]
        return mine

    with Postgres(tmp_path) as server:
        init_connection_pool(
            app, lambda: psycopg.connect(server.url), max_connections=4, connection_timeout=60
        )
        pool = app.resources["connection_pool"]
        with pool.connection() as connection:
            connection.execute("CREATE TABLE rows (number INTEGER PRIMARY KEY)")
        logging.disable(logging.ERROR)  # of the errors on purpose
        with impatient_threads(), ThreadPoolExecutor(THREADS) as threads:
            answered = {number for mine in threads.map(client, range(THREADS)) for number in mine}
        logging.disable(logging.NOTSET)
        stats = pool.stats()
        assert (stats.leased, stats.timeouts, stats.lost) == (0, 0, 0)
        assert stats.size <= 4
        with pool.connection() as connection:
            stored = {number for (number,) in connection.execute("SELECT number FROM rows")}
        app.lifecycle.shutdown()
    assert stored == answered
    assert len(stored) > REQUESTS // 2
