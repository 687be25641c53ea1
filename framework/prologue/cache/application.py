"""A cache among the resources of an application."""

from __future__ import annotations

from typing import Protocol

from prologue.cache.base import CacheBackend
from prologue.lifecycle import Resources

__all__ = ["init_cache"]


class Application(Protocol):
    """What a cache needs of an application: an ``App`` has it, and so has a ``Lifecycle`` alone."""

    @property
    def resources(self) -> Resources: ...


def init_cache(app: Application, cache: CacheBackend, *, name: str = "cache") -> None:
    """Give an application a cache: ``app.resources[name]``, closed at shutdown.

    Nothing is opened here; after a fork each process opens its own on first use.

    Args:
        app: an ``App``, or a ``Lifecycle``.
        cache: any cache, given to one application only.
        name: of the resource, another for each cache.

    Raises:
        TypeError: it is not a cache.
        LifecycleError: the name is in use, or the application has shut down.
    """
    if not isinstance(cache, CacheBackend):
        raise TypeError(f"init_cache needs a cache, such as InMemoryCache(), not {cache!r}")
    app.resources.add_ready(name, cache, CacheBackend.close)
