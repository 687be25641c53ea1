"""psycopg_pool as a second engine, behind the interface of :class:`~prologue.db.ConnectionPool`.

psycopg_pool does the queueing, connecting and replacing. What stands around it, and why:

* It lends without looking, or checks without a time limit, and sleeps 1, 2, 4 s after each check that fails.
  Here every connection is looked at when it is lent, in microseconds, and asked within the caller's deadline
  when it has been idle for long; a dead one is replaced without a pause.
* It retries connecting after 1, 2, 4 … s. Here a tenth of a second apart: one that is back is noticed.
* Its timeout hides why. Here the last error of connecting is the cause.
* It lends bare connections, which can be given back twice. Here leases end once.
* It knows no fork. Here the child opens an engine of its own.

**Locks.** One, for what stands around the engine; nothing of the engine or the driver is called under it but
what opens the engine, which waits for nothing.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from prologue.db.adapter import Adapter
from prologue.db.histogram import Counts
from prologue.db.limits import require_at_least, require_positive, require_sizes
from prologue.db.postgres import PostgresAdapter
from prologue.db.psycopg_connecting import SHORTEST, Connecting
from prologue.db.psycopg_lease import Loan, PsycopgConnection, PsycopgLease
from prologue.db.stats import PoolStats
from prologue.errors import (
    LeaseError,
    MissingExtraError,
    PoolClosedError,
    PoolFullError,
    PoolTimeoutError,
    PoolUnavailableError,
    SettingsError,
)
from prologue.lifecycle import abandon, on_fork

if TYPE_CHECKING:
    import psycopg_pool

    Engine = psycopg_pool.ConnectionPool[Any]

__all__ = ["PsycopgPool"]

T = TypeVar("T")

LOOK: Final = 0.005  # seconds between two looks whether the minimum is there
JOIN_SECONDS: Final = 0.1  # that closing waits for each thread of the engine before it tells those who wait

_logger = logging.getLogger("prologue.db")


class PsycopgPool:
    """Lend PostgreSQL connections with psycopg_pool; used as :class:`~prologue.db.ConnectionPool` is.

    The guide lists what it does otherwise. Prefer the pool's own engine where you have the choice.

    Args:
        adapter: of PostgreSQL. Its ``connect`` is not called: psycopg_pool connects itself, with the
            adapter's options.
        min_connections: how many the pool keeps open once it is in use (default 0).
        max_connections: how many there may be at most (default 10).
        connection_timeout: seconds that a caller waits for a connection, whatever it takes (default 5).
        validation_interval: seconds for which a connection need not be asked after it was used (default 30);
            it is looked at each time.
        max_lifetime: seconds after which a connection is replaced (default 1800).
        idle_timeout: seconds after which one idle connection above the minimum is closed (default 600).
        max_connecting: how many connections may be in the making at once (default 2).
        max_waiting: how many callers may wait (default: any number).
        name: what errors, logs and ``repr`` call it.

    Raises:
        MissingExtraError: psycopg_pool is not installed.
        SettingsError: the adapter is of another database.
        ValueError: a number is out of range.
    """

    def __init__(
        self,
        adapter: Adapter,
        min_connections: int = 0,
        max_connections: int = 10,
        connection_timeout: float = 5.0,
        validation_interval: float = 30.0,
        *,
        max_lifetime: float = 1800.0,
        idle_timeout: float = 600.0,
        max_connecting: int = 2,
        max_waiting: int | None = None,
        name: str = "main",
    ) -> None:
        try:
            import psycopg_pool  # noqa: F401
        except ImportError as error:
            raise MissingExtraError("the pool engine psycopg_pool", "postgres") from error
        if not isinstance(adapter, PostgresAdapter):
            raise SettingsError(f"the pool engine psycopg_pool is for PostgreSQL, not {adapter!r}")
        require_sizes(min_connections, max_connections)
        require_at_least(0, connection_timeout=connection_timeout, validation_interval=validation_interval)
        require_at_least(1, max_connecting=max_connecting, max_waiting=max_waiting)
        require_positive(max_lifetime=max_lifetime, idle_timeout=idle_timeout)
        self.name = name
        self._adapter = adapter
        self._min, self._max = min_connections, max_connections
        self._connection_timeout = connection_timeout
        self._validation_interval = validation_interval
        self._max_lifetime = max_lifetime
        self._idle_timeout = idle_timeout
        self._max_connecting = max_connecting
        self._max_waiting = max_waiting
        self._closed = False
        self._start_over()
        on_fork(self._after_fork)

    def _start_over(self) -> None:
        # Invariant: everything below changes under the lock only.
        self._lock = threading.Lock()
        self._engine: Engine | None = None
        self._leases: set[Loan] = set()
        self._asking = 0  # callers inside the engine
        self._returned = threading.Condition(self._lock)
        self._lost: SimpleQueue[Loan] = SimpleQueue()  # reentrant: filled by finalizers
        self._connecting = Connecting(self._adapter, self._lacks_connections)
        self._suspect_before = 0.0  # one last known to work no later must be asked
        self._acquires = self._waits = self._timeouts = self._refused = self._lost_count = 0
        self._checks = self._check_errors = 0
        self._wait_seconds = 0.0
        self._wait_times, self._use_times = Counts(), Counts()

    def __repr__(self) -> str:
        numbers = {} if self._engine is None else self._engine.get_stats()
        state = " closed," if self._closed else ""
        return (
            f"<PsycopgPool {self.name!r}{state} {len(self._leases)} leased,"
            f" {numbers.get('pool_available', 0)} idle, {self._asking} waiting of {self._max}>"
        )

    # What users call

    @property
    def connection_timeout(self) -> float:
        """Seconds that a caller who says nothing else waits for a connection."""
        return self._connection_timeout

    @property
    def available(self) -> bool:
        """False while every attempt to connect fails and no connection is left."""
        return self._connecting.failure is None or self.stats().available

    def open(self, wait: bool = False, timeout: float | None = None) -> None:
        """Open the minimum now, instead of on first use.

        Args:
            wait: until the minimum is there.
            timeout: seconds to wait; ``None`` means the pool's ``connection_timeout``.

        Raises:
            PoolUnavailableError: the minimum was not there in time; psycopg's error is the cause.
            PoolClosedError: the pool was closed.
        """
        self._opened_engine()
        end = time.monotonic() + (self._connection_timeout if timeout is None else timeout)
        # psycopg_pool's own way of waiting closes the pool when the time is over.
        while wait and (stats := self.stats()).idle + stats.leased < self._min:
            if self._connecting.ending.wait(LOOK):
                raise PoolClosedError(f"{self!r}: closed while it was opened")
            if time.monotonic() >= end:
                failure = self._connecting.failure
                reason = "connecting takes too long" if failure is None else failure
                raise PoolUnavailableError(
                    f"{self!r}: {stats.idle} of at least {self._min} connections opened: {reason}"
                ) from failure

    def connection(self, timeout: float | None = None) -> PsycopgLease:
        """Borrow a connection for a ``with`` block: commit at its end, roll back if it raises.

        Args:
            timeout: seconds to wait for it; ``None`` means the pool's ``connection_timeout``, 0 tries.

        Returns:
            A context manager that gives psycopg's own connection. Entering it raises as
            :meth:`get_connection` does.
        """
        return PsycopgLease(self, timeout)

    def with_connection(self, function: Callable[[Any], T], timeout: float | None = None) -> T:
        """Call a function with a borrowed connection, as in a ``with`` block, and return what it returns.

        Raises:
            Exception: what the function raises; and as :meth:`get_connection`.
        """
        with self.connection(timeout) as connection:
            return function(connection)

    def get_connection(self, timeout: float | None = None) -> PsycopgConnection:
        """Borrow a connection until it is given back.

        Args:
            timeout: as for :meth:`connection`.

        Raises:
            PoolTimeoutError: all are in use, and none came back in time.
            PoolUnavailableError: no connection can be opened; psycopg's error is the cause.
            PoolFullError: ``max_waiting`` callers wait already.
            PoolClosedError: the pool was closed.
            ValueError: ``timeout`` is below 0.
        """
        return PsycopgConnection(self, self._acquire(timeout))

    def release_connection(self, connection: PsycopgConnection) -> None:
        """Give a connection back; what was not committed is rolled back.

        Raises:
            LeaseError: it is none of this pool's, or was given back already.
        """
        if not isinstance(connection, PsycopgConnection) or connection._pool is not self:
            raise LeaseError(f"{self!r}: {connection!r} was not borrowed from here with get_connection()")
        if connection._loan is None:
            raise LeaseError(f"{self!r}: this connection was given back already")
        connection.close()

    def resize(self, *, min_connections: int | None = None, max_connections: int | None = None) -> None:
        """Change how many connections the pool keeps and allows; those too many go one each ``idle_timeout``.

        Raises:
            ValueError: the minimum is above the maximum, or a number is out of range.
        """
        with self._lock:
            least = self._min if min_connections is None else min_connections
            most = self._max if max_connections is None else max_connections
            require_sizes(least, most)
            self._min, self._max = least, most
            engine = self._engine
        if engine is not None:
            engine.resize(least, most)

    def drain(self) -> None:
        """Replace every connection: the idle now, those in use when they come back."""
        if (engine := self._engine) is not None:
            engine.drain()

    def close(self, timeout: float = 5.0) -> None:
        """Lend nothing more, tell those who wait, close what is idle, and wait for what is in use.

        Args:
            timeout: seconds to wait (default 5).
        """
        with self._lock:
            self._closed = True
            engine = self._engine
        self._connecting.ending.set()
        if engine is not None:
            engine.close(JOIN_SECONDS)
        with self._lock:
            if not self._returned.wait_for(lambda: not self._leases, min(timeout, threading.TIMEOUT_MAX)):
                _logger.warning("pool %r: not empty %.2f s after it was closed", self.name, timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def stats(self) -> PoolStats:
        """Return the numbers of this moment; those of psycopg_pool may be of a moment later."""
        engine = self._engine
        numbers = {} if engine is None else engine.get_stats()
        connecting = self._connecting
        with self._lock:
            leased = len(self._leases)
            idle = 0 if self._closed else numbers.get("pool_available", 0)
            size = leased if self._closed else max(leased + idle, numbers.get("pool_size", 0))
            return PoolStats(
                max_connections=self._max,
                min_connections=self._min,
                size=size,
                idle=idle,
                leased=leased,
                opening=size - idle - leased,
                checking=0,
                closing=0,
                waiting=self._asking,
                available=connecting.failure is None or idle + leased > 0,
                acquires=self._acquires,
                waits=self._waits,
                wait_seconds=self._wait_seconds,
                timeouts=self._timeouts,
                refused=self._refused,
                opened=connecting.opened,
                open_errors=connecting.open_errors,
                checks=self._checks,
                check_errors=self._check_errors,
                closed=max(0, connecting.opened - idle - leased),
                abandoned=0,
                lost=self._lost_count,
                name=self.name,
                overdue=0,
                suspended=False,
                wait_time=self._wait_times.freeze(),
                use_time=self._use_times.freeze(),
                create_time=connecting.create_times.freeze(),
            )

    # Borrowing and giving back, for the leases

    def _acquire(self, timeout: float | None) -> Loan:
        if timeout is None:
            timeout = self._connection_timeout
        elif not timeout >= 0:
            raise ValueError(f"timeout must be at least 0 seconds, not {timeout!r}")
        began = time.monotonic()
        engine = self._opened_engine()
        self._collect_lost(engine)
        while True:
            connection = self._ask(engine, began, timeout)
            good = False
            try:
                good = self._is_good(engine, connection, began + timeout)
            finally:
                if not good:
                    connection.close()
                    engine.putconn(connection)
            if good:
                break
        loan = Loan(engine, connection)
        waited = loan.lent_at - began
        with self._lock:
            self._leases.add(loan)
            self._acquires += 1
            self._wait_times.add(waited)
            if waited > SHORTEST:
                self._waits += 1
                self._wait_seconds += waited
        return loan

    def _ask(self, engine: Engine, began: float, timeout: float) -> Any:
        from psycopg_pool import PoolClosed, PoolTimeout

        idle = engine.get_stats()["pool_available"] > 0
        with self._lock:
            # Counted here: psycopg_pool keeps in its queue, and counts, those who have given up.
            full = not idle and self._max_waiting is not None and self._asking >= self._max_waiting
            if full:
                self._refused += 1
            else:
                self._asking += 1
        if full:
            raise PoolFullError(f"{self!r}: {self._max_waiting} callers wait already: see max_waiting")
        try:
            return engine.getconn(max(began + timeout - time.monotonic(), SHORTEST))
        except PoolClosed:
            raise PoolClosedError(f"{self!r}: closed: borrow before it is") from None
        except PoolTimeout:
            waited = time.monotonic() - began
        finally:
            with self._lock:
                self._asking -= 1
        with self._lock:
            self._timeouts += 1
            in_use, failure = len(self._leases), self._connecting.failure
        if in_use and (failure is None or in_use >= self._max):
            raise PoolTimeoutError(
                f"{self!r}: {in_use} of {self._max} in use, waited {waited:.2f} s:"
                " hold connections for a shorter time, or raise max_connections"
            )
        reason = "connecting takes too long" if failure is None else f"{type(failure).__name__}: {failure}"
        raise PoolUnavailableError(f"{self!r}: no connection after {waited:.2f} s: {reason}") from failure

    def _is_good(self, engine: Engine, connection: Any, deadline: float) -> bool:
        """Look at a connection; ask it, when it has been idle for long or has something to say."""
        now = time.monotonic()
        if now >= connection.expires:
            return False
        fresh = self._suspect_before < connection.last_ok > now - self._validation_interval
        if fresh and self._adapter.is_alive(connection):
            return True
        try:
            self._adapter.check(connection, min(self._adapter.ping_timeout, max(deadline - now, SHORTEST)))
        except Exception as error:
            with self._lock:
                self._checks += 1
                self._check_errors += 1
                self._suspect_before = time.monotonic()
            _logger.warning("pool %r: a connection is broken: %s", self.name, error)
            if isinstance(error, TimeoutError):
                engine.drain()  # no answer at all: the others would take as long to ask
            return False
        with self._lock:
            self._checks += 1
        connection.last_ok = time.monotonic()
        return True

    def _holds(self, loan: Loan) -> bool:
        """Whether it is lent, by this process."""
        return loan in self._leases

    def _take(self, connection: PsycopgConnection) -> Loan | None:
        """End a lease, once whatever the number of threads; return what is to be given back."""
        with self._lock:
            loan = connection._loan
            object.__setattr__(connection, "_loan", None)
            return loan if loan in self._leases else None

    def _end(self, loan: Loan, error: BaseException | None) -> None:
        """Commit or roll back, and take the connection back."""
        if not self._holds(loan):
            return  # it was lent before a fork
        if error is None:
            try:
                self._adapter.commit(loan.connection)
            except BaseException as failure:
                self._give_back(loan, failure)
                raise
        self._give_back(loan, error)

    def _give_back(self, loan: Loan, failure: BaseException | None) -> None:
        connection = loan.connection
        broken = True
        try:
            if failure is None or not self._adapter.is_disconnect(failure):
                self._adapter.reset(connection)
                broken = False
                proven = failure is None or self._adapter.reset_is_proof
                connection.last_ok = time.monotonic() if proven else 0.0
        except Exception as error:
            _logger.warning("pool %r: a connection came back broken: %s", self.name, error)
        finally:
            try:
                if broken:
                    with self._lock:
                        self._suspect_before = time.monotonic()
                    self._adapter.close(connection)
            finally:
                self._return(loan)

    def _return(self, loan: Loan) -> None:
        loan.engine.putconn(loan.connection)
        with self._lock:
            self._leases.discard(loan)
            self._use_times.add(time.monotonic() - loan.lent_at)
            self._returned.notify_all()

    def _collect_lost(self, engine: Engine) -> None:
        while True:
            try:
                loan = self._lost.get_nowait()
            except Empty:
                return
            if self._holds(loan):
                with self._lock:
                    self._lost_count += 1
                _logger.warning("pool %r: a connection was dropped without being given back", self.name)
                self._adapter.close(loan.connection)
                self._return(loan)

    # The engine

    def _opened_engine(self) -> Engine:
        engine = self._engine
        if engine is None or self._closed:
            with self._lock:
                if self._closed:
                    raise PoolClosedError(f"{self!r}: borrow before it is closed")
                engine = self._engine
                if engine is None:
                    engine = self._engine = self._connecting.make_engine(
                        name=self.name,
                        min_size=self._min,
                        max_size=self._max,
                        max_lifetime=self._max_lifetime,
                        max_idle=self._idle_timeout,
                        num_workers=self._max_connecting,
                    )
                    engine.open()
        return engine

    def _lacks_connections(self, size: int) -> bool:
        """Whether somebody waits, or there are fewer connections than the minimum."""
        return self._asking > 0 or size < self._min

    def _after_fork(self) -> None:
        abandon((self._engine, self._leases))
        self._start_over()
