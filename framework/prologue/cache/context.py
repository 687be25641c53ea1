"""What a factory may know and decide about the value that it makes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from prologue.cache.entry import Entry, TagGenerations
from prologue.errors import CacheError, CacheUnavailableError
from prologue.lifecycle import MISSING

if TYPE_CHECKING:
    from prologue.cache.base import CacheBackend
    from prologue.cache.options import Duration

__all__ = ["Factory", "FactoryContext", "call_factory"]

T = TypeVar("T")


class FactoryContext:
    """Handed to a factory that takes an argument; for the time of one call.

    Attributes:
        key: the key whose value is made.
        stale_value: the value that was there, if it is still kept; else ``MISSING``.
        etag: what identifies the stale value at its source; what is here when the factory returns is kept
            with the new value.
        ttl: the time to live of the new value; the factory may change it.
        cacheable: whether the value will be stored.
    """

    __slots__ = ("_cache", "_names", "_stale", "cacheable", "etag", "key", "stale_value", "tags", "ttl")

    def __init__(
        self,
        cache: CacheBackend,
        key: str,
        stale: Entry | None,
        ttl: Duration | None,
        tags: TagGenerations,
        names: set[str],
    ) -> None:
        self._cache = cache
        self._names = names  # of the tags, for who invalidates one
        self._stale = stale
        self.key = key
        self.stale_value: Any = MISSING if stale is None else stale.value
        self.etag = None if stale is None else stale.etag
        self.ttl = ttl
        self.tags = tags
        self.cacheable = True

    def add_tags(self, *tags: str) -> None:
        """Let tags invalidate the value too; call it before reading the data that they stand for.

        While the store does not answer, the value will not be stored.
        """
        self._names.update(tags)
        try:
            self.tags += self._cache.tag_generations(tags)
        except CacheUnavailableError:
            self._cache.counters.errors += 1
            self.cacheable = False

    def not_modified(self) -> Any:
        """Return the stale value, for the factory to return: it has not changed, and is fresh again.

        Raises:
            CacheError: there is no stale value.
        """
        if self._stale is None:
            raise CacheError(
                f"key {self.key!r} has no stale value: look at stale_value before not_modified()"
            )
        return self._stale.value

    def do_not_cache(self) -> None:
        """Return the value to those who wait for it, and do not store it."""
        self.cacheable = False


Factory: TypeAlias = Callable[[], T] | Callable[[FactoryContext], T]


def call_factory(factory: Factory[T], context: FactoryContext) -> T:
    """Call a factory, with the context if it needs an argument."""
    return factory(context) if _takes_argument(factory) else factory()  # type: ignore[call-arg]


def _takes_argument(factory: Callable[..., object]) -> bool:
    try:
        parameters = inspect.signature(factory).parameters.values()
    except ValueError:  # some builtins do not tell
        return False
    return any(
        parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        for parameter in parameters
    )
