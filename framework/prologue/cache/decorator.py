"""``@cached``: a function whose values a cache keeps."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial, update_wrapper
from string import Formatter
from typing import Any, Generic, ParamSpec, TypeVar

from prologue.cache.base import CacheBackend
from prologue.cache.entry import tag_names
from prologue.cache.options import CacheOptions, Duration
from prologue.errors import CacheOptionError

__all__ = ["CachedFunction", "cached"]

P = ParamSpec("P")
T = TypeVar("T")

_formatter = Formatter()


class _Template:
    """A key or a tag with the parameters of a function in it, such as ``user:{id}``.

    Different arguments never give the same text, as far as ``str()`` tells them apart, or ``repr()`` for a
    field like ``{id!r}``: in a value, the characters that separate fields are escaped.
    """

    __slots__ = ("_escapes", "_fields", "_start")

    def __init__(self, template: str, parameters: Mapping[str, inspect.Parameter]) -> None:
        names = list(parameters)
        parts = [""]
        fields: list[tuple[int, str, str, Callable[[object], str]]] = []
        for text, field, spec, conversion in _formatter.parse(template):
            parts[-1] += text
            if field is None:
                continue
            name = re.split(r"[.[]", field, maxsplit=1)[0]
            if name not in parameters or spec or conversion not in (None, "r"):
                raise CacheOptionError(
                    f"{{{field}}} in {template!r} must be a parameter, or a part of one, without a format "
                    f"other than !r: there are {', '.join(parameters) or 'none'}"
                )
            fields.append((names.index(name), name, field[len(name) :], repr if conversion else str))
            parts.append("")
        between = parts[1:-1]
        if not all(between):
            raise CacheOptionError(f"fields of {template!r} must have something between them")
        self._escapes = str.maketrans(
            {character: f"%{ord(character):02X}" for character in {*"".join(between), "%"}} if between else {}
        )
        self._start = parts[0]
        self._fields = [(*field, part) for field, part in zip(fields, parts[1:], strict=True)]

    def fill(self, values: Sequence[Any]) -> str:
        """Return the text for the arguments of a call, in the order of the parameters."""
        text = self._start
        for position, name, path, to_text, part in self._fields:
            value = values[position]
            if path:
                value, _ = _formatter.get_field(f"0{path}", (value,), {})
            kind: Any = type(value)
            if kind.__repr__ is object.__repr__ and (to_text is repr or kind.__str__ is object.__str__):
                raise TypeError(
                    f"{name}{path}={value!r} tells nothing in a key: "
                    f"use an attribute, such as {{{name}{path}.id}}"
                )
            piece = to_text(value)
            text += (piece.translate(self._escapes) if self._escapes else piece) + part
        return text


class CachedFunction(Generic[P, T]):
    """What :func:`cached` makes of a function: called as before, with its values from the cache if they are
    there.

    It works for methods too: the object is an argument like any other, and in the key only if the key says
    so.
    """

    def __init__(
        self,
        function: Callable[P, T],
        cache: CacheBackend,
        key: str,
        ttl: Duration | None,
        tags: Iterable[str],
        options: CacheOptions | None,
    ) -> None:
        self._function = function
        self._cache = cache
        self._signature = inspect.signature(function)
        parameters = self._signature.parameters
        self._count = len(parameters)
        self._positional = all(
            parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
            for parameter in parameters.values()
        )
        self._key = _Template(key, parameters)
        self._tags = [_Template(tag, parameters) for tag in tags]
        self._ttl = ttl
        self._options = options
        update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """Return the value of the function for these arguments, from the cache or made now."""
        values = self._values(args, kwargs)
        return self._cache.get_or_set(
            self._key.fill(values),
            lambda: self._function(*args, **kwargs),
            self._ttl,
            tags=self._fill_tags(values),
            options=self._options,
        )

    def refresh(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call the function now, store its value and return it."""
        values = self._values(args, kwargs)
        return self._cache.refresh(
            self._key.fill(values),
            lambda: self._function(*args, **kwargs),
            self._ttl,
            tags=self._fill_tags(values),
            options=self._options,
        )

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Remove the value for these arguments; return whether there was one.

        Raises:
            CacheUnavailableError: the store does not answer, and may keep the value.
        """
        return self._cache.delete(self.key(*args, **kwargs))

    def key(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """Return the key for these arguments."""
        return self._key.fill(self._values(args, kwargs))

    def _fill_tags(self, values: Sequence[Any]) -> Iterable[str]:
        # PERF: a hit has no use for the tags, so they are filled only when they are asked for.
        return (tag.fill(values) for tag in self._tags) if self._tags else ()

    def _values(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Sequence[Any]:
        """Return the arguments of a call in the order of the parameters."""
        if not kwargs and self._positional and len(args) == self._count:
            return args  # PERF: binding costs ten times as much
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return tuple(bound.arguments.values())

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        """Return the function itself from a class, and with its first argument from an object."""
        return self if instance is None else _Bound(self, instance)


class _Bound:
    """A cached method of an object."""

    __slots__ = ("_cached", "_instance")

    def __init__(self, cached: CachedFunction[..., Any], instance: object) -> None:
        self._cached = cached
        self._instance = instance

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._cached(self._instance, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._cached, name)
        if name in ("invalidate", "key", "refresh"):
            return partial(attribute, self._instance)
        return attribute


def cached(
    cache: CacheBackend,
    key: str,
    ttl: Duration | None = None,
    *,
    tags: Iterable[str] = (),
    options: CacheOptions | None = None,
) -> Callable[[Callable[P, T]], CachedFunction[P, T]]:
    """Let a cache keep the values of a function or a method; its calls become ``cache.get_or_set``.

    The function gets ``invalidate``, ``refresh`` and ``key``, which take its arguments.

    Args:
        cache: any cache.
        key: the key, with parameters of the function in braces: ``"user:{id}"``, ``"{self.region}:{id}"``.
            The values must have a text that tells them apart: 1 and "1" are the same key, unless the key says
            ``{id!r}``.
        ttl: how long a value is fresh; ``None``: as the options say.
        tags: what can invalidate the values, with parameters in braces like the key.
        options: in place of the defaults of the cache.

    Raises:
        CacheOptionError: the key or a tag names something that is not a parameter, or has fields with nothing
            between them.
    """
    names = tag_names(tags)

    def decorate(function: Callable[P, T]) -> CachedFunction[P, T]:
        return CachedFunction(function, cache, key, ttl, names, options)

    return decorate
