"""The interface of every cache, and what a backend implements to have it.

**How a backend is written.** Derive from :class:`CacheBackend` and implement the primitives, the methods from
:meth:`~CacheBackend._read` to :meth:`~CacheBackend._close`. They are few because all policy is above them,
once: options, tags, single flight, fail-safe, what an outage means. A primitive

* takes the caller's keys, str of any content and length, and encodes them itself (``keys.KeyEncoder``);
* works with whole entries: the value, moments of ``self.clock`` and the generations of tags. A store that
  outlives the process keeps durations. What it reads must have the *remaining* time: levels fill each other;
* keeps an entry until its ``stale_until`` and returns it until then: whether it is usable, that is: fresh and
  its tags current, is judged above. Only who changes an entry in one step (``_add``, ``_replace``,
  ``_increment``, ``_touch``) judges that in it;
* raises ``CacheUnavailableError``, with the driver's error as its cause, when the store does not answer, and
  ``CacheValueError`` for a value that cannot be stored. What cannot be decoded is not there, and is counted;
* does its many-operations in one round trip where the store can; the defaults go one by one.

A backend calls ``super().__init__`` first, and ``super()._after_fork()`` first in its own ``_after_fork``.

**What an outage means.** Reading is a miss. ``set``, ``set_many`` and the filling of ``get_or_set`` do
without. ``delete``, ``clear``, ``invalidate_tags``, ``add``, ``replace``, ``incr``, ``touch`` and ``lock``
raise: who calls them relies on what they do.

**What happens meanwhile.** A value that is being made or fetched while its key is set, deleted, cleared or
invalidated is not written any more: every change calls ``self.pending.overtake(key)`` before it, every
delayed write goes through :meth:`CacheBackend._write_pending`.
"""

from __future__ import annotations

import random
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

from prologue.cache.entry import NEVER, Entry, TagGenerations, tag_names
from prologue.cache.loading import Loader
from prologue.cache.locking import CacheLock
from prologue.cache.options import CacheOptions, Duration, seconds
from prologue.cache.pending import PendingWrite, PendingWrites
from prologue.cache.stats import CacheStats, Counters
from prologue.errors import CacheClosedError, CacheUnavailableError
from prologue.lifecycle import on_fork

if TYPE_CHECKING:
    from prologue.cache.context import Factory

__all__ = ["CacheBackend"]

T = TypeVar("T")


class CacheBackend(ABC):
    """A cache: values under keys, for a time. See the module for what a backend implements.

    Any thread may call any method. After a fork the child uses what a backend opened anew.

    Args:
        name: for messages and statistics.
        options: the defaults for all entries. Default ``CacheOptions()``: for ever, no fail-safe.
        clock: the monotonic clock, in seconds.

    Attributes:
        name: of the cache.
        options: its defaults.
        clock: its clock.
        pending: the writes whose values are not there yet.
        counters: what it counted.
        closed: whether it was closed in this process.
    """

    __slots__ = (
        "__weakref__",
        "_loader",
        "_random",
        "clock",
        "closed",
        "counters",
        "name",
        "options",
        "pending",
    )

    def __init__(
        self,
        *,
        name: str = "cache",
        options: CacheOptions | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.options = CacheOptions() if options is None else options
        self.clock = clock
        self.pending = PendingWrites()
        self.counters = Counters()
        self.closed = False
        self._random = random.Random()
        self._loader = Loader(self)
        on_fork(self._after_fork)

    #: Whether :meth:`get` costs so little that ``get_or_set`` tries it before it looks for what is stale.
    get_is_quick: ClassVar[bool] = False

    # -- the primitives --

    @abstractmethod
    def _read(self, key: str) -> Entry | None:
        """Return the entry of a key unless it is past its ``stale_until``."""

    def _read_many(self, keys: Sequence[str]) -> dict[str, Entry]:
        """Return the entries of those keys that have one."""
        return {key: entry for key in keys if (entry := self._read(key)) is not None}

    @abstractmethod
    def _write(self, key: str, entry: Entry) -> None:
        """Store an entry, in place of any that is there."""

    def _write_many(self, entries: Mapping[str, Entry]) -> None:
        """Store entries."""
        for key, entry in entries.items():
            self._write(key, entry)

    def _write_pending(self, pending: PendingWrite, entry: Entry) -> bool:
        """Store the entry of a pending write unless it is overtaken; return whether it was stored.

        A backend that can look at ``pending.overtaken`` and write in one step of its own lock does so.
        """
        if pending.overtaken:
            return False
        self._write(pending.key, entry)
        if pending.overtaken:
            self._remove(pending.key)
            return False
        return True

    @abstractmethod
    def _add(self, key: str, entry: Entry) -> bool:
        """Store an entry if the key has no usable one, in one step; return whether it was stored."""

    @abstractmethod
    def _replace(self, key: str, old: object, entry: Entry) -> bool:
        """Store an entry if the key has a usable one whose value equals the old; return whether it was."""

    @abstractmethod
    def _remove(self, key: str) -> bool:
        """Remove the entry of a key; return whether there was one."""

    def _remove_many(self, keys: Sequence[str]) -> int:
        """Remove entries; return how many there were."""
        return sum(map(self._remove, keys))

    @abstractmethod
    def _increment(self, key: str, delta: int, initial: Entry) -> int:
        """Add to an integer in one step and return the sum.

        Without a usable entry, add to the value of ``initial``, and store the sum with its moments.

        Raises:
            CacheValueError: what is there is not an integer.
        """

    @abstractmethod
    def _touch(self, key: str, fresh_until: float, stale_until: float) -> bool:
        """Give a usable entry other moments; return whether there was one."""

    @abstractmethod
    def _clear(self) -> None:
        """Remove every entry of this cache, and nothing else that is in the store."""

    @abstractmethod
    def _generations(self, tags: Sequence[str]) -> tuple[int, ...]:
        """Return the generation of each tag; of one that was never invalidated too."""

    def _seen_generations(self, tags: Sequence[str]) -> tuple[int, ...]:
        """Return the same for reading; a backend that knows them without asking its store need not ask."""
        return self._generations(tags)

    @abstractmethod
    def _invalidate(self, tags: Sequence[str]) -> None:
        """Give each tag a generation that it never had."""

    @abstractmethod
    def _acquire(self, name: str, token: str, ttl: float) -> int | None:
        """Take a lock for so many seconds, if it is free; return its fencing number, else ``None``.

        Names begin with ``lock:``, for the users' locks, or with ``lease:``, for those of the factories. The
        number is greater than that of every earlier holder.
        """

    @abstractmethod
    def _release(self, name: str, token: str) -> bool:
        """Release a lock if it is still held with this token, in one step; return whether it was."""

    @abstractmethod
    def _close(self) -> None:
        """Give up what the backend holds; called once."""

    # -- reading --

    def get(self, key: str, default: Any = None) -> Any:
        """Return the fresh value of a key, or the default.

        Args:
            key: a str of any content and length.
            default: returned on a miss, and while the store does not answer; ``MISSING`` tells a miss from a
                value ``None``.
        """
        entry = self.get_entry(key)
        if entry is None or self.clock() >= entry.fresh_until:
            self.counters.misses += 1
            return default
        self.counters.hits += 1
        return entry.value

    def get_entry(self, key: str) -> Entry | None:
        """Return the entry of a key, fresh or stale, or ``None``; this counts as no lookup."""
        try:
            entry = self._read(key)
            if entry is None or (entry.tags and not self._current(entry.tags)):
                return None
        except CacheUnavailableError:
            self.counters.errors += 1
            return None
        return entry

    def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """Return the fresh values of those keys that have one, in one round trip where the store can."""
        wanted = list(dict.fromkeys(keys))
        try:
            entries = self._read_many(wanted)
            names = list(dict.fromkeys(tag for entry in entries.values() for tag, _ in entry.tags))
            generations = dict(zip(names, self._seen_generations(names), strict=True)) if names else {}
        except CacheUnavailableError:
            self.counters.errors += 1
            entries = {}
        now = self.clock()
        found = {
            key: entry.value
            for key, entry in entries.items()
            if now < entry.fresh_until and all(generations[tag] == number for tag, number in entry.tags)
        }
        self.counters.hits += len(found)
        self.counters.misses += len(wanted) - len(found)
        return found

    def get_or_set(
        self,
        key: str,
        factory: Factory[T],
        ttl: Duration | None = None,
        *,
        tags: Iterable[str] = (),
        options: CacheOptions | None = None,
    ) -> T:
        """Return the fresh value of a key, or make it: in one thread of this process at a time.

        Threads that ask meanwhile share the outcome, value or error. A factory that asks for its own key, or
        for one whose factory waits for its own, does not wait for itself: the inner call runs its factory.
        With a ``soft_timeout`` or ``hard_timeout`` the factory runs on a background thread.

        Args:
            key: a str of any content and length.
            factory: makes the value; called without arguments, or with a ``FactoryContext`` if it takes one.
            ttl: how long the value is fresh, in place of the options'; 0: for ever.
            tags: what can invalidate it.
            options: in place of the defaults of the cache.

        Raises:
            CacheTimeoutError: the hard timeout is over.
            CacheOptionError: the ttl is not a duration.
            CacheClosedError: the cache is closed.
            Exception: what the factory raises, unless a stale value can be served.
        """
        return self._loader.get_or_set(key, factory, ttl, tags, options)

    def refresh(
        self,
        key: str,
        factory: Factory[T],
        ttl: Duration | None = None,
        *,
        tags: Iterable[str] = (),
        options: CacheOptions | None = None,
    ) -> T:
        """Make the value of a key now, even if it is fresh; otherwise as :meth:`get_or_set`.

        If its factory runs already, its outcome is shared.
        """
        return self._loader.refresh(key, factory, ttl, tags, options)

    # -- writing --

    def set(self, key: str, value: Any, ttl: Duration | None = None, *, tags: Iterable[str] = ()) -> None:
        """Store a value. While the store does not answer this does nothing but count an error.

        Args:
            key: a str of any content and length.
            value: anything the backend can store; ``None`` is a value.
            ttl: how long it is fresh; 0: for ever; ``None``: as the options of the cache say.
            tags: what can invalidate it.

        Raises:
            CacheValueError: the backend cannot store such a value.
            CacheOptionError: the ttl is not a duration.
            CacheClosedError: the cache is closed.
            TypeError: the key is not a str.
        """
        self.set_many({key: value}, ttl, tags=tags)

    def set_many(
        self, values: Mapping[str, Any], ttl: Duration | None = None, *, tags: Iterable[str] = ()
    ) -> None:
        """Store values in one round trip where the store can; see :meth:`set`."""
        self._check_open()
        for key in values:
            self._check_key(key)
            self.pending.overtake(key)
        try:
            generations = self.tag_generations(tags)
            self._write_many({key: self.entry(value, ttl, generations) for key, value in values.items()})
        except CacheUnavailableError:
            self.counters.errors += 1

    def add(self, key: str, value: Any, ttl: Duration | None = None, *, tags: Iterable[str] = ()) -> bool:
        """Store a value if the key has no fresh one, in one step; return whether it was stored.

        Raises:
            CacheUnavailableError: the store does not answer.
            CacheValueError, CacheOptionError, CacheClosedError, TypeError: as for :meth:`set`.
        """
        self._check_open()
        self._check_key(key)
        self.pending.overtake(key)
        return self._add(key, self.entry(value, ttl, self.tag_generations(tags)))

    def replace(
        self, key: str, old: object, value: Any, ttl: Duration | None = None, *, tags: Iterable[str] = ()
    ) -> bool:
        """Store a value in place of a fresh one that equals the old, in one step; return whether it was.

        Of several that replace the same value by different ones, one succeeds.

        Args:
            key: a str of any content and length.
            old: what :meth:`get` returned.
            value, ttl, tags: as for :meth:`set`.

        Raises:
            CacheUnavailableError: the store does not answer.
            CacheValueError, CacheOptionError, CacheClosedError, TypeError: as for :meth:`set`.
        """
        self._check_open()
        self._check_key(key)
        self.pending.overtake(key)
        return self._replace(key, old, self.entry(value, ttl, self.tag_generations(tags)))

    def incr(self, key: str, delta: int = 1, *, initial: int = 0, ttl: Duration | None = None) -> int:
        """Add to an integer in one step, and return the sum; a value that is there keeps its ttl and tags.

        Args:
            key: a str of any content and length.
            delta: may be negative.
            initial: what a key without a fresh value counts from.
            ttl: of the value if this call creates it.

        Raises:
            CacheValueError: what is there is not an integer.
            CacheUnavailableError: the store does not answer.
            CacheOptionError, CacheClosedError, TypeError: as for :meth:`set`.
        """
        self._check_open()
        self._check_key(key)
        self.pending.overtake(key)
        return self._increment(key, delta, self.entry(initial, ttl))

    def touch(self, key: str, ttl: Duration | None = None) -> bool:
        """Give the fresh value of a key another time to live, from now; return whether there was one.

        Raises:
            CacheUnavailableError: the store does not answer.
            CacheOptionError, CacheClosedError: as for :meth:`set`.
        """
        self._check_open()
        entry = self.entry(None, ttl)
        return self._touch(key, entry.fresh_until, entry.stale_until)

    # -- removing --

    def delete(self, key: str) -> bool:
        """Remove a value; return whether there was one, fresh or not.

        Raises:
            CacheUnavailableError: the store does not answer, and may keep the value.
        """
        self.pending.overtake(key)
        return self._remove(key)

    def delete_many(self, keys: Iterable[str]) -> int:
        """Remove values, in one round trip where the store can; return how many there were.

        Raises:
            CacheUnavailableError: the store does not answer, and may keep some.
        """
        unwanted = list(dict.fromkeys(keys))
        for key in unwanted:
            self.pending.overtake(key)
        return self._remove_many(unwanted)

    def invalidate_tags(self, *tags: str) -> None:
        """Make every value that was stored under one of the tags a miss, whatever their number, at once.

        Raises:
            CacheUnavailableError: the store does not answer, and the values may still be served.
        """
        if tags:
            self._loader.overtake(tags)
            self._invalidate(tags)

    def clear(self) -> None:
        """Remove every value of this cache, and nothing else that is in the store.

        Raises:
            CacheUnavailableError: the store does not answer, and may keep them.
        """
        self.pending.overtake_all()
        self._clear()

    # -- the rest --

    def lock(self, key: str, ttl: Duration = 30.0, *, timeout: Duration | None = None) -> CacheLock:
        """Return a lock that all users of the store share; use it as a context manager.

        Args:
            key: what is locked; it has nothing to do with the value of the same key.
            ttl: seconds after which it is free again even if its holder died.
            timeout: the longest to wait for it. Default ``None``: as long as it takes.

        Raises:
            CacheOptionError: the ttl is 0, or one of the two is not a duration.
        """
        return CacheLock(self, key, secrets.token_hex(16), ttl, timeout)

    def stats(self) -> CacheStats:
        """Return what happened so far."""
        return CacheStats(name=self.name, **vars(self.counters))

    def close(self) -> None:
        """Finish the work in the background, then give up what the cache holds. Calling again does nothing.

        Afterwards reading is a miss, or an error where the backend cannot tell; writing raises.
        """
        if not self.closed:
            self.closed = True
            self._loader.close()
            self._close()

    def entry(
        self,
        value: Any,
        ttl: Duration | None = None,
        tags: TagGenerations = (),
        options: CacheOptions | None = None,
    ) -> Entry:
        """Make an entry for a value that is fresh from now on, as the options say.

        Raises:
            CacheOptionError: the ttl is not a duration.
        """
        return Entry(value, *self._moments(ttl, self.options if options is None else options), tags)

    def tag_generations(self, tags: Iterable[str]) -> TagGenerations:
        """Return tags with their generations, as an entry keeps them; read them *before* the value is made.

        Raises:
            CacheUnavailableError: the store does not answer.
            TypeError: the tags are one str: its letters are surely not meant.
        """
        names = tag_names(tags)
        return tuple(zip(names, self._generations(names), strict=True)) if names else ()

    def _moments(self, ttl: Duration | None, options: CacheOptions) -> tuple[float, float, float]:
        """Return ``fresh_until``, ``stale_until`` and ``refresh_at`` of a value that is made now."""
        life = seconds(options.ttl if ttl is None else ttl, "ttl")
        if not life:
            return NEVER, NEVER, NEVER
        if options.jitter:
            life -= life * options.jitter * self._random.random()
        now = self.clock()
        fresh_until = now + life
        stale_until = fresh_until + seconds(options.stale, "stale") if options.stale else fresh_until
        return fresh_until, stale_until, NEVER if options.eager is None else now + life * options.eager

    def _current(self, tags: TagGenerations) -> bool:
        return self._seen_generations([tag for tag, _ in tags]) == tuple(number for _, number in tags)

    def _check_open(self) -> None:
        if self.closed:
            raise CacheClosedError(f"cache {self.name!r} is closed: make another one")

    def _check_key(self, key: object) -> None:
        if not isinstance(key, str):
            raise TypeError(f"a cache key is a str, not {key!r}")

    def _after_fork(self) -> None:
        self.pending.after_fork()
        self.counters = Counters()
        self._random = random.Random()  # else all children would draw the same jitter
        self._loader.after_fork()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}{' closed' if self.closed else ''}>"
