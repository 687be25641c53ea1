"""Long runs of the HTTP cache: keys, privacy, the model.

python -m pytest tests/stress/stress_http_cache.py
"""

from __future__ import annotations

import random

import pytest

from prologue.http_cache.key import target_of
from tests.http_cache import test_model, test_privacy


def test_a_million_pairs_of_requests_do_not_collide() -> None:
    chance = random.Random("keys")
    alphabet = "ab/?#:;%=&.\n 0é"

    def part(most: int) -> str:
        return "".join(chance.choices(alphabet, k=chance.randrange(most)))

    def request() -> tuple[str, ...]:
        return chance.choice(("http", "https")), part(6) or "x", part(3), part(6), part(6), part(4)

    def target(request: tuple[str, ...]) -> object:
        names = (
            "wsgi.url_scheme",
            "HTTP_HOST",
            "SCRIPT_NAME",
            "PATH_INFO",
            "QUERY_STRING",
            "HTTP_X_FORWARDED_HOST",
        )
        return target_of(dict(zip(names, request, strict=True)), careful=True)

    for _ in range(1_000_000):
        one = request()
        if chance.random() < 0.5:
            other = request()
        else:
            # What is near: a character moved from one part to the next.
            index = chance.randrange(1, 5)
            parts = list(one)
            parts[index + 1] = parts[index][-1:] + parts[index + 1]
            parts[index] = parts[index][:-1] or ("x" if index == 1 else "")
            other = tuple(parts)
        # Where the application is mounted is no part of the URL.
        same = (*one[:2], one[2] + one[3], *one[4:]) == (*other[:2], other[2] + other[3], *other[4:])
        assert (target(one) == target(other)) is same, (one, other)


@pytest.mark.parametrize("position", ["outer", "inner", "around"])
def test_a_hundred_thousand_requests_of_four_principals(position: str) -> None:
    for number in range(10):
        test_privacy.check(position, f"stress {number}", 10_000)


@pytest.mark.parametrize("seed", range(100, 160))
def test_the_model_agrees(seed: int) -> None:
    test_model.test_the_cache_answers_as_the_model_allows(seed)
