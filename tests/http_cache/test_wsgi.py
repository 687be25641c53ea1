"""The cache around an application."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from prologue.cache import InMemoryCache, MultiLevelCache, RedisCache
from prologue.errors import CacheUnavailableError, SettingsError
from prologue.http_cache import HTTPCache
from prologue.http_cache.dates import format_date
from tests.calling import Started, call, environ_for
from tests.concurrency import until
from tests.http_cache.origins import Setting
from tests.servers import free_port

FRESH = ("Cache-Control", "max-age=60")


def test_a_fresh_response_is_not_asked_for_twice() -> None:
    setting = Setting(FRESH, ("X-A", "1"))
    first = setting.get()
    assert (first.status, first.body, first.header("Cache-Status")) == (
        200,
        b"body",
        "prologue; fwd=uri-miss; stored",
    )
    setting.clock.now += 20.5
    again = setting.get()
    assert (again.status, again.body, again.header("X-A")) == (200, b"body", "1")
    assert again.header("Cache-Status") == "prologue; hit; ttl=39"
    assert (again.header("Age"), again.header("Content-Length")) == ("20", "4")
    assert again.header("Date") == format_date(1_000_000_000)
    setting.clock.now += 40
    assert setting.status() == "prologue; fwd=uri-miss; stored"
    assert setting.origin.calls == 2


def test_head_is_answered_from_get_and_get_is_not_answered_from_head() -> None:
    setting = Setting(FRESH)
    assert "fwd=uri-miss" in setting.status(method="HEAD")
    assert "stored" not in setting.status(method="HEAD")
    setting.get()
    head = setting.get(method="HEAD")
    assert (head.body, head.header("Content-Length"), head.header("Cache-Status")) == (
        b"",
        "4",
        "prologue; hit; ttl=60",
    )
    assert setting.origin.calls == 3


@pytest.mark.parametrize(
    "body", [[b"a", b"b"], (b"a", b"b"), iter([b"a", b"b"]), []], ids=["list", "tuple", "iterator", "empty"]
)
def test_every_kind_of_body_is_stored_when_it_is_complete(body: Any) -> None:
    setting = Setting(FRESH)
    setting.origin.body = body
    first = setting.get()
    assert setting.get().body == first.body
    assert setting.origin.calls == 1


class Body:
    def __init__(self, *chunks: bytes, fails_at: int = -1, fails_to_close: bool = False) -> None:
        self.chunks, self.fails_at, self.fails_to_close = chunks, fails_at, fails_to_close
        self.closed = 0

    def __iter__(self) -> Iterator[bytes]:
        for number, chunk in enumerate(self.chunks):
            if number == self.fails_at:
                raise OSError("the body broke")
            yield chunk

    def close(self) -> None:
        self.closed += 1
        if self.fails_to_close:
            raise OSError("closing failed")


def test_a_body_is_streamed_and_stored_after_its_close() -> None:
    setting = Setting(FRESH)
    body = setting.origin.body = Body(b"a", b"b")
    started = Started(setting.cache, environ_for())
    chunks = iter(started.body)
    assert next(chunks) == b"a"
    assert list(chunks) == [b"b"]
    assert "hit" not in setting.status(HTTP_RANGE="bytes=0-0")
    started.close()
    assert body.closed == 2
    assert setting.get().body == b"ab"
    assert "hit" in setting.status()


@pytest.mark.parametrize(
    "body",
    [Body(b"a", b"b", fails_at=1), Body(b"a", b"b", fails_to_close=True)],
    ids=["broken", "not closed"],
)
def test_a_body_that_broke_is_not_stored(body: Body) -> None:
    setting = Setting(FRESH)
    setting.origin.body = body
    with pytest.raises(OSError, match=r"broke|failed"):
        setting.get()
    setting.origin.body = b"whole"
    assert setting.get().body == b"whole"


def test_a_body_that_was_not_read_to_its_end_is_not_stored() -> None:
    setting = Setting(FRESH)
    setting.origin.body = Body(b"a", b"b")
    started = Started(setting.cache, environ_for())
    assert next(iter(started.body)) == b"a"
    started.close()
    setting.origin.body = b"whole"
    assert setting.get().body == b"whole"


@pytest.mark.parametrize("body", [[b"abc"], Body(b"abc")], ids=["list", "stream"])
@pytest.mark.parametrize("length", ["2", "4"])
def test_a_body_of_another_length_than_stated_is_not_stored(body: Any, length: str) -> None:
    setting = Setting(FRESH, ("Content-Length", length))
    setting.origin.body = body
    for _ in range(2):
        started = Started(setting.cache, environ_for())
        assert b"".join(started.body) == b"abc"
        started.close()
    assert setting.origin.calls == 2


@pytest.mark.parametrize("body", [b"x" * 11, Body(b"x" * 6, b"x" * 5)], ids=["list", "stream"])
def test_a_body_over_the_limit_passes_and_is_not_stored(body: Any) -> None:
    setting = Setting(FRESH, max_body_size=10)
    setting.origin.body = body
    assert setting.get().body == b"x" * 11
    assert setting.get().body == b"x" * 11
    assert setting.origin.calls == 2
    announced = Setting(FRESH, ("Content-Length", "11"), max_body_size=10, detail=True, body=b"x" * 11)
    assert 'detail="11 bytes are more than 10"' in announced.status()


def test_a_server_may_stop_reading_where_the_length_ends() -> None:
    setting = Setting(FRESH, ("Content-Length", "2"))
    setting.origin.body = Body(b"a", b"b")
    started = Started(setting.cache, environ_for())
    chunks = iter(started.body)
    assert [next(chunks), next(chunks)] == [b"a", b"b"]
    started.close()
    assert setting.get().body == b"ab"
    assert setting.origin.calls == 1


def test_variants_are_kept_apart_and_absent_is_not_empty() -> None:
    setting = Setting(FRESH, ("Vary", "Accept-Language"))
    for language, text in (("bg", b"zdravei"), ("en", b"hello"), (None, b"absent"), ("", b"empty")):
        setting.origin.body = text
        more = {} if language is None else {"HTTP_ACCEPT_LANGUAGE": language}
        assert setting.get(**more).body == text
    assert setting.origin.calls == 4
    assert setting.get(HTTP_ACCEPT_LANGUAGE="bg").body == b"zdravei"
    assert setting.get().body == b"absent"
    assert setting.get(HTTP_ACCEPT_LANGUAGE="").body == b"empty"
    assert "vary-miss" in setting.status(HTTP_ACCEPT_LANGUAGE="fr")


def test_the_variants_of_a_url_are_bounded_and_the_latest_stay() -> None:
    setting = Setting(FRESH, ("Vary", "X"))
    for number in range(20):
        setting.clock.now += 0.1
        setting.get(HTTP_X=str(number))
    kept = [number for number in range(20) if "hit" in setting.status(method="HEAD", HTTP_X=str(number))]
    assert kept == list(range(4, 20))


@pytest.mark.parametrize(
    ("more", "status", "body"),
    [
        ({"HTTP_IF_NONE_MATCH": '"v1"'}, 304, b""),
        ({"HTTP_IF_NONE_MATCH": 'W/"v1"'}, 304, b""),
        ({"HTTP_IF_NONE_MATCH": '"v2"'}, 200, b"0123456789"),
        ({"HTTP_RANGE": "bytes=2-4"}, 206, b"234"),
        ({"HTTP_RANGE": "bytes=20-"}, 416, b""),
        ({"HTTP_RANGE": "lines=2-4"}, 200, b"0123456789"),
        ({"HTTP_RANGE": "bytes=2-4", "HTTP_IF_RANGE": '"v1"'}, 206, b"234"),
        ({"HTTP_RANGE": "bytes=2-4", "HTTP_IF_RANGE": '"v2"'}, 200, b"0123456789"),
        ({"HTTP_RANGE": "bytes=2-4", "HTTP_IF_NONE_MATCH": '"v1"'}, 304, b""),
    ],
)
@pytest.mark.parametrize("warm", [True, False])
def test_conditions_and_ranges_are_answered_from_the_store(
    more: dict[str, str], status: int, body: bytes, warm: bool
) -> None:
    setting = Setting(FRESH, ("ETag", '"v1"'), body=b"0123456789")
    if warm:
        setting.get()
    answer = setting.get(**more)
    assert (answer.status, answer.body) == (status, body)
    assert "HTTP_IF_NONE_MATCH" not in setting.origin.requests[0]
    assert "hit" in setting.status()
    if status == 206:
        assert answer.header("Content-Range") == "bytes 2-4/10"
    if status == 416:
        assert answer.header("Content-Range") == "bytes */10"
    if status == 304:
        assert answer.header("ETag") == '"v1"'
        assert answer.header("Content-Type") is None


def test_a_streamed_response_answers_the_condition_that_fetched_it() -> None:
    setting = Setting(FRESH, ("ETag", '"v1"'))
    setting.origin.body = body = Body(b"a", b"b")
    assert setting.get(HTTP_IF_NONE_MATCH='"v1"').status == 304
    assert body.closed == 1
    assert setting.get().body == b"ab"


def test_several_ranges_come_as_parts() -> None:
    setting = Setting(FRESH, body=b"0123456789")
    setting.get()
    answer = setting.get(HTTP_RANGE="bytes=0-1, 8-9")
    assert answer.status == 206
    assert (answer.header("Content-Type") or "").startswith("multipart/byteranges; boundary=")
    assert answer.body.count(b"Content-Range: bytes") == 2
    assert answer.header("Content-Length") == str(len(answer.body))


def test_a_partial_response_is_not_stored() -> None:
    setting = Setting(FRESH, ("Content-Range", "bytes 0-1/4"), status="206 Partial Content", body=b"bo")
    assert setting.get(HTTP_RANGE="bytes=0-1").status == 206
    assert "stored" not in setting.status()


def test_a_stale_response_is_validated_and_its_fields_are_updated() -> None:
    setting = Setting(FRESH, ("ETag", '"v1"'), ("X-N", "1"))
    setting.origin.validates = True
    setting.get()
    setting.clock.now += 100
    setting.origin.headers = [FRESH, ("ETag", '"v1"'), ("X-N", "2")]
    answer = setting.get(HTTP_IF_NONE_MATCH='"old"', HTTP_RANGE="bytes=0-0")
    assert setting.origin.requests[1]["HTTP_IF_NONE_MATCH"] == '"v1"'
    assert "HTTP_RANGE" not in setting.origin.requests[1]
    assert (answer.status, answer.body, answer.header("X-N")) == (206, b"b", "2")
    assert answer.header("Cache-Status") == "prologue; fwd=stale; fwd-status=304"
    assert setting.status() == "prologue; hit; ttl=60"
    setting.clock.now += 59
    assert "hit" in setting.status()


def test_no_cache_is_validated_every_time() -> None:
    setting = Setting(("Cache-Control", "no-cache"), ("Last-Modified", format_date(1)))
    setting.origin.validates = True
    assert [setting.get().body for _ in range(3)] == [b"body"] * 3
    assert [environ.get("HTTP_IF_MODIFIED_SINCE") for environ in setting.origin.requests] == [
        None,
        format_date(1),
        format_date(1),
    ]


def test_a_changed_response_replaces_the_stale_one() -> None:
    setting = Setting(FRESH, ("ETag", '"v1"'))
    setting.get()
    setting.clock.now += 100
    setting.origin.headers = [FRESH, ("ETag", '"v2"')]
    setting.origin.body = b"new"
    assert setting.get().body == b"new"
    assert setting.get().header("ETag") == '"v2"'


def test_a_304_that_names_another_version_updates_nothing_and_the_next_request_fetches() -> None:
    setting = Setting(FRESH, ("ETag", '"v1"'))
    setting.get()
    setting.clock.now += 100
    setting.origin.status, setting.origin.headers = "304 Not Modified", [FRESH, ("ETag", '"v9"')]
    setting.origin.body = []
    started = Started(setting.cache, environ_for())
    assert (started.status, b"".join(started.body)) == ("200 OK", b"body")
    started.close()
    setting.origin.status, setting.origin.body = "200 OK", b"new"
    assert setting.get().body == b"new"
    assert [environ.get("HTTP_IF_NONE_MATCH") for environ in setting.origin.requests] == [None, '"v1"', None]


def test_a_304_that_makes_it_private_is_answered_and_forgotten() -> None:
    setting = Setting(FRESH, ("ETag", '"v1"'))
    setting.origin.validates = True
    setting.get()
    setting.clock.now += 100
    setting.origin.headers = [("Cache-Control", "private"), ("ETag", '"v1"')]
    assert setting.get().body == b"body"
    assert "uri-miss" in setting.status()


def test_a_response_that_became_private_removes_the_old_one() -> None:
    setting = Setting(("Cache-Control", "max-age=60, stale-while-revalidate=600"), ("ETag", '"v1"'))
    setting.get()
    setting.clock.now += 700
    setting.origin.headers = [("Cache-Control", "private")]
    setting.get()
    assert "uri-miss" in setting.status()


@pytest.mark.parametrize(
    ("method", "cleared"), [("POST", True), ("DELETE", True), ("OPTIONS", False), ("GET", False)]
)
@pytest.mark.parametrize("status", ["200 OK", "404 Not Found"])
def test_an_unsafe_request_that_succeeds_clears_its_url(method: str, cleared: bool, status: str) -> None:
    setting = Setting(FRESH)
    setting.get("/a")
    setting.origin.status = status
    assert setting.get("/a", method=method, CONTENT_LENGTH="1" if method == "GET" else "0").status == int(
        status[:3]
    )
    setting.origin.status = "200 OK"
    assert ("uri-miss" in setting.status("/a")) is (cleared and status == "200 OK")


def test_groups_are_cleared_by_an_unsafe_request() -> None:
    setting = Setting(FRESH, ("Cache-Groups", '"users"'))
    for path in ("/a", "/b"):
        setting.get(path)
    setting.origin.headers = [("Cache-Group-Invalidation", '"users"')]
    setting.get("/c", method="POST", CONTENT_LENGTH="0")
    assert ["uri-miss" in setting.status(path) for path in ("/a", "/b")] == [True, True]


def test_urls_and_tags_are_purged() -> None:
    setting = Setting(FRESH, ("Surrogate-Key", "users home"))
    ways: list[Callable[[], None]] = [
        lambda: setting.cache.purge("http://127.0.0.1/"),
        lambda: setting.cache.purge_tags("home"),
        lambda: setting.store.invalidate_tags("users"),
    ]
    for way in ways:
        setting.clock.now += 1
        setting.get()
        assert "hit" in setting.status()
        way()
        assert "uri-miss" in setting.status()


def test_a_response_that_was_begun_before_a_purge_is_not_stored() -> None:
    setting = Setting(FRESH, ("Surrogate-Key", "users"))
    ways: list[Callable[[], None]] = [
        lambda: setting.cache.purge("http://127.0.0.1/"),
        lambda: setting.cache.purge_tags("users"),
    ]
    for way in ways:
        setting.clock.now += 1000
        setting.origin.body = Body(b"old")
        started = Started(setting.cache, environ_for())
        setting.clock.now += 1
        way()
        list(started.body)
        started.close()
        setting.origin.body = b"new"
        assert setting.get().body == b"new"
        way()


def purge(setting: Setting, path: str, **more: Any) -> tuple[str, bytes]:
    started = Started(setting.cache, environ_for("PURGE", path, **more))
    return started.status, b"".join(started.body)


def test_purge_needs_the_secret_and_is_off_without_one() -> None:
    setting = Setting(FRESH, ("Surrogate-Key", "users"), purge_token="secret")
    setting.get("/a")
    wrong: list[dict[str, Any]] = [
        {},
        {"HTTP_AUTHORIZATION": "Bearer wrong"},
        {"HTTP_AUTHORIZATION": "Bearer \xe9"},
    ]
    for more in wrong:
        assert purge(setting, "/a", **more)[0] == "403 Forbidden"
    assert "hit" in setting.status("/a")
    secret: dict[str, Any] = {"HTTP_AUTHORIZATION": "Bearer secret"}
    assert purge(setting, "/a", **secret) == ("200 OK", b"purged\n")
    assert "uri-miss" in setting.status("/a")
    setting.clock.now += 1
    setting.get("/a")
    assert purge(setting, "/b", HTTP_SURROGATE_KEY="users", **secret) == ("200 OK", b"purged\n")
    assert "uri-miss" in setting.status("/a")
    assert purge(Setting(), "/") == ("200 OK", b"body")


STALE = ("Cache-Control", "max-age=60, stale-while-revalidate=30, stale-if-error=300")


def test_a_stale_response_is_served_while_another_is_fetched() -> None:
    setting = Setting(STALE)
    setting.get()
    setting.clock.now += 70
    setting.origin.body = b"new"
    answer = setting.get(HTTP_IF_NONE_MATCH='"x"', HTTP_RANGE="bytes=0-1")
    assert answer.body == b"bo"
    assert answer.header("Cache-Status") == "prologue; hit; ttl=-10"
    until(lambda: setting.origin.calls == 2)
    setting.cache.close()
    refresh = setting.origin.requests[1]
    assert not {"HTTP_IF_NONE_MATCH", "HTTP_RANGE"} & refresh.keys()
    assert refresh["wsgi.input"].read() == b""
    assert (setting.get().body, setting.origin.calls) == (b"new", 2)


@pytest.mark.parametrize("failure", ["503 Service Unavailable", "500 Oops", OSError("down")])
def test_a_stale_response_answers_for_an_application_that_fails(failure: Any) -> None:
    setting = Setting(STALE)
    setting.get()
    setting.clock.now += 200
    broken = setting.origin.body = Body(b"error")
    if isinstance(failure, str):
        setting.origin.status = failure
    else:
        setting.origin.error = failure
    answer = setting.get()
    assert (answer.status, answer.body) == (200, b"body")
    status = int(failure[:3]) if isinstance(failure, str) else 500
    assert answer.header("Cache-Status") == f"prologue; fwd=stale; fwd-status={status}; ttl=-140"
    assert broken.closed == isinstance(failure, str)
    setting.clock.now += 161
    if isinstance(failure, str):
        assert setting.get().status == status
    else:
        with pytest.raises(OSError, match="down"):
            setting.get()


def test_only_if_cached_never_asks() -> None:
    setting = Setting(FRESH)
    answer = setting.get(HTTP_CACHE_CONTROL="only-if-cached")
    assert (answer.status, setting.origin.calls) == (504, 0)
    setting.get()
    assert setting.get(HTTP_CACHE_CONTROL="only-if-cached").status == 200


@pytest.mark.parametrize(
    ("server", "dates"),
    [
        ({"SERVER_SOFTWARE": "gunicorn/26.2"}, 0),
        ({"SERVER_SOFTWARE": "gunicorn/26.2", "prologue.exchange": object()}, 1),
        ({"SERVER_SOFTWARE": "other/1"}, 1),
    ],
)
def test_there_is_never_a_second_date(server: dict[str, Any], dates: int) -> None:
    for headers in ([FRESH], [FRESH, ("Date", format_date(1_000_000_000))]):
        setting = Setting(*headers)
        assert len(setting.get(**server).all("Date")) == min(dates, len(headers) - 1)
        assert len(setting.get(**server).all("Date")) == dates


def test_the_targeted_field_of_this_cache_is_obeyed_and_not_passed_on() -> None:
    setting = Setting(("Cache-Control", "no-store"), ("Prologue-Cache-Control", "max-age=60"))
    assert setting.get().header("Prologue-Cache-Control") is None
    again = setting.get()
    assert "hit" in str(again.header("Cache-Status"))
    assert again.header("Prologue-Cache-Control") is None
    assert again.header("Cache-Control") == "no-store"


def test_details_are_told_only_when_asked() -> None:
    setting = Setting(("Cache-Control", "private"), detail=True)
    assert setting.status() == 'prologue; fwd=uri-miss; detail="private"'
    setting = Setting(FRESH, detail=True, name="edge")
    setting.get()
    assert setting.status().startswith('edge; hit; ttl=60; key="http:')


def test_a_head_that_shows_another_length_drops_what_is_stored() -> None:
    setting = Setting(("Cache-Control", "max-age=60"), ("ETag", '"v1"'))
    setting.get()
    setting.clock.now += 100
    setting.origin.headers = [FRESH, ("ETag", '"v2"')]
    setting.get(method="HEAD")
    assert "uri-miss" in setting.status()


def test_an_interim_response_and_early_writes_reach_the_client() -> None:
    def application(environ: dict[str, Any], start_response: Any) -> Any:
        environ["hints"]("hint")
        write = start_response("200 OK", [("Content-Type", "text/plain"), FRESH])
        write(b"early ")
        return [b"late"]

    hints: list[str] = []
    setting = Setting()
    cache = HTTPCache(application, setting.store, clock=setting.clock)
    environ = environ_for(hints=hints.append)
    started = Started(cache, environ)
    assert b"".join(started.body) == b"early late"
    started.close()
    assert hints == ["hint"]
    assert b"".join(Started(cache, environ_for(hints=hints.append)).body) == b"early late"
    assert hints == ["hint"]


def test_an_application_may_start_late_and_must_start() -> None:
    def late(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain"), FRESH])
        yield b"a"
        yield b"b"

    setting = Setting()
    cache = HTTPCache(late, setting.store, clock=setting.clock)
    assert [call(cache).body for _ in range(2)] == [b"ab", b"ab"]
    with pytest.raises(RuntimeError, match="did not call start_response"):
        Started(HTTPCache(lambda environ, start: [], setting.store), environ_for(path="/none"))


def test_an_error_page_of_the_application_replaces_what_it_began() -> None:
    def application(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [("Content-Type", "text/plain"), FRESH])
        try:
            raise ValueError("late")
        except ValueError as error:
            start_response("500 Oops", [("Content-Type", "text/plain")], (ValueError, error, None))
        return [b"oops"]

    setting = Setting()
    cache = HTTPCache(application, setting.store)
    assert call(cache).status == 500
    assert call(cache).status == 500


def test_the_file_wrapper_of_the_server_is_handed_back_when_nothing_is_stored() -> None:
    class Wrapper(list[bytes]):
        pass

    wrapped = Wrapper([b"file"])
    setting = Setting()
    setting.origin.body = wrapped
    started = Started(setting.cache, environ_for())
    assert started.body is wrapped


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"profile": "loose"}, "profile"),
        ({"ttl": -1}, "ttl"),
        ({"profile": "rfc9111", "ttl": 5}, "rfc9111"),
        ({"keep": float("inf")}, "keep"),
        ({"stale_if_error": float("nan")}, "stale_if_error"),
        ({"name": "two words"}, "name"),
        ({"name": "x\r\nSet-Cookie: a=b"}, "name"),
        ({"max_body_size": -1}, "max_body_size"),
        ({"coalesce_timeout": -1}, "coalesce_timeout"),
        ({"coalesce_timeout": float("nan")}, "coalesce_timeout"),
    ],
)
def test_wrong_settings_are_refused(options: dict[str, Any], word: str) -> None:
    with pytest.raises(SettingsError, match=word):
        Setting(**options)


def test_a_cache_that_lost_the_body_asks_again() -> None:
    setting = Setting(FRESH)
    setting.get()
    lost = [key for key in setting.store._nodes if key.startswith("http-body:")]
    setting.store.delete_many(lost)
    assert setting.get().body == b"body"
    assert "hit" in setting.status()


@pytest.mark.parametrize("junk", [b"", b"junk", b"\x91\x90", "text", 5, None, b"\x92\x01\x02"])
def test_what_is_not_ours_in_the_cache_is_a_miss(junk: Any) -> None:
    setting = Setting(FRESH)
    setting.get()
    for key in list(setting.store._nodes):
        setting.store.set(key, junk)
    assert setting.get().body == b"body"
    assert "hit" in setting.status()


def test_a_condition_on_a_body_over_the_limit_is_left_to_the_client() -> None:
    setting = Setting(FRESH, ("ETag", '"v1"'), max_body_size=3)
    body = setting.origin.body = Body(b"ab", b"cd", b"ef")
    answer = setting.get(HTTP_IF_NONE_MATCH='"v1"')
    assert (answer.status, answer.body, body.closed) == (200, b"abcdef", 1)


class Down(InMemoryCache):
    """A cache whose store stops answering."""

    down = False

    def _put_or_fail(self) -> None:
        if self.down:
            raise CacheUnavailableError("cache 'memory' does not answer: the test says so")

    def get(self, key: str, default: Any = None) -> Any:
        return default if self.down else super().get(key, default)

    def set(self, *args: Any, **options: Any) -> None:
        self._put_or_fail()
        super().set(*args, **options)

    def set_many(self, *args: Any, **options: Any) -> None:
        self._put_or_fail()
        super().set_many(*args, **options)

    def delete(self, key: str) -> bool:
        self._put_or_fail()
        return super().delete(key)


def test_a_cache_that_is_down_is_a_miss_and_an_invalidation_that_failed_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    setting = Setting(FRESH)
    down = Down(clock=setting.clock)
    cache = HTTPCache(setting.origin, down, clock=setting.clock)
    call(cache)
    down.down = True
    assert [call(cache).body for _ in range(2)] == [b"body"] * 2
    assert call(cache, "POST").body == b"body"
    assert "could not be invalidated" in caplog.text
    with pytest.raises(CacheUnavailableError):
        cache.purge("http://127.0.0.1/")


def test_what_is_purged_is_gone_in_this_process_even_while_the_shared_cache_is_down() -> None:
    setting = Setting(FRESH, ("Surrogate-Key", "users"))
    down = RedisCache(f"redis://127.0.0.1:{free_port()}/0")
    with MultiLevelCache(InMemoryCache(), down) as levels:
        cache = HTTPCache(setting.origin, levels, clock=setting.clock)
        purges: list[Callable[[], None]] = [
            lambda: cache.purge_tags("users"),
            lambda: cache.purge("http://127.0.0.1/"),
        ]
        for purge_it in purges:
            assert call(cache).header("Cache-Status") == "prologue; fwd=uri-miss; stored"
            assert call(cache).header("Cache-Status") == "prologue; hit; ttl=60"
            with pytest.raises(CacheUnavailableError):
                purge_it()
            setting.clock.now += 1


def test_a_store_that_fails_otherwise_breaks_no_response(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(InMemoryCache):
        def set(self, *args: Any, **options: Any) -> None:
            raise RuntimeError("a bug")

    setting = Setting(FRESH)
    cache = HTTPCache(setting.origin, Broken(), clock=setting.clock)
    assert [call(cache).body for _ in range(2)] == [b"body"] * 2
    assert "a response could not be stored" in caplog.text


def test_a_store_that_fails_while_it_is_cleared_keeps_answering(caplog: pytest.LogCaptureFixture) -> None:
    class Stuck(InMemoryCache):
        def delete(self, key: str) -> bool:
            raise CacheUnavailableError("stuck")

        def set(self, key: str, value: Any, ttl: Any = None, *, tags: Any = ()) -> None:
            if self.full:
                raise CacheUnavailableError("full")
            super().set(key, value, ttl, tags=tags)

        full = False

    setting = Setting(FRESH, ("ETag", '"v1"'))
    setting.origin.validates = True
    store = Stuck(clock=setting.clock)
    cache = HTTPCache(setting.origin, store, clock=setting.clock)
    call(cache)
    setting.clock.now += 100
    store.full = True
    assert call(cache).header("Cache-Status") == "prologue; fwd=stale; fwd-status=304"
    setting.origin.headers = [("Cache-Control", "private")]
    setting.origin.validates = False
    assert call(cache).body == b"body"
    assert caplog.text.count("a response cannot be stored") == 3


def test_a_204_is_kept_without_a_length() -> None:
    setting = Setting(FRESH, status="204 No Content", body=b"")

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        setting.origin.requests.append(environ)
        start_response("204 No Content", [FRESH])
        return []

    cache = HTTPCache(application, setting.store, clock=setting.clock)
    answers = [call(cache) for _ in range(2)]
    assert [(answer.status, answer.header("Content-Length")) for answer in answers] == [(204, None)] * 2
    assert setting.origin.calls == 1


@pytest.mark.parametrize("passed", [0, 100])
@pytest.mark.parametrize("more", [{}, {"HTTP_RANGE": "bytes=0-1"}, {"HTTP_RANGE": "x"}])
def test_a_response_whose_body_was_dropped_is_fetched_without_conditions(
    passed: float, more: dict[str, Any]
) -> None:
    setting = Setting(FRESH, ("ETag", '"v1"'))
    setting.origin.validates = True
    setting.get()
    setting.clock.now += passed
    setting.store.delete_many([key for key in setting.store._nodes if key.startswith("http-body:")])
    answer = setting.get(**more)
    assert answer.body in (b"body", b"bo")
    assert "HTTP_IF_NONE_MATCH" not in setting.origin.requests[1]
    assert "hit" in setting.status()


def test_a_body_that_is_dropped_while_it_is_validated_is_still_sent() -> None:
    setting = Setting(FRESH, ("ETag", '"v1"'))
    setting.get()
    setting.clock.now += 100

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        setting.store.clear()
        start_response("304 Not Modified", [FRESH, ("ETag", '"v1"')])
        return []

    setting.cache.application = application
    assert setting.get().body == b"body"


def test_a_validator_of_a_date_alone_makes_a_304_with_the_date() -> None:
    setting = Setting(FRESH, ("Last-Modified", format_date(5)))
    setting.get()
    answer = setting.get(HTTP_IF_MODIFIED_SINCE=format_date(6))
    assert (answer.status, answer.header("Last-Modified")) == (304, format_date(5))


def test_a_refresh_of_another_cache_gets_the_answer_of_the_application() -> None:
    setting = Setting(("Cache-Control", "max-age=60, stale-while-revalidate=60"))
    outer = HTTPCache(setting.cache, InMemoryCache(clock=setting.clock), clock=setting.clock)
    call(outer)
    setting.clock.now += 70
    call(outer)
    until(lambda: setting.origin.calls >= 2)
    outer.close()
    assert setting.origin.calls == 2
    assert "prologue; hit; ttl=60" in call(outer).all("Cache-Status")


@pytest.mark.parametrize("url", ["/teas", "teas", "//a.example/teas", "ftp://a.example/", "http:///a", ""])
def test_only_a_whole_address_can_be_purged(url: str) -> None:
    with pytest.raises(SettingsError, match="http://"):
        Setting().cache.purge("http://127.0.0.1/", url)


def test_a_length_of_thousands_of_digits_is_none() -> None:
    setting = Setting(FRESH, ("Content-Length", "9" * 5000))
    started = Started(setting.cache, environ_for())
    assert (started.status, b"".join(started.body)) == ("200 OK", b"body")


def test_what_was_stored_before_an_invalidation_does_not_come_back_with_a_later_response() -> None:
    class Slow(InMemoryCache):
        def delete_many(self, keys: Any) -> Any:
            # Another response is made and stored between the stamp and the deletion.
            setting.clock.now += 1
            call(cache, HTTP_X="new")
            return []

    setting = Setting(FRESH, ("Vary", "X"))
    cache = HTTPCache(setting.origin, Slow(clock=setting.clock), clock=setting.clock)
    call(cache, HTTP_X="old")
    setting.clock.now += 1
    cache.purge("http://127.0.0.1/")
    assert "hit" not in str(call(cache, "HEAD", HTTP_X="old").header("Cache-Status"))
