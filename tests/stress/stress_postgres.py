"""PostgreSQL killed under load, and its network broken in eight ways: what borrowers feel.

python -m pytest tests/stress/stress_postgres.py            # two minutes; prints the figures
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest

from prologue.db import ConnectionPool, PostgresAdapter
from prologue.errors import PoolError
from tests.concurrency import PATIENCE, Task
from tests.servers import Postgres, Proxy

CONNECTIONS = 8
CYCLES = 20
SLACK = 0.05  # seconds by which a checkout may outlive its deadline


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    with Postgres(tmp_path_factory.mktemp("postgres")) as server:
        yield server


def until(condition: Callable[[], object]) -> None:
    """Look every millisecond: unlike the tests' own, it leaves the processor to those it waits for."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "the condition never came to hold"
        time.sleep(0.001)


def url_of(port: int) -> str:
    return f"postgresql://app:secret@127.0.0.1:{port}/postgres"


def connect_seconds(url: str) -> float:
    times = []
    for _ in range(10):
        began = time.perf_counter()
        psycopg.connect(url).close()
        times.append(time.perf_counter() - began)
    return sorted(times)[5]


class Readers:
    """Threads that read all the time; a read that fails is tried once more."""

    def __init__(self, pool: Any, count: int) -> None:
        self.pool = pool
        self.reads = 0
        self.retried = 0
        self.failed: list[BaseException] = []
        self.good: list[float] = []
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._tasks = [Task(self._run) for _ in range(count)]

    def _read(self) -> float:
        with self.pool.connection() as connection:
            at = time.monotonic()
            assert connection.execute("SELECT 1").fetchone() == (1,)
            return at

    def _run(self) -> None:
        while not self._end.is_set():
            try:
                good = self._read()
            except Exception:
                with self._lock:
                    self.retried += 1
                try:
                    good = self._read()
                except Exception as error:
                    with self._lock:
                        self.failed.append(error)
                    continue
            with self._lock:
                self.reads += 1
                self.good.append(good)
            time.sleep(0.002)

    def since(self, moment: float) -> float:
        """Return when the first read after a moment got its connection."""
        until(lambda: self.good and self.good[-1] > moment)
        with self._lock:
            return min(at for at in self.good if at > moment)

    def stop(self) -> None:
        self._end.set()
        for task in self._tasks:
            task.result()


@pytest.mark.parametrize("engine", ["prologue", "psycopg_pool"])
def test_killed_and_restarted_under_load(
    postgres: Postgres, engine: str, capsys: pytest.CaptureFixture[str]
) -> None:
    connecting = connect_seconds(postgres.url)
    pool: Any = ConnectionPool.from_url(
        postgres.url,
        engine=engine,
        min_connections=CONNECTIONS,
        max_connections=CONNECTIONS,
        connection_timeout=10,
    )  # type: ignore[call-overload]
    readers = Readers(pool, CONNECTIONS)
    until(lambda: pool.stats().size == CONNECTIONS)
    delays = []
    outages = []
    for _ in range(CYCLES):
        until(lambda: pool.stats().idle + pool.stats().leased == CONNECTIONS)
        killed = time.monotonic()
        postgres.kill()
        down = time.monotonic()
        postgres.start()
        accepts = time.monotonic()
        outages.append(accepts - killed)
        delays.append(readers.since(down) - accepts)
    readers.stop()
    pool.close()
    with capsys.disabled():
        print(
            f"\n{engine}: {CYCLES} cycles, {readers.reads} reads, {readers.retried} retried,"
            f" {len(readers.failed)} failed; outage {min(outages):.3f} to {max(outages):.3f} s;"
            f" connecting takes {connecting:.3f} s; first good checkout after the server accepts:"
            f" median {sorted(delays)[len(delays) // 2]:.3f} s, worst {max(delays):.3f} s"
        )
    assert readers.failed == []
    assert max(delays) <= connecting + 0.1


@pytest.mark.parametrize("stale", [1, 8, 32])
def test_first_checkout_with_many_stale_connections(
    postgres: Postgres, stale: int, capsys: pytest.CaptureFixture[str]
) -> None:
    connecting = connect_seconds(postgres.url)
    pool = ConnectionPool.from_url(postgres.url, max_connections=stale, max_connecting=8)
    leases = [pool.get_connection(10) for _ in range(stale)]
    for lease in leases:
        lease.close()
    postgres.restart()
    began = time.monotonic()
    with pool.connection() as connection:
        took = time.monotonic() - began
        connection.execute("SELECT 1")
    pool.close()
    with capsys.disabled():
        print(f"\n{stale} stale: first good checkout after {took:.3f} s; connecting takes {connecting:.3f} s")
    assert took <= connecting + 0.1


class Measured:
    """Threads that borrow, use for a moment, and note by how much a checkout outlived its deadline."""

    def __init__(self, pool: ConnectionPool, count: int, timeout: float) -> None:
        self.pool = pool
        self.adapter = pool._adapter
        self.timeout = timeout
        self.late: list[float] = []
        self.got = 0
        self.refused = 0
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._tasks = [Task(self._run) for _ in range(count)]

    def _run(self) -> None:
        while not self._end.is_set():
            lease = self.pool.connection(self.timeout)
            began = time.monotonic()
            try:
                connection = lease.__enter__()
            except PoolError:
                self._note(time.monotonic() - began, False)
                time.sleep(0.005)  # as one would, who answers 503
                continue
            self._note(time.monotonic() - began, True)
            try:
                # An empty query with a time limit stands for work: psycopg itself would wait for ever.
                assert isinstance(self.adapter, PostgresAdapter)
                self.adapter.check(connection, 0.2)
            except Exception as error:
                lease.__exit__(type(error), error, None)
            else:
                lease.__exit__(None, None, None)
            time.sleep(0.005)

    def _note(self, took: float, got: bool) -> None:
        with self._lock:
            self.late.append(took - self.timeout)
            self.got += got
            self.refused += not got

    def stop(self) -> None:
        self._end.set()
        for task in self._tasks:
            task.result()


TOXICS: dict[str, tuple[Callable[[Proxy], None], ...]] = {
    "cut": (Proxy.refuse, Proxy.cut),
    "reset": (Proxy.refuse, Proxy.reset),
    "refuse": (Proxy.refuse,),
    "deaf": (Proxy.deaf, Proxy.cut),
    "stall": (Proxy.stall,),
    "blackhole": (Proxy.blackhole,),
    "half-open": (Proxy.blackhole, Proxy.half_open),
    "slow": (lambda proxy: proxy.slow(0.03),),
}


def full_size(pool: ConnectionPool) -> bool:
    """Borrow all connections at once, and use each."""
    with ExitStack() as stack:
        try:
            leases = [stack.enter_context(pool.connection(0.5)) for _ in range(CONNECTIONS)]
            for connection in leases:
                pool._adapter.check(connection)
        except Exception:
            return False
    return True


@pytest.mark.parametrize("toxic", TOXICS)
def test_toxics(postgres: Postgres, toxic: str, capsys: pytest.CaptureFixture[str]) -> None:
    threads = set(threading.enumerate())
    with Proxy(postgres.port) as proxy:
        own = set(threading.enumerate())
        adapter = PostgresAdapter(url_of(proxy.port), ping_timeout=0.5)
        pool = ConnectionPool(
            adapter,
            CONNECTIONS,
            CONNECTIONS,
            validation_interval=0.05,
            validation_timeout=0.3,
            connect_timeout=0.5,
        )
        assert full_size(pool)
        load = Measured(pool, 2 * CONNECTIONS, timeout=0.3)
        until(lambda: load.got > 200)
        for break_it in TOXICS[toxic]:
            break_it(proxy)
        time.sleep(2.0)
        load.stop()
        proxy.repair()
        repaired = time.monotonic()
        until(lambda: full_size(pool))
        recovered = time.monotonic() - repaired
        until(lambda: not [t for t in set(threading.enumerate()) - own if "maintain" not in t.name])
        idle_again = time.monotonic() - repaired
        pool.close()
        until(lambda: not set(threading.enumerate()) - own)
    until(lambda: not set(threading.enumerate()) - threads)
    with capsys.disabled():
        print(
            f"\n{toxic:9}: {load.got} checkouts, {load.refused} refused;"
            f" latest {max(load.late) * 1000:+.0f} ms after its deadline;"
            f" full size {recovered:.2f} s after the repair; no job left after {idle_again:.2f} s"
        )
    assert max(load.late) <= SLACK
    assert recovered <= 1.0
