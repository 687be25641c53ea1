"""Converters: what a typed parameter such as ``{id:int}`` accepts, and the value it becomes.

A converter is a name and a ``parse`` function. ``parse`` gets the decoded text of one parameter and
returns the value, or raises :class:`ValueError` to say that the route does not match. URL building
writes ``format(value)`` and then asks ``parse`` to read it back, so that a URL is never written that
its own route would refuse.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from prologue.errors import RouteError

if TYPE_CHECKING:
    from datetime import date
    from uuid import UUID

__all__ = ["BUILTIN_CONVERTERS", "GREEDY_CONVERTER", "Converter"]

#: The name that makes a parameter take the rest of the path.
GREEDY_CONVERTER = "path"

#: The most digits a number in a path may have: every 64-bit integer fits, and ``int`` stays cheap.
MAX_DIGITS = 20

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_FLOAT = re.compile(rf"[0-9]{{1,{MAX_DIGITS}}}(?:\.[0-9]{{1,{MAX_DIGITS}}})?")
_UUID = re.compile(r"[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


class Converter:
    """Read and write one type of path parameter.

    Args:
        name: what stands behind the colon in ``{id:name}``; letters, digits and underscores.
        parse: takes the text, returns the value, raises ValueError when the text is not one.
        format: takes a value, returns its text; default ``str``.
        rank: place among typed parameters of one segment, lowest first; default: behind the built-in ones.

    Raises:
        RouteError: the name is not an identifier, or one of the functions cannot be called.
    """

    __slots__ = ("format", "name", "parse", "rank")

    def __init__(
        self,
        name: str,
        parse: Callable[[str], Any],
        format: Callable[[Any], str] = str,
        *,
        rank: int = 100,
    ) -> None:
        if not _NAME.fullmatch(name):
            raise RouteError(f"converter name {name!r} must be letters, digits and underscores")
        if not callable(parse) or not callable(format):
            raise RouteError(f"converter {name!r}: not both of {parse!r} and {format!r} are functions")
        self.name = name
        self.parse = parse
        self.format = format
        self.rank = rank

    def __repr__(self) -> str:
        return f"<Converter {self.name!r}>"


def parse_int(text: str) -> int:
    """Return the integer that ASCII digits write, 20 of them at the most."""
    if len(text) <= MAX_DIGITS and text.isascii() and text.isdigit():
        return int(text)
    raise ValueError(text)


def parse_float(text: str) -> float:
    """Return the number that ASCII digits write, with or without a fraction; no sign, no exponent."""
    if _FLOAT.fullmatch(text):
        return float(text)
    raise ValueError(text)


def parse_uuid(text: str) -> UUID:
    """Return the UUID of 36 characters with hyphens, in either case."""
    if _UUID.fullmatch(text):
        from uuid import UUID

        return UUID(text)
    raise ValueError(text)


def parse_date(text: str) -> date:
    """Return the date written ``YYYY-MM-DD``."""
    if _DATE.fullmatch(text):
        from datetime import date

        return date(int(text[:4]), int(text[5:7]), int(text[8:]))
    raise ValueError(text)


#: The converters that every router has; ``path`` is a word of the pattern syntax, not one of them.
BUILTIN_CONVERTERS: tuple[Converter, ...] = (
    Converter("uuid", parse_uuid, rank=1),
    Converter("date", parse_date, rank=2),
    Converter("int", parse_int, rank=3),
    Converter("float", parse_float, rank=4),
)
