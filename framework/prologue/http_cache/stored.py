"""What is kept of a response, and of all responses of one URL: plain data, stored as MessagePack."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from prologue.http_cache.vary import Selecting, selects

__all__ = ["EMPTY", "Stored", "Variants"]


class Stored(msgspec.Struct, array_like=True, frozen=True):
    """A stored response but for its body, with all that later decisions need worked out.

    Attributes:
        status: of the response.
        headers: as they are sent, without ``Date``, ``Age`` and ``Content-Length``.
        date: the ``Date`` field.
        etag: the ``ETag`` field, or "".
        last_modified: the ``Last-Modified`` field, or "".
        spelling: the request's URL as it was sent, and inputs that nobody names in Vary.
        selecting: what the request said in the fields that the response varies on.
        body: the key of the body.
        length: bytes of the body.
        received: when it was received, seconds since 1970.
        age: seconds that it was old then.
        lifetime: seconds that it is fresh, counted as its age is.
        stale_while_revalidate: seconds after its life that it is served while it is fetched anew.
        stale_if_error: seconds after its life that it is served when the application fails.
        keep: seconds after its life that it is worth keeping.
        validate: it is validated before every use (``no-cache``).
        never_stale: it is not served stale, whatever else is said (section 4.2.4).
        for_cookies: it may answer a request with cookies in a careful cache.
        for_authorized: it may answer a request with Authorization in a careful cache.
        tags: what invalidates it.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    date: str
    etag: str
    last_modified: str
    spelling: str
    selecting: Selecting
    body: str
    length: int
    received: float
    age: float
    lifetime: float
    stale_while_revalidate: float = 0
    stale_if_error: float = 0
    keep: float = 0
    validate: bool = False
    never_stale: bool = False
    for_cookies: bool = False
    for_authorized: bool = False
    tags: tuple[str, ...] = ()

    def current_age(self, now: float) -> float:
        """Return the age in seconds (RFC 9111 section 4.2.3). A clock set back does not rejuvenate."""
        resident = now - self.received
        return self.age + resident if resident > 0 else self.age

    def useful(self, now: float) -> float:
        """Return the seconds that it is still worth keeping, below 0 when no more."""
        after = max(self.stale_while_revalidate, self.stale_if_error, self.keep)
        return self.lifetime + after - self.current_age(now)

    def answers_others(self, now: float) -> bool:
        """Return whether it may answer other requests than the one that it was made for, as it is."""
        return not self.validate and self.current_age(now) < self.lifetime + self.stale_while_revalidate

    def matches(self, spelling: str, environ: Mapping[str, Any]) -> bool:
        """Return whether a request for the same URL selects it (RFC 9111 section 4.1)."""
        return self.spelling == spelling and (not self.selecting or selects(self.selecting, environ))


class Variants(msgspec.Struct, array_like=True, frozen=True):
    """The stored responses of one URL, the latest first."""

    responses: tuple[Stored, ...] = ()

    def choose(self, spelling: str, environ: Mapping[str, Any]) -> Stored | None:
        """Return the response that a request selects, the latest of several (RFC 9111 section 4.1)."""
        for stored in self.responses:
            # PERF: `matches`, without a call for the usual response, which varies on nothing.
            if stored.spelling == spelling and (not stored.selecting or selects(stored.selecting, environ)):
                return stored
        return None


EMPTY = Variants()
