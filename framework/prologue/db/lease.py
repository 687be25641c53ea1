"""What a borrower holds: the only way to a connection of a pool."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from prologue.db.histogram import SHORT
from prologue.errors import LeaseError

if TYPE_CHECKING:
    from prologue.db.entry import Claim
    from prologue.db.pool import ConnectionPool

__all__ = ["Lease", "PooledConnection", "QuickLease"]


class Lease:
    """A ``with`` block that borrows a connection: ``with pool.connection() as connection``.

    It gives the driver's own connection, commits at the end, and rolls back if the block raises. One block at
    a time; it belongs to one thread.
    """

    # PERF: a class, not a generator: contextlib's costs three calls more for each block.
    __slots__ = ("_claim", "_pool", "_timeout")

    def __init__(self, pool: ConnectionPool, timeout: float | None) -> None:
        self._pool = pool
        self._timeout = timeout
        self._claim: Claim | None = None

    def __enter__(self) -> Any:
        if self._claim is not None:
            raise LeaseError(f"{self._pool!r}: this lease is in use: call connection() for another")
        self._claim = claim = self._pool._acquire(self._timeout)
        return claim.entry.connection

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        claim = self._claim
        self._claim = None
        if claim is not None and claim.home is self._pool._home:
            self._pool._end(claim, error)  # else it has ended, or was lent before a fork


class QuickLease(Lease):
    """The lease of a pool that has nothing to do but to lend, commit and take back.

    PERF: it writes out what :class:`Lease` has called, for the cost of a lease is that of Python's calls. It
    does so where nobody waits, a fresh connection is idle, and the block ends well.
    """

    __slots__ = ()

    def __enter__(self) -> Any:
        pool = self._pool
        if not pool._waiters and self._claim is None:
            try:
                claim = pool._idle.pop()
            except IndexError:
                return super().__enter__()
            entry = claim.entry
            now = pool._clock()
            if now - entry.last_ok < pool._fresh_for and now < entry.limit:
                entry.lent_at = now
                entry.uses += 1
                self._claim = claim
                return entry.connection
            pool._doubtful.append(claim)
        return super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        claim = self._claim
        pool = self._pool
        if kind is not None or claim is None or claim.home is not pool._home:
            return super().__exit__(kind, error, traceback)
        self._claim = None
        entry = claim.entry
        try:
            entry.commit()
        except BaseException as failure:
            pool._give_back(claim, failure)
            raise
        now = pool._clock()
        used = now - entry.lent_at  # type: ignore[operator]  # it is lent
        entry.use_seconds += used
        if used > SHORT:
            pool._note_long_use(entry, used)
        entry.last_ok = now
        entry.lent_at = None
        try:
            pool._idle.append(claim)
            if pool._waiters or now >= entry.limit:
                pool._attend(entry, now)
        except BaseException:
            pool._call_keeper()
            raise


class PooledConnection:
    """A borrowed connection: it does what the driver's does, and ``close()`` gives it back to the pool.

    Attributes are read from and written to the driver's connection. Once it is given back it can do nothing
    more, whoever has the connection then. Giving it back undoes what was not committed; ``with connection:``
    commits at the end, rolls back if the block raises, and gives it back. One that is dropped without being
    given back is closed, and the pool opens another in its place.

    Raises:
        LeaseError: on every use after it was given back, or in the child of a fork.
    """

    __slots__ = ("_claims", "_pool")

    _claims: list[Claim]  # one, until it is given back; taking it out is atomic, so that it happens once
    _pool: ConnectionPool

    def __init__(self, pool: ConnectionPool, claim: Claim) -> None:
        object.__setattr__(self, "_pool", pool)
        object.__setattr__(self, "_claims", [claim])

    def close(self) -> None:
        """Give the connection back; calling again does nothing."""
        claim = self._take()
        if claim is not None:
            # In a `finally` there may be an error on its way that came from the use of the connection.
            self._pool._give_back(claim, None, passing=sys.exc_info()[1])

    def _take(self) -> Claim | None:
        """End the lease, once whatever the number of threads; return what is to be given back."""
        try:
            claim = self._claims.pop()
        except IndexError:
            return None
        return claim if claim.home is self._pool._home else None  # it may have been lent before a fork

    def _connection(self) -> Any:
        try:
            claim = self._claims[0]
        except IndexError:
            raise LeaseError(f"{self._pool!r}: this connection was given back: borrow another") from None
        if claim.home is not self._pool._home:
            raise LeaseError(f"{self._pool!r}: a connection of another process: borrow one after the fork")
        return claim.entry.connection

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
        claim = self._take()
        if claim is not None:
            self._pool._end(claim, error)

    def __reduce__(self) -> str:
        raise TypeError("a borrowed connection cannot be copied or pickled: borrow another")

    def __repr__(self) -> str:
        claims = self._claims
        return f"<PooledConnection {repr(claims[0].entry.connection) if claims else 'given back'}>"
