"""The short way to a hit: a GET that asks for nothing special, and a stored response that is fresh.

It does what `decide` and `reply` would do together, and leaves to them whatever is not as plain.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prologue.http_cache.asking import Answer
from prologue.http_cache.decide import SPECIAL
from prologue.http_cache.key import FORWARDED, Target
from prologue.http_cache.refreshing import REFRESH
from prologue.http_cache.replies import CONDITIONAL, FindBody, writes_date
from prologue.http_cache.stored import Variants

__all__ = ["is_plain", "plain_hit"]

_SPECIAL = SPECIAL | FORWARDED | CONDITIONAL | {REFRESH}


def is_plain(environ: Mapping[str, Any]) -> bool:
    """Return whether nothing but URL and selecting fields of a request can change what answers it."""
    return (
        environ["REQUEST_METHOD"] == "GET"
        and environ.keys().isdisjoint(_SPECIAL)
        and environ.get("CONTENT_LENGTH") in (None, "", "0")
    )


def plain_hit(
    environ: Mapping[str, Any], target: Target, variants: Variants, now: float, said: str, find_body: FindBody
) -> Answer | None:
    """Return the fresh stored response to a plain request; None when there is none.

    Args:
        environ: the request.
        target: what it asks for.
        variants: what is stored for its URL.
        now: seconds since 1970.
        said: the member of ``Cache-Status``, to which the seconds are added that the response stays fresh.
        find_body: returns the body of a stored response.
    """
    stored = variants.choose(target.spelling, environ)
    if stored is None or stored.validate or stored.status != 200:
        return None
    age = stored.current_age(now)
    left = stored.lifetime - age
    if left <= 0:
        return None
    body = find_body(stored)
    if body is None:
        return None
    fields = [*stored.headers, ("Age", f"{int(age)}"), ("Cache-Status", f"{said}{int(left)}")]
    if not writes_date(environ):
        fields.append(("Date", stored.date))
    fields.append(("Content-Length", f"{len(body)}"))
    return Answer("200 OK", fields, [body])
