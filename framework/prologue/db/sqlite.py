"""SQLite: the embedded database, on file or in memory."""

from __future__ import annotations

import itertools
import os
import sqlite3
import threading
import weakref

from prologue.db.adapter import Adapter
from prologue.lifecycle import abandon, on_fork

__all__ = ["SQLiteAdapter"]

_memory_names = itertools.count(1)


class SQLiteAdapter(Adapter):
    """Open SQLite databases: write-ahead log, foreign keys enforced, patience with other writers.

    All connections of one adapter to ``:memory:`` share one database, which lives as long as the adapter, in
    one process: the child of a fork starts with an empty one.

    Args:
        path: of the database file, made when it is missing; or ``:memory:``.
        busy_timeout: seconds that a statement waits for the lock of another writer (default 5).
    """

    reset_after_commit = False

    def __init__(self, path: str | os.PathLike[str], busy_timeout: float = 5.0) -> None:
        super().__init__(self._open)
        self._path = os.fspath(path)
        self._busy_timeout = busy_timeout
        self._in_memory = self._path == ":memory:"
        self._keeper: weakref.finalize[[], SQLiteAdapter] | None
        self._start_over()
        on_fork(self._after_fork)

    def check(self, connection: sqlite3.Connection) -> None:
        """Read the database's header, so that a file that cannot be read is noticed."""
        connection.execute("PRAGMA schema_version").fetchone()

    def reset(self, connection: sqlite3.Connection) -> None:
        """Roll back what was not committed; cost nothing when there is nothing."""
        if connection.in_transaction:
            connection.rollback()

    def _open(self) -> sqlite3.Connection:
        if self._in_memory:
            return self._open_memory()
        connection = self._open_database(self._path)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except BaseException:
            connection.close()
            raise
        return connection

    def _open_memory(self) -> sqlite3.Connection:
        with self._lock:
            if self._keeper is None:
                keeper = self._open_database(self._memory)
                self._keeper = weakref.finalize(self, keeper.close)
        return self._open_database(self._memory)

    def _open_database(self, database: str) -> sqlite3.Connection:
        connection = sqlite3.connect(
            database, timeout=self._busy_timeout, check_same_thread=False, uri=self._in_memory
        )
        connection.execute("PRAGMA foreign_keys = ON")
        return connection

    def _start_over(self) -> None:
        # Invariant: the keeper, a connection that keeps the database in memory alive, is opened once, under
        # the lock. The file system "memdb" locks as files do, so that the busy timeout holds; a shared cache
        # would ignore it.
        self._lock = threading.Lock()
        self._keeper = None
        self._memory = f"file:/prologue-{os.getpid()}-{next(_memory_names)}?vfs=memdb"

    def _after_fork(self) -> None:
        if self._keeper is not None:
            abandon(self._keeper.detach())
        self._start_over()
