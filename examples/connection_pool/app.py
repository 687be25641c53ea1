"""A connection pool: a connection for each request, transactions, savepoints, a stream.

On SQLite, in users.db of the working directory; on PostgreSQL with

    DATABASE_URL=postgresql://user:password@host/database python examples/connection_pool/app.py
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import msgspec

from prologue import App, Context, HTTPError, Response, Settings
from prologue.db import init_connection_pool

DATABASE_URL = os.environ.get("DATABASE_URL", "sqlite:///users.db")
ON_POSTGRES = not DATABASE_URL.startswith("sqlite:")

TABLES = """
CREATE TABLE IF NOT EXISTS users (id INTEGER PRIMARY KEY, name TEXT NOT NULL, credit INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS orders (sender INTEGER, receiver INTEGER, amount INTEGER NOT NULL);
INSERT INTO users VALUES (1, 'Reader', 100), (2, 'Writer', 20) ON CONFLICT DO NOTHING;
"""

app = App(Settings(app_name="connection_pool"))

# Opened here: nothing. Each worker opens connections when it needs them, eight at the most.
init_connection_pool(app, DATABASE_URL, max_connections=8, connection_timeout=5.0)


def query(connection: Any, sql: str, *values: object) -> Any:
    """Run a statement: the drivers differ in how they mark a value."""
    return connection.execute(sql.replace("?", "%s") if ON_POSTGRES else sql, values)


# A real application leaves this to a migration, which runs once for all workers.
@app.on_startup
def create_tables() -> None:
    with app.resources["connection_pool"].connection() as connection:
        if ON_POSTGRES:
            query(connection, "SELECT pg_advisory_xact_lock(1)")  # workers start at the same time
        for statement in TABLES.split(";")[:-1]:
            query(connection, statement)


@app.get("/users/{id}")
def user(ctx: Context) -> dict[str, object]:
    number = ctx.get_path_params("id", 0)
    # Out of the block the connection is back: the answer is made without it.
    with ctx.connection(readonly=True) as connection:
        row = query(connection, "SELECT name, credit FROM users WHERE id = ?", number).fetchone()
    if row is None:
        raise HTTPError(404, f"no user {number}")
    return {"id": number, "name": row[0], "credit": row[1]}


class Order(msgspec.Struct):
    sender: int
    receiver: int
    amount: int


class OrderError(Exception):
    """An order that cannot be carried out."""


@app.post("/orders")
def order(ctx: Context) -> dict[str, str] | tuple[dict[str, str], int]:
    order = ctx.json(Order)
    with ctx.connection() as connection:
        query(connection, "INSERT INTO orders VALUES (?, ?, ?)", order.sender, order.receiver, order.amount)
        try:
            move(ctx, order)
        except OrderError as error:
            return {"error": str(error)}, 409  # the order stays, the money too
    return {"done": "yes"}


def move(ctx: Context, order: Order) -> None:
    """Carry an order out, or nothing of it, whatever the caller does: its block is a savepoint."""
    with ctx.connection() as connection:
        for number, change in ((order.sender, -order.amount), (order.receiver, order.amount)):
            sql = "UPDATE users SET credit = credit + ? WHERE id = ? AND credit + ? >= 0"
            if query(connection, sql, change, number, change).rowcount != 1:
                raise OrderError(f"user {number} cannot take part in this order")


@app.get("/orders.csv")
def orders(ctx: Context) -> Response:
    def lines() -> Iterator[str]:
        # In the generator: the connection is out while the lines are sent, and back when the client is gone.
        with ctx.connection(readonly=True) as connection:
            for row in query(connection, "SELECT sender, receiver, amount FROM orders"):
                yield ",".join(map(str, row)) + "\n"

    return Response(lines(), content_type="text/csv; charset=utf-8")


@app.get("/pool")
def pool(ctx: Context) -> dict[str, str]:
    return {"pool": repr(app.resources["connection_pool"])}


if __name__ == "__main__":
    app.run()
