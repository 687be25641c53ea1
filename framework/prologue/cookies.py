"""Cookies as they are sent: every part checked when the cookie is set (RFC 6265bis)."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from prologue.errors import HeaderError

__all__ = ["format_cookie"]

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# RFC 6265 section 4.1.1, and the characters that may stand between quotes.
_VALUE = re.compile(r"[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]*")
_QUOTED = re.compile(r"[\x20\x21\x23-\x3a\x3c-\x5b\x5d-\x7e]*")
_ATTRIBUTE = re.compile(r"[\x20-\x3a\x3c-\x7e]*")


def format_cookie(
    name: str,
    value: str,
    max_age: int | timedelta | None,
    expires: datetime | None,
    domain: str,
    path: str,
    secure: bool,
    http_only: bool,
    same_site: str | None,
    partitioned: bool,
) -> str:
    """Return the ``Set-Cookie`` value for the arguments of :meth:`prologue.Response.set_cookie`.

    Raises:
        HeaderError: a part cannot be sent, or the parts contradict each other.
    """
    if not isinstance(name, str) or not _TOKEN.fullmatch(name):
        raise HeaderError(f"cookie name {name!r} is not a token of letters, digits and hyphens")
    if not isinstance(value, str) or not _QUOTED.fullmatch(value):
        raise HeaderError(
            f"cookie {name}: the value must be printable ASCII without ';', backslash and quotes;"
            " encode it first, for example with urllib.parse.quote"
        )
    for label, text in (("path", path), ("domain", domain)):
        if not isinstance(text, str) or not _ATTRIBUTE.fullmatch(text):
            raise HeaderError(f"cookie {name}: {label} {text!r} must be printable ASCII without ';'")
    parts = [f"{name}={value}" if _VALUE.fullmatch(value) else f'{name}="{value}"']
    if expires is not None:
        if not isinstance(expires, datetime) or expires.tzinfo is None:
            raise HeaderError(f"cookie {name}: expires must be a datetime with a time zone, not {expires!r}")
        from email.utils import format_datetime

        parts.append(f"Expires={format_datetime(expires.astimezone(UTC), usegmt=True)}")
    if max_age is not None:
        if isinstance(max_age, timedelta):
            max_age = int(max_age.total_seconds())
        if isinstance(max_age, bool) or not isinstance(max_age, int):
            raise HeaderError(
                f"cookie {name}: max_age must be an int of seconds or a timedelta, not {max_age!r}"
            )
        parts.append(f"Max-Age={max_age}")
    if domain:
        parts.append(f"Domain={domain}")
    if path:
        parts.append(f"Path={path}")
    if secure:
        parts.append("Secure")
    if http_only:
        parts.append("HttpOnly")
    if same_site is not None:
        if same_site not in ("Lax", "Strict", "None"):
            raise HeaderError(
                f"cookie {name}: same_site must be 'Lax', 'Strict' or 'None', not {same_site!r}"
            )
        if same_site == "None" and not secure:
            raise HeaderError(f"cookie {name}: same_site='None' needs secure=True, or browsers drop it")
        parts.append(f"SameSite={same_site}")
    if partitioned:
        if not secure:
            raise HeaderError(f"cookie {name}: partitioned=True needs secure=True, or browsers drop it")
        parts.append("Partitioned")
    # Browsers know the prefixes in any case (RFC 6265bis section 5.7).
    if name.lower().startswith("__secure-") and not secure:
        raise HeaderError(f"cookie {name}: the prefix __Secure- needs secure=True")
    if name.lower().startswith("__host-") and (not secure or domain or path != "/"):
        raise HeaderError(f"cookie {name}: the prefix __Host- needs secure=True, path '/' and no domain")
    return "; ".join(parts)
