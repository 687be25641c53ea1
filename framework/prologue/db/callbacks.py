"""A user's callbacks around what an adapter does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prologue.db.adapter import Adapter

__all__ = ["Callback", "WithCallbacks"]

Callback = Callable[[Any], object]


class WithCallbacks(Adapter):
    """An adapter that lets callbacks see each connection, and leaves none of their transactions open.

    Args:
        adapter: does the rest.
        configure: called with each new connection; what it does is committed.
        check: called instead of the adapter's check; what it does is rolled back.
        reset: called with each connection that comes back, when the adapter has reset it; what it does is
            committed.
    """

    def __init__(
        self, adapter: Adapter, configure: Callback | None, check: Callback | None, reset: Callback | None
    ) -> None:
        super().__init__(adapter.connect)
        self._adapter = adapter
        self._configure = configure
        self._own_check = check
        self._own_reset = reset
        self.reset_after_commit = reset is not None or adapter.reset_after_commit
        self.reset_is_proof = adapter.reset_is_proof
        self.commit = adapter.commit  # type: ignore[method-assign]  # nothing is added to it
        self.close = adapter.close  # type: ignore[method-assign]
        self.is_alive = adapter.is_alive  # type: ignore[method-assign]
        self.is_disconnect = adapter.is_disconnect  # type: ignore[method-assign]

    def connect(self) -> Any:
        """Open a connection and configure it."""
        connection = self._adapter.connect()
        if self._configure is not None:
            try:
                self._configure(connection)
                self._adapter.commit(connection)
            except BaseException:
                self._adapter.close(connection)
                raise
        return connection

    def check(self, connection: Any) -> None:
        """Check as the user says, or else as the adapter does."""
        if self._own_check is None:
            self._adapter.check(connection)
        else:
            self._own_check(connection)
            self._adapter.reset(connection)

    def reset(self, connection: Any) -> None:
        """Reset as the adapter does, and then as the user says."""
        self._adapter.reset(connection)
        if self._own_reset is not None:
            self._own_reset(connection)
            self._adapter.commit(connection)
