"""Threads interrupted anywhere, also between a question and its answer: nobody gets the answer to another's.

    python -m pytest -s tests/stress/stress_pool_desync.py

``QUERIES`` in the environment says how many for each database, by default 50,000.
"""

from __future__ import annotations

import ctypes
import os
import random
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from prologue.db import ConnectionPool
from prologue.errors import PoolError
from tests.servers import MariaDB, Postgres, PrivateServer

QUERIES = int(os.environ.get("QUERIES", "50000"))
THREADS = 8
CONNECTIONS = 4


class Late(Exception):
    """Raised in a thread by another, as a time limit on requests may."""


class Ended(BaseException):
    """The same, for a thread that is to end."""


def interrupt(thread: threading.Thread, error: type[BaseException]) -> None:
    """Raise an exception in a thread, wherever it is."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(error))


#: A statement that is answered without a row: its answer looks like that to COMMIT and to ROLLBACK.
SILENT = {Postgres: "SET application_name = 'desync'", MariaDB: "DO 0"}


def url_of(server: PrivateServer) -> str:
    if isinstance(server, Postgres):
        return server.url
    return f"mariadb://app@127.0.0.1:{server.port}/test?ssl_disabled=true"


@pytest.mark.parametrize("kind", [Postgres, MariaDB])
def test_no_foreign_answer(kind: type[PrivateServer], tmp_path: Path) -> None:
    asked = [0] * THREADS
    answered = [0] * THREADS
    foreign: list[str] = []
    errors = [0] * THREADS

    def ask(pool: ConnectionPool, number: int) -> None:
        while asked[number] < QUERIES // THREADS:
            asked[number] += 1
            question = f"{number}:{asked[number]}"
            with pool.connection(timeout=30) as connection:
                cursor = connection.cursor()
                cursor.execute(SILENT[kind])
                cursor.execute("SELECT %s", (question,))
                (answer,) = cursor.fetchone()
                if answer != question:
                    foreign.append(f"{answer} for {question}")
            answered[number] += 1

    def work(pool: ConnectionPool, number: int) -> None:
        while asked[number] < QUERIES // THREADS:
            try:
                ask(pool, number)
            except (Late, Ended, PoolError):
                pass
            except Exception:
                errors[number] += 1  # the driver's own, which was interrupted in it

    with kind(tmp_path) as server:
        pool = ConnectionPool.from_url(url_of(server), max_connections=CONNECTIONS)
        threads = [
            threading.Thread(target=partial(work, pool, number), daemon=True) for number in range(THREADS)
        ]
        draw = random.Random(1)
        interruptions = 0
        for thread in threads:
            thread.start()
        while alive := [thread for thread in threads if thread.is_alive()]:
            interrupt(draw.choice(alive), draw.choice([Late, Ended]))
            interruptions += 1
            time.sleep(0.003)
        stats = pool.stats()
        pool.close()
    print(
        f"\n{kind.__name__}: {sum(asked)} queries, {sum(answered)} answered,"
        f" {interruptions} exceptions thrown into threads, {sum(errors)} errors of the driver,"
        f" {stats.opened} connections opened, {len(foreign)} foreign answers"
    )
    assert foreign == []
    assert sum(errors) <= interruptions
    assert stats.opened > CONNECTIONS
