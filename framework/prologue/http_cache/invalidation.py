"""What a successful unsafe request invalidates (RFC 9111 section 4.4, RFC 9875 section 3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

from prologue.http_cache.fields import Fields
from prologue.http_cache.key import origin_of, target_of
from prologue.http_cache.storable import group_tag
from prologue.http_cache.structured import parse_groups

__all__ = ["SAFE_METHODS", "keys_to_invalidate", "tags_to_invalidate"]

#: RFC 9110 section 9.2.1.
SAFE_METHODS = frozenset(("GET", "HEAD", "OPTIONS", "TRACE"))


def keys_to_invalidate(
    environ: Mapping[str, Any], status: int, fields: Fields, key_of_url: Callable[[str], str]
) -> list[str]:
    """Return the keys of the URLs that a response to an unsafe request makes invalid.

    Its own, and those of ``Location`` and ``Content-Location`` where they are of the same origin; none when
    the request failed.
    """
    if environ["REQUEST_METHOD"] in SAFE_METHODS or not 200 <= status < 400:
        return []
    keys = [target_of(environ, careful=False).key]
    scheme, host = origin_of(environ)
    path = quote((environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")).encode("latin-1", "replace"))
    base = f"{scheme}://{host}{path}"
    for name in ("location", "content-location"):
        for value in fields.get(name, ()):
            try:
                url = urljoin(base, value)
                parts = urlsplit(url)
                if (parts.scheme.lower(), parts.netloc.lower()) == (scheme, host.lower()):
                    keys.append(key_of_url(url))
            except ValueError:
                continue  # it is no URL
    return list(dict.fromkeys(keys))


def tags_to_invalidate(environ: Mapping[str, Any], status: int, fields: Fields) -> list[str]:
    """Return the tags of the groups that a response to an unsafe request names (RFC 9875 section 3)."""
    if environ["REQUEST_METHOD"] in SAFE_METHODS or not 200 <= status < 400:
        return []
    return [group_tag(environ, name) for name in parse_groups(fields.get("cache-group-invalidation", ()))]
