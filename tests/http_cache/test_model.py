"""The cache beside a plain, slow model of RFC 9111, and properties of every answer.

The model keeps every response as it was sent and reads it anew for every request, with a few lines of its own
for each rule of section 4. It says what *may* answer a request, and what is fresh and *must* (but for what
the cache has no room for).
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prologue.cache import InMemoryCache
from prologue.http_cache import HTTPCache
from prologue.http_cache.dates import format_date
from prologue.http_cache.fields import Headers
from tests.calling import Answer, call
from tests.http_cache.origins import Clock, Setting

Control = dict[str, int | None]


class Kept(NamedTuple):
    path: str
    asked: dict[str, str]
    headers: dict[str, str]
    body: bytes
    moment: float


def control_of(text: str) -> Control:
    found: Control = {}
    for word in filter(None, re.split(r"\s*,\s*", text.lower())):
        name, _, number = word.partition("=")
        found[name] = int(number) if number else None
    return found


class Model:
    """What RFC 9111 says of a shared cache, for the fields that the test sends."""

    def __init__(self) -> None:
        self.kept: list[Kept] = []

    def selected(self, path: str, asked: dict[str, str]) -> Kept | None:
        """Section 4.1: the latest whose nominated fields are the same."""
        return next((kept for kept in reversed(self.kept) if self.matches(kept, path, asked)), None)

    def matches(self, kept: Kept, path: str, asked: dict[str, str]) -> bool:
        names = [name.strip() for name in kept.headers.get("Vary", "").split(",") if name.strip()]
        return kept.path == path and all(kept.asked.get(name) == asked.get(name) for name in names)

    def store(self, new: Kept) -> None:
        """Keep a response in place of those that the same request would select."""
        self.kept = [kept for kept in self.kept if not self.matches(kept, new.path, new.asked)] + [new]

    def storable(self, asked: dict[str, str], headers: dict[str, str]) -> bool:
        """Section 3."""
        control = control_of(headers.get("Cache-Control", ""))
        if "no-store" in control or "private" in control or headers.get("Vary") == "*":
            return False
        if "no-store" in control_of(asked.get("Cache-Control", "")):
            return False
        return "Authorization" not in asked or bool(
            control.keys() & {"public", "s-maxage", "must-revalidate"}
        )

    def lifetime(self, kept: Kept) -> float:
        """Section 4.2.1 and 4.2.2."""
        control = control_of(kept.headers.get("Cache-Control", ""))
        for name in ("s-maxage", "max-age"):
            if name in control:
                return control[name] or 0
        if "X-Expires-In" in kept.headers:
            return float(kept.headers["X-Expires-In"])
        if "X-Modified-Ago" in kept.headers:
            return float(kept.headers["X-Modified-Ago"]) / 10
        return 0

    def useful(self, kept: Kept, now: float) -> bool:
        """A cache need not keep what can never be used any more."""
        control = control_of(kept.headers.get("Cache-Control", ""))
        if "no-cache" in control and "Last-Modified" not in kept.headers:
            return False
        later = (control.get("stale-while-revalidate") or 0) if "s-maxage" not in control else 0
        limit = self.lifetime(kept) + (600 if "Last-Modified" in kept.headers else later)
        return self.age(kept, now) < limit

    def age(self, kept: Kept, now: float) -> float:
        """Section 4.2.3, for responses that take no time."""
        return int(kept.headers.get("Age", "0")) + now - kept.moment

    def verdict(self, path: str, asked: dict[str, str], now: float) -> tuple[Kept | None, bool, bool]:
        """Section 4: what is selected, whether it may be used, and whether it is fresh and must be."""
        kept = self.selected(path, asked)
        return (None, False, False) if kept is None else (kept, *self.judge(kept, asked, now))

    def judge(self, kept: Kept, asked: dict[str, str], now: float) -> tuple[bool, bool]:
        control, wanted = (
            control_of(kept.headers.get("Cache-Control", "")),
            control_of(asked.get("Cache-Control", "")),
        )
        staleness = self.age(kept, now) - self.lifetime(kept)
        if "no-cache" in control or "no-cache" in wanted:
            return False, False
        if "max-age" in wanted and self.age(kept, now) > (wanted["max-age"] or 0):
            return False, False
        if "min-fresh" in wanted and -staleness < (wanted["min-fresh"] or 0):
            return False, False
        if staleness < 0:
            return True, True
        bound = bool(control.keys() & {"must-revalidate", "proxy-revalidate", "s-maxage"})
        permitted = wanted.get("max-stale", -1.0)
        swr = control.get("stale-while-revalidate")
        may = (permitted is None or staleness <= permitted) or (swr is not None and staleness <= swr)
        return may and not bound, False


RESPONSES = [
    "",
    "max-age=20",
    "s-maxage=10",
    "max-age=20, must-revalidate",
    "no-cache",
    "private",
    "no-store",
]
RESPONSES += [
    "public",
    "max-age=0",
    "max-age=10, stale-while-revalidate=20",
    "s-maxage=10, stale-while-revalidate=20",
]
RESPONSES += ["max-age=30, s-maxage=5", "max-age=20, public", "max-age=5, proxy-revalidate"]
REQUESTS = ["no-cache", "no-store", "max-age=0", "max-age=5", "min-fresh=10", "max-stale", "max-stale=5"]


@pytest.mark.parametrize("seed", [0, 1, 105, 113])
def test_the_cache_answers_as_the_model_allows(seed: int) -> None:
    chance = random.Random(f"model {seed}")
    clock, model, counter = Clock(), Model(), iter(range(10**9))
    sent: list[tuple[dict[str, str], bytes]] = []

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        headers = {
            "Cache-Control": chance.choice(RESPONSES),
            "Vary": chance.choice(["", "X", "X, Y", "Z", "*"]),
        }
        if chance.random() < 0.2:
            headers["Age"] = str(chance.randrange(8))
        if chance.random() < 0.2:
            headers["X-Expires-In"] = str(chance.randrange(30))
            headers["Expires"] = format_date(clock.now + int(headers["X-Expires-In"]))
        elif chance.random() < 0.2:
            headers["X-Modified-Ago"] = "150"
            headers["Last-Modified"] = format_date(clock.now - 150)
        headers = {name: value for name, value in headers.items() if value}
        body = str(next(counter)).encode()
        sent.append((headers, body))
        start_response("200 OK", [("Content-Type", "text/plain"), *headers.items()])
        return [body]

    cache = HTTPCache(application, InMemoryCache(clock=clock), profile="rfc9111", clock=clock)
    # A refresh in the background would make the order of events a matter of chance.
    cache.engine.refresher.close(0)
    hits = 0
    for _ in range(1500):
        clock.now += chance.choice([1, 1, 2, 5, 15])
        path = chance.choice(["/a", "/b", "/c"])
        asked = {name: chance.choice("12") for name in "XYZ" if chance.random() < 0.7}
        if chance.random() < 0.3:
            asked["Cache-Control"] = chance.choice(REQUESTS)
        if chance.random() < 0.1:
            asked["Authorization"] = "x"
        more: Any = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in asked.items()}
        if chance.random() < 0.03:
            call(cache, "POST", path, **more)
            sent.clear()
            model.kept = [kept for kept in model.kept if kept.path != path]
            clock.now += 1
            continue
        kept, may, must = model.verdict(path, asked, clock.now)
        answer: Answer = call(cache, path=path, **more)
        if not sent:
            hits += 1
            # What is selected may be gone, and an older response be selected then.
            while kept is not None and answer.body != kept.body and not model.useful(kept, clock.now):
                model.kept.remove(kept)
                kept, may, _ = model.verdict(path, asked, clock.now)
            assert may, (asked, kept)
            assert kept is not None
            assert answer.body == kept.body
            assert answer.header("Age") == str(int(model.age(kept, clock.now)))
            continue
        assert not must, (asked, kept, answer)
        headers, body = sent.pop()
        assert answer.body == body
        new = Kept(path, asked, headers, body, clock.now)
        if model.storable(asked, headers) and model.useful(new, clock.now):
            model.store(new)
        elif kept is not None and "no-store" not in control_of(asked.get("Cache-Control", "")):
            model.kept.remove(kept)
    assert hits > 150


VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12)
NAMES = st.sampled_from(
    ["X-A", "X-B", "Accept", "User-Agent", "Referer", "DNT", "Accept-Charset", "From", "X-Forwarded-For"]
)


@settings(deadline=None, max_examples=50)
@given(st.dictionaries(NAMES, VALUES, max_size=5))
def test_a_field_that_is_not_named_never_changes_the_answer(fields: dict[str, str]) -> None:
    setting = Setting(("Cache-Control", "max-age=60"), ("Vary", "Accept-Language"))
    setting.get(HTTP_ACCEPT_LANGUAGE="bg")
    more: Any = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in fields.items()}
    answer = setting.get(HTTP_ACCEPT_LANGUAGE="bg", **more)
    assert (answer.status, answer.body, setting.origin.calls) == (200, b"body", 1)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(0, 30), max_size=8))
def test_the_age_of_an_answer_grows_until_it_is_fetched_anew(steps: list[float]) -> None:
    setting = Setting(("Cache-Control", "max-age=60"))
    setting.get()
    last = 0
    for step in steps:
        setting.clock.now += step
        answer = setting.get()
        age = int(answer.header("Age") or 0)
        assert age < 60
        assert age >= last or "hit" not in str(answer.header("Cache-Status"))
        last = age


SECRET = b"the secret of somebody"
FORBIDDEN: list[Headers] = [
    [("Cache-Control", "no-store")],
    [("Cache-Control", "private")],
    [("Cache-Control", "max-age=60, Private")],
    [("Vary", "*")],
    [("Set-Cookie", "a=b"), ("Cache-Control", "public, max-age=60")],
    [("Vary", "Cookie"), ("Cache-Control", "public, max-age=60")],
    [("CDN-Cache-Control", "private"), ("Cache-Control", "public, max-age=60")],
]


@settings(deadline=None, max_examples=50)
@given(st.sampled_from(FORBIDDEN), st.booleans(), st.lists(st.sampled_from(["/", "/a"]), max_size=3))
def test_what_must_not_be_stored_never_reaches_the_bytes_of_the_store(
    headers: Headers, streamed: bool, paths: list[str]
) -> None:
    setting = Setting(*headers, ("X-Secret", SECRET.decode()), ttl=60)
    setting.origin.body = (chunk for chunk in [SECRET]) if streamed else SECRET
    for path in ["/", *paths]:
        setting.get(path)
    stored = [setting.store.get(key) for key in list(setting.store._nodes)]
    assert not any(SECRET in value for value in stored if isinstance(value, bytes))


@settings(deadline=None, max_examples=50)
@given(st.sampled_from(["", "max-age=5", "max-age=5, stale-if-error=9"]), st.integers(0, 30), st.booleans())
def test_the_cache_changes_no_answer_that_it_does_not_give(control: str, seconds: int, fails: bool) -> None:
    headers = [("Cache-Control", control)] if control else []
    setting = Setting(*headers, ("X-A", "1"))
    bare = call(setting.origin)
    passed = setting.get()
    own = [("Cache-Status", passed.header("Cache-Status"))]
    assert (passed.status, passed.body) == (bare.status, bare.body)
    assert passed.headers == [*bare.headers, *own]


def test_an_application_that_is_down_for_a_minute_is_not_missed() -> None:
    setting = Setting(("Cache-Control", "max-age=1, stale-if-error=120"))
    setting.get()
    setting.origin.error = OSError("down")
    for _ in range(60):
        setting.clock.now += 1
        answer = setting.get()
        assert (answer.status, answer.body) == (200, b"body")
        assert "fwd=stale; fwd-status=500" in str(answer.header("Cache-Status"))
