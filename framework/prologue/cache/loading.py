"""How ``get_or_set`` makes values."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias, TypeVar

if TYPE_CHECKING:
    from prologue.cache.base import CacheBackend
    from prologue.cache.options import CacheOptions, Duration

__all__ = ["Factory", "FactoryContext", "Loader"]

T = TypeVar("T")


class FactoryContext:
    """What a factory may know and decide."""


Factory: TypeAlias = Callable[[], T] | Callable[[FactoryContext], T]


class Loader:
    """The single flight of one cache."""

    def __init__(self, cache: CacheBackend) -> None:
        self._cache = cache

    def get_or_set(
        self,
        key: str,
        factory: Factory[T],
        ttl: Duration | None,
        tags: tuple[str, ...],
        options: CacheOptions | None,
    ) -> T:
        """Return the value of a key, or make it."""
        raise NotImplementedError

    def refresh(
        self,
        key: str,
        factory: Factory[T],
        ttl: Duration | None,
        tags: tuple[str, ...],
        options: CacheOptions | None,
    ) -> T:
        """Make the value of a key."""
        raise NotImplementedError

    def close(self) -> None:
        """Wait for the work in the background."""

    def after_fork(self) -> None:
        """Start over in the child."""
