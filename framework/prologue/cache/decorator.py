"""``@cached``: a function whose values a cache keeps."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import partial, update_wrapper
from string import Formatter
from typing import Any, Generic, ParamSpec, TypeVar

from prologue.cache.base import CacheBackend
from prologue.cache.options import CacheOptions, Duration
from prologue.errors import CacheOptionError
from prologue.lifecycle import MISSING

__all__ = ["CachedFunction", "cached"]

P = ParamSpec("P")
T = TypeVar("T")

_formatter = Formatter()


class _Template:
    """A key or a tag with the parameters of a function in it, such as ``user:{id}``.

    Different arguments never give the same text, as far as ``str()`` tells them apart, or ``repr()`` for a
    field like ``{id!r}``: in a value, the characters that separate fields are escaped.
    """

    __slots__ = ("_escapes", "_fields", "_parts")

    def __init__(self, template: str, parameters: Mapping[str, inspect.Parameter]) -> None:
        self._parts: list[str] = [""]
        self._fields: list[tuple[str, Callable[[object], str]]] = []
        for text, field, spec, conversion in _formatter.parse(template):
            self._parts[-1] += text
            if field is None:
                continue
            name = field.split(".")[0].split("[")[0]
            if name not in parameters or spec or conversion not in (None, "r"):
                raise CacheOptionError(
                    f"{{{field}}} in {template!r} must be a parameter, or a part of one, without a format "
                    f"other than !r: there are {', '.join(parameters) or 'none'}"
                )
            self._fields.append((field, repr if conversion else str))
            self._parts.append("")
        between = self._parts[1:-1]
        if not all(between):
            raise CacheOptionError(f"fields of {template!r} must have something between them")
        self._escapes = str.maketrans(
            {character: f"%{ord(character):02X}" for character in {*"".join(between), "%"}} if between else {}
        )

    def fill(self, arguments: Mapping[str, Any]) -> str:
        """Return the text for the arguments of a call, by name."""
        text = self._parts[0]
        for (field, to_text), part in zip(self._fields, self._parts[1:], strict=True):
            value, _ = _formatter.get_field(field, (), arguments)
            kind: Any = type(value)
            if kind.__repr__ is object.__repr__ and (to_text is repr or kind.__str__ is object.__str__):
                raise TypeError(
                    f"{field}={value!r} tells nothing in a key: use an attribute, such as {{{field}.id}}"
                )
            text += to_text(value).translate(self._escapes) + part
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
        self._names = tuple(parameters)
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
        arguments = self._arguments(*args, **kwargs)
        key = self._key.fill(arguments)
        if self._options is None and self._cache.options.eager is None:
            value = self._cache.get(key, MISSING)
            if value is not MISSING:
                found: T = value
                return found
        return self._cache.get_or_set(
            key,
            lambda: self._function(*args, **kwargs),
            self._ttl,
            tags=[tag.fill(arguments) for tag in self._tags],
            options=self._options,
        )

    def refresh(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call the function now, store its value and return it."""
        arguments = self._arguments(*args, **kwargs)
        return self._cache.refresh(
            self._key.fill(arguments),
            lambda: self._function(*args, **kwargs),
            self._ttl,
            tags=[tag.fill(arguments) for tag in self._tags],
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
        return self._key.fill(self._arguments(*args, **kwargs))

    def _arguments(self, *args: P.args, **kwargs: P.kwargs) -> Mapping[str, Any]:
        if not kwargs and self._positional and len(args) == len(self._names):
            return dict(zip(self._names, args, strict=True))  # PERF: binding costs ten times as much
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return bound.arguments

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
    if isinstance(tags, str):
        raise TypeError(f"tags are several str, such as ({tags!r},), not one")

    def decorate(function: Callable[P, T]) -> CachedFunction[P, T]:
        return CachedFunction(function, cache, key, ttl, tags, options)

    return decorate
