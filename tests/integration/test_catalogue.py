"""What scripts/demo serves, in two workers: on SQLite and memory alone, and on shared servers that fail."""

from __future__ import annotations

import http.client
import json
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from prologue.http_cache.dates import parse_date
from tests.integration.conftest import Start
from tests.integration.servers import HOOKS, PATIENCE, Server, gunicorn
from tests.servers import Memcached, Postgres, Redis

COMMAND = gunicorn(
    *HOOKS,
    *("-k", "prologue.server.ThreadWorker", "--workers", "2", "--threads", "2", "--keep-alive", "75"),
    app="examples.catalogue.app:app",
)
BOUND = 2.0
"""Seconds for which a worker without Redis may show what another one has changed."""


class Reply(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    text: str

    @property
    def json(self) -> Any:
        assert self.status == 200, self
        return json.loads(self.text)

    @property
    def cache_status(self) -> str:
        return self.headers["Cache-Status"] or ""


class Worker:
    """One of the workers: a connection is kept, and stays with the worker that took it."""

    def __init__(self, server: Server) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
        self.pid = self.ask("/").headers["X-Worker"]
        self.close = self._connection.close

    def ask(self, path: str, form: str | None = None) -> Reply:
        kind = {"Content-Type": "application/x-www-form-urlencoded"} if form else {}
        self._connection.request("POST" if form else "GET", path, form, kind)
        response = self._connection.getresponse()
        return Reply(response.status, response.headers, response.read().decode())

    def product(self, number: int) -> int:
        price: int = self.ask(f"/api/products/{number}").json["price"]
        return price

    def category(self, name: str) -> dict[str, int]:
        prices: dict[str, int] = self.ask(f"/api/categories/{name}").json
        return prices

    def change_price(self, number: int, price: int) -> Reply:
        return self.ask(f"/api/products/{number}/price", f"price={price}")


def both_workers(server: Server) -> tuple[Worker, Worker]:
    """Connect until each of the two workers has taken a connection."""
    made: list[Worker] = []

    def connect() -> bool:
        made.append(Worker(server))
        return made[-1].pid != made[0].pid

    server.until(connect)
    for more in made[1:-1]:
        more.close()
    return made[0], made[-1]


def assert_hit(server: Server, worker: Worker) -> None:
    """Ask until the HTTP cache answers: what lives for two seconds may be over on a busy machine."""

    def hit() -> bool:
        reply = worker.ask("/api/categories/tea")
        if not reply.cache_status.startswith("prologue; hit; ttl="):
            return False
        assert 0 <= int(reply.headers["Age"]) <= 300
        (made,) = reply.headers.get_all("Date", [])
        age = time.time() - (parse_date(made) or 0)
        assert int(reply.headers["Age"]) <= age < int(reply.headers["Age"]) + PATIENCE
        return True

    server.until(hit)


def assert_ends_well(server: Server, *workers: Worker) -> None:
    for worker in workers:
        worker.close()  # the server would wait for more requests on a connection that is kept
    assert server.stop() == 0, server.log()
    assert "Traceback" not in server.log(), server.log()


def test_on_sqlite_and_memory_what_a_worker_changes_is_seen_by_the_other_within_the_bound(
    start: Start,
) -> None:
    server = start(COMMAND, DATABASE_URL="sqlite:///catalogue.db", REDIS_URL="", MEMCACHED_SERVERS="")
    one, other = both_workers(server)
    assert one.ask("/api/products/tea").json == {"products": ["/api/products/1", "/api/products/2"]}
    assert one.ask("/api/products/4").status == 404
    for worker in (one, other):
        assert worker.product(1) == 350
        first = worker.ask("/api/categories/tea")
        assert first.cache_status == "prologue; fwd=uri-miss; stored"
        assert first.json == {"green tea": 350, "black tea": 300}
        assert_hit(server, worker)
    assert one.change_price(1, 400).json == {"price": 400, "seen by every worker": "within two seconds"}
    written = time.monotonic()
    assert (one.product(1), one.category("tea")["green tea"]) == (400, 400)
    last_old = written

    def seen() -> bool:
        nonlocal last_old
        asked = time.monotonic()
        prices = {other.product(1), other.category("tea")["green tea"]}
        if 350 in prices:
            last_old = asked
        return prices == {400}

    server.until(seen)
    assert last_old - written <= BOUND
    assert "Traceback" not in server.log(), server.log()

    # While the handlers fail, the page is served beyond its life, and says so.
    database = sqlite3.connect(server.directory / "catalogue.db")
    database.execute("ALTER TABLE products RENAME TO elsewhere")
    database.close()

    def stale() -> bool:
        reply = one.ask("/api/categories/tea")
        assert reply.json["green tea"] == 400
        return reply.cache_status.startswith("prologue; fwd=stale; fwd-status=500; ttl=-")

    server.until(stale)
    assert one.ask("/api/categories/coffee").status == 500
    for worker in (one, other):
        worker.close()
    assert server.stop() == 0, server.log()


class Servers(NamedTuple):
    postgres: Postgres
    redis: Redis
    memcached: Memcached


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    directories = [tmp_path / name for name in ("postgres", "redis", "memcached")]
    for directory in directories:
        directory.mkdir()
    postgres, redis, memcached = directories
    with Postgres(postgres) as database, Redis(redis) as cache, Memcached(memcached) as another:
        yield Servers(database, cache, another)


def test_on_shared_servers_a_change_is_seen_at_once_and_what_is_cached_outlives_their_outages(
    start: Start, servers: Servers
) -> None:
    postgres, redis, memcached = servers
    server = start(
        COMMAND, DATABASE_URL=postgres.url, REDIS_URL=redis.url, MEMCACHED_SERVERS=memcached.address
    )
    one, other = both_workers(server)

    def change(number: int, price: int) -> None:
        """Write with one worker, until both Redis and PostgreSQL answer it, and see it with the other."""
        seen = {"price": price, "seen by every worker": "now"}
        server.until(lambda: (reply := one.change_price(number, price)).status == 200 and reply.json == seen)
        server.until(lambda: (other.product(number), other.category("tea")) == (price, one.category("tea")))
        assert one.product(number) == price
        assert price in one.category("tea").values()

    assert [worker.product(1) for worker in (one, other)] == [350, 350]
    assert one.ask("/api/categories/tea").cache_status == "prologue; fwd=uri-miss; stored"
    assert_hit(server, other)  # made by the one, kept in Redis
    assert one.ask("/api/products/4").status == 404
    change(1, 400)

    postgres.kill()
    for worker in (one, other):
        assert worker.product(1) == 400
        assert_hit(server, worker)
    for unknown in (one.ask("/api/products/tea"), one.change_price(1, 410)):
        assert (unknown.status, unknown.headers["Retry-After"] is not None) == (503, True)
    postgres.start()
    change(1, 420)
    for worker in (one, other):
        assert worker.ask("/api/products/tea").json == {"products": ["/api/products/1", "/api/products/2"]}

    redis.kill()
    for worker in (one, other):
        assert (worker.product(1), worker.category("tea")["green tea"]) == (420, 420)
    late = {"price": 310, "seen by every worker": "within two seconds"}
    assert one.change_price(2, 310).json == late
    assert (one.product(2), one.category("tea")["black tea"]) == (310, 310)
    server.until(lambda: (other.product(2), other.category("tea")["black tea"]) == (310, 310))
    redis.start()
    change(2, 320)

    memcached.kill()
    change(2, 330)
    memcached.start()
    change(2, 340)
    assert one.ask("/engines").json["cache"].keys() == {"memory", "memcached", "redis"}
    assert_ends_well(server, one, other)
