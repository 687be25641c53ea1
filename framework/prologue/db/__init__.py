"""Database connections: a pool for any DB-API driver, with adapters for SQLite and PostgreSQL.

>>> pool = ConnectionPool.from_url("sqlite:///:memory:")
>>> with pool.connection() as connection:
...     connection.execute("SELECT 40 + 2").fetchone()
(42,)
>>> pool.close()

* **Locks.** One lock for a pool; nothing of a user's, a driver's or a logger's runs under it. While
  connections are idle, borrowing and giving back take none.
* **Threads.** A pool may be used by any number of threads. Connecting, checking and closing happen on threads
  of their own, so that a driver that hangs takes nobody's time but its own.
* **Fork.** A pool used before a fork opens connections of its own in the child; the parent's stay untouched.
"""

from prologue.db.adapter import Adapter
from prologue.db.application import init_connection_pool
from prologue.db.histogram import Histogram
from prologue.db.lease import Lease, PooledConnection
from prologue.db.pool import ConnectionPool
from prologue.db.postgres import PostgresAdapter
from prologue.db.psycopg_engine import PsycopgPool
from prologue.db.replicas import ReplicatedPool
from prologue.db.shared import SharedConnection
from prologue.db.sqlite import SQLiteAdapter
from prologue.db.stats import PoolStats
from prologue.db.telemetry import Metric, PrometheusCollector, metrics

__all__ = [
    "Adapter",
    "ConnectionPool",
    "Histogram",
    "Lease",
    "Metric",
    "PoolStats",
    "PooledConnection",
    "PostgresAdapter",
    "PrometheusCollector",
    "PsycopgPool",
    "ReplicatedPool",
    "SQLiteAdapter",
    "SharedConnection",
    "init_connection_pool",
    "metrics",
]
