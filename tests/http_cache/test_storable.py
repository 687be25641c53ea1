"""What may be stored (RFC 9111 section 3), and private data (the table of caches that leaked)."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from prologue.http_cache.fields import Headers
from prologue.http_cache.profile import make_profile
from prologue.http_cache.stored import Stored
from tests.http_cache.messages import NOW, request, stored, why_not

RFC = make_profile("rfc9111")
SAFE = make_profile("safe", ttl=60)


@pytest.mark.parametrize(
    ("environ", "status", "headers", "rfc", "safe"),
    [
        (request(), 200, [("Cache-Control", "max-age=60")], "", ""),
        (request(), 200, [], "", ""),
        (request("HEAD"), 200, [("Cache-Control", "max-age=60")], "GET", "GET"),
        (request("POST"), 200, [("Cache-Control", "max-age=60")], "GET", "GET"),
        (request(), 206, [("Cache-Control", "max-age=60")], "206", "206"),
        (request(), 304, [("Cache-Control", "max-age=60")], "304", "304"),
        (request(), 199, [("Cache-Control", "max-age=60")], "199", "199"),
        (request(), 204, [("Cache-Control", "max-age=60")], "", ""),
        (request(), 404, [("Cache-Control", "max-age=60")], "", ""),
        (request(), 404, [], "", "freshness"),
        (request(), 302, [("Expires", "0")], "", ""),
        (request(), 302, [], "freshness", "freshness"),
        (request(), 500, [], "freshness", "freshness"),
        (request(), 500, [("Cache-Control", "public")], "", "freshness"),
        (request(), 418, [("Cache-Control", "max-age=60")], "", ""),
        (request(), 418, [("Cache-Control", "max-age=60, must-understand")], "418", "418"),
        (request(), 200, [("Cache-Control", "no-store, must-understand, max-age=60")], "", ""),
        (request(), 200, [("Cache-Control", "no-store")], "no-store", "no-store"),
        (request(), 200, [("Cache-Control", "No-Store")], "no-store", "no-store"),
        (
            request(),
            200,
            [("Cache-Control", "max-age=60"), ("Cache-Control", "no-store")],
            "no-store",
            "no-store",
        ),
        (request(), 200, [("Cache-Control", "private")], "private", "private"),
        (request(), 200, [("Cache-Control", "Private, max-age=60")], "private", "private"),
        (request(), 200, [("Cache-Control", 'private="Set-Cookie", max-age=60')], "", ""),
        (request(cache_control="no-store"), 200, [("Cache-Control", "max-age=60")], "request", "request"),
        (request(), 200, [("Cache-Control", "no-store"), ("CDN-Cache-Control", "max-age=60")], "", ""),
        (request(), 200, [("Vary", "*")], "Vary", "Vary"),
        (request(), 200, [("Vary", "Accept"), ("Cache-Control", "max-age=60")], "", ""),
        (request(), 200, [("Vary", "Cookie"), ("Cache-Control", "max-age=60")], "", "Cookie"),
        (request(), 200, [("Vary", "authorization"), ("Cache-Control", "max-age=60")], "", "Authorization"),
        (request(), 200, [("Set-Cookie", "a=b"), ("Cache-Control", "public, max-age=60")], "", "Set-Cookie"),
        (request(cookie="a=b"), 200, [("Cache-Control", "max-age=60")], "", "cookies"),
        (request(cookie="a=b"), 200, [("Cache-Control", "public, max-age=60")], "", ""),
        (request(cookie="a=b"), 200, [("Cache-Control", "s-maxage=60")], "", ""),
        (
            request(authorization="x"),
            200,
            [("Cache-Control", "max-age=60")],
            "Authorization",
            "Authorization",
        ),
        (request(authorization="x"), 200, [], "Authorization", "Authorization"),
        (request(authorization="x"), 200, [("Cache-Control", "max-age=60, public")], "", ""),
        (request(authorization="x"), 200, [("Cache-Control", "max-age=60, must-revalidate")], "", ""),
        (request(authorization="x"), 200, [("Cache-Control", "s-maxage=60")], "", ""),
        (request(authorization=""), 200, [("Cache-Control", "max-age=60")], "Authorization", "Authorization"),
    ],
)
def test_what_may_be_stored(
    environ: dict[str, Any], status: int, headers: Headers, rfc: str, safe: str
) -> None:
    for profile, expected in ((RFC, rfc), (SAFE, safe)):
        reason = why_not(environ, status, headers, profile)
        assert bool(reason) == bool(expected)
        assert expected in reason


def test_the_statuses_that_may_be_given_a_life() -> None:
    """RFC 9110 section 15.1, but for 206."""
    heuristic = [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501]
    headers = [("Last-Modified", "Thu, 01 Jan 1970 00:00:00 GMT")]
    storable = [status for status in range(200, 600) if not why_not(request(), status, headers, RFC)]
    assert storable == heuristic


def test_the_statuses_whose_rules_are_known() -> None:
    """Section 5.2.2.3: must-understand stands above no-store where the status is understood."""
    redirections = [300, 301, 302, 303, 307, 308]
    of_clients = [400, 401, 403, 404, 405, 406, 409, 410, 411, 414, 415, 422, 429, 451]
    understood = [200, 203, 204, *redirections, *of_clients, 500, 501, 502, 503, 504]
    headers = [("Cache-Control", "max-age=60, must-understand, no-store")]
    storable = [status for status in range(200, 600) if not why_not(request(), status, headers, RFC)]
    assert storable == understood


def test_a_response_for_which_session_or_cookies_were_looked_at_is_not_stored() -> None:
    assert "session" in why_not(
        request(), 200, [("Cache-Control", "public, max-age=60")], SAFE, personal=True
    )


def test_the_safe_profile_without_a_life_of_its_own_stores_what_states_one() -> None:
    bare = make_profile("safe")
    assert why_not(request(), 200, [], bare)
    assert not why_not(request(), 200, [("Cache-Control", "max-age=1")], bare)


def test_cookies_that_no_response_depends_on_do_not_count() -> None:
    profile = make_profile("safe", ttl=60, ignored_cookies=["_ga", "_gid"])
    assert not why_not(request(cookie="_ga=1; _gid=2"), 200, [], profile)
    assert why_not(request(cookie="_ga=1; session=2"), 200, [], profile)
    assert why_not(request(cookie=""), 200, [], profile)


VARIES: list[Headers] = [
    [],
    [("Vary", "*")],
    [("Vary", " *")],
    [("Vary", "*, a")],
    [("Vary", "a, *")],
    [("Vary", "Accept"), ("Vary", "*")],
    [("Vary", "Accept")],
    [("Vary", "Cookie")],
]
CONTROLS = ["", "max-age=60", "private, max-age=60", "Private", "no-store", 'no-cache="x", max-age=60']
CONTROLS += [
    "must-revalidate, max-age=60",
    "public, max-age=60",
    "s-maxage=60",
    "PUBLIC , Max-Age=60",
    "no-cache",
]


@pytest.mark.parametrize(
    "credentials", [{}, {"authorization": "Basic eA=="}, {"cookie": "s=1"}, {"cookie": "unrelated=1"}]
)
@pytest.mark.parametrize("cookie", [False, True])
def test_private_data_is_stored_only_where_the_rfc_allows(credentials: dict[str, str], cookie: bool) -> None:
    for vary, control in itertools.product(VARIES, CONTROLS):
        headers = [*vary, ("ETag", '"a"'), *([("Cache-Control", control)] if control else [])]
        headers += [("Set-Cookie", "s=1")] if cookie else []
        names = {name.strip().lower() for _, value in vary for name in value.split(",")}
        words = {word.partition("=")[0].strip().lower() for word in control.split(",")}
        allowed = bool(words & {"public", "s-maxage", "must-revalidate"})
        rfc = (
            "*" not in names
            and not words & {"private", "no-store"}
            and (allowed or "authorization" not in credentials)
        )
        safe = rfc and not cookie and "cookie" not in names
        safe = safe and (bool(words & {"public", "s-maxage"}) or "cookie" not in credentials)
        environ = request(**credentials)
        assert (not why_not(environ, 200, headers, RFC)) is rfc, (vary, control)
        assert (not why_not(environ, 200, headers, SAFE)) is safe, (vary, control)


def test_fields_of_one_hop_and_of_one_client_are_not_stored() -> None:
    headers = [
        ("Connection", "X-Hop, close"),
        ("X-Hop", "1"),
        ("Keep-Alive", "1"),
        ("Transfer-Encoding", "chunked"),
        ("Content-Length", "4"),
        ("Age", "1"),
        ("Date", "Sun, 09 Sep 2001 01:46:40 GMT"),
        ("Cache-Status", "other; hit"),
        ("Prologue-Cache-Control", ""),
        ("X-Mine", "1"),
        ("Cache-Control", 'private="X-Mine", no-cache="X-Yours"'),
        ("X-Yours", "1"),
        ("X-All", "1"),
        ("X-All", "2"),
    ]
    kept = stored(headers, SAFE)
    assert [name for name, _ in kept.headers] == ["Cache-Status", "Cache-Control", "X-All", "X-All"]
    assert kept.date == "Sun, 09 Sep 2001 01:46:40 GMT"


@pytest.mark.parametrize(
    ("control", "rfc", "safe"),
    [
        ("max-age=9, stale-while-revalidate=5, stale-if-error=6", (5, 6, False), (5, 6, False)),
        ("max-age=9", (0, 0, False), (0, 0, False)),
        ("max-age=9, must-revalidate, stale-if-error=6", (0, 0, True), (0, 0, True)),
        ("max-age=9, proxy-revalidate, stale-if-error=6", (0, 0, True), (0, 0, True)),
        ("s-maxage=9", (0, 0, True), (0, 0, True)),
        ("s-maxage=9, stale-while-revalidate=5", (0, 0, True), (5, 0, False)),
        ("s-maxage=9, stale-if-error=6", (0, 0, True), (0, 6, False)),
        ("no-cache, stale-if-error=6", (0, 0, True), (0, 0, True)),
    ],
)
def test_staleness_is_limited_by_what_forbids_it(
    control: str, rfc: tuple[float, float, bool], safe: tuple[float, float, bool]
) -> None:
    def limits(kept: Stored) -> tuple[float, float, bool]:
        return kept.stale_while_revalidate, kept.stale_if_error, kept.never_stale

    headers = [("Cache-Control", control), ("ETag", '"a"')]
    assert limits(stored(headers, RFC)) == rfc
    assert limits(stored(headers, SAFE)) == safe


def test_a_response_that_could_never_be_used_is_not_worth_storing() -> None:
    with pytest.raises(AssertionError):
        stored([("Cache-Control", "max-age=0")], SAFE)
    assert stored([("Cache-Control", "max-age=0"), ("ETag", '"a"')], SAFE).useful(NOW) == 600
    assert stored([("Cache-Control", "max-age=0, stale-while-revalidate=3")], SAFE).useful(NOW) == 3


def test_tags_come_from_groups_and_surrogate_keys() -> None:
    headers = [("Cache-Groups", '"a", "b"'), ("Surrogate-Key", "x y"), ("Surrogate-Key", "x")]
    assert stored(headers, SAFE).tags == (
        "group:http:11:example.coma",
        "group:http:11:example.comb",
        "x",
        "y",
    )
