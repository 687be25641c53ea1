"""Where responses are kept: the responses of a URL under its key, their bodies apart, in any cache.

A body is kept under a digest of its key and its content: what the entry of a URL says of a body is always
true of the body that is found. Whoever invalidates leaves a stamp, and whoever has stored looks for stamps: a
response that the application began before is removed again. The caches' clocks are compared for that; the
hosts' must agree.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import msgspec

from prologue.errors import PrologueError
from prologue.http_cache.dates import parse_date
from prologue.http_cache.key import Target
from prologue.http_cache.stored import EMPTY, Stored, Variants

if TYPE_CHECKING:
    from prologue.cache import CacheBackend

__all__ = ["Outcome", "ResponseStore"]

logger = logging.getLogger("prologue.http_cache")

#: The most responses that are kept for one URL.
MAX_VARIANTS = 16

#: Seconds that a response may take to be made, and still be recognised as invalidated meanwhile.
STAMP_LIFE = 600.0

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Variants).decode


class Outcome(Enum):
    """What became of a response that was to be stored."""

    KEPT = "kept"
    INVALIDATED = "invalidated"
    """It was begun before an invalidation, and is gone again: another would stay."""
    REFUSED = "refused"
    """The cache did not take it."""


class ResponseStore:
    """The stored responses in a cache. A cache that does not answer has none, and keeps none.

    Args:
        cache: any cache.
        clock: the wall clock, in seconds since 1970, which all users of the cache share.

    Thread safety: any thread may call any method.
    """

    __slots__ = ("_cache", "_clock", "_get")

    def __init__(self, cache: CacheBackend, clock: Callable[[], float]) -> None:
        self._cache = cache
        self._clock = clock
        self._get = cache.get

    def find(self, key: str) -> Variants:
        """Return what is stored for a URL; what cannot be decoded is not there."""
        blob = self._get(key)
        if blob is None:
            return EMPTY
        try:
            return _decode(blob)
        except (msgspec.MsgspecError, TypeError):
            return EMPTY

    def body(self, stored: Stored) -> bytes | None:
        """Return the body of a stored response; None when the cache has dropped it."""
        body = self._get(stored.body)
        return body if isinstance(body, bytes) and len(body) == stored.length else None

    def put(
        self, target: Target, environ: Mapping[str, Any], stored: Stored, body: bytes, requested: float
    ) -> Outcome:
        """Store a response, in place of the one that the same request would select.

        Args:
            target: of the request.
            environ: the request.
            stored: all but body and length.
            body: the complete body.
            requested: when the application was asked.
        """
        digest = blake2b(
            body, digest_size=24, key=blake2b(target.key.encode("utf-8", "surrogatepass")).digest()
        )
        stored = msgspec.structs.replace(stored, body=f"http-body:{digest.hexdigest()}", length=len(body))
        try:
            self._cache.set(stored.body, body, ttl=max(1.0, stored.useful(self._clock())))
        except PrologueError as error:
            logger.warning("a response of %d bytes cannot be stored: %s", len(body), error)
            return Outcome.REFUSED
        others = [
            other for other in self.find(target.key).responses if not other.matches(target.spelling, environ)
        ]
        return self._write(target.key, [stored, *others], requested)

    def replace(self, key: str, replaced: Mapping[Stored, Stored | None], requested: float) -> None:
        """Put updated responses in place of stored ones, whose bodies stay; None removes one."""
        responses = [replaced.get(stored, stored) for stored in self.find(key).responses]
        for stored in filter(None, replaced.values()):
            body = self.body(stored)
            if body is not None:
                self._set(stored.body, body, stored.useful(self._clock()))
        self._write(key, filter(None, responses), requested)

    def remove(self, key: str, stored: Stored) -> None:
        """Remove one response of a URL."""
        self.replace(key, {stored: None}, self._clock())

    def invalidate(self, keys: Iterable[str] = (), tags: Iterable[str] = ()) -> None:
        """Remove the responses of URLs, and those with tags, and what is being made for them.

        Raises:
            CacheUnavailableError: the cache does not answer, and may keep them.
        """
        keys, tags = list(keys), list(tags)
        now = self._clock()
        self._cache.set_many({_stamp(name): now for name in (*keys, *tags)}, ttl=STAMP_LIFE)
        try:
            self._cache.delete_many(keys)
        finally:
            self._cache.invalidate_tags(*tags)  # a cache of several levels notes it while it is down

    def _write(self, key: str, responses: Iterable[Stored], requested: float) -> Outcome:
        """Write the responses of a URL."""
        now = self._clock()
        useful = [stored for stored in responses if stored.useful(now) > 0]
        if len(useful) > 1:
            useful.sort(key=_moment, reverse=True)
        kept = tuple(useful[:MAX_VARIANTS])
        tags = tuple(dict.fromkeys(tag for stored in kept for tag in stored.tags))
        life = max((stored.useful(now) for stored in kept), default=0.0)
        try:
            if not kept:
                self._cache.delete(key)
                return Outcome.REFUSED
            self._cache.set(key, _encode(Variants(kept)), ttl=max(1.0, life), tags=tags)
            stamps = self._cache.get_many(map(_stamp, (key, *tags)))
            # Older ones were read before, and may have been invalidated since.
            oldest = min(requested, *(stored.received for stored in kept))
            if not any(stamp >= oldest for stamp in stamps.values() if isinstance(stamp, float)):
                return Outcome.KEPT
            self._cache.delete(key)
        except PrologueError as error:
            logger.warning("a response cannot be stored: %s", error)
            return Outcome.REFUSED
        return Outcome.INVALIDATED

    def _set(self, key: str, value: bytes, life: float) -> None:
        try:
            self._cache.set(key, value, ttl=max(1.0, life))
        except PrologueError as error:
            logger.warning("a response cannot be stored: %s", error)


def _moment(stored: Stored) -> tuple[float, float]:
    """Return when a response was made, by its ``Date`` (RFC 9111 section 4), then when it was received."""
    date = parse_date(stored.date)
    return stored.received if date is None else date, stored.received


def _stamp(name: str) -> str:
    return f"http-invalidated:{name}"
