"""The short way to a hit: it is taken only where it makes no difference."""

from __future__ import annotations

from typing import Any

import pytest

from prologue.http_cache.key import target_of
from prologue.http_cache.plain import is_plain, plain_hit
from prologue.http_cache.profile import make_profile
from prologue.http_cache.stored import EMPTY, Variants
from tests.http_cache.messages import NOW, request, stored

SAFE = make_profile("safe", ttl=60)

NOT_PLAIN = (
    "authorization",
    "cache_control",
    "cookie",
    "forwarded",
    "if_match",
    "if_modified_since",
    "if_none_match",
    "if_unmodified_since",
    "pragma",
    "range",
    "transfer_encoding",
    "x_forwarded_host",
    "x_http_method_override",
    "x_original_url",
)


@pytest.mark.parametrize(
    ("environ", "plain"),
    [
        (request(), True),
        (request(accept_language="bg", user_agent="any"), True),
        (request() | {"CONTENT_LENGTH": ""}, True),
        (request() | {"CONTENT_LENGTH": "0"}, True),
        (request() | {"CONTENT_LENGTH": "1"}, False),
        (request("HEAD"), False),
        (request("POST"), False),
        (request() | {"prologue.http_cache.refresh": object()}, False),
        *((request("GET", "/", **{name: "x"}), False) for name in NOT_PLAIN),
    ],
)
def test_only_a_get_that_asks_for_nothing_special_is_plain(environ: dict[str, Any], plain: bool) -> None:
    assert is_plain(environ) is plain


def hit(variants: Variants, body: bytes | None = b"body") -> bool:
    environ = request()
    return plain_hit(environ, target_of(environ, True), variants, NOW, "x; ttl=", lambda _: body) is not None


@pytest.mark.parametrize(("age", "fresh"), [(0, True), (59.9, True), (60, False), (61, False)])
def test_a_response_is_a_hit_until_its_life_ends(age: float, fresh: bool) -> None:
    assert hit(Variants((stored([("ETag", '"1"')], SAFE, age=age),))) is fresh


def test_what_is_not_there_or_validated_or_no_200_or_dropped_is_no_plain_hit() -> None:
    validated = stored([("Cache-Control", "no-cache, max-age=60"), ("ETag", '"1"')], SAFE)
    missing = stored([("Cache-Control", "max-age=60")], SAFE, status=404)
    usual = stored([], SAFE)
    assert not hit(EMPTY)
    assert not hit(Variants((validated,)))
    assert not hit(Variants((missing,)))
    assert not hit(Variants((usual,)), None)
    assert hit(Variants((usual,)), b"")
