"""A cache in an application: its place among the resources, its end, its life after a fork."""

from __future__ import annotations

from typing import Any

import pytest

from prologue import App, Context
from prologue.cache import InMemoryCache, init_cache
from prologue.errors import CacheClosedError, ClosedResourceError, LifecycleError
from prologue.lifecycle import Lifecycle
from tests.calling import call
from tests.concurrency import in_child


def test_handlers_find_the_cache_by_its_name() -> None:
    app = App()
    init_cache(app, InMemoryCache())
    init_cache(app, InMemoryCache(name="other"), name="other")

    @app.get("/")
    def visits(ctx: Context) -> str:
        return str(ctx.app.resources["cache"].incr("visits"))

    assert [call(app).body for _ in range(2)] == [b"1", b"2"]
    assert app.resources["other"].name == "other"
    assert app.resources["other"].get("visits") is None
    app.lifecycle.shutdown()


def test_the_cache_is_closed_at_shutdown_after_the_handlers_that_may_use_it() -> None:
    lifecycle, cache = Lifecycle(), InMemoryCache()
    init_cache(lifecycle, cache)
    lifecycle.on_shutdown(lambda: cache.set("last", 1))
    lifecycle.startup()
    lifecycle.shutdown()
    with pytest.raises(CacheClosedError):
        cache.set("key", 1)
    with pytest.raises(ClosedResourceError):
        lifecycle.resources["cache"]


def test_a_name_is_for_one_cache() -> None:
    app = App()
    init_cache(app, InMemoryCache())
    with pytest.raises(LifecycleError, match="'cache' is there already"):
        init_cache(app, InMemoryCache())


@pytest.mark.parametrize("cache", [None, "redis://127.0.0.1/0", InMemoryCache])
def test_what_is_no_cache_is_refused(cache: Any) -> None:
    with pytest.raises(TypeError, match="needs a cache"):
        init_cache(App(), cache)


def test_a_child_goes_on_with_a_cache_of_its_own() -> None:
    app = App()
    init_cache(app, InMemoryCache())
    app.resources["cache"].set("key", 1)

    def change() -> list[int]:
        cache = app.resources["cache"]
        return [cache.get("key"), cache.incr("key")]

    assert in_child(change) == [1, 2]
    assert app.resources["cache"].get("key") == 1
    app.lifecycle.shutdown()
