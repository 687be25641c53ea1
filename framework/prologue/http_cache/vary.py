"""Vary: which request fields select a stored response (RFC 9110 section 12.5.5, RFC 9111 section 4.1)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from prologue.http_cache.fields import environ_name, is_token, split_list

__all__ = ["ANYTHING", "Selecting", "parse_vary", "selecting_values", "selects"]

#: WSGI names of request fields and their values; None for a field that the request did not have.
Selecting = tuple[tuple[str, str | None], ...]

#: What a Vary that no request can match is parsed as.
ANYTHING = ("*",)

_LISTS = frozenset(("HTTP_ACCEPT", "HTTP_ACCEPT_CHARSET", "HTTP_ACCEPT_ENCODING", "HTTP_ACCEPT_LANGUAGE"))


def parse_vary(values: Iterable[str]) -> tuple[str, ...]:
    """Return the field names in lower case, sorted; ``ANYTHING`` where ``*`` is among them, or no name."""
    names = sorted({element.lower() for element in split_list(values)})
    return ANYTHING if "*" in names or not all(map(is_token, names)) else tuple(names)


def selecting_values(names: Iterable[str], environ: Mapping[str, Any]) -> Selecting:
    """Return what a request says in the fields that a response varies on."""
    return tuple((key, _normal(key, environ.get(key))) for key in map(environ_name, names))


def selects(selecting: Selecting, environ: Mapping[str, Any]) -> bool:
    """Return whether a request says the same; an absent field is not an empty one.

    Blanks around commas do not count in the fields that are known to be lists.
    """
    for key, value in selecting:
        own = environ.get(key)
        if own != value and _normal(key, own) != value:
            return False
    return True


def _normal(key: str, value: str | None) -> str | None:
    if value is None or key not in _LISTS or '"' in value:
        return value
    return ",".join(part.strip(" \t") for part in value.split(","))
