"""Cache-Control: its directives, typed (RFC 9111 section 5.2, RFC 5861)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from prologue.http_cache.fields import MAX_SECONDS, parse_seconds, split_list

__all__ = ["Directives", "from_members", "parse_directives"]

_ESCAPED = re.compile(r"\\(.)", re.DOTALL)

_FLAGS = frozenset(
    ("must-revalidate", "must-understand", "no-store", "only-if-cached", "proxy-revalidate", "public")
)
_SECONDS = frozenset(("max-age", "min-fresh", "s-maxage", "stale-if-error", "stale-while-revalidate"))


class Directives(msgspec.Struct, frozen=True):
    """The directives of a message that mean something to a shared cache.

    A number is None where the directive is absent. One that is invalid is 0, and of several the least counts:
    wrong freshness information makes a response stale (RFC 9111 section 4.2.1).

    Attributes:
        no_cache: without field names.
        no_cache_fields: the names of ``no-cache="…"``, in lower case.
        private: without field names.
        private_fields: the names of ``private="…"``, in lower case.
        max_stale: of a request; ``MAX_SECONDS`` where it has no number.
    """

    max_age: int | None = None
    max_stale: int | None = None
    min_fresh: int | None = None
    must_revalidate: bool = False
    must_understand: bool = False
    no_cache: bool = False
    no_cache_fields: frozenset[str] = frozenset()
    no_store: bool = False
    only_if_cached: bool = False
    private: bool = False
    private_fields: frozenset[str] = frozenset()
    proxy_revalidate: bool = False
    public: bool = False
    s_maxage: int | None = None
    stale_if_error: int | None = None
    stale_while_revalidate: int | None = None


NONE = Directives()


def parse_directives(values: Iterable[str]) -> Directives:
    """Return the directives of the lines of a Cache-Control field.

    Names have no case; an argument is a token or a quoted string; what is unknown is ignored.
    """
    pairs: list[tuple[str, str | None]] = []
    for element in split_list(values):
        name, equals, argument = element.partition("=")
        pairs.append((name.strip(" \t").lower(), _unquote(argument.strip(" \t")) if equals else None))
    return _collect(pairs)


def from_members(members: Mapping[str, tuple[Any, Any]]) -> Directives:
    """Return the directives of a targeted field that was parsed as a dictionary (RFC 9213 section 2.1).

    A member whose value has another type than its directive's argument is not consumed; a flag that is false
    is absent.
    """
    pairs: list[tuple[str, str | None]] = []
    for name, (value, _) in members.items():
        if value is True:
            pairs.append((name, None))
        elif name in _SECONDS and isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            pairs.append((name, str(value)))
        elif name in ("private", "no-cache") and isinstance(value, str):
            pairs.append((name, value))
    return _collect(pairs)


def _unquote(argument: str) -> str:
    if argument.startswith('"'):
        return _ESCAPED.sub(r"\1", argument[1:].removesuffix('"'))
    return argument


def _collect(pairs: Iterable[tuple[str, str | None]]) -> Directives:
    found: dict[str, Any] = {}
    for name, argument in pairs:
        attribute = name.replace("-", "_")
        if name in _FLAGS:
            found[attribute] = True
        elif name in _SECONDS:
            number = parse_seconds(argument) or 0
            found[attribute] = min(number, found.get(attribute, MAX_SECONDS))
        elif name == "max-stale":
            found[attribute] = MAX_SECONDS if argument is None else parse_seconds(argument) or 0
        elif name in ("private", "no-cache"):
            names = frozenset(part.lower() for part in split_list([argument or ""]))
            if names:
                found[f"{attribute}_fields"] = names | found.get(f"{attribute}_fields", frozenset())
            else:
                found[attribute] = True
    return Directives(**found) if found else NONE
