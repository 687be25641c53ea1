"""The connection pools that are compared, each used as its documentation says, over a driver that is free."""

from __future__ import annotations

import importlib.util
import threading
import time
from collections import deque
from collections.abc import Callable
from types import ModuleType
from typing import Any

__all__ = ["OURS", "PEERS", "Connection", "HandOff", "Pool", "installed"]

OURS = "prologue"


class Connection:
    """A connection that costs nothing. It has what DB-API 2.0 asks for, and what psycopg_pool looks at."""

    autocommit = broken = closed = False
    threadsafety = 2
    _pool: Any = None

    class pgconn:
        transaction_status = 0

    def __init__(self, connect_seconds: float = 0.0) -> None:
        if connect_seconds:
            time.sleep(connect_seconds)

    @classmethod
    def connect(cls, *arguments: object, **options: Any) -> Connection:
        return cls(options.get("connect_seconds", 0.0))

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        if kind:
            self.rollback()
        else:
            self.commit()

    def cursor(self) -> Connection:
        return self

    def commit(self) -> None:
        pass

    def rollback(self) -> None:
        pass

    def close(self) -> None:
        pass


class Pool:
    """A pool that is filled to its minimum.

    Args:
        least: connections that are there at once.
        most: connections that there may be.
        connect_seconds: what opening one takes.
    """

    module = ""
    distribution = ""

    def __init__(self, least: int, most: int, connect_seconds: float = 0.0) -> None:
        raise NotImplementedError

    def cycles(self, count: int, hold: Callable[[], object] | None) -> None:
        """Borrow a connection and give it back so many times, holding it for a while."""
        raise NotImplementedError

    def timed_cycle(self, hold: Callable[[], object]) -> float:
        """Borrow once; return the seconds until there was a connection."""
        raise NotImplementedError

    def size(self) -> int:
        """How many connections there are."""
        raise NotImplementedError

    def close(self) -> None:
        """Close it."""
        raise NotImplementedError


class WithBlock(Pool):
    """A pool whose connections are borrowed for a `with` block, which commits."""

    pool: Any

    def cycles(self, count: int, hold: Callable[[], object] | None) -> None:
        connection = self.pool.connection
        if hold is None:
            for _ in range(count):
                with connection():
                    pass
        else:
            for _ in range(count):
                with connection():
                    hold()

    def timed_cycle(self, hold: Callable[[], object]) -> float:
        start = time.perf_counter()
        with self.pool.connection():
            waited = time.perf_counter() - start
            hold()
        return waited


class Prologue(WithBlock):
    module = "prologue"

    def __init__(self, least: int, most: int, connect_seconds: float = 0.0) -> None:
        from prologue.db import ConnectionPool

        self.pool = ConnectionPool(lambda: Connection(connect_seconds), least, most, 30.0)
        self.pool.open(wait=True, timeout=30)

    def size(self) -> int:
        size: int = self.pool.stats().size
        return size

    def close(self) -> None:
        self.pool.close()


class PsycopgPool(WithBlock):
    module = "psycopg_pool"
    distribution = "psycopg-pool"

    def __init__(self, least: int, most: int, connect_seconds: float = 0.0) -> None:
        from psycopg_pool import ConnectionPool

        self.pool = ConnectionPool(
            "",
            connection_class=Connection,
            kwargs={"connect_seconds": connect_seconds},
            min_size=least,
            max_size=most,
            open=True,
        )
        self.pool.wait(30)

    def size(self) -> int:
        size: int = self.pool.get_stats()["pool_size"]
        return size

    def close(self) -> None:
        self.pool.close()


class Method(Pool):
    """A pool whose connections are borrowed by a call and given back by `close()`, which rolls back."""

    borrow: Callable[[], Any]

    def cycles(self, count: int, hold: Callable[[], object] | None) -> None:
        borrow = self.borrow
        if hold is None:
            for _ in range(count):
                connection = borrow()
                try:
                    pass
                finally:
                    connection.close()
        else:
            for _ in range(count):
                connection = borrow()
                try:
                    hold()
                finally:
                    connection.close()

    def timed_cycle(self, hold: Callable[[], object]) -> float:
        start = time.perf_counter()
        connection = self.borrow()
        try:
            waited = time.perf_counter() - start
            hold()
        finally:
            connection.close()
        return waited


class SQLAlchemy(Method):
    module = "sqlalchemy"
    distribution = "SQLAlchemy"

    def __init__(self, least: int, most: int, connect_seconds: float = 0.0) -> None:
        from sqlalchemy.pool import QueuePool

        self.pool: Any = QueuePool(
            lambda: Connection(connect_seconds), pool_size=least, max_overflow=most - least
        )
        self.borrow = self.pool.connect
        for connection in [self.borrow() for _ in range(least)]:
            connection.close()

    def size(self) -> int:
        size: int = self.pool.size() + self.pool.overflow()
        return size

    def close(self) -> None:
        self.pool.dispose()


class DBUtils(Method):
    module = "dbutils"
    distribution = "DBUtils"

    def __init__(self, least: int, most: int, connect_seconds: float = 0.0) -> None:
        from dbutils.pooled_db import PooledDB

        driver: Any = ModuleType("driver")
        driver.threadsafety = 2
        driver.OperationalError = driver.InterfaceError = driver.InternalError = OSError
        self.opened = 0

        def connect() -> Connection:
            self.opened += 1
            return Connection(connect_seconds)

        driver.connect = connect
        self.pool = PooledDB(
            driver, mincached=least, maxcached=most, maxconnections=most, blocking=True, ping=0
        )
        self.borrow = self.pool.connection

    def size(self) -> int:
        return self.opened

    def close(self) -> None:
        self.pool.close()


class HandOff(Pool):
    """No pool, but what one that serves in order cannot do without: whoever is through wakes the next."""

    def __init__(self, least: int, most: int, connect_seconds: float = 0.0) -> None:
        self._free = most
        self._waiters: deque[threading.Lock] = deque()
        self._lock = threading.Lock()

    def timed_cycle(self, hold: Callable[[], object]) -> float:
        start = time.perf_counter()
        woken = None
        with self._lock:
            if self._free:
                self._free -= 1
            else:
                woken = threading.Lock()
                woken.acquire()
                self._waiters.append(woken)
        if woken is not None:
            woken.acquire()
        waited = time.perf_counter() - start
        hold()
        with self._lock:
            if self._waiters:
                self._waiters.popleft().release()
            else:
                self._free += 1
        return waited

    def close(self) -> None:
        pass


PEERS: dict[str, type[Pool]] = {
    OURS: Prologue,
    "psycopg_pool": PsycopgPool,
    "SQLAlchemy QueuePool": SQLAlchemy,
    "DBUtils PooledDB": DBUtils,
}


def installed() -> dict[str, type[Pool]]:
    """Return the pools that can be measured here."""
    return {name: pool for name, pool in PEERS.items() if importlib.util.find_spec(pool.module)}
