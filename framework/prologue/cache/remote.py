"""What the caches in shared stores have in common: payloads, outages, and changes by compare-and-swap."""

from __future__ import annotations

import logging
import math
import secrets
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

from prologue.cache.base import CacheBackend
from prologue.cache.breaker import CircuitBreaker
from prologue.cache.codec import Codec
from prologue.cache.entry import NEVER, Entry, TagGenerations
from prologue.cache.keys import KeyEncoder
from prologue.cache.options import CacheOptions
from prologue.cache.stats import CacheStats
from prologue.errors import CacheClosedError, CacheUnavailableError, CacheValueError, CodecError

__all__ = ["Found", "RemoteCache", "new_generation"]

_logger = logging.getLogger("prologue.cache")

wall_clock = time.time
"""The time that the processes which share a store agree on."""

_SWAPS = 1000
"""After so many lost races for one entry something else is wrong."""


class Found(NamedTuple):
    """An entry of the store, and what identifies this version of it for a compare-and-swap."""

    entry: Entry | None
    token: Any


def new_generation() -> int:
    """Return a number that a tag or a namespace never had, nor will have once the store has lost it.

    Were generations counted, a store that lost a counter would count again from the start, and what was
    invalidated would come back.
    """
    return secrets.randbits(62)


class RemoteCache(CacheBackend):
    """A cache in a store that other processes use too. See :class:`CacheBackend` for its methods.

    Args:
        namespace: keeps caches in one store apart.
        version: of the values' shape: another version sees none of this one's values.
        key_limit: the longest key of the store, in bytes.
        codec: how values become bytes. Default ``Codec()``.
        breakers: those of the store's servers.
        on_undecodable: called with the key and the error when a value cannot be read; such a value is a miss.
        name, options, clock: as for :class:`CacheBackend`.
    """

    def __init__(
        self,
        *,
        namespace: str,
        version: int,
        key_limit: int,
        codec: Codec | None,
        breakers: Sequence[CircuitBreaker],
        on_undecodable: Callable[[str, CodecError], object] | None,
        name: str | None,
        options: CacheOptions | None,
        clock: Callable[[], float],
    ) -> None:
        super().__init__(name=namespace if name is None else name, options=options, clock=clock)
        self.codec = Codec() if codec is None else codec
        self._breakers = breakers
        self._keys = KeyEncoder(namespace, version, key_limit)
        self._generation_key = self._keys.reserved("generation")
        self._on_undecodable = on_undecodable

    def stats(self) -> CacheStats:
        return replace(super().stats(), available=all(breaker.closed for breaker in self._breakers))

    # -- outages -----------------------------------------------------------------------------------

    @contextmanager
    def _reaching_store(self, breaker: CircuitBreaker) -> Iterator[None]:
        """Run an exchange with a server in the block, and nothing else, unless its breaker is open.

        Raises:
            CacheUnavailableError: the breaker is open, or the exchange failed.
            CacheValueError: the exchange did: the server refused a value.
            CacheClosedError: the cache is closed.
        """
        if self.closed:
            raise CacheClosedError(f"cache {self.name!r} is closed: make another one")
        if not breaker.allow():
            raise CacheUnavailableError(
                f"the store of cache {self.name!r} is down, and left alone for a while"
            )
        try:
            yield
        except CacheValueError:
            raise
        except Exception as error:
            # Any error: drivers make of garbage a ValueError, a RecursionError or what it leads them to.
            if breaker.failed():
                _logger.warning("cache %r goes on without its store: %s", self.name, error)
            raise CacheUnavailableError(
                f"the store of cache {self.name!r} does not answer: {type(error).__name__}: {error}"
            ) from error
        if breaker.succeeded():
            _logger.info("cache %r has its store again", self.name)

    # -- payloads ----------------------------------------------------------------------------------

    def _payload(self, key: str, stored_key: bytes, entry: Entry) -> bytes:
        """Encode an entry: its moments as durations before its end, which the store itself keeps.

        Raises:
            CacheValueError: the value cannot be stored; the message names the key.
        """
        end = entry.stale_until
        record = [
            entry.value,
            None if end == NEVER else wall_clock() + end - self.clock(),
            None if end == NEVER else end - entry.fresh_until,
            None if entry.refresh_at == NEVER or end == NEVER else end - entry.refresh_at,
            [part for tag in entry.tags for part in tag],
            entry.etag,
        ]
        try:
            return self.codec.encode(record, stored_key)
        except CodecError as error:
            raise CacheValueError(f"cache {self.name!r}, key {key!r}: {error}") from error

    def _entry(self, key: str, stored_key: bytes, payload: bytes, life: float | None = None) -> Entry | None:
        """Decode a payload; what cannot be decoded, or is past its end, is not there.

        Args:
            key: the caller's key.
            stored_key: the key in the store.
            payload: what is there.
            life: seconds that the store will keep it. Default: by the wall clock, if a store does not tell.
        """
        try:
            return self._decode(self.codec.decode(payload, stored_key), life)
        except CodecError as error:
            self.counters.undecodable += 1
            if self._on_undecodable is not None:
                self._on_undecodable(key, error)
            return None

    def _decode(self, record: Any, life: float | None) -> Entry | None:
        try:
            value, end, fresh_gap, refresh_gap, flat_tags, etag = record
            tags: TagGenerations = tuple(zip(flat_tags[::2], flat_tags[1::2], strict=True))
            if end is None:
                return Entry(value, tags=tags, etag=etag)
            now = self.clock()
            by_wall = end - wall_clock()
            stale_until = now + (by_wall if life is None else life)
            if not now < stale_until < math.inf:
                return None
            refresh_at = NEVER if refresh_gap is None else stale_until - refresh_gap
            return Entry(value, stale_until - fresh_gap, stale_until, refresh_at, tags, etag)
        except (TypeError, ValueError) as error:
            raise CodecError(f"the payload is no entry of a cache: {error}") from error

    # -- changes by compare-and-swap ---------------------------------------------------------------

    @abstractmethod
    def _find(self, key: str) -> Found:
        """Read an entry in order to change it."""

    @abstractmethod
    def _swap(self, key: str, found: Found, entry: Entry) -> bool:
        """Store an entry if the key still has what was found, in one step; return whether it was stored."""

    def _change(self, key: str, change: Callable[[Entry | None], Entry | None]) -> Entry | None:
        """Replace an entry by what a function makes of it, in one step; return what was stored.

        Args:
            key: the key.
            change: called with the fresh entry, or ``None``, maybe several times; it returns a new one, or
                ``None`` to change nothing.
        """
        for _ in range(_SWAPS):
            found = self._find(key)
            entry = found.entry
            if entry is not None and not self._usable(entry):
                entry = None
            changed = change(entry)
            if changed is None or self._swap(key, found, changed):
                return changed
        raise CacheUnavailableError(f"cache {self.name!r}: key {key!r} is changed by others all the time")

    def _usable(self, entry: Entry) -> bool:
        return self.clock() < entry.fresh_until and (not entry.tags or self._current(entry.tags))

    def _add(self, key: str, entry: Entry) -> bool:
        return self._change(key, lambda fresh: entry if fresh is None else None) is not None

    def _replace(self, key: str, old: object, entry: Entry) -> bool:
        changed = self._change(key, lambda fresh: entry if fresh is not None and fresh.value == old else None)
        return changed is not None

    def _increment(self, key: str, delta: int, initial: Entry) -> int:
        def add(fresh: Entry | None) -> Entry:
            base = initial if fresh is None else fresh
            if type(base.value) is not int:
                raise CacheValueError(
                    f"cache {self.name!r}, key {key!r}: cannot add to {base.value!r}, which is not an integer"
                )
            return base.with_value(base.value + delta)

        changed = self._change(key, add)
        assert changed is not None
        return int(changed.value)

    def _touch(self, key: str, fresh_until: float, stale_until: float) -> bool:
        def touch(fresh: Entry | None) -> Entry | None:
            if fresh is None:
                return None
            return Entry(fresh.value, fresh_until, stale_until, NEVER, fresh.tags, fresh.etag)

        return self._change(key, touch) is not None

    @abstractmethod
    def _write_many(self, entries: Mapping[str, Entry]) -> None: ...

    def _write(self, key: str, entry: Entry) -> None:
        self._write_many({key: entry})
