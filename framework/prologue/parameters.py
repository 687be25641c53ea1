"""Parameters of a request as the types that a handler wants."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from prologue.environment import parse_value

if TYPE_CHECKING:
    from werkzeug.datastructures import MultiDict

__all__ = ["convert", "typed", "typed_form"]

T = TypeVar("T")

#: Characters of a number that a client sends: any 64-bit integer or float fits, and work with it stays cheap.
_MAX_NUMBER = 25

_CONVERTIBLE = (str, bool, int, float)


def typed(value: Any, default: Any) -> Any:
    """Return a parameter as the type of the default, or the default when it is missing or unfit."""
    if value is None:
        return default
    if type(value) is type(default) or (type(value) is not str and type(default) not in _CONVERTIBLE):
        return value
    # `str`: a converter of the route may have made another type of it.
    return convert(str(value), default)


def typed_form(source: MultiDict[str, str], key: str, default: Any) -> Any:
    """Return a field as the type of the default; every value of the key when that is a list."""
    if isinstance(default, list):
        return source.getlist(key) or default
    # PERF: werkzeug's `get` makes and catches an exception with a page for a key that is missing: 3 µs.
    return typed(source[key], default) if key in source else default


def convert(text: str, default: T) -> T | str:
    """Return the text as the type of the default, or the default when it is not one.

    Args:
        text: what the client sent.
        default: a bool, int, float or str decides the type, see
            :func:`prologue.environment.parse_value`; with any other default the text is returned as it is.
    """
    if type(default) not in _CONVERTIBLE:
        return text
    if len(text) > _MAX_NUMBER:
        return default
    try:
        return parse_value(text, type(default))
    except ValueError:
        return default
