"""The catalogue of the examples in two workers of gunicorn, over a Redis that is killed and restarted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.servers import HOOKS, Server, gunicorn
from tests.servers import Redis


class Catalogue:
    def __init__(self, server: Server) -> None:
        self.server = server

    def get(self, path: str) -> dict[str, Any]:
        status, body = self.server.get(path)
        assert status == 200, (status, body, self.server.log())
        found: dict[str, Any] = json.loads(body)
        return found

    def change_price(self, number: int, price: int) -> dict[str, Any]:
        with self.server.connection() as connection:
            form = {"Content-Type": "application/x-www-form-urlencoded"}
            connection.request("POST", f"/products/{number}/price", f"price={price}", form)
            response = connection.getresponse()
            assert response.status == 200, self.server.log()
            answer: dict[str, Any] = json.loads(response.read())
            return answer

    def prices(self, number: int) -> dict[int, int]:
        """Ask until both workers have answered; return what each said last."""
        said: dict[int, int] = {}

        def both_answered() -> bool:
            found = self.get(f"/products/{number}")
            said[found["worker"]] = found["price"]
            return len(said) == 2

        self.server.until(both_answered)
        return said


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    directory = tmp_path / "redis"
    directory.mkdir()
    with Redis(directory) as server:
        yield server


@pytest.fixture
def catalogue(redis: Redis, tmp_path: Path) -> Iterator[Catalogue]:
    workers = ("--workers", "2", "-k", "gthread", "--threads", "2", "--preload")
    command = gunicorn(*HOOKS, *workers, app="examples.catalogue.app:app")
    environ = {"REDIS_URL": redis.url, "CATALOGUE": str(tmp_path / "catalogue.db")}
    server = Server(command, tmp_path, environ)
    try:
        server.wait_until_it_listens()
        yield Catalogue(server)
    finally:
        server.kill()


def test_a_change_in_one_worker_is_seen_by_the_other_and_an_outage_fails_nobody(
    catalogue: Catalogue, redis: Redis
) -> None:
    assert set(catalogue.prices(1).values()) == {350}
    assert catalogue.change_price(1, 400) == {"price": 400, "seen by all": True}
    catalogue.server.until(lambda: set(catalogue.prices(1).values()) == {400})
    assert catalogue.get("/categories/tea")["products"] == [["black tea", 300], ["green tea", 400]]

    redis.kill()
    for number in (1, 2, 3):
        assert catalogue.get(f"/products/{number}")["id"] == number
    assert catalogue.change_price(2, 310) == {"price": 310, "seen by all": False}
    redis.start()
    catalogue.server.until(lambda: set(catalogue.prices(2).values()) == {310})
    catalogue.server.until(lambda: catalogue.change_price(3, 500)["seen by all"])
    catalogue.server.until(lambda: set(catalogue.prices(3).values()) == {500})
    assert catalogue.server.stop() == 0
    assert "Traceback" not in catalogue.server.log()
