"""Database connections: a pool for any DB-API driver, with an adapter for SQLite.

>>> pool = ConnectionPool.from_url("sqlite:///:memory:")
>>> with pool.connection() as connection:
...     connection.execute("SELECT 40 + 2").fetchone()
(42,)
>>> pool.close()

* **Locks.** One plain lock for a pool; nothing of a user's, a driver's or a logger's runs under it.
* **Threads.** A pool may be used by any number of threads. Connecting, checking and closing happen on threads
  of their own, so that a driver that hangs takes nobody's time but its own.
* **Fork.** A pool used before a fork opens connections of its own in the child; the parent's stay untouched.
"""

from prologue.db.adapter import Adapter
from prologue.db.application import init_connection_pool
from prologue.db.lease import Lease, PooledConnection
from prologue.db.pool import ConnectionPool
from prologue.db.replicas import ReplicatedPool
from prologue.db.shared import SharedConnection
from prologue.db.sqlite import SQLiteAdapter
from prologue.db.stats import PoolStats

__all__ = [
    "Adapter",
    "ConnectionPool",
    "Lease",
    "PoolStats",
    "PooledConnection",
    "ReplicatedPool",
    "SQLiteAdapter",
    "SharedConnection",
    "init_connection_pool",
]
