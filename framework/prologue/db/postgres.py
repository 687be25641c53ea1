"""PostgreSQL, over psycopg 3."""

from __future__ import annotations

import os
import select
import time
from typing import TYPE_CHECKING, Any, Final

from prologue.db.adapter import Adapter
from prologue.errors import MissingExtraError, SettingsError

if TYPE_CHECKING:
    import psycopg
    from psycopg.pq.abc import PGconn

__all__ = ["PostgresAdapter", "load_psycopg"]

PATIENCE: Final = {
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
"""Settings of libpq that end a connection whose other end is gone: after a minute of silence, or 30 s (here
in milliseconds) after something was sent that nobody acknowledged. Without them it takes hours."""

CONNECT_SECONDS: Final = 5
CANCEL_SECONDS: Final = 1.0

DISCONNECTED: Final = frozenset(
    {
        "57P01",  # admin_shutdown: also a backend that was terminated
        "57P02",  # crash_shutdown
        "57P03",  # cannot_connect_now: the server starts or stops
        "57P05",  # idle_session_timeout
        "25P03",  # idle_in_transaction_session_timeout
        "25P04",  # transaction_timeout
        "25006",  # read_only_sql_transaction: the primary that this connection led to is one no more
    }
)
"""SQLSTATEs, besides class 08, after which the connection is of no more use (PostgreSQL, appendix A)."""


def load_psycopg() -> None:
    """Make sure that psycopg can be imported.

    Raises:
        MissingExtraError: it is not installed; the message names the extra.
    """
    try:
        import psycopg  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("PostgreSQL", "postgres") from error


class PostgresAdapter(Adapter):
    """Open PostgreSQL connections with psycopg 3.

    A dead connection is found by looking at its socket, without a round trip; only one that has something to
    say, or that is asked after, is sent an empty query, with a time limit. Giving back a connection outside
    of a transaction costs no round trip either. One that comes back while a query runs is closed, and the
    query cancelled.

    Unless told otherwise, connecting is limited to 5 seconds (shared by the hosts, at least 2 each), and TCP
    keepalives and ``tcp_user_timeout`` end a connection whose other end is gone.

    Args:
        conninfo: of libpq: keywords and values, or a ``postgresql://`` URL (default: what ``PGHOST`` and the
            others of the environment say).
        pgbouncer: whether a pooler stands between that lends a server for one transaction: statements are
            then never prepared (default: no).
        ping_timeout: seconds that the empty query may take (default 2).
        **options: as for ``psycopg.connect``: ``row_factory``, ``autocommit``, ``prepare_threshold``, any
            keyword of libpq, such as ``target_session_attrs``.

    Raises:
        MissingExtraError: psycopg is not installed.
        SettingsError: libpq cannot read ``conninfo`` or knows no such option. The message shows no values.
    """

    reset_is_proof = True  # libpq knows whether the connection is broken, and whether an answer is under way

    def __init__(
        self, conninfo: str = "", *, pgbouncer: bool = False, ping_timeout: float = 2.0, **options: Any
    ) -> None:
        load_psycopg()
        super().__init__(self._open)
        self.ping_timeout = ping_timeout
        arguments = ("autocommit", "prepare_threshold", "context", "row_factory", "cursor_factory")
        self._arguments = {name: options.pop(name) for name in arguments if name in options}
        self._parameters = _parameters(conninfo, options)
        if pgbouncer:
            self._arguments.setdefault("prepare_threshold", None)
        hosts = str(self._parameters.get("host", "")).count(",") + 1
        if "PGCONNECT_TIMEOUT" not in os.environ:
            self._parameters.setdefault("connect_timeout", max(2, CONNECT_SECONDS // hosts))
        for name, value in PATIENCE.items():
            self._parameters.setdefault(name, value)
        self._wanted = str(self._parameters.get("target_session_attrs", "any"))

    @property
    def options(self) -> dict[str, Any]:
        """What ``psycopg.connect`` is called with; the password is among it."""
        return {**self._parameters, **self._arguments}

    def is_alive(self, connection: psycopg.Connection[Any]) -> bool:
        """Look at the socket: whether the server neither closed it nor has something to say.

        A system call of about a microsecond; nothing is sent.
        """
        try:
            socket = connection.pgconn.socket
        except Exception:
            return False  # psycopg has closed it already
        poll = select.poll()
        poll.register(socket, select.POLLIN)  # the end of the stream can be read too
        return not poll.poll(0)

    def check(self, connection: psycopg.Connection[Any], timeout: float | None = None) -> None:
        """Ask the server, and make sure that it is still one of the kind that was wanted.

        Args:
            connection: outside of a transaction.
            timeout: seconds that it may take at most; ``None`` means ``ping_timeout``.

        Raises:
            psycopg.OperationalError: the connection is closed, broken, or leads to a server that cannot
                write, while ``target_session_attrs`` wants one that can.
            TimeoutError: no answer in time.
        """
        from psycopg import OperationalError

        pgconn = connection.pgconn
        _ping(pgconn, self.ping_timeout if timeout is None else timeout)
        unwanted: list[bytes] = []
        if self._wanted in ("primary", "read-write"):
            unwanted.append(b"in_hot_standby")
        if self._wanted == "read-write":
            unwanted.append(b"default_transaction_read_only")
        for name in unwanted:
            # The server reports changes of these without being asked (libpq, PQparameterStatus).
            if pgconn.parameter_status(name) == b"on":
                raise OperationalError(f"{name.decode()} is on, and target_session_attrs={self._wanted}")

    def commit(self, connection: psycopg.Connection[Any]) -> None:
        """Commit, when there is a transaction.

        Raises:
            psycopg.errors.InFailedSqlTransaction: a statement failed, so that the server would answer
                COMMIT with a rollback, and no error.
        """
        from psycopg.errors import InFailedSqlTransaction
        from psycopg.pq import TransactionStatus

        status = connection.pgconn.transaction_status
        if status == TransactionStatus.INERROR:
            raise InFailedSqlTransaction(
                "a statement of this transaction failed, so nothing of it can be committed: let its error end"
                " the block, or run the statement in a block of its own inside"
            )
        # PERF: psycopg's own way of finding out that there is none costs 10 times this comparison.
        if status != TransactionStatus.IDLE:
            connection.commit()

    def reset(self, connection: psycopg.Connection[Any]) -> None:
        """Roll back a transaction; cost nothing when there is none.

        Raises:
            psycopg.OperationalError: a query still runs, or the connection is broken: it is to be closed.
        """
        from psycopg import OperationalError
        from psycopg.pq import TransactionStatus

        status = connection.pgconn.transaction_status
        if status == TransactionStatus.IDLE:
            return
        if status in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
            connection.rollback()
            return
        what = "a query still runs" if status == TransactionStatus.ACTIVE else "it is closed or broken"
        raise OperationalError(f"{connection}: cannot be used again: {what}")

    def close(self, connection: psycopg.Connection[Any]) -> None:
        """Close the connection; one that still runs a query has the server stop it."""
        from psycopg import Error
        from psycopg.pq import TransactionStatus

        try:
            if connection.pgconn.transaction_status == TransactionStatus.ACTIVE:
                connection.cancel_safe(timeout=CANCEL_SECONDS)
        except Error:
            pass  # the server is gone, or busy: it notices when it wants to send the answer
        finally:
            connection.close()

    def is_disconnect(self, error: BaseException) -> bool:
        """Whether the SQLSTATE is of class 08, tells of a shutdown or a demotion, or is missing.

        libpq gives none when it finds the connection broken itself.
        """
        from psycopg import OperationalError

        state = getattr(error, "sqlstate", None)
        if state is None:
            return isinstance(error, OperationalError)
        return state.startswith("08") or state in DISCONNECTED

    def __repr__(self) -> str:
        shown = (("host", "localhost"), ("port", "5432"), ("dbname", ""), ("user", ""))
        host, port, database, user = (self._parameters.get(name, default) for name, default in shown)
        return f"<PostgresAdapter {user}@{host}:{port}/{database}>"

    def _open(self) -> psycopg.Connection[Any]:
        import psycopg

        return psycopg.connect(**self.options)


def _parameters(conninfo: str, options: dict[str, Any]) -> dict[str, Any]:
    from psycopg import ProgrammingError
    from psycopg.conninfo import conninfo_to_dict, make_conninfo

    try:
        parameters: dict[str, Any] = dict(conninfo_to_dict(conninfo))
    except ProgrammingError:
        # The driver's message may show the password, as may its traceback.
        raise SettingsError("PostgreSQL: libpq cannot read this connection string") from None
    for name, value in options.items():
        try:
            make_conninfo(**{name: value})
        except ProgrammingError:
            raise SettingsError(f"PostgreSQL: libpq knows no option {name!r}") from None
        parameters[name] = value
    return parameters


def _ping(pgconn: PGconn, timeout: float) -> None:
    """Send an empty query and read the answer.

    Not with psycopg's cursors, which know no time limit, and begin a transaction.
    """
    from psycopg import OperationalError
    from psycopg.pq import ExecStatus

    deadline = time.monotonic() + timeout
    poll = select.poll()
    pgconn.send_query(b"")
    while True:
        unsent = pgconn.flush()
        if not unsent and not pgconn.is_busy():
            result = pgconn.get_result()
            if result is None:
                return
            if result.status == ExecStatus.FATAL_ERROR:
                raise OperationalError(result.get_error_message())
            continue
        poll.register(pgconn.socket, select.POLLIN | (select.POLLOUT if unsent else 0))
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise TimeoutError(f"no answer to an empty query within {timeout:.2f} s")
        pgconn.consume_input()
