"""What every pool does, whatever the database and the engine: a suite that each of them inherits.

A subclass says how to make a pool, and how to write, read and end a connection of its database.
"""

from __future__ import annotations

import gc
import logging
import random
import threading
from collections.abc import Callable, Hashable, Iterator
from typing import Any

import pytest

from prologue.errors import (
    LeaseError,
    PoolClosedError,
    PoolError,
    PoolFullError,
    PoolTimeoutError,
    PoolUnavailableError,
)
from tests.concurrency import Task, in_child, together, until

LONG = 30.0  # seconds: a timeout that a test never waits out


class PoolContract:
    """Derive as ``class TestX(PoolContract)`` and define the five methods and the fixture."""

    # What a subclass says

    @pytest.fixture
    def make(self) -> Iterator[Callable[..., Any]]:
        """Yield a function that makes a pool with the given options; close the pools afterwards."""
        raise NotImplementedError

    def make_unreachable(self) -> Any:
        """Make a pool whose database cannot be reached."""
        raise NotImplementedError

    def write(self, connection: Any, text: str) -> None:
        raise NotImplementedError

    def notes(self, connection: Any) -> list[str]:
        """What is written, as this connection sees it."""
        raise NotImplementedError

    def fail(self, connection: Any) -> None:
        """Have the database refuse a statement."""
        raise NotImplementedError

    def identity(self, connection: Any) -> Hashable:
        """The same for the same connection, another for another."""
        raise NotImplementedError

    def kill(self, connection: Any, identity: Hashable) -> None:
        """End a connection as the server or the network would."""
        raise NotImplementedError

    # Helpers

    def borrow_identity(self, pool: Any) -> Hashable:
        identity: Hashable = pool.with_connection(self.identity, timeout=LONG)
        return identity

    def fill(self, pool: Any, count: int) -> dict[Hashable, Any]:
        """Make so many connections idle; return the driver's connections."""
        leases = [pool.connection(timeout=LONG) for _ in range(count)]
        connections = [lease.__enter__() for lease in leases]
        identities = [self.identity(connection) for connection in connections]
        for lease in leases:
            lease.__exit__(None, None, None)
        return dict(zip(identities, connections, strict=True))

    def borrowed(self, pool: Any, timeout: float = LONG) -> Task[Any]:
        """Begin to borrow in another thread; return when it waits."""
        waiting = pool.stats().waiting
        task: Task[Any] = Task(lambda: pool.get_connection(timeout))
        until(lambda: pool.stats().waiting == waiting + 1)
        return task

    def write_and_raise(self, connection: Any) -> None:
        self.write(connection, "undone")
        raise KeyError("mine")

    def use_killed(self, connection: Any) -> None:
        self.kill(connection, self.identity(connection))
        self.notes(connection)

    # Work

    def test_a_block_commits(self, make: Callable[..., Any]) -> None:
        pool = make()
        with pool.connection(LONG) as connection:
            self.write(connection, "kept")
        assert pool.with_connection(self.notes) == ["kept"]

    def test_a_block_that_raises_rolls_back(self, make: Callable[..., Any]) -> None:
        pool = make(max_connections=1)
        with pytest.raises(KeyError), pool.connection(LONG) as connection:
            self.write_and_raise(connection)
        assert pool.with_connection(self.notes, timeout=LONG) == []

    def test_what_is_given_back_without_commit_is_undone(self, make: Callable[..., Any]) -> None:
        pool = make(max_connections=1)
        connection = pool.get_connection(LONG)
        before = self.identity(connection)
        self.write(connection, "undone")
        pool.release_connection(connection)
        with pool.connection(timeout=0) as again:
            assert self.identity(again) == before
            assert self.notes(again) == []

    def test_a_borrowed_connection_commits_what_its_block_did(self, make: Callable[..., Any]) -> None:
        pool = make(max_connections=1)
        with pool.get_connection(LONG) as connection:
            self.write(connection, "kept")
        with pytest.raises(KeyError), pool.get_connection(LONG) as connection:
            self.write_and_raise(connection)
        assert pool.with_connection(self.notes, timeout=LONG) == ["kept"]

    def test_a_statement_that_fails_leaves_a_connection_that_works(self, make: Callable[..., Any]) -> None:
        pool = make(max_connections=1)
        before = self.borrow_identity(pool)
        connection = pool.get_connection(LONG)
        with pytest.raises(Exception):  # noqa: B017, PT011
            self.fail(connection)
        connection.close()
        assert self.borrow_identity(pool) == before
        with pytest.raises(Exception):  # noqa: B017, PT011
            pool.with_connection(self.fail)
        assert self.borrow_identity(pool) == before

    def test_an_idle_connection_is_used_again(self, make: Callable[..., Any]) -> None:
        pool = make()
        assert len({self.borrow_identity(pool) for _ in range(3)}) == 1
        assert pool.stats().opened == 1

    # Leases

    def test_a_connection_is_given_back_once(self, make: Callable[..., Any]) -> None:
        pool = make()
        connection = pool.get_connection(LONG)
        pool.release_connection(connection)
        with pytest.raises(LeaseError, match="given back already"):
            pool.release_connection(connection)
        connection.close()
        with pytest.raises(LeaseError, match="given back"):
            connection.cursor()
        assert "given back" in repr(connection)
        assert (pool.stats().idle, pool.stats().leased) == (1, 0)

    def test_a_stale_holder_cannot_touch_what_another_has(self, make: Callable[..., Any]) -> None:
        pool = make(max_connections=1)
        stale = pool.get_connection(LONG)
        stale.close()
        holder = pool.get_connection(LONG)
        stale.close()
        with pytest.raises(LeaseError):
            pool.release_connection(stale)
        assert pool.stats().leased == 1
        self.write(holder, "still mine")
        holder.close()

    def test_what_is_foreign_is_not_taken_back(self, make: Callable[..., Any]) -> None:
        pool, other = make(), make()
        foreign = other.get_connection(LONG)
        with foreign:
            for wrong in (foreign, object(), None):
                with pytest.raises(LeaseError, match="not borrowed from here"):
                    pool.release_connection(wrong)
            with other.connection(LONG) as raw:
                with pytest.raises(LeaseError):
                    other.release_connection(raw)

    def test_a_lease_in_use_cannot_be_entered(self, make: Callable[..., Any]) -> None:
        lease = make().connection(LONG)
        with lease:
            with pytest.raises(LeaseError, match="in use"):
                lease.__enter__()
        with lease as connection:
            self.write(connection, "again")

    def test_attributes_are_those_of_the_driver(self, make: Callable[..., Any]) -> None:
        with make().get_connection(LONG) as connection:
            assert callable(connection.cursor)
            with pytest.raises(AttributeError):
                _ = connection.no_such_thing

    def test_a_connection_that_is_dropped_is_replaced(self, make: Callable[..., Any]) -> None:
        pool = make(max_connections=1)
        connection = pool.get_connection(LONG)
        before = self.identity(connection)
        self.write(connection, "undone")
        del connection
        gc.collect()
        assert self.borrow_identity(pool) != before
        assert pool.stats().lost == 1
        assert pool.with_connection(self.notes) == []

    # The queue

    def test_there_are_never_more_than_the_maximum(self, make: Callable[..., Any]) -> None:
        pool = make(max_connections=2)
        held = [pool.get_connection(LONG) for _ in range(2)]
        with pytest.raises(PoolTimeoutError, match=r"2 of 2 in use, waited 0\.0"):
            pool.get_connection(timeout=0.01)
        with pytest.raises(PoolTimeoutError):
            pool.get_connection(timeout=0)
        assert pool.stats().timeouts == 2
        assert len({self.identity(connection) for connection in held}) == 2
        for connection in held:
            connection.close()
        assert pool.stats().size == 2

    def test_the_pools_timeout_is_the_default(self, make: Callable[..., Any]) -> None:
        pool = make(max_connections=1, connection_timeout=0.05)
        with pool.connection(LONG):
            with pytest.raises(PoolTimeoutError, match="1 of 1 in use"):
                pool.get_connection()

    @pytest.mark.parametrize("timeout", [-1, float("nan")])
    def test_a_timeout_is_at_least_zero(self, make: Callable[..., Any], timeout: float) -> None:
        with pytest.raises(ValueError, match="at least 0"):
            make().get_connection(timeout)

    def test_first_come_first_served(self, make: Callable[..., Any]) -> None:
        pool = make(max_connections=1)
        held = pool.get_connection(LONG)
        order: list[int] = []

        def use(number: int) -> None:
            with pool.connection(LONG):
                order.append(number)

        tasks = []
        for number in range(4):
            tasks.append(Task(lambda number=number: use(number)))  # type: ignore[misc]
            until(lambda number=number: pool.stats().waiting == number + 1)  # type: ignore[misc]
        held.close()
        for task in tasks:
            task.result()
        assert order == [0, 1, 2, 3]

    def test_a_caller_that_gave_up_takes_no_connection(self, make: Callable[..., Any]) -> None:
        pool = make(max_connections=2)
        held = [pool.get_connection(LONG) for _ in range(2)]
        first = self.borrowed(pool)
        impatient = Task(lambda: pool.get_connection(timeout=0.02))
        assert isinstance(impatient.error(), PoolTimeoutError)
        last = self.borrowed(pool)
        for connection in held:
            connection.close()
        first.result().close()
        last.result().close()
        until(lambda: pool.stats().idle == 2)
        assert pool.stats().leased == 0

    def test_the_queue_is_bounded(self, make: Callable[..., Any]) -> None:
        pool = make(max_connections=1, max_waiting=2)
        held = pool.get_connection(LONG)
        tasks = [self.borrowed(pool) for _ in range(2)]
        with pytest.raises(PoolFullError, match="2 callers wait"):
            pool.get_connection(LONG)
        held.close()
        for task in tasks:
            task.result().close()

    # Connections that end

    def test_dead_connections_are_not_lent(self, make: Callable[..., Any]) -> None:
        pool = make(max_connections=3, validation_interval=0)
        for identity, connection in self.fill(pool, 3).items():
            self.kill(connection, identity)
        with pool.connection(LONG) as one, pool.connection(LONG) as two:
            assert self.notes(two) == []
            two.commit()
            self.write(one, "alive")
        assert pool.with_connection(self.notes) == ["alive"]

    def test_a_connection_that_ends_while_it_is_borrowed_is_replaced(self, make: Callable[..., Any]) -> None:
        pool = make(max_connections=1)
        with pytest.raises(Exception):  # noqa: B017, PT011
            pool.with_connection(self.use_killed, timeout=LONG)
        with pool.connection(LONG) as connection:
            self.write(connection, "alive")
        assert pool.stats().size == 1

    def test_a_connection_that_the_borrower_closes_is_replaced(self, make: Callable[..., Any]) -> None:
        pool = make(max_connections=1)
        lease = pool.connection(LONG)
        connection = lease.__enter__()
        before = self.identity(connection)
        connection.close()
        lease.__exit__(KeyError, KeyError("mine"), None)
        assert self.borrow_identity(pool) != before

    def test_a_connection_that_is_old_is_replaced(self, make: Callable[..., Any]) -> None:
        pool = make(max_connections=1, max_lifetime=0.02)
        identities: set[Hashable] = set()

        def has_changed() -> bool:
            identities.add(self.borrow_identity(pool))
            return len(identities) > 2

        until(has_changed)

    def test_a_log_handler_may_use_the_pool(self, make: Callable[..., Any]) -> None:
        pool = make(max_connections=2, validation_interval=0)
        seen: list[str] = []

        class Handler(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                seen.append(f"{pool!r} {pool.stats().size}")

        handler = Handler()
        logger = logging.getLogger("prologue.db")
        logger.addHandler(handler)
        try:
            for identity, connection in self.fill(pool, 2).items():
                self.kill(connection, identity)
            self.borrow_identity(pool)
        finally:
            logger.removeHandler(handler)
        assert seen

    def test_drain_replaces_all(self, make: Callable[..., Any]) -> None:
        pool = make(max_connections=3)
        idle = self.fill(pool, 2)
        held = pool.get_connection(LONG)
        pool.drain()
        old = {*idle, self.identity(held)}
        held.close()
        with pool.connection(LONG) as one, pool.connection(LONG) as two:
            assert not {self.identity(one), self.identity(two)} & old

    def test_a_database_that_cannot_be_reached_is_told_with_its_cause(self) -> None:
        pool = self.make_unreachable()
        with pytest.raises(PoolUnavailableError):
            pool.get_connection(timeout=0.2)
        until(lambda: pool.stats().open_errors)
        with pytest.raises(PoolUnavailableError) as caught:
            pool.get_connection(timeout=0.2)
        assert isinstance(caught.value.__cause__, Exception)
        assert str(caught.value.__cause__).partition("\n")[0] in str(caught.value)
        pool.close()

    # Sizes

    def test_the_minimum_is_there_once_the_pool_is_in_use(self, make: Callable[..., Any]) -> None:
        pool = make(min_connections=2, max_connections=3)
        assert pool.stats().size == 0
        self.borrow_identity(pool)
        until(lambda: pool.stats().idle >= 2)

    def test_resize(self, make: Callable[..., Any]) -> None:
        pool = make(max_connections=1)
        held = pool.get_connection(LONG)
        pool.resize(min_connections=1, max_connections=2)
        another = pool.get_connection(LONG)
        assert (pool.stats().min_connections, pool.stats().max_connections) == (1, 2)
        for wrong in ({"min_connections": 3}, {"max_connections": 0}, {"min_connections": -1}):
            with pytest.raises(ValueError, match="0 <= min <= max"):
                pool.resize(**wrong)
        for connection in (held, another):
            connection.close()

    def test_idle_connections_above_the_minimum_go(
        self, make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("prologue.db.state.BACKGROUND_CHECK_AGE", 0.1)  # the keeper comes as often
        pool = make(min_connections=1, max_connections=3, idle_timeout=0.1, validation_interval=1000)
        self.fill(pool, 3)
        until(lambda: pool.stats().size == 1)

    @pytest.mark.parametrize(
        "options",
        [
            {"max_connections": 0},
            {"min_connections": 3, "max_connections": 2},
            {"connection_timeout": -1},
            {"validation_interval": -1},
            {"max_waiting": 0},
            {"max_lifetime": 0},
            {"idle_timeout": 0},
            {"max_connecting": 0},
        ],
    )
    def test_numbers_out_of_range_are_refused(
        self, make: Callable[..., Any], options: dict[str, float]
    ) -> None:
        with pytest.raises(ValueError, match=next(iter(options))):
            make(**options)

    def test_the_numbers_add_up_and_repr_shows_them(self, make: Callable[..., Any]) -> None:
        pool = make(max_connections=3, name="shop")
        with pool.connection(LONG), pool.connection(LONG):
            pass
        with pool.connection(LONG):
            stats = pool.stats()
            assert (stats.size, stats.idle, stats.leased, stats.waiting) == (2, 1, 1, 0)
            assert (stats.acquires, stats.opened, stats.closed) == (3, 2, 0)
            assert stats.available
            assert pool.available
            assert repr(pool).endswith("'shop' 1 leased, 1 idle, 0 waiting of 3>")

    # The end

    def test_a_pool_that_is_closed_lends_nothing(self, make: Callable[..., Any]) -> None:
        pool = make(max_connections=2)
        self.fill(pool, 2)
        pool.close()
        for timeout in (0, LONG):
            with pytest.raises(PoolClosedError, match="closed"):
                pool.get_connection(timeout)
        pool.close()
        until(lambda: pool.stats().size == 0)

    def test_a_pool_closes_at_the_end_of_its_block(self, make: Callable[..., Any]) -> None:
        with make() as pool:
            assert pool.with_connection(lambda connection: connection is not None)
        with pytest.raises(PoolClosedError):
            pool.get_connection(0)

    def test_a_pool_that_was_never_used_can_be_closed(self, make: Callable[..., Any]) -> None:
        pool = make()
        pool.close()
        with pytest.raises(PoolClosedError):
            pool.get_connection(0)

    def test_closing_tells_those_who_wait_and_waits_for_those_who_work(
        self, make: Callable[..., Any]
    ) -> None:
        pool = make(max_connections=1)
        held = pool.get_connection(LONG)
        waiting = self.borrowed(pool)
        closing = Task(lambda: pool.close(timeout=LONG))
        assert isinstance(waiting.error(), PoolClosedError)
        self.write(held, "still mine")
        held.close()
        closing.result()
        until(lambda: pool.stats().size == 0)

    def test_closing_ends_in_time_and_what_comes_back_later_is_closed(self, make: Callable[..., Any]) -> None:
        pool = make(max_connections=1)
        held = pool.get_connection(LONG)
        pool.close(timeout=0)
        held.close()
        until(lambda: pool.stats().size == 0)

    def test_no_thread_is_left(self, make: Callable[..., Any]) -> None:
        before = set(threading.enumerate())
        pool = make(max_connections=3, name="threads")
        self.fill(pool, 3)
        pool.close()
        until(lambda: not set(threading.enumerate()) - before)

    # Threads and forks

    def test_many_threads_few_connections(self, make: Callable[..., Any]) -> None:
        pool = make(max_connections=3, validation_interval=0.01)
        holders: dict[Hashable, int] = {}

        def work(number: int) -> None:
            chance = random.Random(number)
            for _ in range(15):
                try:
                    with pool.connection(chance.choice([0.001, LONG])) as connection:
                        identity = self.identity(connection)
                        assert holders.setdefault(identity, number) == number, "two holders"
                        assert pool.stats().leased <= 3
                        del holders[identity]
                        if chance.random() < 0.1:
                            raise KeyError("mine")
                except (PoolError, KeyError):
                    pass

        together(6, work)
        stats = pool.stats()
        assert (stats.leased, stats.waiting) == (0, 0)
        assert stats.size <= 3
        with pool.connection(LONG) as connection:
            self.write(connection, "still works")

    def test_the_child_of_a_fork_has_connections_of_its_own(self, make: Callable[..., Any]) -> None:
        pool = make(max_connections=2, connection_timeout=LONG)
        idle = self.borrow_identity(pool)
        lent = pool.get_connection()
        self.write(lent, "the parent's")

        def child() -> list[object]:
            try:
                lent.cursor()
            except LeaseError as error:
                refusal = "another process" in str(error)
            lent.close()
            own = self.borrow_identity(pool)
            answer = [refusal, own != idle, pool.stats().opened]
            pool.close(timeout=LONG)
            return answer

        assert in_child(child) == [True, True, 1]
        assert self.notes(lent) == ["the parent's"]
        lent.commit()
        lent.close()
        assert pool.with_connection(self.notes) == ["the parent's"]
