"""The pattern syntax: text of a route → segments that know what they accept.

========================  ==========================================================================
``/users/new``            text: itself
``/users/{id}``           parameter: one whole segment
``/users/{id:int}``       typed parameter: one segment that the converter accepts
``/img-{n}.png``          text around one or more parameters; between two stands text (``{name}.{ext}``)
``/files/*``              any one segment, unnamed
``/files/{rest}$``        greedy: the rest of the path, one segment or more (also ``{rest:path}``)
``/files/*$``             the same, unnamed
========================  ==========================================================================
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import IntEnum
from typing import Any, NamedTuple

from prologue.errors import RouteError
from prologue.routing.converters import GREEDY_CONVERTER, Converter

# What no path can hold, and that with what a pattern gives a meaning.
_FORBIDDEN = re.compile(r"[?#\x00-\x1f\x7f\ud800-\udfff]")
_SPECIAL = re.compile(r"[{}*?#\x00-\x1f\x7f\ud800-\udfff]")

__all__ = ["Kind", "Parameter", "Pattern", "Segment", "parse_pattern"]


class Kind(IntEnum):
    """What a segment is; the value is its precedence, the lowest first."""

    STATIC = 0
    TYPED = 1
    AFFIXED = 2
    PARAMETER = 3
    WILDCARD = 4
    GREEDY = 5


_STATIC = Kind.STATIC


class Parameter(NamedTuple):
    """A named place in a segment; without a converter it takes any text."""

    name: str
    converter: Converter | None


class Segment:
    """One segment of a pattern.

    ``literals`` is the text around and between the parameters: one more than there are parameters.
    """

    __slots__ = ("kind", "literals", "parameters", "text")

    def __init__(
        self, kind: Kind, text: str, literals: tuple[str, ...] = (), parameters: tuple[Parameter, ...] = ()
    ) -> None:
        self.kind = kind
        self.text = text
        self.literals = literals
        self.parameters = parameters

    def __repr__(self) -> str:
        return f"<Segment {self.kind.name.lower()} {self.text!r}>"

    @property
    def shape(self) -> tuple[object, ...]:
        """What the segment accepts, whatever its parameters are called."""
        return (self.literals, tuple(p.converter.name if p.converter else "" for p in self.parameters))

    @property
    def precedence(self) -> tuple[object, ...]:
        """The order among typed and affixed segments of one node: a total order of their shapes.

        The more text a pattern fixes, the earlier it is tried; then the longer prefix; then typed
        before untyped; the shape itself breaks what ties are left.
        """
        ranks = tuple(p.converter.rank if p.converter else 1000 for p in self.parameters)
        size = sum(map(len, self.literals))
        return (self.kind, -size, -len(self.literals[0]), ranks, self.shape)

    def read(self, text: str) -> tuple[Any, ...] | None:
        """Return the parameters' values in ``text``, or None when the segment does not accept it.

        Where several splits are possible a parameter takes as much as it can, from left to right:
        ``{name}.{ext}`` reads ``a.tar.gz`` as ``a.tar`` and ``gz``. The converters judge the one split
        there is.
        """
        parts = self.split(text)
        if parts is None:
            return None
        values: list[Any] = []
        for parameter, part in zip(self.parameters, parts, strict=True):
            if parameter.converter is None:
                values.append(part)
                continue
            try:
                values.append(parameter.converter.parse(part))
            except ValueError:
                return None
        return tuple(values)

    def split(self, text: str) -> list[str] | None:
        """Return the parameters' texts in ``text``, or None when it is not of this form; linear."""
        prefix, *between, suffix = self.literals
        start, end = len(prefix), len(text) - len(suffix)
        # Each parameter takes one character at least.
        if end <= start or not text.startswith(prefix) or not text.endswith(suffix):
            return None
        parts: list[str] = []
        # Every separator as far right as it goes leaves the parameters on the left the most.
        for literal in reversed(between):
            found = text.rfind(literal, start + 1, end - 1)
            if found < 0:
                return None
            parts.append(text[found + len(literal) : end])
            end = found
        parts.append(text[start:end])
        parts.reverse()
        return parts


class Pattern(NamedTuple):
    """A parsed route pattern: its normal text and its segments."""

    text: str
    segments: tuple[Segment, ...]

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """Every parameter, in the order of the pattern."""
        return tuple(p for segment in self.segments for p in segment.parameters)


def parse_pattern(text: str, converters: Mapping[str, Converter], cache: dict[str, Segment]) -> Pattern:
    """Parse the text of a route.

    Args:
        text: the pattern; a leading slash is added, empty segments are dropped.
        converters: what may stand behind the colon of a parameter, by name.
        cache: segments parsed before with these converters, by text; what is new is added.

    Returns:
        The pattern, its text normalised.

    Raises:
        RouteError: the pattern is empty or wrong; the message shows the place.
    """
    if not isinstance(text, str):
        raise RouteError(f"a route pattern is a str, not {type(text).__name__}: {text!r}")
    if not text:
        raise RouteError("a route pattern must not be empty; the root is '/'")
    segments: list[Segment] = []
    names: list[str] = []
    greedy = ""
    parts = list(filter(None, text.split("/")))
    for part in parts:
        segment = cache.get(part)
        if segment is None:
            segment = cache[part] = _Parser(text, part, converters).segment()
        if greedy:
            raise _error(text, part, 0, f"nothing may follow {greedy}, the rest of the path")
        if segment.kind is not _STATIC:
            greedy = part if segment.kind is Kind.GREEDY else ""
            for parameter in segment.parameters:
                if parameter.name in names:
                    raise _error(text, part, 0, f"parameter name {parameter.name!r} is used twice")
                names.append(parameter.name)
        segments.append(segment)
    return Pattern("/" + "/".join(parts), tuple(segments))


def _error(text: str, part: str, offset: int, message: str) -> RouteError:
    return RouteError(f"route {text!r}, segment {part!r}, character {offset + 1}: {message}")


class _Parser:
    """One segment being parsed, and the whole pattern for messages."""

    def __init__(self, text: str, part: str, converters: Mapping[str, Converter]) -> None:
        self.text = text
        self.part = part
        self.converters = converters

    def error(self, offset: int, message: str) -> RouteError:
        return _error(self.text, self.part, offset, message)

    def segment(self) -> Segment:
        part = self.part
        if not _SPECIAL.search(part):
            return Segment(Kind.STATIC, part)
        forbidden = _FORBIDDEN.search(part)
        if forbidden is not None:
            raise self.error(forbidden.start(), f"{forbidden.group()!r} cannot be part of a path")
        greedy = part.endswith(("}$", "*$"))
        body = part[:-1] if greedy else part
        if body == "*":
            return Segment(Kind.GREEDY if greedy else Kind.WILDCARD, part)
        if "*" in body:
            raise self.error(body.index("*"), "'*' must be a segment of its own")
        literals, parameters, rest = self.split(body)
        alone = literals == ("", "")
        if greedy or rest:
            if not alone:
                raise self.error(0, "a parameter for the rest of the path must be a segment of its own")
            if parameters[0].converter is not None:
                raise self.error(0, "a parameter for the rest of the path cannot have a type")
            return Segment(Kind.GREEDY, part, literals, parameters)
        if not alone:
            return Segment(Kind.AFFIXED, part, literals, parameters)
        return Segment(Kind.TYPED if parameters[0].converter else Kind.PARAMETER, part, literals, parameters)

    def split(self, body: str) -> tuple[tuple[str, ...], tuple[Parameter, ...], bool]:
        """Cut a segment into literals and parameters; the flag says that one is ``{…:path}``."""
        literals: list[str] = []
        parameters: list[Parameter] = []
        rest = False
        index = 0
        while True:
            opening = body.find("{", index)
            literal = body[index:] if opening < 0 else body[index:opening]
            if "}" in literal:
                raise self.error(index + literal.index("}"), "'}' without '{'")
            literals.append(literal)
            if opening < 0:
                return tuple(literals), tuple(parameters), rest
            if parameters and not literal:
                raise self.error(opening, "two parameters need text between them")
            closing = body.find("}", opening)
            if closing < 0:
                raise self.error(opening, "'{' is not closed")
            name, colon, converter = body[opening + 1 : closing].partition(":")
            parameters.append(self.parameter(name, colon, converter, opening + 1))
            rest = rest or (bool(colon) and converter == GREEDY_CONVERTER)
            index = closing + 1

    def parameter(self, name: str, colon: str, converter: str, offset: int) -> Parameter:
        if not name.isidentifier():
            raise self.error(offset, f"parameter name {name!r} must be a Python identifier")
        if not colon or converter == GREEDY_CONVERTER:
            return Parameter(name, None)
        if converter not in self.converters:
            known = ", ".join(sorted({*self.converters, GREEDY_CONVERTER}))
            place = offset + len(name) + 1
            raise self.error(place, f"converter {converter!r} is not known; known are {known}")
        return Parameter(name, self.converters[converter])
