"""What a 304 changes in what is stored (RFC 9111 sections 3.2 and 4.3.4)."""

from __future__ import annotations

from collections.abc import Iterable

from prologue.http_cache.conditions import is_strong
from prologue.http_cache.fields import Fields, Headers
from prologue.http_cache.stored import Stored

__all__ = ["merge_headers", "to_update"]

#: What describes the stored content, which a 304 does not carry.
_KEPT = frozenset(("content-encoding", "content-length", "content-range", "content-type"))


def to_update(suitable: Iterable[Stored], validated: Stored, fields: Fields) -> tuple[Stored, ...]:
    """Return the stored responses that a 304 updates (section 4.3.4).

    A strong entity tag stands for every suitable response that has it; a weak one, or a date, for the one
    that was validated, if it is the same. One without a validator, the usual answer where only the date was
    sent, stands for the one that was validated too.

    Args:
        suitable: the stored responses that the request could have been answered with.
        validated: the stored response whose validators were sent.
        fields: of the 304.
    """
    etag = fields.get("etag", [""])[0]
    if etag:
        if is_strong(etag):
            return tuple(stored for stored in suitable if stored.etag == etag)
        return (validated,) if validated.etag.removeprefix("W/") == etag.removeprefix("W/") else ()
    modified = fields.get("last-modified", [""])[0]
    if modified:
        return (validated,) if validated.last_modified == modified else ()
    return (validated,)


def merge_headers(stored: Stored, headers: Headers) -> Headers:
    """Return the fields of a stored response, updated with those of a 304 (section 3.2)."""
    fresh = [(name, value) for name, value in headers if name.lower() not in _KEPT]
    names = {name.lower() for name, _ in fresh}
    kept = [(name, value) for name, value in stored.headers if name.lower() not in names]
    return [*kept, *fresh]
