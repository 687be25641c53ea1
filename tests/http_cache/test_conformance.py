"""RFC 9111: the rules that no other test shows on a whole cache, and the page that lists them all."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from prologue.http_cache.dates import format_date, parse_date
from tests.calling import Started, environ_for
from tests.http_cache.origins import Setting

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "guide" / "http_cache_conformance.rst"
FRESH = ("Cache-Control", "max-age=60")


def test_every_test_that_the_page_names_exists() -> None:
    named = re.findall(r"``(test_\w+\.py)::(test_\w+)``", PAGE.read_text(encoding="utf-8"))
    assert len(named) > 50
    for file, function in named:
        assert f"\ndef {function}(" in (HERE / file).read_text(encoding="utf-8"), (file, function)


def test_every_row_of_the_page_names_a_test() -> None:
    table = PAGE.read_text(encoding="utf-8").partition(".. list-table::")[2].partition("\nWhere")[0]
    rows = table.split("   * - ")[2:]
    assert len(rows) > 30
    assert [row for row in rows if "::test_" not in row] == []


def test_age_is_generated_in_place_of_the_one_that_was_received() -> None:
    setting = Setting(FRESH, ("Age", "10"), ("Date", format_date(1_000_000_000)))
    setting.get()
    setting.clock.now += 20
    answer = setting.get()
    assert (answer.all("Age"), answer.header("Cache-Status")) == (["30"], "prologue; hit; ttl=30")


def test_of_several_responses_that_suit_the_latest_answers() -> None:
    setting = Setting(FRESH, ("Vary", "A"), body=b"by A")
    setting.get(HTTP_A="1", HTTP_B="0")
    setting.clock.now += 1
    setting.origin.headers, setting.origin.body = [FRESH, ("Vary", "B")], b"by B"
    setting.get(HTTP_A="0", HTTP_B="1")
    assert setting.get(HTTP_A="1", HTTP_B="0").body == b"by A"
    assert setting.get(HTTP_A="1", HTTP_B="1").body == b"by B"
    assert setting.origin.calls == 2


@pytest.mark.parametrize("zone", ["UTC0", "EST5EDT", "XXX-14"])
def test_the_time_zone_of_the_machine_has_no_influence(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as changed:
        changed.setenv("TZ", zone)
        time.tzset()
        try:
            assert format_date(784_111_777) == "Sun, 06 Nov 1994 08:49:37 GMT"
            for text in (
                "Sun, 06 Nov 1994 08:49:37 GMT",
                "Sunday, 06-Nov-94 08:49:37 GMT",
                "Sun Nov  6 08:49:37 1994",
            ):
                assert parse_date(text) == 784_111_777
        finally:
            changed.undo()
            time.tzset()


@pytest.mark.parametrize("directive", ["must-revalidate", "proxy-revalidate", "no-cache", "s-maxage=60"])
def test_what_forbids_it_is_never_served_stale(directive: str) -> None:
    headers = ("Cache-Control", f"max-age=60, stale-while-revalidate=600, stale-if-error=600, {directive}")
    setting = Setting(headers, ("ETag", '"1"'), profile="rfc9111", stale_if_error=600)
    setting.get()
    setting.clock.now += 70
    setting.origin.headers = []
    setting.origin.status, setting.origin.body = "503 Service Unavailable", b"down"
    for more in ({}, {"HTTP_CACHE_CONTROL": "max-stale=1000"}):
        assert setting.get("/", **more).body == b"down"
    assert setting.origin.calls == 3


def test_what_nobody_allowed_is_never_served_stale() -> None:
    setting = Setting(FRESH, ("ETag", '"1"'))
    setting.get()
    setting.clock.now += 60
    setting.origin.status, setting.origin.body = "503 Service Unavailable", b"down"
    assert setting.get().body == b"down"


def test_directives_and_content_are_passed_on_as_they_are() -> None:
    value = 'Max-Age=60, no-transform, unknown="a, b", extension'
    setting = Setting(("Cache-Control", value), ("Content-Encoding", "gzip"), body=b"\x1f\x8b\x00")
    answers = [setting.get() for _ in range(2)]
    assert [answer.header("Cache-Control") for answer in answers] == [value] * 2
    assert [(answer.body, answer.header("Content-Encoding")) for answer in answers] == [
        (b"\x1f\x8b\x00", "gzip")
    ] * 2
    assert setting.origin.calls == 1
    setting.get(HTTP_CACHE_CONTROL="no-cache, unknown=1", HTTP_COOKIE="a=b")
    assert setting.origin.requests[1]["HTTP_CACHE_CONTROL"] == "no-cache, unknown=1"


def test_of_several_responses_that_suit_the_latest_by_its_date_answers() -> None:
    setting = Setting(FRESH, ("Vary", "A"), ("Date", format_date(1_000_000_000)), body=b"by A")
    setting.get(HTTP_A="1", HTTP_B="0")
    setting.clock.now += 1
    # It comes later, from another cache on the way, and is older.
    setting.origin.headers = [FRESH, ("Vary", "B"), ("Date", format_date(999_999_990))]
    setting.origin.body = b"by B"
    setting.get(HTTP_A="0", HTTP_B="1")
    assert setting.get(HTTP_A="1", HTTP_B="1").body == b"by A"
    assert setting.get(HTTP_A="0", HTTP_B="1").body == b"by B"
    assert setting.origin.calls == 2


def test_every_field_is_stored_and_other_caches_keep_their_word() -> None:
    setting = Setting(FRESH, ("Cache-Status", "origin; hit; ttl=9"), ("Server-Timing", "db;dur=5"))
    for own in ("prologue; fwd=uri-miss; stored", "prologue; hit; ttl=60"):
        answer = setting.get()
        assert answer.all("Cache-Status") == ["origin; hit; ttl=9", own]
        assert answer.header("Server-Timing") == "db;dur=5"


def test_a_304_updates_only_what_its_request_could_have_chosen() -> None:
    setting = Setting(FRESH, ("ETag", '"1"'), ("Vary", "X"), ("X-N", "1"))
    setting.origin.validates = True
    setting.get(HTTP_X="a")
    setting.get(HTTP_X="b")
    setting.clock.now += 70
    setting.origin.headers = [FRESH, ("ETag", '"1"'), ("Vary", "X"), ("X-N", "2")]
    assert setting.get(HTTP_X="a").header("X-N") == "2"
    assert setting.status(HTTP_X="b") == "prologue; fwd=stale; fwd-status=304"


def test_the_vary_of_a_304_counts_from_then_on() -> None:
    setting = Setting(FRESH, ("ETag", '"1"'))
    setting.origin.validates = True
    setting.get(HTTP_X="a")
    setting.clock.now += 70
    setting.origin.headers = [FRESH, ("ETag", '"1"'), ("Vary", "X")]
    assert setting.status(HTTP_X="a") == "prologue; fwd=stale; fwd-status=304"
    assert "hit" in setting.status(HTTP_X="a")
    assert setting.status(HTTP_X="b") == "prologue; fwd=vary-miss; stored"


def test_a_304_answers_with_its_own_fields_even_where_they_forbid_to_keep_it() -> None:
    setting = Setting(FRESH, ("ETag", '"1"'), ("X-N", "1"))
    setting.origin.validates = True
    setting.get()
    setting.clock.now += 70
    setting.origin.headers = [("Cache-Control", "private"), ("ETag", '"1"'), ("X-N", "2")]
    answer = setting.get()
    assert (answer.status, answer.body) == (200, b"body")
    assert (answer.header("Cache-Control"), answer.header("X-N")) == ("private", "2")
    assert "uri-miss" in setting.status()


@pytest.mark.parametrize("status", ["404 Not Found", "500 Oops", "304 Not Modified"])
def test_a_head_that_shows_no_version_changes_nothing(status: str) -> None:
    setting = Setting(FRESH, ("ETag", '"1"'))
    setting.origin.validates = True
    setting.get()
    setting.clock.now += 70
    setting.origin.status, setting.origin.headers = status, [("ETag", '"2"')]
    started = Started(setting.cache, environ_for("HEAD"))
    started.close()
    assert started.status == status
    setting.origin.status, setting.origin.headers = "200 OK", [FRESH, ("ETag", '"1"')]
    assert setting.status() == "prologue; fwd=stale; fwd-status=304"


def test_what_is_validated_every_time_and_cannot_be_is_not_stored() -> None:
    setting = Setting(("Cache-Control", "no-cache, max-age=60"), detail=True)
    assert "no validator" in setting.status()
    assert not list(setting.store._nodes)


def test_a_refusal_is_not_said_to_be_of_a_stored_response() -> None:
    answer = Setting(FRESH).get(HTTP_CACHE_CONTROL="only-if-cached")
    assert (answer.status, answer.header("Cache-Status")) == (504, None)


FIELDS = [
    ("ETag", '"1"'),
    ("Cache-Control", "max-age=60"),
    ("CDN-Cache-Control", "max-age=60"),
    ("Content-Location", "/en"),
    ("Date", format_date(1_000_000_000)),
    ("Expires", format_date(1_000_000_060)),
    ("Vary", "Accept-Language"),
]


def test_a_304_and_a_206_have_the_fields_that_a_200_would_have() -> None:
    setting = Setting(*FIELDS, ("Last-Modified", format_date(1)), body=b"0123456789")
    setting.get()
    unchanged, part = setting.get(HTTP_IF_NONE_MATCH='"1"'), setting.get(HTTP_RANGE="bytes=0-1")
    assert (unchanged.status, part.status) == (304, 206)
    for name, value in FIELDS:
        assert (unchanged.all(name), part.all(name)) == ([value], [value])
    # What does not help to choose stays away from a 304 (RFC 9110 section 15.4.5).
    assert {name for name, _ in unchanged.headers} - {name for name, _ in FIELDS} == {"Age", "Cache-Status"}
    parts = setting.get(HTTP_RANGE="bytes=0-1, 4-5")
    assert (parts.status, parts.header("Content-Range")) == (206, None)
    assert "multipart" not in str(part.header("Content-Type"))


@pytest.mark.parametrize("status", ["404 Not Found", "301 Moved Permanently", "503 Service Unavailable"])
def test_conditions_and_ranges_are_ignored_where_the_answer_is_no_success(status: str) -> None:
    setting = Setting(FRESH, ("ETag", '"1"'), status=status)
    setting.get()
    for more in ({"HTTP_IF_NONE_MATCH": '"1"'}, {"HTTP_RANGE": "bytes=0-1"}):
        answer = setting.get("/", **more)
        assert (answer.status, answer.body) == (int(status[:3]), b"body")
    assert setting.origin.calls == 1


def test_a_range_is_answered_for_get_only() -> None:
    setting = Setting(FRESH, ("ETag", '"1"'))
    setting.get()
    answer = setting.get(method="HEAD", HTTP_RANGE="bytes=0-1")
    assert (answer.status, answer.header("Content-Length"), answer.body) == (200, "4", b"")
    assert setting.origin.calls == 1


def test_if_range_counts_only_beside_range() -> None:
    setting = Setting(FRESH, ("ETag", '"1"'))
    setting.get()
    assert setting.get(HTTP_IF_RANGE='"2"').status == 200
    assert setting.origin.calls == 1


def test_groups_belong_to_one_origin() -> None:
    setting = Setting(FRESH, ("Cache-Groups", '"a"'))
    origins: list[dict[str, str]] = [{}, {"HTTP_HOST": "other.example"}]
    for more in origins:
        setting.get("/page", **more)
    setting.clock.now += 1
    setting.origin.headers = [("Cache-Group-Invalidation", '"a", "A"')]
    setting.get("/", method="POST", CONTENT_LENGTH="0")
    found = ["hit" in setting.status("/page", method="HEAD", **more) for more in origins]
    assert found == [False, True]
