"""The fields that are Structured Fields: targeted Cache-Control, and groups (RFC 9651)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from prologue.errors import MissingExtraError
from prologue.http_cache.directives import Directives, from_members, parse_directives
from prologue.http_cache.fields import Fields

__all__ = ["OWN_FIELD", "TARGETED", "directives_of", "parse_field", "parse_groups"]

#: The targeted field of this cache alone: it is obeyed and not passed on.
OWN_FIELD = "prologue-cache-control"

#: The targeted fields that count, the nearest target first (RFC 9213 section 2.2).
TARGETED = (OWN_FIELD, "cdn-cache-control")


def directives_of(fields: Fields) -> tuple[Directives, bool]:
    """Return the directives of a response that count here, and whether they come from a targeted field.

    The first targeted field that is there, is not empty and can be parsed counts alone, instead of
    Cache-Control and Expires (RFC 9213 section 2.2).

    Raises:
        MissingExtraError: there is a targeted field, and http-sf is not installed.
    """
    for name in TARGETED:
        if fields.get(name) == ["no-store"]:  # what `ctx.cache.exclude()` says, which needs no parser
            return Directives(no_store=True), True
        members = parse_field(fields.get(name, ()), "dictionary")
        if members:
            return from_members(members), True
    return parse_directives(fields.get("cache-control", ())), False


def parse_groups(values: Iterable[str]) -> tuple[str, ...]:
    """Return the group names of ``Cache-Groups`` or ``Cache-Group-Invalidation`` (RFC 9875 sections 2 and 3).

    Members that are no strings are left out; a field that cannot be parsed names no group.

    Raises:
        MissingExtraError: there is such a field, and http-sf is not installed.
    """
    members = parse_field(values, "list") or ()
    return tuple(dict.fromkeys(name for name, _ in members if isinstance(name, str)))


def parse_field(values: Iterable[str], kind: str) -> Any:
    """Return what a field holds; None when it is not there or cannot be parsed."""
    text = ", ".join(values)
    if not text:
        return None
    try:
        from http_sf import StructuredFieldError, parse
    except ImportError as error:
        raise MissingExtraError("a targeted Cache-Control or Cache-Groups", "http-cache") from error
    try:
        return parse(text.encode("latin-1", "replace"), tltype=kind)
    except StructuredFieldError:
        return None
