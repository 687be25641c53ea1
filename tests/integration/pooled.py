"""An application with a pool that is filled at startup, for the tests that look into it."""

from __future__ import annotations

import os
from collections.abc import Iterator

from prologue import App, Context, Response
from prologue.db import init_connection_pool
from tests.integration.application import BLOCK, note

app = App()
init_connection_pool(
    app, os.environ["DATABASE_URL"], min_connections=2, max_connections=4, connection_timeout=10, wait=True
)
if "WARM" in os.environ:  # in the master, where gunicorn loads the application before it forks
    with app.resources["connection_pool"].connection() as connection:
        note("warm")
        connection.execute("SELECT 1")


@app.get("/backend")
def backend(ctx: Context) -> list[int]:
    with ctx.connection() as connection:
        (number,) = connection.execute("SELECT pg_backend_pid() FROM pg_sleep(0.02)").fetchone()
        return [os.getpid(), number]


@app.get("/endless")
def endless(ctx: Context) -> Response:
    def parts() -> Iterator[bytes]:
        with ctx.connection() as connection:
            connection.execute("SELECT 1")
            while True:
                yield BLOCK

    return Response(parts())


@app.get("/leased")
def leased(ctx: Context) -> str:
    return str(app.resources["connection_pool"].stats().leased)
