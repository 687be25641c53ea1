"""What is done with a request (RFC 9111 section 4)."""

from __future__ import annotations

from typing import Any

import pytest

from prologue.http_cache.decide import Action, decide, may_serve_on_error, why_bypass
from prologue.http_cache.profile import make_profile
from prologue.http_cache.stored import EMPTY, Variants
from tests.http_cache.messages import NOW, request, stored

RFC = make_profile("rfc9111")
SAFE = make_profile("safe", ttl=60)
SPELLING = "http example.com"


@pytest.mark.parametrize(
    ("environ", "rfc", "safe"),
    [
        (request(), "", ""),
        (request("HEAD"), "", ""),
        (request("POST"), "method", "method"),
        (request("OPTIONS"), "method", "method"),
        (request(content_length="0"), "", ""),
        (request(content_length=""), "", ""),
        (request(content_length="3"), "bypass", "bypass"),
        (request(transfer_encoding="chunked"), "bypass", "bypass"),
        (request(if_match='"a"'), "bypass", "bypass"),
        (request(if_unmodified_since="x"), "bypass", "bypass"),
        (request(x_http_method_override="DELETE"), "", "bypass"),
        (request(x_original_url="/admin"), "", "bypass"),
    ],
)
def test_some_requests_are_not_for_a_cache(environ: dict[str, Any], rfc: str, safe: str) -> None:
    assert (why_bypass(environ, RFC), why_bypass(environ, SAFE)) == (rfc, safe)


HIT, REFRESH, FETCH, REFUSE = Action.HIT, Action.REFRESH, Action.FETCH, Action.REFUSE
STALE = "max-age=60, stale-while-revalidate=30"


@pytest.mark.parametrize(
    ("control", "age", "asked", "rfc", "safe"),
    [
        ("max-age=60", 0, "", HIT, HIT),
        ("max-age=60", 59, "", HIT, HIT),
        ("max-age=60", 60, "", FETCH, FETCH),
        ("max-age=60", 61, "", FETCH, FETCH),
        ("no-cache, max-age=60", 0, "", FETCH, FETCH),
        ('no-cache="x", max-age=60', 0, "", HIT, HIT),
        (STALE, 60, "", REFRESH, REFRESH),
        (STALE, 90, "", REFRESH, REFRESH),
        (STALE, 91, "", FETCH, FETCH),
        (STALE + ", must-revalidate", 60, "", FETCH, FETCH),
        ("max-age=60", 0, "no-cache", FETCH, HIT),
        ("max-age=60", 10, "max-age=10", HIT, HIT),
        ("max-age=60", 11, "max-age=10", FETCH, HIT),
        ("max-age=60", 0, "max-age=0", HIT, HIT),
        ("max-age=60", 1, "max-age=0", FETCH, HIT),
        ("max-age=60", 50, "min-fresh=10", HIT, HIT),
        ("max-age=60", 51, "min-fresh=10", FETCH, HIT),
        (STALE, 61, "min-fresh=0", FETCH, REFRESH),
        ("max-age=60", 70, "max-stale", HIT, FETCH),
        ("max-age=60", 70, "max-stale=10", HIT, FETCH),
        ("max-age=60", 71, "max-stale=10", FETCH, FETCH),
        ("max-age=60, must-revalidate", 70, "max-stale", FETCH, FETCH),
        ("s-maxage=60", 70, "max-stale", FETCH, FETCH),
        ("max-age=60", 0, "only-if-cached", HIT, HIT),
        ("max-age=60", 70, "only-if-cached", REFUSE, REFUSE),
        (STALE, 70, "only-if-cached", REFRESH, REFRESH),
    ],
)
def test_freshness_and_the_request_decide(
    control: str, age: float, asked: str, rfc: Action, safe: Action
) -> None:
    environ = request(cache_control=asked) if asked else request()
    for profile, expected in ((RFC, rfc), (SAFE, safe)):
        kept = stored([("Cache-Control", control), ("ETag", '"a"')], profile, age=age)
        decision = decide(environ, Variants((kept,)), SPELLING, NOW, profile)
        assert decision.action is expected
        assert decision.stored is (None if expected is REFUSE else kept)


def test_pragma_counts_only_without_cache_control() -> None:
    kept = Variants((stored([("Cache-Control", "max-age=60")], RFC),))
    assert decide(request(pragma="No-Cache"), kept, SPELLING, NOW, RFC).action is FETCH
    assert decide(request(pragma="x"), kept, SPELLING, NOW, RFC).action is HIT
    assert (
        decide(request(pragma="no-cache", cache_control="max-age=5"), kept, SPELLING, NOW, RFC).action is HIT
    )


def test_nothing_stored_is_a_miss() -> None:
    assert decide(request(), EMPTY, SPELLING, NOW, SAFE) == (FETCH, None, 0, "uri-miss")
    assert decide(request(cache_control="only-if-cached"), EMPTY, SPELLING, NOW, SAFE).action is REFUSE


def test_the_variant_is_chosen_by_what_it_varies_on() -> None:
    bulgarian = stored([("Vary", "Accept-Language")], SAFE, request(accept_language="bg"))
    absent = stored([("Vary", "Accept-Language")], SAFE, request())
    both = Variants((bulgarian, absent))
    assert decide(request(accept_language="bg"), both, SPELLING, NOW, SAFE).stored is bulgarian
    assert decide(request(), both, SPELLING, NOW, SAFE).stored is absent
    assert decide(request(accept_language=""), both, SPELLING, NOW, SAFE).reason == "vary-miss"
    assert decide(request(), both, "https example.com", NOW, SAFE).reason == "vary-miss"


@pytest.mark.parametrize(
    ("control", "cookie", "authorized"),
    [
        ("max-age=60", FETCH, FETCH),
        ("max-age=60, must-revalidate", FETCH, HIT),
        ("max-age=60, public", HIT, HIT),
    ],
)
def test_credentials_get_from_a_careful_cache_what_is_meant_for_all(
    control: str, cookie: Action, authorized: Action
) -> None:
    for profile in (SAFE, RFC):
        variants = Variants((stored([("Cache-Control", control)], profile),))
        wanted = (
            {"cookie": cookie, "authorization": authorized}
            if profile is SAFE
            else {"cookie": HIT, "authorization": HIT}
        )
        for name, action in wanted.items():
            decision = decide(request(**{name: "a=b"}), variants, SPELLING, NOW, profile)
            assert (decision.action, decision.reason) == (action, "request" if action is FETCH else "")
    refused = decide(
        request(cookie="a=b", cache_control="only-if-cached"),
        Variants((stored([("Cache-Control", "max-age=60")], SAFE),)),
        SPELLING,
        NOW,
        SAFE,
    )
    assert refused.action is REFUSE


@pytest.mark.parametrize(
    ("control", "default", "age", "served"),
    [
        ("max-age=60, stale-if-error=10", 0, 70, True),
        ("max-age=60, stale-if-error=10", 0, 71, False),
        ("max-age=60", 10, 70, True),
        ("max-age=60", 10, 71, False),
        ("max-age=60, stale-if-error=0", 10, 61, False),
        ("max-age=60, stale-while-revalidate=10", 0, 70, True),
        ("max-age=60, must-revalidate, stale-if-error=10", 10, 61, False),
        ("s-maxage=60", 10, 61, False),
    ],
)
def test_a_failure_is_answered_for_within_its_limits(
    control: str, default: float, age: float, served: bool
) -> None:
    profile = make_profile("safe", stale_if_error=default)
    kept = stored([("Cache-Control", control), ("ETag", '"a"')], profile, age=age)
    assert may_serve_on_error(kept, kept.current_age(NOW)) is served


def test_age_grows_with_time_and_never_shrinks() -> None:
    kept = stored([("Age", "5"), ("Date", "Sun, 09 Sep 2001 01:46:40 GMT")], SAFE)
    assert [kept.current_age(NOW + passed) for passed in (-10, 0, 1, 2.5)] == [5, 5, 6, 7.5]
