"""A connection pool among the resources of an application."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import partial
from typing import Any, Protocol

from prologue.db.adapter import Adapter
from prologue.db.pool import ConnectionPool
from prologue.db.replicas import ReplicatedPool
from prologue.db.shared import SharedConnection
from prologue.errors import ClosedResourceError, LifecycleError, PoolClosedError, PoolError
from prologue.lifecycle import Resources

__all__ = ["init_connection_pool", "shared_connection"]

_logger = logging.getLogger("prologue.db")

Database = str | Adapter | Callable[[], Any] | ConnectionPool | ReplicatedPool


class Application(Protocol):
    """What a pool needs of an application: an ``App`` has it, and so has a ``Lifecycle`` alone."""

    @property
    def resources(self) -> Resources: ...

    def on_startup(self, handler: Callable[[], object], /) -> object: ...


def init_connection_pool(
    app: Application,
    database: Database | None = None,
    *,
    name: str = "connection_pool",
    wait: bool = False,
    primary: Database | None = None,
    replicas: Iterable[Database] = (),
    choice: str = "round-robin",
    **options: Any,
) -> None:
    """Give an application a connection pool: ``app.resources[name]``, ``ctx.connection()``.

    Nothing is opened here, and in each process the first use opens its own; at shutdown the pool is closed.

    Args:
        app: an ``App``, or a ``Lifecycle``.
        database: a URL as for :meth:`ConnectionPool.from_url`, a function that connects, an ``Adapter``, or a
            pool.
        name: of the resource, another for each pool.
        wait: open ``min_connections``, one at least, at startup: a worker where that fails, or takes longer
            than ``connection_timeout``, does not start. Replicas are opened too, and may fail.
        primary: in place of ``database`` where there are replicas; ``ctx.connection()`` borrows from it.
        replicas: databases that ``ctx.connection(readonly=True)`` borrows from.
        choice: of a replica, as for :class:`ReplicatedPool`.
        **options: for :class:`ConnectionPool`, the same for the primary and each replica; none for a pool.

    Raises:
        TypeError: not one of ``database`` and ``primary`` is given, or options for a pool that is made.
        LifecycleError: the name is in use.
        SettingsError: no adapter reads the URL.
        ValueError: an option is out of range.
    """
    if (database is None) == (primary is None):
        raise TypeError("init_connection_pool needs either a database or primary=, with replicas=")
    pool_name = "main" if name == "connection_pool" else name
    pool: ConnectionPool | ReplicatedPool
    if primary is None:
        if replicas:
            raise TypeError("init_connection_pool with replicas= needs primary= in place of the database")
        pool = _pool_of(database, pool_name, options)
    else:
        followers = [
            _pool_of(replica, f"{pool_name} replica {number}", options)
            for number, replica in enumerate(replicas, 1)
        ]
        pool = ReplicatedPool(_pool_of(primary, pool_name, options), followers, choice=choice)
    # Ready: a pool opens nothing before its first use, and starts over by itself after a fork.
    app.resources.add_ready(name, pool, lambda pool: pool.close())
    if wait:
        app.on_startup(partial(_fill, pool))


def shared_connection(
    resources: Resources, name: str, deadline: float | None, cleanups: list[Callable[[], object]]
) -> SharedConnection:
    """Return what the blocks of one request share of the pool of a name.

    Raises:
        LifecycleError: there is no such pool.
        PoolClosedError: the application has shut down.
    """
    if name not in resources:
        raise LifecycleError(f"there is no pool {name!r}: init_connection_pool(app, url, name={name!r})")
    try:
        pool = resources[name]
    except ClosedResourceError as error:
        raise PoolClosedError(f"pool {name!r}: closed, the application has shut down") from error
    return SharedConnection(pool, deadline, cleanups)


def _pool_of(database: Any, name: str, options: dict[str, Any]) -> Any:
    if hasattr(database, "get_connection"):
        if options:
            raise TypeError(f"{database!r} is a pool: give {', '.join(options)} when it is made")
        return database
    if isinstance(database, str):
        return ConnectionPool.from_url(database, name=name, **options)
    return ConnectionPool(database, name=name, **options)


def _fill(pool: ConnectionPool | ReplicatedPool) -> None:
    if isinstance(pool, ReplicatedPool):
        _fill(pool.primary)
        for replica in pool.replicas:
            try:
                _fill(replica)
            except PoolError as error:
                _logger.warning("pool %r: a replica is not available at startup: %s", pool.name, error)
        return
    end = time.monotonic() + pool.connection_timeout
    with ExitStack() as borrowed:
        for _ in range(max(1, pool.stats().min_connections)):
            connection = pool.get_connection(max(0.0, end - time.monotonic()))
            borrowed.callback(connection.close)
