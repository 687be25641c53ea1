"""A cache of several levels: the nearest is fast and of this process alone, the last is shared and decides.

**Reading** asks level after level. What is found lower down fills the levels above, with its remaining time.

**Writing** begins with the last level, so that nobody finds in it, after a change, what was there before.

**What comes back.** A level is filled only if its key was not changed since before the level below was read:
every change overtakes the fillings of its key before and after it changes each level.

**Other processes.** What they change is heard through the backplane; without it, or until it is heard, a
local level is believed for ``max_age`` at most. The generations of tags are verified in the last level when
an entry is taken from there; a local copy lives for ``max_age`` from that moment on.

**Outages.** While a shared level does not answer, reading does without it. What it missed is noted, counts as
done here at once, and is made up for by a thread in the background as soon as it answers: the last for each
key.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from prologue.cache.backplane import Backplane
from prologue.cache.base import CacheBackend
from prologue.cache.entry import Entry, TagGenerations
from prologue.cache.missed import MissedOperations, MissedWrite
from prologue.cache.options import CacheOptions, Duration, seconds
from prologue.cache.pending import PendingWrite, PendingWrites
from prologue.cache.recovery import Recovery
from prologue.cache.redis import RedisCache
from prologue.cache.remote import RemoteCache
from prologue.cache.stats import CacheStats
from prologue.cache.tag_view import TagView
from prologue.errors import CacheOptionError, CacheUnavailableError

__all__ = ["MultiLevelCache"]

T = TypeVar("T")


class MultiLevelCache(CacheBackend):
    """Caches one above the other, as one. See :class:`CacheBackend` for its methods, and the module for how.

    ``delete``, ``clear`` and ``invalidate_tags`` take effect in this process at once, and raise
    ``CacheUnavailableError`` if a shared level could not be reached: then other processes may see what was
    there until it is made up for.

    The levels belong to the cache: it closes them. They must have the clock of the cache.

    Args:
        levels: the nearest first, the one that decides last: local ones (``InMemoryCache``), then shared
            ones.
        backplane: hear what other processes change, through the last level if that is a ``RedisCache``.
        max_age: how long a local level is believed without asking the levels below: the longest that what
            another process changed goes unnoticed without the backplane. Default 10 s.
        max_missed: of how many keys the missed changes are noted in an outage; past it, the shared levels are
            cleared when they answer again. Default 10,000.
        name: for messages and statistics.
        options: the defaults for all entries.
        clock: the monotonic clock, in seconds.

    Raises:
        CacheOptionError: no levels, one of them twice, a local one below a shared one, or a number that makes
            no sense.
    """

    def __init__(
        self,
        *levels: CacheBackend,
        backplane: bool = True,
        max_age: Duration = 10.0,
        max_missed: int = 10_000,
        name: str = "multi-level",
        options: CacheOptions | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not levels or len(set(levels)) < len(levels):
            raise CacheOptionError(f"levels {levels!r}: give each level once, and at least one")
        local = [level for level in levels[:-1] if not isinstance(level, RemoteCache)]
        if tuple(local) != levels[: len(local)]:
            raise CacheOptionError(f"levels {levels!r}: put the local ones first")
        self._max_age = seconds(max_age, "max_age")
        if not self._max_age or max_missed < 1:
            raise CacheOptionError(f"max_age={max_age!r}, max_missed={max_missed!r}: give positive numbers")
        self.levels = levels
        self._local = tuple(local)
        self._shared = levels[len(local) :]
        self._last = levels[-1]
        self._max_missed = max_missed
        self._backplane = (
            Backplane(self._last, self) if backplane and isinstance(self._last, RedisCache) else None
        )
        self._start_anew()
        super().__init__(name=name, options=options, clock=clock)

    def _start_anew(self) -> None:
        self._fills = PendingWrites()
        self._tags = TagView()
        self._missed = MissedOperations(self._max_missed)
        self._recovery = Recovery(self._missed, weakref.WeakMethod(self._make_up))
        # Invariant: the thread of the backplane is started under the lock.
        self._start_lock = threading.Lock()

    def _after_fork(self) -> None:
        super()._after_fork()
        self._start_anew()
        if self._backplane is not None:
            self._backplane.after_fork()

    def stats(self) -> CacheStats:
        levels = tuple(level.stats() for level in self.levels)
        return replace(super().stats(), levels=levels, available=all(level.available for level in levels))

    # -- reading -----------------------------------------------------------------------------------

    def _read(self, key: str) -> Entry | None:
        if self._missed and (write := self._missed.write_of(key)) is not None:
            return self._unless_over(write.entry)
        nearest = self.levels[0]
        try:
            entry = nearest._read(key)
        except CacheUnavailableError:
            entry = None
        if (
            entry is not None
            and self.clock() < entry.fresh_until
            and (not entry.tags or self._current(entry.tags))
        ):
            self._count(nearest, 1, 0)
            return entry
        self._count(nearest, 0, 1)
        return self._search([key], {} if entry is None else {key: entry}).get(key)

    def _read_many(self, keys: Sequence[str]) -> dict[str, Entry]:
        found: dict[str, Entry] = {}
        if self._missed:
            writes = {key: write for key in keys if (write := self._missed.write_of(key)) is not None}
            found = {key: entry for key, write in writes.items() if (entry := self._unless_over(write.entry))}
            keys = [key for key in keys if key not in writes]
        nearest = self.levels[0]
        try:
            entries = nearest._read_many(keys)
        except CacheUnavailableError:
            entries = {}
        usable = self._usable(entries, nearest)
        rest = [key for key in keys if key not in usable]
        self._count(nearest, len(usable), len(rest))
        if rest:
            found |= self._search(rest, {key: entries[key] for key in rest if key in entries})
        return found | usable

    def _search(self, keys: Sequence[str], stale: dict[str, Entry]) -> dict[str, Entry]:
        """Look for keys below the nearest level, and fill the levels above with what is found.

        Args:
            keys: the keys.
            stale: entries of the nearest level that are no longer to be believed without asking; what the
                last level says counts more.

        Returns:
            The fresh entries, and for other keys the stale ones.
        """
        self._listen()
        levels = self._local if self._missed.clears else self.levels
        fills = {key: self._fills.begin(key) for key in keys}
        found: dict[str, Entry] = {}
        wanted = list(keys)
        try:
            for depth, level in enumerate(levels[1:], 1):
                try:
                    entries = level._read_many(wanted)
                except CacheUnavailableError:
                    level.counters.errors += 1
                    continue
                usable = self._usable(entries, level)
                for key, entry in usable.items():
                    self._fill(fills[key], entry, depth)
                found |= usable
                wanted = [key for key in wanted if key not in usable]
                self._count(level, len(usable), len(wanted))
                for key in wanted:
                    if key in entries:
                        stale[key] = entries[key]
                    elif level is self._last and stale.pop(key, None) is not None:
                        self._drop_local([key])  # deleted by another process
                if not wanted:
                    break
        finally:
            for fill in fills.values():
                self._fills.end(fill)
        return stale | found

    def _count(self, level: CacheBackend, hits: int, misses: int) -> None:
        level.counters.misses += misses
        if isinstance(level, RemoteCache):  # a memory cache counts the hits itself
            level.counters.hits += hits

    def _usable(self, entries: Mapping[str, Entry], level: CacheBackend) -> dict[str, Entry]:
        """Return the entries of a level that are fresh and whose tags are current."""
        now = self.clock()
        fresh = {key: entry for key, entry in entries.items() if now < entry.fresh_until}
        tags = list(dict.fromkeys(tag for entry in fresh.values() for tag, _ in entry.tags))
        if not tags:
            return fresh
        generations = self._seen_generations if level in self._local else self._generations
        current = dict(zip(tags, generations(tags), strict=True))
        return {
            key: entry
            for key, entry in fresh.items()
            if all(current[tag] == generation for tag, generation in entry.tags)
        }

    def _fill(self, fill: PendingWrite, entry: Entry, depth: int) -> None:
        """Store what was found at a depth in the levels above, unless its key was changed meanwhile."""
        for level in reversed(self.levels[:depth]):
            try:
                level._write_pending(fill, self._copy(entry) if level in self._local else entry)
            except CacheUnavailableError:
                level.counters.errors += 1

    def _copy(self, entry: Entry) -> Entry:
        """Return an entry as a local level may keep it: believed for ``max_age`` at most."""
        believed_until = self.clock() + self._max_age
        if entry.fresh_until <= believed_until:
            return entry
        return Entry(entry.value, believed_until, entry.stale_until, entry.refresh_at, entry.tags, entry.etag)

    def _unless_over(self, entry: Entry | None) -> Entry | None:
        return None if entry is None or self.clock() >= entry.stale_until else entry

    # -- tags --------------------------------------------------------------------------------------

    def _current(self, tags: TagGenerations) -> bool:
        current = self._tags.current(tags)
        return super()._current(tags) if current is None else current

    def _seen_generations(self, tags: Sequence[str]) -> tuple[int, ...]:
        known = self._tags.known(tags)
        if unknown := [tag for tag in tags if tag not in known]:
            known.update(zip(unknown, self._generations(unknown), strict=True))
        return tuple(known[tag] for tag in tags)

    def _generations(self, tags: Sequence[str]) -> tuple[int, ...]:
        epoch = self._tags.epoch
        try:
            generations = self._last._generations(tags)
        except CacheUnavailableError:
            self._last.counters.errors += 1
            return tuple(map(self._tags.get_or_make_up, tags))
        current = dict(zip(tags, generations, strict=True))
        missed = [tag for tag in tags if self._missed.missed_tag(tag)] if self._missed else ()
        for tag in missed:  # what the store says of them is old
            current[tag] = self._tags.get_or_make_up(tag)
        self._tags.learn(epoch, current)
        return tuple(current.values())

    def _invalidate(self, tags: Sequence[str]) -> None:
        self._listen()
        self._tags.forget(tags)
        try:
            self._last._invalidate(tags)
            self._tags.forget(tags)
            self._publish(tags=tags)
        except CacheUnavailableError:
            self._tags.forget(tags)
            self._missed.note_tags(tags)
            self._recovery.start()
            raise

    # -- changes -----------------------------------------------------------------------------------

    def _on_shared(
        self, operation: Callable[[CacheBackend], object], keys: Iterable[str]
    ) -> CacheUnavailableError | None:
        """Change every shared level, the last one first; return the error if one of them did not answer."""
        self._listen()
        failed: CacheUnavailableError | None = None
        for level in reversed(self._shared):
            try:
                operation(level)
            except CacheUnavailableError as error:
                level.counters.errors += 1
                failed = error
            for key in keys:
                self._fills.overtake(key)
        return failed

    def _settle(self, entries: Mapping[str, Entry | None], failed: CacheUnavailableError | None) -> None:
        """Tell the other processes what was done; if that, or what was done, failed, note and raise it."""
        try:
            if failed is not None:
                raise failed
            self._publish(keys=list(entries))
        except CacheUnavailableError:
            self._missed.note_writes(entries)
            self._recovery.start()
            raise
        if self._missed:
            for key in entries:
                self._missed.made_up_for_write(key)

    def _publish(
        self, *, keys: Sequence[str] = (), tags: Sequence[str] = (), everything: bool = False
    ) -> None:
        if self._backplane is not None:
            self._backplane.publish(keys=keys, tags=tags, everything=everything)

    def _write(self, key: str, entry: Entry) -> None:
        self._write_many({key: entry})

    def _write_many(self, entries: Mapping[str, Entry]) -> None:
        failed = self._on_shared(lambda level: level._write_many(entries), entries)
        copies = {key: self._copy(entry) for key, entry in entries.items()}
        for level in reversed(self._local):
            level._write_many(copies)
        try:
            self._settle(entries, failed)
        except CacheUnavailableError:
            self.counters.errors += 1  # it is stored here, and will be there

    def _write_pending(self, pending: PendingWrite, entry: Entry) -> bool:
        key = pending.key
        failed = self._on_shared(lambda level: level._write_pending(pending, entry), (key,))
        for level in reversed(self._local):
            level._write_pending(pending, self._copy(entry))
        if pending.overtaken:
            return False
        try:
            self._settle({key: entry}, failed)
        except CacheUnavailableError:
            self.counters.errors += 1
            if pending.overtaken:  # by what was noted before this was
                self._missed.note_writes({key: None})
        return not pending.overtaken

    def _remove(self, key: str) -> bool:
        return self._remove_many([key]) > 0

    def _remove_many(self, keys: Sequence[str]) -> int:
        counts = [0]
        failed = self._on_shared(lambda level: counts.append(level._remove_many(keys)), keys)
        counts += [level._remove_many(keys) for level in reversed(self._local)]
        self._settle(dict.fromkeys(keys), failed)
        return max(counts)

    def _clear(self) -> None:
        before = self._missed.writes() if self._missed else {}
        failed = self._on_shared(lambda level: level._clear(), ())
        self._fills.overtake_all()
        for level in reversed(self._local):
            level._clear()
        try:
            if failed is not None:
                raise failed
            self._publish(everything=True)
        except CacheUnavailableError:
            self._missed.note_clear()
            self._recovery.start()
            raise
        for key, write in before.items():
            self._missed.made_up_for_write(key, write)

    # What the last level decides, in one step; the levels above learn it when they are asked.

    def _at_last(self, key: str, operation: Callable[[], T]) -> T:
        if self._missed.clears or self._missed.write_of(key) is not None:
            raise CacheUnavailableError(
                f"cache {self.name!r} has not made up yet for what its last level missed of key {key!r}"
            )
        self._listen()
        for level in reversed(self._shared[:-1]):
            level._remove(key)  # before: if it does not answer, nothing may happen at all
        result = operation()
        self._fills.overtake(key)
        try:
            for level in reversed(self._shared[:-1]):
                level._remove(key)  # after: another process may have filled it
            self._publish(keys=[key])
        except CacheUnavailableError:
            self.counters.errors += 1
        self._drop_local([key])
        return result

    def _add(self, key: str, entry: Entry) -> bool:
        return self._at_last(key, lambda: self._last._add(key, entry))

    def _replace(self, key: str, old: object, entry: Entry) -> bool:
        return self._at_last(key, lambda: self._last._replace(key, old, entry))

    def _increment(self, key: str, delta: int, initial: Entry) -> int:
        return self._at_last(key, lambda: self._last._increment(key, delta, initial))

    def _touch(self, key: str, fresh_until: float, stale_until: float) -> bool:
        return self._at_last(key, lambda: self._last._touch(key, fresh_until, stale_until))

    def _acquire(self, name: str, token: str, ttl: float) -> int | None:
        return self._last._acquire(name, token, ttl)

    def _release(self, name: str, token: str) -> bool:
        return self._last._release(name, token)

    # -- other processes ---------------------------------------------------------------------------

    def _listen(self) -> None:
        backplane = self._backplane
        if backplane is not None and not backplane.started:
            with self._start_lock:
                if not backplane.started and not self.closed:
                    backplane.start()

    def drop_keys(self, keys: Sequence[str]) -> None:
        """Forget the local values of keys that another process changed; called by the backplane."""
        for key in keys:
            self.pending.overtake(key)
            self._fills.overtake(key)
        self._drop_local(keys)

    def drop_tags(self, tags: Sequence[str]) -> None:
        """Ask again for the generations of tags that another process invalidated; called by the backplane."""
        self._loader.overtake(tags)
        self._tags.forget(tags)

    def drop_all(self, *, changed: bool) -> None:
        """Forget all local values; called by the backplane.

        Args:
            changed: whether another process may have changed what is being made now.
        """
        if changed:
            self.pending.overtake_all()
        self._fills.overtake_all()
        self._tags.forget_all()
        for level in self._local:
            level._clear()

    def _drop_local(self, keys: Sequence[str]) -> None:
        for level in reversed(self._local):
            level._remove_many(keys)

    # -- after an outage ---------------------------------------------------------------------------

    def _make_up(self) -> None:
        """Do for the shared levels what they missed, as far as they answer; on the thread of the recovery."""
        missed = self._missed
        try:
            if clears := missed.clears:
                for level in reversed(self._shared):
                    level._clear()
                self._publish(everything=True)
                missed.made_up_for_clear(clears)
            if tags := missed.tags:
                self._last._invalidate(list(tags))
                self._publish(tags=list(tags))
                missed.made_up_for_tags(tags)
                self._tags.forget(tags)
            for key, write in missed.writes().items():
                self._make_up_for_write(key, write)
        except CacheUnavailableError:
            self.counters.errors += 1

    def _make_up_for_write(self, key: str, write: MissedWrite) -> None:
        pending = self.pending.begin(key)  # a change of the key from now on counts more
        try:
            if self._missed.write_of(key) is not write:
                return
            entry = self._unless_over(write.entry)
            for level in reversed(self._shared):
                if entry is None:
                    level._remove(key)
                else:
                    level._write_pending(pending, entry)
            self._publish(keys=[key])
            self._missed.made_up_for_write(key, write)
        finally:
            self.pending.end(pending)

    # -- the end -----------------------------------------------------------------------------------

    def _close(self) -> None:
        if self._backplane is not None:
            self._backplane.close()
        self._recovery.close()
        for level in self.levels:
            level.close()
