"""Entity tags, and the conditions that a cache answers (RFC 9110 sections 8.8 and 13)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from prologue.http_cache.dates import parse_date

__all__ = ["is_strong", "not_modified", "parse_etags", "range_applies"]

_TAG = re.compile(r'(W/)?("[\x21\x23-\x7e\x80-\xff]*")')
_SEPARATOR = re.compile(r"[ \t,]*")


def parse_etags(value: str) -> list[tuple[bool, str]] | None:
    """Return the (weak, opaque tag) pairs of a list of entity tags; None when it is no such list."""
    found = []
    position = len(value) - len(value.lstrip(" \t,"))
    value = value.rstrip(" \t,")
    while position < len(value):
        tag = _TAG.match(value, position)
        if tag is None:
            return None
        found.append((tag[1] is not None, tag[2]))
        position = tag.end()
        if position < len(value):
            separator = _SEPARATOR.match(value, position)
            if separator is None or "," not in separator[0]:
                return None
            position = separator.end()
    return found


def is_strong(etag: str) -> bool:
    """Return whether a text is one strong entity tag."""
    tag = _TAG.fullmatch(etag)
    return tag is not None and tag[1] is None


def not_modified(environ: Mapping[str, Any], etag: str, last_modified: str, date: str) -> bool:
    """Return whether a GET or HEAD with conditions is answered with 304 (RFC 9110 sections 13.1.2 and
    13.1.3).

    ``If-None-Match`` compares weakly, and where it is there ``If-Modified-Since`` is not looked at. A date
    that is no HTTP date is ignored. Without ``Last-Modified`` the ``Date`` stands for it.

    Args:
        environ: the request.
        etag: of the stored response, or "".
        last_modified: of the stored response, or "".
        date: of the stored response.
    """
    wanted = environ.get("HTTP_IF_NONE_MATCH")
    if wanted is not None:
        if wanted.strip(" \t") == "*":
            return True
        own = _TAG.fullmatch(etag)
        return own is not None and any(tag == own[2] for _, tag in parse_etags(wanted) or ())
    since = parse_date(environ.get("HTTP_IF_MODIFIED_SINCE", ""))
    if since is None:
        return False
    modified = parse_date(last_modified or date)
    return modified is not None and modified <= since


def range_applies(environ: Mapping[str, Any], etag: str, last_modified: str, date: str) -> bool:
    """Return whether ``If-Range``, if it is there, lets ``Range`` be answered (RFC 9110 section 13.1.5).

    An entity tag compares strongly. A date must be exactly that of ``Last-Modified``, and that a strong
    validator: a second before ``Date`` (section 8.8.2.2).
    """
    wanted = environ.get("HTTP_IF_RANGE")
    if wanted is None:
        return True
    if _TAG.fullmatch(wanted):
        return is_strong(wanted) and wanted == etag
    modified, generated = parse_date(last_modified), parse_date(date)
    strong = modified is not None and generated is not None and modified + 1 <= generated
    return strong and parse_date(wanted) == modified
