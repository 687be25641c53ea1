"""What a pool asks of a driver."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["Adapter"]


class Adapter:
    """How a pool opens, checks, resets and closes connections: of any driver of the DB-API 2.0 (PEP 249).

    Derive from it to say better how one driver does these things, to set up connections when they are opened,
    or to restore what borrowers change. The methods are called by many threads at once, each connection by
    one at a time, and never under a lock of the pool. Connections may be opened, used and closed in different
    threads.

    Args:
        connect: opens a connection. Give the driver's own time limit in it: the pool stops waiting after
            ``connect_timeout``, but nothing can end the call of a driver.
    """

    #: Whether `reset` does more than undo what was not committed, so that it is called after a commit too.
    #: True for an adapter that overrides `reset`, unless it says otherwise.
    reset_after_commit = False

    #: Whether a connection that `reset` accepts works, whatever its borrower met before. Otherwise one that
    #: comes back with an error is checked before it is lent again, and closed if its borrower was interrupted
    #: (by ``SystemExit``, ``KeyboardInterrupt`` and the like): an answer may be under way that the next
    #: borrower would take for its own. An adapter that overrides `reset` says it anew.
    reset_is_proof = False

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "reset" in cls.__dict__:
            cls.reset_after_commit = cls.__dict__.get("reset_after_commit", True)
            cls.reset_is_proof = cls.__dict__.get("reset_is_proof", False)

    def __init__(self, connect: Callable[[], Any]) -> None:
        self._connect = connect

    def connect(self) -> Any:
        """Open a connection.

        Raises:
            Exception: what the driver raises; it is the cause of the ``PoolUnavailableError`` of the callers.
        """
        return self._connect()

    def is_alive(self, connection: Any) -> bool:
        """Whether nothing speaks against a connection, found out in microseconds and without a round trip.

        Called each time before a connection is lent, where an adapter defines it. One that is not alive is
        checked.
        """
        return True

    def is_disconnect(self, error: BaseException) -> bool:
        """Whether an error that a borrower met means that its connection is of no more use.

        The pool closes such a connection, and checks the others before they are lent again.
        """
        return False

    def check(self, connection: Any) -> None:
        """Make sure that the connection works, and leave no transaction open.

        Raises:
            Exception: it does not work, or answers something else than it is asked; the pool closes it.
        """
        cursor = connection.cursor()
        try:
            cursor.execute("SELECT 1")
            row = cursor.fetchone()
        finally:
            cursor.close()
        if row is None:
            raise ConnectionError(f"{connection!r}: no answer to SELECT 1: it is out of step with the server")
        connection.rollback()

    def commit(self, connection: Any) -> None:
        """Commit what a borrower did without an error.

        Raises:
            Exception: what the driver raises; the borrower gets it, and the work is rolled back.
        """
        connection.commit()

    def reset(self, connection: Any) -> None:
        """Make a connection that comes back as good as new: undo what was not committed.

        Raises:
            Exception: it cannot be; the pool closes the connection.
        """
        connection.rollback()

    def close(self, connection: Any) -> None:
        """Close the connection, whatever state it is in.

        Raises:
            Exception: what the driver raises; the pool logs it.
        """
        connection.close()
