"""The essential rules over Redis, Memcached and several levels; what reaches another process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count

import pytest

from prologue.cache import CacheBackend, InMemoryCache, MemcachedCache, MultiLevelCache, RedisCache
from tests.concurrency import in_child, until
from tests.http_cache.origins import Clock, Setting

# The rules themselves: pytest finds them here by their names, and runs them over every backend.
from tests.http_cache.test_conformance import (  # noqa: F401
    test_a_304_answers_with_its_own_fields_even_where_they_forbid_to_keep_it,
    test_a_304_updates_only_what_its_request_could_have_chosen,
    test_of_several_responses_that_suit_the_latest_by_its_date_answers,
    test_the_vary_of_a_304_counts_from_then_on,
)
from tests.http_cache.test_wsgi import (  # noqa: F401
    test_a_304_that_makes_it_private_is_answered_and_forgotten,
    test_a_304_that_names_another_version_updates_nothing_and_the_next_request_fetches,
    test_a_body_is_streamed_and_stored_after_its_close,
    test_a_body_over_the_limit_passes_and_is_not_stored,
    test_a_body_that_was_not_read_to_its_end_is_not_stored,
    test_a_changed_response_replaces_the_stale_one,
    test_a_head_that_shows_another_length_drops_what_is_stored,
    test_a_partial_response_is_not_stored,
    test_a_response_that_became_private_removes_the_old_one,
    test_a_response_that_was_begun_before_a_purge_is_not_stored,
    test_a_stale_response_answers_for_an_application_that_fails,
    test_a_stale_response_is_served_while_another_is_fetched,
    test_a_stale_response_is_validated_and_its_fields_are_updated,
    test_an_unsafe_request_that_succeeds_clears_its_url,
    test_conditions_and_ranges_are_answered_from_the_store,
    test_every_kind_of_body_is_stored_when_it_is_complete,
    test_groups_are_cleared_by_an_unsafe_request,
    test_head_is_answered_from_get_and_get_is_not_answered_from_head,
    test_no_cache_is_validated_every_time,
    test_only_if_cached_never_asks,
    test_purge_needs_the_secret_and_is_off_without_one,
    test_the_variants_of_a_url_are_bounded_and_the_latest_stay,
    test_urls_and_tags_are_purged,
    test_variants_are_kept_apart_and_absent_is_not_empty,
)
from tests.servers import Memcached, Redis

_numbers = count()


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    with Redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def memcached(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Memcached]:
    with Memcached(tmp_path_factory.mktemp("memcached")) as server:
        yield server


@pytest.fixture(autouse=True, params=["redis", "memcached", "multi-level"])
def backend(
    request: pytest.FixtureRequest, redis: Redis, memcached: Memcached, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """Every Setting of the test keeps its responses in a namespace of its own on a server."""

    def make(clock: Clock) -> CacheBackend:
        # Seconds of patience, where a busy machine must not count as a server that does not answer.
        namespace = f"n{next(_numbers)}"
        cache: CacheBackend
        if request.param == "memcached":
            cache = MemcachedCache(memcached.address, namespace=namespace, timeout=10, connect_timeout=10)
        else:
            cache = RedisCache(redis.url, namespace=namespace, timeout=10, connect_timeout=10)
        if request.param == "multi-level":
            cache = MultiLevelCache(InMemoryCache(), cache)
        made.callback(cache.close)
        return cache

    with ExitStack() as made:
        monkeypatch.setattr(Setting, "make_store", staticmethod(make))
        yield request.param


@pytest.mark.parametrize(
    "clear",
    [
        lambda setting: setting.cache.purge("http://127.0.0.1/"),
        lambda setting: setting.cache.purge_tags("users"),
        lambda setting: setting.get(method="POST", CONTENT_LENGTH="0"),
    ],
    ids=["url", "tag", "unsafe"],
)
def test_what_is_purged_in_one_process_is_gone_in_another(clear: Callable[[Setting], object]) -> None:
    setting = Setting(("Cache-Control", "max-age=60"), ("Surrogate-Key", "users"))
    setting.get()
    setting.clock.now += 1
    assert "hit" in setting.status()

    def in_other_process() -> str:
        assert "hit" in setting.status()
        clear(setting)
        return "cleared"

    assert in_child(in_other_process) == "cleared"
    until(lambda: "uri-miss" in setting.status(method="HEAD"))


def test_what_is_refreshed_in_one_process_is_served_in_another() -> None:
    setting = Setting(("Cache-Control", "max-age=60, stale-while-revalidate=60"))
    setting.get()
    assert setting.get().body == b"body"

    def in_other_process() -> str:
        setting.origin.body = b"new"
        setting.clock.now += 70
        old = setting.get()
        setting.cache.close(30)
        return old.text

    assert in_child(in_other_process) == "body"
    until(lambda: setting.get().body == b"new")
    assert setting.origin.calls == 1
