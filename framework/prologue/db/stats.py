"""What a pool tells about itself."""

from __future__ import annotations

from dataclasses import dataclass

from prologue.db.histogram import Histogram

__all__ = ["PoolStats"]


@dataclass(frozen=True, slots=True)
class PoolStats:
    """One consistent snapshot of a pool.

    Always ``size == idle + leased + opening + checking + closing``, and
    ``opened - closed - abandoned == size - opening``. Counters start when the pool is made, and again in the
    child of a fork. In the histograms, a lease that did not have to wait counts as 0 seconds of waiting, and
    one that is not over yet not as a use.

    Attributes:
        name: the pool's.
        max_connections: the most connections there may be.
        min_connections: how many the pool keeps.
        size: connections there are, with those that are being opened and closed.
        idle: connections that wait to be borrowed.
        leased: connections that are borrowed.
        opening: attempts to connect in progress.
        checking: connections that are being checked.
        closing: connections that are being closed.
        waiting: callers that wait for a connection.
        overdue: connections borrowed for longer than ``leak_threshold``.
        available: false while every attempt to connect fails and no connection is left.
        suspended: whether the pool lends nothing until it is resumed.
        acquires: connections lent so far.
        waits: how many of the acquires and failures had to wait.
        wait_seconds: how long these waited, in all.
        timeouts: callers that got none in time.
        refused: callers turned away at once: too many waiting, or the database down.
        opened: connections opened in time.
        open_errors: attempts to connect that failed, or took too long.
        checks: checks done.
        check_errors: checks that failed, or took too long.
        closed: connections closed.
        abandoned: connections given up because a check, or closing them, took too long.
        lost: borrowed connections that were dropped without being given back.
        wait_time: seconds until callers got their connection.
        use_time: seconds for which connections were borrowed.
        create_time: seconds that opening a connection took.
    """

    name: str
    max_connections: int
    min_connections: int
    size: int
    idle: int
    leased: int
    opening: int
    checking: int
    closing: int
    waiting: int
    overdue: int
    available: bool
    suspended: bool
    acquires: int
    waits: int
    wait_seconds: float
    timeouts: int
    refused: int
    opened: int
    open_errors: int
    checks: int
    check_errors: int
    closed: int
    abandoned: int
    lost: int
    wait_time: Histogram
    use_time: Histogram
    create_time: Histogram
