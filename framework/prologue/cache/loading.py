"""How ``get_or_set`` makes values: once at a time for a key, with a stale value to fall back on."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from prologue.cache.background import Background
from prologue.cache.context import Factory, FactoryContext, call_factory
from prologue.cache.entry import NEVER, Entry, TagGenerations, tag_names
from prologue.cache.options import seconds
from prologue.errors import CacheClosedError, CacheError, CacheTimeoutError, CacheUnavailableError
from prologue.lifecycle import MISSING, Missing
from prologue.lifecycle.single_flight import Run, wait_graph

if TYPE_CHECKING:
    from prologue.cache.base import CacheBackend
    from prologue.cache.options import CacheOptions, Duration
    from prologue.cache.pending import PendingWrite

__all__ = ["Loader"]

T = TypeVar("T")

_LEASE_PAUSE = 0.01
_INEXACT = 0.5  # seconds by which a moment that is read twice from a store may differ

_logger = logging.getLogger("prologue.cache")


class _Call(Generic[T]):
    """What one caller asks for."""

    __slots__ = ("factory", "key", "options", "stale", "started", "tags", "ttl")

    def __init__(
        self,
        key: str,
        factory: Factory[T],
        ttl: Duration | None,
        tags: Iterable[str],
        options: CacheOptions,
    ) -> None:
        self.key = key
        self.factory = factory
        self.ttl = ttl
        self.tags = tag_names(tags)
        self.options = options
        self.stale: Entry | None = None
        self.started = time.monotonic()

    @property
    def fallback(self) -> Entry | None:
        """The entry that may be served when there is no better."""
        return self.stale if self.options.stale else None

    @property
    def patience(self) -> float:
        """Seconds to wait for a thread of the background: what is left, with nothing to fall back on."""
        if self.options.hard_timeout is None or self.fallback is not None:
            return 0.0
        return max(0.0, self.deadline(self.options.hard_timeout) - time.monotonic())

    @property
    def time_is_over(self) -> bool:
        """Whether the hard timeout is over."""
        return time.monotonic() >= self.deadline(self.options.hard_timeout)

    def deadline(self, timeout: Duration | None) -> float:
        return NEVER if timeout is None else self.started + seconds(timeout, "timeout")


class _Flight(Run[T]):
    """One run of a factory, by the thread that is given once it runs."""

    __slots__ = ("pending", "tags")

    def __init__(self, name: str, pending: PendingWrite, tags: Iterable[str]) -> None:
        super().__init__(name)
        self.thread = 0
        self.pending = pending
        self.tags = set(tags)  # the factory may add some, before it reads what they stand for


class Loader:
    """The flights of one cache: the factories that run now, one for each key, and who waits for them."""

    __slots__ = ("_background", "_cache", "_ended", "_flights", "_lock")

    def __init__(self, cache: CacheBackend) -> None:
        self._cache = cache
        # Invariant: under the lock, _flights holds the flight of each key that may be joined, until its value
        # is stored or given up; _ended grows when one ends, so that who looked for a value before looks
        # again.
        self._lock = threading.Lock()
        self._flights: dict[str, _Flight[Any]] = {}
        self._ended = 0
        self._background = Background(cache.name)

    def get_or_set(
        self,
        key: str,
        factory: Factory[T],
        ttl: Duration | None,
        tags: Iterable[str],
        options: CacheOptions | None,
    ) -> T:
        """Return the fresh value of a key, or make it."""
        ended = self._ended
        options = self._cache.options if options is None else options
        counted = options.eager is None and (not options.stale or self._cache.get_is_quick)
        if counted:
            value = self._cache.get(key, MISSING)
            if value is not MISSING:
                found: T = value
                return found
        call = _Call(key, factory, ttl, tags, options)
        entry = self._look(call) if options.eager is not None or options.stale else None
        if entry is not None:
            self._cache.counters.hits += not counted
            if self._cache.clock() >= entry.refresh_at:
                self._refresh_in_background(call, entry)
            kept: T = entry.value
            return kept
        self._cache.counters.misses += not counted
        return self._make(call, ended)

    def refresh(
        self,
        key: str,
        factory: Factory[T],
        ttl: Duration | None,
        tags: Iterable[str],
        options: CacheOptions | None,
    ) -> T:
        """Make the value of a key, even if it is fresh."""
        options = self._cache.options if options is None else options
        call = _Call(key, factory, ttl, tags, options)
        call.stale = self._cache.get_entry(key)
        return self._make(call, None)

    def _look(self, call: _Call[T]) -> Entry | None:
        """Return the entry if it is fresh; keep it with the call if it may be served stale."""
        entry = self._cache.get_entry(call.key)
        if entry is None:
            return None
        now = self._cache.clock()
        if now < entry.fresh_until:
            return entry
        if call.options.stale and now < entry.stale_until:
            call.stale = entry
        return None

    def _make(self, call: _Call[T], ended: int | None) -> T:
        """Lead the flight of the key, or join it, until there is an outcome that the call can take.

        Args:
            call: what is asked for.
            ended: the number of flights that had ended before the value was looked for; ``None``: it was not.
        """
        timed = call.options.soft_timeout is not None or call.options.hard_timeout is not None
        while True:
            if self._cache.closed:
                raise CacheClosedError(f"cache {self._cache.name!r} is closed: make another one")
            with self._lock:
                looked_too_early = ended is not None and ended != self._ended
                ended = None if ended is None else self._ended
                leader, is_ours = (None, False) if looked_too_early else self._join_or_lead(call)
            if leader is None:
                entry = self._look(call)
                if entry is not None:
                    made: T = entry.value
                    return made
                continue
            try:
                in_background = timed and is_ours and self._start(leader, call, call.patience)
                if is_ours and not in_background:
                    if timed and (call.fallback is not None or call.time_is_over):
                        self._end(leader)  # all threads are busy, and here no timeout could stop the factory
                    else:
                        self._fly(leader, call, in_background=False)
                elif circle := self._wait(leader, call):
                    _logger.debug("not waiting: %s", " needs ".join(circle))
                    return call_factory(call.factory, self._context(call, (), set()))
                outcome: T | Missing = leader.value
                if outcome is not MISSING:
                    return outcome
                if is_ours or not leader.finished or leader.error is not None:
                    if call.fallback is not None:
                        self._cache.counters.stale_served += 1
                        old: T = call.fallback.value
                        return old
                    if leader.error is not None:
                        raise leader.error.with_traceback(leader.traceback)
                    raise CacheTimeoutError(
                        f"key {call.key!r} of cache {self._cache.name!r} was not made in "
                        f"{call.options.hard_timeout} s; its factory goes on in the background, if it began"
                    )
            finally:
                # A flight holds its error, and the error's traceback this frame.
                del leader

    def _join_or_lead(self, call: _Call[T]) -> tuple[_Flight[T], bool]:
        """Return the flight of a key, and whether it is a new one. Called under the lock.

        Who asks after a change must not get what was begun before it: such a flight is left to those it has,
        and its value is not stored in place of the new one's.
        """
        flight: _Flight[T] | None = self._flights.get(call.key)
        if flight is not None and not flight.pending.overtaken:
            return flight, False
        self._cache.pending.overtake(call.key)
        name = f"key {call.key!r} of cache {self._cache.name!r}"
        flight = _Flight(name, self._cache.pending.begin(call.key), call.tags)
        self._flights[call.key] = flight
        return flight, True

    def overtake(self, tags: Iterable[str]) -> None:
        """Let nobody join a flight whose value was begun before one of its tags is invalidated."""
        with self._lock:
            for key in [key for key, flight in self._flights.items() if not flight.tags.isdisjoint(tags)]:
                del self._flights[key]

    def _wait(self, flight: _Flight[T], call: _Call[T]) -> list[str]:
        """Wait for a flight as long as the call may; return the circle that waiting would close."""
        deadline = call.deadline(call.options.hard_timeout)
        if call.fallback is not None:
            deadline = min(deadline, call.deadline(call.options.soft_timeout))
        if deadline == NEVER:
            return wait_graph.wait(flight)
        return wait_graph.wait(flight, max(0.0, deadline - time.monotonic()))

    def _refresh_in_background(self, call: _Call[T], entry: Entry) -> None:
        """Start a flight, unless there is one or all threads are busy: then the next hit tries again."""
        call.stale = entry
        with self._lock:
            flight, is_ours = self._join_or_lead(call)
        if not is_ours:
            return
        if not self._start(flight, call, 0.0):
            self._end(flight)

    def _start(self, flight: _Flight[T], call: _Call[T], patience: float) -> bool:
        try:
            return self._background.try_run(partial(self._fly, flight, call, in_background=True), patience)
        except BaseException:  # interrupted while it waited for a thread
            self._end(flight)
            raise

    def _fly(self, flight: _Flight[T], call: _Call[T], in_background: bool) -> None:
        """Make the value and store it; leave the outcome with the flight."""
        flight.thread = threading.get_ident()
        wait_graph.enter(flight)
        try:
            made: T = self._load(call, flight)
            flight.value = made
            self._cache.counters.loads += 1
        except BaseException as error:
            if isinstance(error, Exception):
                flight.error = error
            elif in_background:  # it would end a thread that is not the caller's
                flight.error = CacheError(f"{flight.name}: the factory raised {error!r}")
            else:
                raise  # it ends this thread only; those who wait try again
            flight.traceback = error.__traceback__
            self._cache.counters.load_failures += 1
            if call.stale is not None:
                _logger.warning("%s cannot be made; the old value stays", flight.name, exc_info=error)
                self._throttle(call, call.stale, flight.pending)
        finally:
            self._end(flight)

    def _end(self, flight: _Flight[T]) -> None:
        key = flight.pending.key
        with self._lock:
            if self._flights.get(key) is flight:
                del self._flights[key]
            self._ended += 1
        self._cache.pending.end(flight.pending)  # only now: as long as it can be joined it can be overtaken
        wait_graph.finish(flight)

    def _load(self, call: _Call[T], flight: _Flight[T]) -> T:
        lease = seconds(call.options.lease, "lease")
        if not lease:
            return self._call_and_store(call, flight, NEVER)
        token = secrets.token_hex(16)
        found, until = self._wait_for_lease(call, token, lease)
        if found is not None:
            made: T = found.value
            return made
        try:
            return self._call_and_store(call, flight, until)
        finally:
            self._release_lease(call, token)

    def _release_lease(self, call: _Call[T], token: str) -> None:
        try:
            self._cache._release(f"lease:{call.key}", token)
        except CacheUnavailableError:
            self._cache.counters.errors += 1  # it ends by itself

    def _wait_for_lease(self, call: _Call[T], token: str, lease: float) -> tuple[Entry | None, float]:
        """Return the entry that another process made, or ``None`` and until when one made here is stored."""
        started = time.monotonic()
        while True:
            asked = time.monotonic()
            try:
                held = self._cache._acquire(f"lease:{call.key}", token, lease) is not None
            except CacheUnavailableError:
                self._cache.counters.errors += 1
                return None, NEVER
            entry = self._cache.get_entry(call.key)
            if entry is not None and self._is_newer(entry, call):
                if held:
                    self._release_lease(call, token)
                return entry, NEVER
            if held:
                return None, asked + lease
            if asked - started > lease:
                return None, NEVER
            time.sleep(_LEASE_PAUSE)

    def _is_newer(self, entry: Entry, call: _Call[T]) -> bool:
        if self._cache.clock() >= entry.fresh_until:
            return False
        return call.stale is None or entry.fresh_until > call.stale.fresh_until + _INEXACT

    def _call_and_store(self, call: _Call[T], flight: _Flight[T], until: float) -> T:
        """Call the factory, and store its value unless that is too late, or not wanted."""
        cache = self._cache
        cacheable = True
        try:
            generations = cache.tag_generations(call.tags)
        except CacheUnavailableError:
            cache.counters.errors += 1
            generations, cacheable = (), False
        context = self._context(call, generations, flight.tags)
        value = call_factory(call.factory, context)
        if not (cacheable and context.cacheable) or time.monotonic() >= until:
            return value
        ttl = context.ttl
        if value is None and call.options.negative_ttl is not None:
            ttl = call.options.negative_ttl
        entry = cache.entry(value, ttl, context.tags, call.options)
        entry.etag = context.etag
        self._store(flight.pending, entry)
        return value

    def _throttle(self, call: _Call[T], stale: Entry, pending: PendingWrite) -> None:
        """Let a stale value count as fresh for a while, so that its factory is left alone."""
        again = self._cache.clock() + seconds(call.options.throttle, "throttle")
        fresh_until = min(max(stale.fresh_until, again), stale.stale_until)
        refresh_at = NEVER if call.options.eager is None else again
        self._store(
            pending, Entry(stale.value, fresh_until, stale.stale_until, refresh_at, stale.tags, stale.etag)
        )

    def _store(self, pending: PendingWrite, entry: Entry) -> None:
        try:
            self._cache._write_pending(pending, entry)
        except CacheUnavailableError:
            self._cache.counters.errors += 1

    def _context(self, call: _Call[T], generations: TagGenerations, tags: set[str]) -> FactoryContext:
        return FactoryContext(self._cache, call.key, call.stale, call.ttl, generations, tags)

    def close(self) -> None:
        """Wait for the factories in the background, for some seconds at the most."""
        self._background.close()

    def after_fork(self) -> None:
        """Start over in the child: only a flight of the thread that forked goes on."""
        thread = threading.get_ident()
        self._lock = threading.Lock()
        self._flights = {key: flight for key, flight in self._flights.items() if flight.thread == thread}
        self._background.start_over()
