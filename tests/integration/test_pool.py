"""The example of the connection pool, under a real gunicorn, on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.concurrency import together
from tests.integration.conftest import Start
from tests.integration.servers import HOOKS, gunicorn
from tests.servers import Postgres

EXAMPLE = "examples.connection_pool.app:app"
GTHREAD = ("-k", "gthread", "--threads", "4")


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    with Postgres(tmp_path_factory.mktemp("postgres")) as server:
        yield server


@pytest.mark.parametrize("options", [[*HOOKS, *GTHREAD], [*GTHREAD, "--preload"]], ids=["hooks", "preload"])
def test_threads_of_two_workers_use_sqlite(start: Start, options: Sequence[str], tmp_path: Path) -> None:
    server = start(
        gunicorn(*options, "--workers", "2", app=EXAMPLE), DATABASE_URL=f"sqlite:///{tmp_path}/users.db"
    )
    wanted = {"id": 1, "name": "Reader", "credit": 100}
    answers = together(4, lambda _: [server.get("/users/1") for _ in range(10)])
    assert [(status, json.loads(body)) for one in answers for status, body in one] == [(200, wanted)] * 40
    assert server.stop() == 0
    assert "Traceback" not in server.log()


def test_a_killed_postgresql_is_503_until_it_is_back(start: Start, postgres: Postgres) -> None:
    server = start(gunicorn(*HOOKS, *GTHREAD, "--preload", app=EXAMPLE), DATABASE_URL=postgres.url)
    assert server.get("/users/2")[0] == 200

    postgres.kill()
    server.until(lambda: server.get("/users/2")[0] == 503)
    with server.connection() as connection:
        connection.request("GET", "/users/2")
        response = connection.getresponse()
        assert (response.status, response.headers["Retry-After"]) in [(503, "1"), (503, "2")]
        response.read()
    assert "no database connection: <ConnectionPool 'main' 0 leased" in server.log()

    postgres.start()
    server.until(lambda: server.get("/users/2")[0] == 200)
    assert server.stop() == 0


def test_the_workers_of_a_preloaded_application_share_no_connection(start: Start, postgres: Postgres) -> None:
    command = gunicorn(*HOOKS, *GTHREAD, "--preload", "--workers", "2", app="tests.integration.pooled:app")
    server = start(command, DATABASE_URL=postgres.url, WARM="yes")
    assert set(server.pids("warm")) == {server.process.pid}
    seen: set[tuple[int, int]] = set()

    def both_have_served() -> bool:
        answers = together(4, lambda _: json.loads(server.get("/backend")[1]))
        seen.update((pid, backend) for pid, backend in answers)
        return len({pid for pid, _ in seen}) == 2

    server.until(both_have_served)
    backends = [backend for _, backend in seen]
    assert len(set(backends)) == len(backends)  # none in two processes
    assert server.process.pid not in {pid for pid, _ in seen}
    assert server.stop() == 0


def test_a_client_that_goes_away_gives_the_connection_back(start: Start, postgres: Postgres) -> None:
    server = start(gunicorn(*HOOKS, *GTHREAD, app="tests.integration.pooled:app"), DATABASE_URL=postgres.url)
    with server.connection() as connection:
        connection.request("GET", "/endless")
        assert connection.getresponse().read(1) == b"x"
        assert server.get("/leased") == (200, b"1")
    server.until(lambda: server.get("/leased") == (200, b"0"))
    assert server.stop() == 0


def test_a_worker_whose_pool_cannot_be_filled_does_not_start(start: Start, postgres: Postgres) -> None:
    wrong = postgres.url.replace("secret", "wrong")
    command = gunicorn(*HOOKS, app="tests.integration.pooled:app")
    server = start(command, listens=False, DATABASE_URL=wrong)
    assert server.wait() == 3
    assert "password authentication failed" in server.log()
    assert "secret" not in server.log()
