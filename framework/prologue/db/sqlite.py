"""SQLite: the embedded database, on file or in memory."""

from __future__ import annotations

import itertools
import os
import sqlite3
import threading
import weakref
from typing import Final, TypeVar

from prologue.db.adapter import Adapter
from prologue.lifecycle import abandon, on_fork

__all__ = ["SQLiteAdapter"]

T = TypeVar("T", bound=sqlite3.Connection)

OPENING_PATIENCE: Final = 2.0  # seconds
BROKEN: Final = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOTADB}

_memory_names = itertools.count(1)


class FileConnection(sqlite3.Connection):
    """A connection that knows which file it opened.

    Attributes:
        identity: of the file, whatever its name is now.
    """

    identity: tuple[int, int] | None = None


class SQLiteAdapter(Adapter):
    """Open SQLite databases: write-ahead log, foreign keys enforced, patience with other writers.

    All connections of one adapter to ``:memory:`` share one database, which lives as long as the adapter, in
    one process: the child of a fork starts with an empty one.

    A file that is replaced, as when a backup is put back, is noticed before a connection is lent, and opened
    anew. One that is deleted is not made again: connecting fails until it is back. What is written to a file
    that has no name any more would be lost without a word.

    Args:
        path: of the database file, made when it is missing; or ``:memory:``.
        busy_timeout: seconds that a statement waits for the lock of another writer (default 5).
    """

    reset_after_commit = False
    reset_is_proof = True

    def __init__(self, path: str | os.PathLike[str], busy_timeout: float = 5.0) -> None:
        super().__init__(self._open)
        self._path = os.fspath(path)
        self._busy_timeout = busy_timeout
        self._in_memory = self._path == ":memory:"
        self._found = False  # the file was opened once
        self._keeper: weakref.finalize[[], SQLiteAdapter] | None
        self._start_over()
        on_fork(self._after_fork)

    def is_alive(self, connection: sqlite3.Connection) -> bool:
        """Look whether the file is still the one that was opened: a system call of about a microsecond."""
        return not isinstance(connection, FileConnection) or connection.identity == _identity(self._path)

    def check(self, connection: sqlite3.Connection) -> None:
        """Read the database's header, so that a file that cannot be read, or is another one, is noticed.

        Raises:
            sqlite3.Error: the file was deleted or replaced, or cannot be read.
        """
        if not self.is_alive(connection):
            raise sqlite3.OperationalError(f"{self._path!r} was deleted or replaced since it was opened")
        connection.execute("PRAGMA schema_version").fetchone()

    def reset(self, connection: sqlite3.Connection) -> None:
        """Roll back what was not committed; cost nothing when there is nothing."""
        if connection.in_transaction:
            connection.rollback()

    def is_disconnect(self, error: BaseException) -> bool:
        """Whether SQLite found the file damaged, unreadable or moved."""
        code = getattr(error, "sqlite_errorcode", None)
        return code is not None and (code & 0xFF in BROKEN or code == sqlite3.SQLITE_READONLY_DBMOVED)

    def __repr__(self) -> str:
        return f"<SQLiteAdapter {self._path!r}>"

    def _open(self) -> sqlite3.Connection:
        if self._in_memory:
            return self._open_memory()
        try:
            return self._open_file()
        except sqlite3.Error as error:
            # SQLite does not say which file it means.
            raise type(error)(f"{self._path!r}: {error}") from error

    def _open_file(self) -> sqlite3.Connection:
        if self._found and _identity(self._path) is None:
            raise sqlite3.OperationalError("the file was deleted while it was in use")
        connection = self._open_database(self._path, FileConnection)
        connection.identity = _identity(self._path)
        self._found = True
        return connection

    def _open_memory(self) -> sqlite3.Connection:
        with self._lock:
            if self._keeper is None:
                keeper = self._open_database(self._memory, sqlite3.Connection)
                self._keeper = weakref.finalize(self, keeper.close)
        return self._open_database(self._memory, sqlite3.Connection)

    def _open_database(self, database: str, factory: type[T]) -> T:
        # Less patience than with statements: a file that is locked should be reported as such, and not as one
        # that takes the pool's connect_timeout to open.
        patience = min(self._busy_timeout, OPENING_PATIENCE)
        connection = sqlite3.connect(
            database, timeout=patience, check_same_thread=False, uri=self._in_memory, factory=factory
        )
        try:
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA journal_mode = WAL")  # changes nothing in memory
            connection.execute(f"PRAGMA busy_timeout = {int(self._busy_timeout * 1000)}")
        except BaseException:
            connection.close()
            raise
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


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
