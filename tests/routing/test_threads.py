"""Lookups while states are made and routes are added: in threads, and at the moments that count."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from prologue.errors import DuplicatedRouteError
from prologue.routing import Converter, TrieRouter
from tests.concurrency import impatient_threads, together

OLD = ["/a/b", "/a/{x}", "/{x}/b", "/{x:int}/{y}", "/v{x}/{y:int}", "/f/{rest}$", "/{x}/{y}/{z}"]
EXPECTED = [
    ("/a/b", "/a/b", {}),
    ("/a/c", "/a/{x}", {"x": "c"}),
    ("/q/b", "/{x}/b", {"x": "q"}),
    ("/7/c", "/{x:int}/{y}", {"x": 7, "y": "c"}),
    ("/v1/2", "/v{x}/{y:int}", {"x": "1", "y": 2}),
    ("/f/1/2/3/4", "/f/{rest}$", {"rest": "1/2/3/4"}),
    ("/f" * 60, "/f/{rest}$", {"rest": "/".join(["f"] * 59)}),
    ("/x/y/z/", "/{x}/{y}/{z}", {"x": "x", "y": "y", "z": "z"}),
    ("/x", None, None),
    ("/", None, None),
]


def answer(router: TrieRouter, path: str, method: str = "GET") -> Any:
    match = router.find_route(method, path)
    return None if match is None else match.target


def check_all(router: TrieRouter) -> None:
    for path, target, params in EXPECTED:
        match = router.find_route("GET", path)
        assert (target, params) == ((None, None) if match is None else (match.target, match.params))


def router_of(patterns: list[str]) -> TrieRouter:
    router = TrieRouter()
    for pattern in patterns:
        router.add_route(pattern, pattern)
    return router


def test_threads_that_make_the_states_together_get_the_right_answers() -> None:
    with impatient_threads():
        for _ in range(8):
            router = router_of(OLD)
            together(8, lambda number, router=router: check_all(router))  # type: ignore[misc]


def test_lookups_are_right_while_routes_are_added() -> None:
    router = router_of(OLD)

    def work(number: int) -> None:
        if number:
            for _ in range(20):
                check_all(router)
            return
        for step in range(30):
            pattern = f"/new{step}/{{x}}" + "/{deep}" * (step % 2) + "/end" * step
            router.add_route(pattern, pattern, ["GET", f"METHOD{step}"])
            path = f"/new{step}/1" + "/2" * (step % 2) + "/end" * step
            assert answer(router, path) == pattern
            assert answer(router, path, f"METHOD{step}") == pattern
            assert f"METHOD{step}" in router.allowed_methods(path)

    with impatient_threads():
        together(8, work)

    check_all(router)
    assert len(router.routes) == len(OLD) + 30


def test_of_threads_that_add_one_shape_one_succeeds() -> None:
    router = TrieRouter()

    def add(number: int) -> bool:
        router.add_route(f"/own{number}/{{x:int}}", number)
        try:
            router.add_route(f"/a/{{x{number}:int}}", number)
        except DuplicatedRouteError:
            return False
        return True

    with impatient_threads():
        added = together(8, add)

    assert sum(added) == 1
    assert answer(router, "/a/1") == added.index(True)
    assert [answer(router, f"/own{number}/1") for number in range(8)] == list(range(8))
    assert router._nodes == 1 + 8 * 2 + 2


def test_lookups_are_right_while_states_start_over() -> None:
    letters = "abcdefghij"

    def having(letter: str) -> Callable[[str], str]:
        def parse(text: str) -> str:
            if letter not in text:
                raise ValueError(text)
            return text

        return parse

    router = TrieRouter([Converter(f"with_{letter}", having(letter)) for letter in letters])
    for letter in letters:
        router.add_route(f"/{{x:with_{letter}}}/{letter}", letter)

    def look_up(number: int) -> None:
        for step in range(200):
            chosen = [letter for place, letter in enumerate(letters) if (step * 37 + number) >> place & 1]
            if step % 50 == number:
                router._start_over()
            for letter in "aej":
                expected = letter if letter in chosen else None
                assert answer(router, f"/x{''.join(chosen)}/{letter}") == expected

    with impatient_threads():
        together(4, look_up)


# -- the moments that count, one by one -----------------------------------------------------------------


class Hooked(TrieRouter):
    """Calls a function once, in the middle of the next lookup, when the converter ``hook`` is asked."""

    def __init__(self) -> None:
        self.hook: Callable[[], object] | None = None
        super().__init__([Converter("hook", self.parse)])

    def parse(self, text: str) -> str:
        hook, self.hook = self.hook, None
        if hook is not None:
            hook()
        return text


@pytest.mark.parametrize("end", ["/end", "/{z}", "/*$"])
@pytest.mark.parametrize("depth", [21, 22, 23, 24, 30, 42])
def test_a_longer_pattern_that_is_added_during_a_lookup_of_a_long_path(depth: int, end: str) -> None:
    router = Hooked()
    router.add_route("/{x:hook}/*$", "old")
    deep = "/{x:hook}" + "/*" * (depth - 2) + end
    router.hook = lambda: router.add_route(deep, "deep")
    path = "/x" * 31
    after = "deep" if end == "/*$" and depth <= 31 else "old"

    assert answer(router, path) in ("old", after)

    assert router.hook is None
    assert answer(router, path) == after
    assert answer(router, "/x" * (depth - 1) + "/end") == "deep"


def test_a_literal_that_is_added_during_a_lookup_is_not_what_other_texts_lead_to() -> None:
    router = router_of(["/{x}", "/old"])
    state = router._start("GET", 1)

    router.add_route("/new", "/new")
    router._next_state(state, "new")

    assert state.other is not None
    assert state.other.route is not None
    assert state.other.route.target == "/{x}"
    assert answer(router, "/new") == "/new"


def test_a_converter_that_is_added_during_a_lookup_leaves_old_states_as_they_are() -> None:
    router = router_of(["/{x}", "/old"])
    state = router._start("GET", 1)

    router.add_route("/{x:int}", "/{x:int}")
    router._next_state(state, "7")

    assert state.other is not None
    assert state.other.route is not None
    assert state.other.route.target == "/{x}"
    assert answer(router, "/7") == "/{x:int}"


class Interrupted(TrieRouter):
    """Looks a path up whenever an attribute is set, as another thread might."""

    interrupt = ""
    method = "GET"
    busy = False

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)
        if name == self.interrupt and not self.busy:
            self.busy = True
            self.find_route(self.method, "/other")
            self.busy = False


@pytest.mark.parametrize("attribute", ["_starts", "_made", "_methods", "_depth", "_size"])
@pytest.mark.parametrize("method", ["GET", "NEW", ""])
@pytest.mark.parametrize("depth", [0, 40])
def test_a_lookup_at_any_moment_of_adding_a_route(attribute: str, method: str, depth: int) -> None:
    router = Interrupted()
    router.interrupt, router.method = attribute, method

    for _ in range(3):
        paths = [f"/a{len(router.routes) + number}" + "/x" * depth for number in range(2)]
        for path in paths:  # without another lookup between the two
            router.add_route(path, path, ["GET", "NEW"])
        for path in paths:
            assert answer(router, path, "GET") == answer(router, path, "NEW") == path
            assert answer(router, f"/b{path}") is None


def test_states_that_are_published_after_a_start_over_are_forgotten_when_a_route_is_added() -> None:
    class StartsOver(TrieRouter):
        def _make_state(self, *arguments: Any) -> Any:
            state = super()._make_state(*arguments)
            self._start_over()
            return state

    router = StartsOver()
    router.add_route("/{x}", "short")
    assert answer(router, "/a/b") is None

    router.add_route("/{x}/{y}", "long")

    assert answer(router, "/a/b") == "long"


def test_starting_over_keeps_the_tables_that_routes_are_added_to() -> None:
    router = router_of(["/a"])
    starts = router._starts
    assert answer(router, "/a") == "/a"

    router._start_over()

    assert router._starts is starts
    assert all(state is None for table in starts.values() for state in table)
