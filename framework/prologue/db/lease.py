"""What a borrower holds: the only way to a connection of a pool."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from prologue.errors import LeaseError

if TYPE_CHECKING:
    from prologue.db.entry import Entry
    from prologue.db.pool import ConnectionPool

__all__ = ["Lease", "PooledConnection"]


class Lease:
    """A ``with`` block that borrows a connection: ``with pool.connection() as connection``.

    It gives the driver's own connection, commits at the end, and rolls back if the block raises. One block at
    a time; it belongs to one thread.
    """

    # PERF: a class, not a generator: contextlib's costs three calls more for each block.
    __slots__ = ("_entry", "_pool", "_timeout")

    def __init__(self, pool: ConnectionPool, timeout: float | None) -> None:
        self._pool = pool
        self._timeout = timeout
        self._entry: Entry | None = None

    def __enter__(self) -> Any:
        if self._entry is not None:
            raise LeaseError(f"{self._pool!r}: this lease is in use: call connection() for another")
        self._entry = self._pool._acquire(self._timeout)
        return self._entry.connection

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        entry, self._entry = self._entry, None
        if entry is not None:
            self._pool._end(entry, error)


class PooledConnection:
    """A borrowed connection: it does what the driver's does, and ``close()`` gives it back to the pool.

    Attributes are read from and written to the driver's connection. Once it is given back it can do nothing
    more, whoever has the connection then. Giving it back undoes what was not committed; ``with connection:``
    commits at the end, rolls back if the block raises, and gives it back. One that is dropped without being
    given back is closed, and the pool opens another in its place.

    Raises:
        LeaseError: on every use after it was given back, or in the child of a fork.
    """

    __slots__ = ("_entry", "_pool")

    _entry: Entry | None
    _pool: ConnectionPool

    def __init__(self, pool: ConnectionPool, entry: Entry) -> None:
        object.__setattr__(self, "_pool", pool)
        object.__setattr__(self, "_entry", entry)

    def close(self) -> None:
        """Give the connection back; calling again does nothing."""
        entry = self._pool._take(self)
        if entry is not None:
            self._pool._give_back(entry, None)

    def _connection(self) -> Any:
        entry = self._entry
        if entry is None:
            raise LeaseError(f"{self._pool!r}: this connection was given back: borrow another")
        if not self._pool._holds(entry):
            raise LeaseError(f"{self._pool!r}: a connection of another process: borrow one after the fork")
        return entry.connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._connection(), name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._connection(), name)

    def __enter__(self) -> Self:
        self._connection()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        entry = self._pool._take(self)
        if entry is not None:
            self._pool._end(entry, error)

    def __reduce__(self) -> str:
        raise TypeError("a borrowed connection cannot be copied or pickled: borrow another")

    def __del__(self) -> None:
        if self._entry is not None:
            self._pool._lose(self._entry)

    def __repr__(self) -> str:
        entry = self._entry
        return f"<PooledConnection {'given back' if entry is None else repr(entry.connection)}>"
