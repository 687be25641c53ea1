"""The pool against a plain model: whatever the order of events, the invariants hold.

Every event is one rule: a caller tries, a job ends well or badly, time passes, the database dies. The jobs
wait in a list until a rule runs one of them, so that each order of events is an order of rules.
"""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from prologue.errors import PoolClosedError, PoolError
from tests.db.driver import DriverError, FakeConnection, Setup


class PoolMachine(RuleBasedStateMachine):
    @initialize(
        least=st.integers(0, 2),
        most=st.integers(2, 4),
        interval=st.sampled_from([0.0, 5.0, 30.0]),
        lifetime=st.sampled_from([20.0, 1000.0]),
    )
    def make(self, least: int, most: int, interval: float, lifetime: float) -> None:
        self.setup = Setup(
            at_once=False,
            min_connections=least,
            max_connections=most,
            validation_interval=interval,
            max_lifetime=lifetime,
            idle_timeout=40,
        )
        self.bound = self.most = most
        self.leases: dict[FakeConnection, Any] = {}
        self.old: set[FakeConnection] = set()  # must never be lent again
        self.lives_until: dict[FakeConnection, float] = {}
        self.closed = self.forced = self.suspended = False
        self.lost = self.dropped = 0

    def note_new_connections(self) -> None:
        for connection in self.setup.driver.connections:
            limit = self.setup.pool._max_lifetime * 0.95
            self.lives_until.setdefault(connection, self.setup.clock.now + limit)

    @rule()
    def borrow(self) -> None:
        lease = self.setup.pool.connection(timeout=0)
        try:
            connection = lease.__enter__()
        except PoolClosedError:
            assert self.closed
            return
        except PoolError:
            return
        assert not self.closed
        assert not self.suspended
        assert connection not in self.leases, "two holders"
        assert connection not in self.old, "lent although it was drained"
        assert not connection.closes, "lent after it was closed"
        assert not connection.in_transaction
        assert self.setup.clock.now < self.lives_until[connection], "lent after its lifetime"
        self.leases[connection] = lease

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), fails=st.booleans(), writes=st.booleans())
    def give_back(self, data: st.DataObject, fails: bool, writes: bool) -> None:
        connection = data.draw(st.sampled_from(list(self.leases)))
        lease = self.leases.pop(connection)
        try:
            if writes:
                connection.write("x")
            lease.__exit__(*((KeyError, KeyError(), None) if fails else (None, None, None)))
        except (DriverError, AssertionError):
            assert connection.dead or (self.forced and connection.closes)
            lease.__exit__(DriverError, DriverError(), None)

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        """A borrower forgets its lease; the keeper notices."""
        connection = data.draw(st.sampled_from(list(self.leases)))
        self.old.add(connection)
        del self.leases[connection]
        self.lost += not self.forced
        self.dropped += 1
        self.setup.tick()
        assert self.setup.pool.stats().lost == self.lost

    @precondition(lambda self: self.setup.jobs.waiting)
    @rule(data=st.data())
    def run_a_job(self, data: st.DataObject) -> None:
        self.setup.jobs.run(data.draw(st.integers(0, len(self.setup.jobs.waiting) - 1)))
        self.note_new_connections()

    @rule(seconds=st.sampled_from([0.0, 0.1, 1.0, 6.0, 30.0]), maintain=st.booleans())
    def time_passes(self, seconds: float, maintain: bool) -> None:
        self.setup.clock.now += seconds
        if maintain:
            self.setup.tick()

    @rule()
    def connections_die(self) -> None:
        self.setup.driver.kill_all()

    @rule(down=st.booleans())
    def the_database_goes_or_comes(self, down: bool) -> None:
        self.setup.driver.connect_error = DriverError("refused") if down else None

    @rule()
    def drain(self) -> None:
        self.setup.pool.drain()
        self.old.update(self.setup.driver.connections)

    @rule(most=st.integers(1, 4))
    def resize(self, most: int) -> None:
        self.bound = max(most, self.setup.pool.stats().size)
        self.most = most
        self.setup.pool.resize(min_connections=0, max_connections=most)

    @rule(suspended=st.booleans())
    def suspend_or_resume(self, suspended: bool) -> None:
        self.suspended = suspended
        if suspended:
            self.setup.pool.suspend()
        else:
            self.setup.pool.resume()

    @precondition(lambda self: len(self.setup.driver.connections) > 1)
    @rule(force=st.booleans())
    def close(self, force: bool) -> None:
        with patch("prologue.db.pool.CLOSE_TIMEOUT", 0.0):  # the jobs wait for their rule
            self.setup.pool.close(timeout=0, force=force)
        self.closed = True
        self.forced |= force

    @invariant()
    def the_numbers_add_up(self) -> None:
        stats = self.setup.pool.stats()
        assert stats.size == stats.idle + stats.leased + stats.opening + stats.checking + stats.closing
        assert stats.opened - stats.closed - stats.abandoned == stats.size - stats.opening
        assert stats.leased == (0 if self.forced else len(self.leases))
        assert stats.waiting == 0
        assert self.setup.pool.recovered <= self.dropped

    @invariant()
    def there_are_no_more_than_the_maximum(self) -> None:
        stats = self.setup.pool.stats()
        assert stats.size <= self.bound
        if stats.size <= self.most:
            self.bound = self.most  # what was too many after a resize is gone
        assert stats.idle == 0 or stats.size - stats.closing <= self.most

    @invariant()
    def nothing_idle_is_in_a_transaction_or_closed(self) -> None:
        for claim in [*self.setup.pool._idle, *self.setup.pool._doubtful]:
            connection = claim.entry.connection
            assert connection not in self.leases
            assert not connection.in_transaction
            assert not connection.closes

    @invariant()
    def nothing_is_closed_twice_or_in_use(self) -> None:
        assert all(connection.closes <= 1 for connection in self.setup.driver.connections)
        assert self.forced or not any(connection.closes for connection in self.leases)

    def teardown(self) -> None:
        if not hasattr(self, "setup"):
            return
        for lease in self.leases.values():
            lease.__exit__(KeyError, KeyError(), None)
        self.setup.driver.connect_error = None
        self.setup.pool.resume()
        if not self.closed:  # once the database is well, so is the pool
            self.setup.jobs.run_all()
            self.setup.clock.now += 100
            self.setup.jobs.at_once = True
            assert self.setup.borrow_number() > 0
        self.setup.jobs.at_once = True
        self.setup.pool.close(timeout=0)
        self.setup.jobs.run_all()
        assert self.setup.pool.stats().size == 0
        assert all(connection.closes == 1 for connection in self.setup.driver.connections)


PoolMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestPoolMachine = PoolMachine.TestCase
