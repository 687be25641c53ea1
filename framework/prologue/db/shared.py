"""One connection for nested blocks: the outermost borrows and commits, the inner ones are savepoints.

* **Ownership.** A :class:`SharedConnection` belongs to one piece of work, such as a request: one thread at a
  time.
* **Fork.** A block that is open across a fork ends in the child without touching the parent's connection.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar

from prologue.errors import LeaseError

__all__ = ["Block", "SharedConnection"]

T = TypeVar("T")

_logger = logging.getLogger("prologue.db")


class SharedConnection:
    """Let the nested ``with`` blocks of one piece of work share a connection, and one transaction.

    The outermost block borrows the connection, commits at its end and gives it back. A block inside is a
    savepoint: when it raises, its own work alone is undone, and the error goes on. Leave committing and
    rolling back to the blocks.

    Of a :class:`~prologue.db.ReplicatedPool` an outermost block for reading may have a replica. One for
    writing inside of it has a connection of the primary, and a transaction of its own.

    Args:
        pool: a ``ConnectionPool`` or a ``ReplicatedPool``.
        deadline: when the work is too late, on the clock; no block waits longer for a connection.
        cleanups: where ``close`` is put while a connection is out, and taken from when it is back.
        clock: seconds, never going back.

    Example:
        >>> from prologue.db import ConnectionPool
        >>> work = SharedConnection(ConnectionPool.from_url("sqlite:///:memory:"))
        >>> with work.connection() as connection, work.connection() as the_same:
        ...     connection is the_same
        True
    """

    __slots__ = ("_cleanups", "_clock", "_deadline", "_open", "_pool")

    def __init__(
        self,
        pool: Any,
        deadline: float | None = None,
        cleanups: list[Callable[[], object]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pool = pool
        self._deadline = deadline
        self._cleanups = [] if cleanups is None else cleanups
        self._clock = clock
        self._open: dict[bool, _Transaction] = {}  # by whether it may be on a replica

    def connection(self, timeout: float | None = None, readonly: bool = False) -> Block:
        """Return a ``with`` block that gives the driver's own connection.

        Args:
            timeout: seconds to wait for it; None means the pool's ``connection_timeout``, 0 tries.
            readonly: whether a replica will do, where the pool has any. The database enforces it, or not.

        Returns:
            The block. Entering it raises as :meth:`ConnectionPool.get_connection` does, and what the driver
            raises for the savepoint.
        """
        return Block(self, timeout, readonly)

    def with_connection(
        self, function: Callable[[Any], T], timeout: float | None = None, readonly: bool = False
    ) -> T:
        """Call a function with the connection, in a block of its own, and return what it returns.

        Args:
            function: called with the driver's connection.
            timeout: as for :meth:`connection`.
            readonly: as for :meth:`connection`.

        Raises:
            Exception: what the function raises; and as :meth:`connection`.
        """
        with self.connection(timeout, readonly) as connection:
            return function(connection)

    def close(self) -> None:
        """Roll back what blocks that were never left have done, and give their connections back.

        Raises:
            Exception: what the pool raises.
        """
        for transaction in list(self._open.values()):
            _logger.warning("%r: a block was not left: its work is rolled back", self._pool)
            transaction.leave(1, LeaseError("the block was not left"))

    def _enter(self, timeout: float | None, readonly: bool) -> tuple[_Transaction, int]:
        on_replica = readonly and hasattr(self._pool, "replicas")
        transaction = self._open.get(False) or self._open.get(on_replica)
        if transaction is not None:
            return transaction, transaction.nest()
        limit = self._limit(timeout)
        lease = self._pool.connection(limit, readonly=True) if on_replica else self._pool.connection(limit)
        transaction = _Transaction(self, on_replica, lease)
        if not self._open:
            self._cleanups.append(self.close)
        self._open[on_replica] = transaction
        return transaction, 1

    def _ended(self, on_replica: bool) -> None:
        del self._open[on_replica]
        if not self._open and self.close in self._cleanups:
            self._cleanups.remove(self.close)

    def _limit(self, timeout: float | None) -> float | None:
        if self._deadline is None:
            return timeout
        left = max(0.0, self._deadline - self._clock())
        return min(left, self._pool.connection_timeout if timeout is None else timeout)


class Block:
    """A ``with`` block that shares the connection of those around it, made by ``connection()``."""

    __slots__ = ("_level", "_readonly", "_shared", "_timeout", "_transaction")

    def __init__(self, shared: SharedConnection, timeout: float | None, readonly: bool) -> None:
        self._shared = shared
        self._timeout = timeout
        self._readonly = readonly
        self._transaction: _Transaction | None = None
        self._level = 0

    def __enter__(self) -> Any:
        if self._transaction is not None:
            raise LeaseError(f"{self._shared._pool!r}: this block is in use: call connection() for another")
        self._transaction, self._level = self._shared._enter(self._timeout, self._readonly)
        return self._transaction.connection

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        transaction, self._transaction = self._transaction, None
        if transaction is not None:
            transaction.leave(self._level, error)


class _Transaction:
    """A borrowed connection and the blocks that are open on it."""

    __slots__ = ("_failure", "_lease", "_level", "_on_replica", "_process", "_shared", "connection")

    def __init__(self, shared: SharedConnection, on_replica: bool, lease: Any) -> None:
        self.connection = lease.__enter__()
        self._shared = shared
        self._on_replica = on_replica
        self._lease = lease
        self._level = 1  # of the innermost open block; 0 at the end
        self._failure: Exception | None = None  # why nothing of it may be committed
        self._process = os.getpid()

    def nest(self) -> int:
        """Begin a block inside; return its level."""
        if os.getpid() != self._process:
            raise LeaseError(f"{self._shared._pool!r}: a block of another process is open: leave it first")
        # The sqlite3 module begins transactions late, and not for a savepoint: its release would commit.
        if getattr(self.connection, "in_transaction", True) is False:
            self._execute("BEGIN")
        self._execute(f"SAVEPOINT prologue_{self._level}")
        self._level += 1
        return self._level

    def leave(self, level: int, error: BaseException | None) -> None:
        """End the block of a level, with all inside of it."""
        if level > self._level:
            return  # it ended with the block around it
        mistake = None
        if error is None and level < self._level:
            error = mistake = LeaseError(
                f"{self._shared._pool!r}: a block ends before one inside of it: what both did is rolled back"
            )
        self._level = level - 1
        if level == 1:
            self._end(error)
        elif os.getpid() == self._process:
            self._end_inner(f"prologue_{level - 1}", error)
        if mistake is not None:
            raise mistake

    def _end(self, error: BaseException | None) -> None:
        self._shared._ended(self._on_replica)
        failure = error or self._failure
        self._lease.__exit__(type(failure) if failure is not None else None, failure, None)
        if error is None and failure is not None:
            raise failure

    def _end_inner(self, savepoint: str, error: BaseException | None) -> None:
        if error is None:
            try:
                self._execute(f"RELEASE SAVEPOINT {savepoint}")
            except BaseException as failure:
                self._undo(savepoint, failure)
                raise
        else:
            self._undo(savepoint, error)

    def _undo(self, savepoint: str, error: BaseException) -> None:
        try:
            self._execute(f"ROLLBACK TO SAVEPOINT {savepoint}")
            self._execute(f"RELEASE SAVEPOINT {savepoint}")
        except Exception as failure:
            # Some errors end a whole transaction. Whoever catches this one must not commit what comes after.
            failure.add_note(
                "the savepoint is gone: everything since the outermost block began is rolled back"
            )
            self._failure = failure
            if isinstance(error, Exception):
                raise  # an interruption goes on as what it is

    def _execute(self, statement: str) -> None:
        cursor = self.connection.cursor()
        try:
            cursor.execute(statement)
        finally:
            cursor.close()
