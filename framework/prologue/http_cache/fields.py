"""Header fields as the rules see them, and the syntax that several of them share (RFC 9110 section 5.6)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

__all__ = [
    "MAX_SECONDS",
    "Fields",
    "Headers",
    "environ_name",
    "fields_of",
    "is_token",
    "parse_seconds",
    "split_list",
]

#: Header fields as WSGI has them, in order.
Headers = list[tuple[str, str]]
#: The values of each field, by its name in lower case.
Fields = Mapping[str, list[str]]

#: What every greater number of seconds counts as (RFC 9111 section 1.2.2).
MAX_SECONDS = 2**31

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_COMMA_OR_QUOTED = re.compile(r',|"(?:[^"\\]|\\.)*"?', re.DOTALL)
_DIGITS = re.compile(r"[0-9]+")


def fields_of(headers: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Return the values of each field, by its name in lower case."""
    fields: dict[str, list[str]] = {}
    for name, value in headers:
        fields.setdefault(name.lower(), []).append(value)
    return fields


def split_list(values: Iterable[str]) -> list[str]:
    """Return the elements of a list field, of all its lines (RFC 9110 section 5.6.1).

    A comma inside a quoted string does not separate. Empty elements are dropped. A quoted string that is not
    closed reaches to the end of its line.
    """
    found = (element.strip(" \t") for value in values for element in _split(value))
    return [element for element in found if element]


def _split(value: str) -> list[str]:
    if '"' not in value:
        return value.split(",")
    elements, start = [], 0
    for found in _COMMA_OR_QUOTED.finditer(value):
        if found[0] == ",":
            elements.append(value[start : found.start()])
            start = found.end()
    return [*elements, value[start:]]


def is_token(text: str) -> bool:
    """Return whether a text is a token (RFC 9110 section 5.6.2)."""
    return _TOKEN.fullmatch(text) is not None


def parse_seconds(text: str | None) -> int | None:
    """Return delta-seconds, at most ``MAX_SECONDS``; None when it is no such number (RFC 9111 section 1.2.2).

    Only ASCII digits are a number: no sign, no fraction, no blanks.
    """
    if text is None or not _DIGITS.fullmatch(text):
        return None
    digits = text.lstrip("0")
    return MAX_SECONDS if len(digits) > 10 else min(int(digits or "0"), MAX_SECONDS)


def environ_name(name: str) -> str:
    """Return the WSGI name of a request field (PEP 3333)."""
    upper = name.upper().replace("-", "_")
    return upper if upper in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{upper}"
