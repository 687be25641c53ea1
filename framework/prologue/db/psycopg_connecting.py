"""How psycopg_pool connects here: again a moment after a failure, and telling why it failed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Self

from prologue.db.histogram import Counts
from prologue.db.postgres import PostgresAdapter

if TYPE_CHECKING:
    import psycopg
    import psycopg_pool

    Engine = psycopg_pool.ConnectionPool[Any]

__all__ = ["SHORTEST", "Connecting"]

PAUSE: Final = 0.08  # seconds after connecting failed
SHORTEST: Final = 0.001  # seconds: with less psycopg_pool does not even look at what is idle


class Connecting:
    """Make an engine of psycopg_pool, and know how connecting goes.

    Args:
        adapter: with whose options psycopg_pool connects.
        lacks: whether connections are lacking, where there are so many.

    Attributes:
        ending: set when nothing is to be connected any more.
        failure: what the last attempt failed with; None if it did not.
        opened: how many attempts succeeded.
        open_errors: how many failed.
        create_times: how long those took that succeeded.
    """

    def __init__(self, adapter: PostgresAdapter, lacks: Callable[[int], bool]) -> None:
        self._adapter = adapter
        self._lacks = lacks
        self._lifetime = 0.0
        self.ending = threading.Event()
        # Invariant: everything below changes under the lock only, and nothing else is done under it.
        self._lock = threading.Lock()
        self.failure: Exception | None = None
        self.opened = self.open_errors = 0
        self.create_times = Counts()

    def make_engine(self, *, max_lifetime: float, **options: Any) -> Engine:
        """Return an engine that is not open yet; the options are those of psycopg_pool."""
        import psycopg_pool

        self._lifetime = max_lifetime
        return psycopg_pool.ConnectionPool(
            open=False,
            connection_class=_connection_class(self._note),
            kwargs=self._adapter.options,
            configure=self._stamp,
            max_lifetime=max_lifetime,
            reconnect_timeout=0,
            reconnect_failed=self._try_again,
            **options,
        )

    def _try_again(self, engine: Engine) -> None:
        """Have the engine connect again, after a pause, if it still must.

        psycopg_pool calls it, in a thread of its own, when it gives an attempt up. It has no public way to be
        told to try; but it does when it is asked for a connection and has none.
        """
        from psycopg_pool import PoolClosed, PoolTimeout

        if self.ending.wait(PAUSE) or not self._lacks(engine.get_stats()["pool_size"]):
            return
        try:
            connection = engine.getconn(SHORTEST)
        except (PoolClosed, PoolTimeout):
            return
        engine.putconn(connection)

    def _stamp(self, connection: Any) -> None:
        connection.last_ok = time.monotonic()
        connection.expires = connection.last_ok + self._lifetime

    def _note(self, error: Exception | None, seconds: float) -> None:
        with self._lock:
            self.failure = error
            if error is None:
                self.opened += 1
                self.create_times.add(seconds)
            else:
                self.open_errors += 1


def _connection_class(note: Callable[[Exception | None, float], object]) -> type[psycopg.Connection[Any]]:
    import psycopg

    class Connection(psycopg.Connection[Any]):
        """A connection that tells how connecting went, and has room for the pool's notes."""

        expires: float
        last_ok: float

        @classmethod
        def connect(cls, *arguments: Any, **options: Any) -> Self:
            began = time.monotonic()
            try:
                connection = super().connect(*arguments, **options)
            except Exception as error:
                note(error, 0.0)
                raise
            note(None, time.monotonic() - began)
            return connection

    return Connection
