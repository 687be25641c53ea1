"""What a pool does in threads of its own: jobs, each a call of the driver, and the keeper that starts them.

Connecting, checking and closing take as long as the driver likes. So each happens in a thread that nobody
waits for longer than its deadline. The keeper is one more thread: it sees to what is due, and to whatever
borrowers may not do themselves because they can be interrupted at any point.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any
from weakref import ref

from prologue.db.adapter import Adapter
from prologue.db.background import maintain
from prologue.db.borrowers import describe
from prologue.db.entry import Claim, Entry, Job, JobKind
from prologue.db.state import CLOSE_TIMEOUT, PoolState
from prologue.lifecycle import abandon

__all__ = ["Keeper"]

# Records get the text of an error, not the error: its traceback would keep a claim for as long as the record.
_logger = logging.getLogger("prologue.db")


class Keeper(PoolState):
    """The threads of a pool."""

    _adapter: Adapter
    _spawn: Callable[[Callable[[], object], str], object]

    def _start_over(self) -> None:
        super()._start_over()
        self._kept = False  # whether the keeper runs

    def _after_fork(self) -> None:
        abandon((self._idle, self._doubtful, self._waiters, self._entries, self._jobs, self._home))
        self._start_over()

    # The keeper

    def _call_keeper(self) -> None:
        """Let the keeper look at the pool; it is safe to call this from a finalizer or a signal handler."""
        home = self._home
        if self._kept:
            if home.calls.empty():  # else it has been called, and has not looked yet
                home.calls.put(None)
            return
        watched = ref(self, lambda _: home.calls.put(None))
        try:
            with self._lock:
                if not self._kept:
                    # Only then the mark: better two keepers, should a signal come between, than none.
                    self._spawn(partial(maintain, watched, home), f"pool {self.name}: maintain")
                    self._kept = True
        except RuntimeError:  # no thread can be started: too many, or the interpreter ends
            self._settle()

    def _act(self) -> None:
        """Call the keeper if there is one; for a pool that was never used, none is started."""
        if self._kept:
            self._call_keeper()
        else:
            self._settle()

    def _settle(self) -> None:
        """Do what cannot wait."""
        with self._lock:
            now = self._clock()
            jobs = [*self._collect_lost(now), *self._serve(now)]
        self._start(jobs)

    def _maintain(self) -> float | None:
        """Do what is due; return the seconds until the next time, or None when nothing is left to do."""
        with self._lock:
            now = self._clock()
            overdue = self._give_up(now)
            lost = self._collect_lost(now)
            jobs = [*lost, *self._serve(now), *self._background_check(now)]
            leaks = [entry for entry in self._overdue(now) if entry.reported != entry.lent_at]
            if self._closed and self._is_empty():
                self._kept = False
                self._home.calls.put(None)  # should there be two keepers
                pause = None
            else:
                pause = self._pause(now)
        self._start(jobs)
        for job in overdue:
            _logger.warning("pool %r: a job took too long: %s", self.name, job.kind.value)
        if lost:
            _logger.warning(
                "pool %r: %d connections were dropped without being given back", self.name, len(lost)
            )
        for entry in leaks:
            self._report(entry, now)
        return pause

    def _report(self, entry: Entry, now: float) -> None:
        entry.reported = lent_at = entry.lent_at
        if lent_at is not None:
            _logger.warning(
                "pool %r: a connection has been borrowed for %.1f s, by\n%s",
                self.name,
                now - lent_at,
                describe(entry.borrower),
            )

    # Jobs, each in a thread of its own

    def _start(self, jobs: Iterable[Job]) -> None:
        for job in jobs:
            try:
                self._spawn(partial(self._run, job), f"pool {self.name}: {job.kind.value}")
            except RuntimeError:  # no thread can be started
                self._run(job)

    def _run(self, job: Job) -> None:
        if job.entry is None:
            self._open(job)
        elif job.kind is JobKind.CHECK:
            self._check(job, job.entry)
        else:
            self._close(job, job.entry.connection)

    def _finish(self, jobs: Iterable[Job]) -> None:
        self._start(jobs)
        self._call_keeper()  # there may be a deadline that it does not know of yet

    def _open(self, job: Job) -> None:
        try:
            connection = self._adapter.connect()
            commit = self._commit_of(connection)
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            with self._lock:
                if in_time := job in self._jobs:
                    self._jobs.remove(job)
                    now = self._clock()
                    self._note_failure(error, text, now, self._failures + 1)
                    jobs = self._serve(now)
            if in_time:
                self._finish(jobs)
            _logger.warning("pool %r: connecting failed: %s", self.name, text)
            return
        with self._lock:
            if in_time := job in self._jobs:
                self._jobs.remove(job)
                now = self._clock()
                lifetime = self._max_lifetime * (1 - 0.1 * self._random())
                self._add(Entry(connection, commit, job.generation, now + lifetime, now), job, now)
                jobs = self._serve(now)
        if in_time:
            self._finish(jobs)
        else:
            self._close_quietly(connection)

    def _commit_of(self, connection: Any) -> Callable[[], object]:
        # PERF: where the adapter does nothing of its own, the driver's method saves a call for each lease.
        commit = self._adapter.commit
        if getattr(commit, "__func__", None) is Adapter.commit:
            method: Callable[[], object] = connection.commit
            return method
        return partial(commit, connection)

    def _check(self, job: Job, entry: Entry) -> None:
        failure: Exception | None = None
        try:
            self._adapter.check(entry.connection)
        except Exception as error:
            failure = error
        with self._lock:
            if in_time := job in self._jobs:
                now = self._clock()
                self._checks += 1
                if failure is None:
                    self._jobs.remove(job)
                    self._offer(entry, now)
                else:
                    self._check_errors += 1
                    self._forget(entry)
                    self._suspect_all()
                    job.kind = JobKind.CLOSE
                    job.deadline = now + CLOSE_TIMEOUT
                jobs = self._serve(now)
        if in_time:
            self._finish(jobs)
        if failure is not None:
            _logger.warning("pool %r: a connection is broken: %s", self.name, str(failure))
        if failure is not None or not in_time:
            self._close(job, entry.connection)

    def _close(self, job: Job, connection: Any) -> None:
        self._close_quietly(connection)
        with self._lock:
            if in_time := job in self._jobs:
                self._jobs.remove(job)
                self._closed_count += 1
                jobs = self._serve(self._clock())
        if in_time:
            self._finish(jobs)

    def _close_quietly(self, connection: Any) -> None:
        try:
            self._adapter.close(connection)
        except Exception as error:
            _logger.warning("pool %r: closing a connection failed: %s", self.name, str(error))

    # What comes back

    def _end(self, claim: Claim, error: BaseException | None) -> None:
        """Commit, or roll back after an error, and take the connection back."""
        if error is None:
            try:
                claim.entry.commit()
            except BaseException as failure:
                self._give_back(claim, failure)
                raise
        self._give_back(claim, error)

    def _give_back(
        self, claim: Claim, failure: BaseException | None, passing: BaseException | None = None
    ) -> None:
        """Undo what was not committed, and take the connection back from a borrower, who may have failed.

        Args:
            claim: to the connection.
            failure: how the borrower failed.
            passing: an error of which it is not known whether it comes from the use of the connection.
        """
        adapter = self._adapter
        met = passing if failure is None else failure
        doubtful = met is not None and not adapter.reset_is_proof
        interrupted = doubtful and not isinstance(met, (Exception, GeneratorExit))
        broken = True
        try:
            # One who was interrupted may have left a question without its answer. A generator that is closed
            # was not asking anything.
            if not interrupted and (failure is None or not adapter.is_disconnect(failure)):
                adapter.reset(claim.entry.connection)
                broken = False
        except Exception as error:
            _logger.warning("pool %r: a connection came back broken: %s", self.name, str(error))
        finally:
            self._take_back(claim, doubtful, broken)

    def _take_back(self, claim: Claim, suspect: bool, broken: bool) -> None:
        entry = claim.entry
        now = self._clock()
        if entry.lent_at is not None:
            used = now - entry.lent_at
            entry.use_seconds += used
            self._note_long_use(entry, used)
        if broken:
            entry.expires = -math.inf
            with self._lock:
                self._suspect_all()
        elif suspect:
            entry.suspect = True
        entry.last_ok = now
        entry.lent_at = None
        try:
            if broken or suspect:
                self._doubtful.append(claim)
                if broken or self._waiters:
                    self._call_keeper()
                return
            self._idle.append(claim)
            if self._waiters or now >= entry.limit:
                self._attend(entry, now)
        except BaseException:
            self._call_keeper()
            raise

    def _attend(self, entry: Entry, now: float) -> None:
        """Pass on what was given back; call the keeper if that takes more than passing on."""
        if self._waiters:
            self._pair()
        if now >= entry.limit or (self._waiters and self._doubtful):
            self._call_keeper()
