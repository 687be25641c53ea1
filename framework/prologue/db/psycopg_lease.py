"""What a borrower holds of a pool whose engine is psycopg_pool."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from prologue.errors import LeaseError

if TYPE_CHECKING:
    import psycopg_pool

    from prologue.db.psycopg_engine import PsycopgPool

    Engine = psycopg_pool.ConnectionPool[Any]

__all__ = ["Loan", "PsycopgConnection", "PsycopgLease"]


class Loan:
    """A connection that is borrowed, and the engine that it goes back to."""

    __slots__ = ("connection", "engine", "lent_at")

    def __init__(self, engine: Engine, connection: Any) -> None:
        self.engine = engine
        self.lent_at = time.monotonic()
        self.connection = connection


class PsycopgLease:
    """A ``with`` block that borrows a connection, as :class:`~prologue.db.Lease` does."""

    __slots__ = ("_loan", "_pool", "_timeout")

    def __init__(self, pool: PsycopgPool, timeout: float | None) -> None:
        self._pool = pool
        self._timeout = timeout
        self._loan: Loan | None = None

    def __enter__(self) -> Any:
        if self._loan is not None:
            raise LeaseError(f"{self._pool!r}: this lease is in use: call connection() for another")
        self._loan = self._pool._acquire(self._timeout)
        return self._loan.connection

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        loan, self._loan = self._loan, None
        if loan is not None:
            self._pool._end(loan, error)


class PsycopgConnection:
    """A borrowed connection, as :class:`~prologue.db.PooledConnection` is one: ``close()`` gives it back.

    One that is dropped without being given back is closed when the pool is next asked for a connection.

    Raises:
        LeaseError: on every use after it was given back, or in the child of a fork.
    """

    __slots__ = ("_loan", "_pool")

    _loan: Loan | None
    _pool: PsycopgPool

    def __init__(self, pool: PsycopgPool, loan: Loan) -> None:
        object.__setattr__(self, "_pool", pool)
        object.__setattr__(self, "_loan", loan)

    def close(self) -> None:
        """Give the connection back; calling again does nothing."""
        loan = self._pool._take(self)
        if loan is not None:
            self._pool._give_back(loan, None)

    def _connection(self) -> Any:
        loan = self._loan
        if loan is None:
            raise LeaseError(f"{self._pool!r}: this connection was given back: borrow another")
        if not self._pool._holds(loan):
            raise LeaseError(f"{self._pool!r}: a connection of another process: borrow one after the fork")
        return loan.connection

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
        loan = self._pool._take(self)
        if loan is not None:
            self._pool._end(loan, error)

    def __reduce__(self) -> str:
        raise TypeError("a borrowed connection cannot be copied or pickled: borrow another")

    def __del__(self) -> None:
        if self._loan is not None:
            self._pool._lost.put(self._loan)

    def __repr__(self) -> str:
        loan = self._loan
        return f"<PsycopgConnection {'given back' if loan is None else repr(loan.connection)}>"
