"""The numbered rules of the package, each with a table."""

from __future__ import annotations

import itertools
from typing import Any
from uuid import UUID

import pytest

from prologue.errors import DuplicatedRouteError
from prologue.routing import Converter, TrieRouter

UUID_TEXT = "01234567-89ab-cdef-0123-456789abcdef"

Answer = tuple[str, dict[str, Any]] | None


def router_of(*patterns: str) -> TrieRouter:
    router = TrieRouter([Converter("letters", letters), Converter("any", str), Converter("zeros", zeros)])
    for pattern in patterns:
        router.add_route(pattern, pattern)
    return router


def letters(text: str) -> str:
    if not text.isalpha():
        raise ValueError(text)
    return text


def zeros(text: str) -> int:
    if text.strip("0"):
        raise ValueError(text)
    return len(text)


def answer(router: TrieRouter, path: str, method: str = "GET") -> Answer:
    match = router.find_route(method, path)
    return None if match is None else (match.target, match.params)


# -- rule 1: empty segments are skipped -----------------------------------------------------------------


@pytest.mark.parametrize("path", ["/a/b", "/a/b/", "//a/b", "/a//b", "///a///b///", "a/b", "a//b/"])
@pytest.mark.parametrize("pattern", ["/a/b", "a/b", "/a/b/", "//a//b"])
def test_empty_segments_are_skipped_in_patterns_and_paths(pattern: str, path: str) -> None:
    assert answer(router_of(pattern), path) == (pattern, {})


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/a/", ("/a", {})),
        ("//a", ("/a", {})),
        ("/a//", ("/a", {})),
        ("/b/", ("/{x}", {"x": "b"})),
        ("//b", ("/{x}", {"x": "b"})),
        ("b", ("/{x}", {"x": "b"})),
        ("/b//c", ("/{x}/{y}", {"x": "b", "y": "c"})),
        ("/b/c/", ("/{x}/{y}", {"x": "b", "y": "c"})),
        ("//b//c//", ("/{x}/{y}", {"x": "b", "y": "c"})),
        ("/a//7/", ("/a/{n:int}", {"n": 7})),
        ("/b//7", ("/{x}/{y}", {"x": "b", "y": "7"})),
        ("/b//c/d", ("/{x}/{y}/*", {"x": "b", "y": "c"})),
        ("/b/c//d/", ("/{x}/{y}/*", {"x": "b", "y": "c"})),
        ("/p//q/r/s//t/", ("/{x}/{rest}$", {"x": "p", "rest": "q/r/s/t"})),
        ("//p/q/r/s", ("/{x}/{rest}$", {"x": "p", "rest": "q/r/s"})),
        ("/p/q/r/s//", ("/{x}/{rest}$", {"x": "p", "rest": "q/r/s"})),
        ("", ("/", {})),
        ("/", ("/", {})),
        ("//", ("/", {})),
        ("/////", ("/", {})),
        ("/" * 30, ("/", {})),
    ],
)
def test_an_empty_segment_is_no_value(path: str, expected: Answer) -> None:
    router = router_of("/", "/a", "/{x}", "/a/{n:int}", "/{x}/{y}", "/{x}/{y}/*", "/{x}/{rest}$")

    assert answer(router, path) == expected
    assert answer(router, path) == expected  # by the states of the first lookup


@pytest.mark.parametrize("pattern", ["/{x}", "/*", "/{x}$", "/*$", "/{x:int}", "/{x:any}", "/a{x}"])
def test_the_root_is_not_a_segment(pattern: str) -> None:
    router = router_of(pattern)

    assert [answer(router, path) for path in ("/", "", "//", "/" * 40)] == [None] * 4


@pytest.mark.parametrize("pattern", ["/{x:word}", "/a{x:word}", "/a/{x:word}/{y}"])
@pytest.mark.parametrize("path", ["/", "//", "/a", "/a/", "//b", "/a//", "/a//b", "/a//b/", "/" * 30])
def test_no_converter_is_asked_about_an_empty_text(pattern: str, path: str) -> None:
    router = TrieRouter()
    router.register_converter("word", lambda text: text[0] + text[1:])  # an IndexError where it is empty
    router.add_route(pattern, 0)
    router.add_route("/*$", "rest")

    assert [answer(router, path) is None for _ in range(2)] == [path.strip("/") == ""] * 2


def test_the_root_alone_answers_the_root_alone() -> None:
    router = router_of("/")

    assert answer(router, "/") == answer(router, "") == ("/", {})
    assert answer(router, "/a") is None


# -- rule 2: the order within a segment -----------------------------------------------------------------

BEST_FIRST = [
    ("/42", {}),
    ("/{x:int}", {"x": 42}),
    ("/4{x}", {"x": "2"}),
    ("/{x}", {"x": "42"}),
    ("/*", {}),
    ("/{x}$", {"x": "42"}),
]


@pytest.mark.parametrize("size", [1, 2, 3])
def test_static_typed_affixed_parameter_wildcard_greedy(size: int) -> None:
    for routes in itertools.combinations(BEST_FIRST, size):
        router = router_of(*(pattern for pattern, _ in reversed(routes)))

        assert answer(router, "/42") == routes[0]


@pytest.mark.parametrize("better", [pattern for pattern, _ in BEST_FIRST[:5]])
def test_what_takes_the_rest_is_last_and_takes_it(better: str) -> None:
    router = router_of("/*$", better)

    assert answer(router, "/42") is not None
    assert answer(router, "/42/43") == ("/*$", {})
    assert answer(router, "/42") != ("/*$", {})


@pytest.mark.parametrize("pattern", ["/{rest}$", "/{rest:path}", "/{rest:path}$"])
def test_the_three_ways_to_write_a_rest(pattern: str) -> None:
    router = router_of(f"/a{pattern}")

    assert answer(router, "/a/b/c.d") == (f"/a{pattern}", {"rest": "b/c.d"})
    assert answer(router, "/a") is None


# -- rule 3: the first segment that differs decides -----------------------------------------------------


@pytest.mark.parametrize(
    ("routes", "path", "expected"),
    [
        (["/a/{y}", "/{x}/b"], "/a/b", ("/a/{y}", {"y": "b"})),
        (["/a/*$", "/{x}/b"], "/a/b", ("/a/*$", {})),
        (["/a/{y}$", "/{x}/b/c/d"], "/a/b/c/d", ("/a/{y}$", {"y": "b/c/d"})),
        (["/{x:int}/*$", "/{x}/2"], "/1/2", ("/{x:int}/*$", {"x": 1})),
        (["/{x}/{y}", "/*/b"], "/a/b", ("/{x}/{y}", {"x": "a", "y": "b"})),
        (["/*/{y}", "/*$"], "/a/b", ("/*/{y}", {"y": "b"})),
        (["/v{x}/{y}", "/{x}/{y:int}"], "/v1/2", ("/v{x}/{y}", {"x": "1", "y": "2"})),
        (["/{x}/b/{z}", "/{x}/{y}/c"], "/a/b/c", ("/{x}/b/{z}", {"x": "a", "z": "c"})),
    ],
)
def test_the_first_difference_decides(routes: list[str], path: str, expected: Answer) -> None:
    for order in itertools.permutations(routes):
        assert answer(router_of(*order), path) == expected


# -- rule 4: among typed, among affixed -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("routes", "path", "expected"),
    [
        (["{x:uuid}", "{x:any}"], UUID_TEXT, ("{x:uuid}", {"x": UUID(UUID_TEXT)})),
        (["{x:int}", "{x:float}", "{x:any}"], "1", ("{x:int}", {"x": 1})),
        (["{x:int}", "{x:float}", "{x:any}"], "1.5", ("{x:float}", {"x": 1.5})),
        (["{x:any}", "{x:letters}"], "a", ("{x:any}", {"x": "a"})),
        (["{x:letters}", "{x:zeros}"], "000", ("{x:zeros}", {"x": 3})),
        (["{x:int}", "{x:zeros}"], "000", ("{x:int}", {"x": 0})),
        (["ab{x}", "a{x}"], "abc", ("ab{x}", {"x": "c"})),
        (["{x}bc", "{x}c"], "abc", ("{x}bc", {"x": "a"})),
        (["{x}bc", "a{x}"], "abc", ("{x}bc", {"x": "a"})),
        (["a{x}", "{x}c"], "abc", ("a{x}", {"x": "bc"})),
        (["ab{x}", "{x}cd", "a{x}d"], "abxcd", ("ab{x}", {"x": "xcd"})),
        (["a{x}d", "{x}cd"], "abcd", ("a{x}d", {"x": "bc"})),
        (["a{x:int}", "a{x}"], "a1", ("a{x:int}", {"x": 1})),
        (["a{x:int}", "a{x}"], "ab", ("a{x}", {"x": "b"})),
        (["a{x:int}", "a{x:any}"], "a1", ("a{x:int}", {"x": 1})),
        (["{x}-{y:int}", "{x}-{y}"], "a-1", ("{x}-{y:int}", {"x": "a", "y": 1})),
        (["{x}--{y}", "{x}-{y}", "a{x}"], "a--b", ("{x}--{y}", {"x": "a", "y": "b"})),
        (["{x}--{y}", "{x}-{y}", "a{x}"], "a-b", ("a{x}", {"x": "-b"})),
        (["{x}+{y}", "{x}-{y}"], "a-b+c-d", ("{x}+{y}", {"x": "a-b", "y": "c-d"})),
    ],
)
def test_the_order_among_conditional_segments(routes: list[str], path: str, expected: Answer) -> None:
    for order in itertools.permutations(routes):
        assert answer(router_of(*order), path) == expected


# -- rule 5: every possibility is considered ------------------------------------------------------------


@pytest.mark.parametrize(
    ("routes", "path", "expected"),
    [
        (["/a/b", "/{x}/c"], "/a/c", ("/{x}/c", {"x": "a"})),
        (["/a/b/c", "/a/{y}/d", "/{x}/b/e"], "/a/b/e", ("/{x}/b/e", {"x": "a"})),
        (["/a/b/c", "/{x}$"], "/a/b/d", ("/{x}$", {"x": "a/b/d"})),
        (["/{x:int}/b", "/{x}/c"], "/1/c", ("/{x}/c", {"x": "1"})),
        (["/1/b", "/{x:int}/c", "/{x}/d"], "/1/c", ("/{x:int}/c", {"x": 1})),
        (["/1/b", "/{x:int}/c", "/{x}/d"], "/1/d", ("/{x}/d", {"x": "1"})),
        (["/1/b", "/1{x}/c", "/{x:int}/d", "/*/e"], "/12/d", ("/{x:int}/d", {"x": 12})),
        (["/1/b", "/1{x}/c", "/{x:int}/d", "/*/e"], "/12/e", ("/*/e", {})),
        (["/img-{x}/a", "/{x}-1/b"], "/img-1/b", ("/{x}-1/b", {"x": "img"})),
        (["/a/{x}$", "/{x}/b$"], "/a/b$", ("/a/{x}$", {"x": "b$"})),
        (["/a/*/c/d", "/a/{x}$"], "/a/b/c", ("/a/{x}$", {"x": "b/c"})),
        (["/{x:int}.html", "/{x}"], "/a.html", ("/{x}", {"x": "a.html"})),
        (["/a/b", "/{x}/c"], "/a/d", None),
        (["/a/b"], "/a", None),
        (["/a/b"], "/a/b/c", None),
        (["/a"], "/A", None),
        (["/{x:int}"], "/a", None),
        (["/a-{x}-b"], "/a-b", None),
    ],
)
def test_no_choice_is_final(routes: list[str], path: str, expected: Answer) -> None:
    for order in itertools.permutations(routes):
        router = router_of(*order)
        assert answer(router, path) == expected
        assert answer(router, path) == expected


def test_the_method_is_part_of_the_match() -> None:
    router = TrieRouter()
    router.add_route("/a/b", "static", ["POST"])
    router.add_route("/a/{y}", "parameter", ["PUT"])
    router.add_route("/{x}/b", "other", ["GET", "DELETE"])
    router.add_route("/*$", "rest", ["PATCH"])

    assert answer(router, "/a/b", "POST") == ("static", {})
    assert answer(router, "/a/b", "PUT") == ("parameter", {"y": "b"})
    assert answer(router, "/a/b", "GET") == ("other", {"x": "a"})
    assert answer(router, "/a/b", "DELETE") == ("other", {"x": "a"})
    assert answer(router, "/a/b", "PATCH") == ("rest", {})
    assert answer(router, "/a/b", "TRACE") is None
    assert answer(router, "/a/b", "get") is None
    assert answer(router, "/a/b", "") is None


def test_a_literal_that_a_converter_accepts_too_leads_both_ways() -> None:
    router = router_of("/1/a", "/{x:int}/b", "/1{x}/c", "/12/d")

    for _ in range(2):
        assert answer(router, "/1/a") == ("/1/a", {})
        assert answer(router, "/1/b") == ("/{x:int}/b", {"x": 1})
        assert answer(router, "/1/c") is None
        assert answer(router, "/12/b") == ("/{x:int}/b", {"x": 12})
        assert answer(router, "/12/c") == ("/1{x}/c", {"x": "2"})
        assert answer(router, "/12/d") == ("/12/d", {})
        assert answer(router, "/2/c") is None
        assert answer(router, "/2/b") == ("/{x:int}/b", {"x": 2})


def test_a_deeper_route_counts_though_lookups_have_begun() -> None:
    router = router_of("/a", "/{x}/*$")
    deep = "/a" * 40
    assert answer(router, "/a") == ("/a", {})
    assert answer(router, deep) == ("/{x}/*$", {"x": "a"})

    router.add_route(deep, "deep")

    assert answer(router, deep) == ("deep", {})
    assert answer(router, deep + "/a") == ("/{x}/*$", {"x": "a"})
    assert answer(router, "/a" * 39) == ("/{x}/*$", {"x": "a"})
    assert answer(router, "/a" * 100) == ("/{x}/*$", {"x": "a"})
    assert answer(router, "/a") == ("/a", {})


@pytest.mark.parametrize("depth", [1, 2, 21, 22, 23, 24, 25, 40])
def test_paths_longer_than_every_pattern(depth: int) -> None:
    deepest = "/a" * depth
    router = router_of(deepest, "/{x}/*$")

    for length in range(1, depth + 30):
        greedy = ("/{x}/*$", {"x": "a"}) if length > 1 else None
        assert answer(router, "/a" * length) == ((deepest, {}) if length == depth else greedy)


# -- rule 6: duplicates ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("/", "//"),
        ("/a", "/a/"),
        ("/a", "//a"),
        ("/{x}", "/{y}"),
        ("/{x:int}/a", "/{y:int}/a"),
        ("/a{x}b", "/a{y}b"),
        ("/{x}.{y}", "/{name}.{ext}"),
        ("/*", "/*"),
        ("/{x}$", "/{y:path}"),
        ("/{x}$", "/*$"),
    ],
)
def test_two_routes_of_one_shape_and_method_are_an_error_that_names_both(first: str, second: str) -> None:
    router = TrieRouter()
    one = router.add_route(first, "one", ["GET", "PUT"])

    with pytest.raises(DuplicatedRouteError) as caught:
        router.add_route(second, "two", ["POST", "PUT"])

    other = "/" + second.strip("/")
    assert str(caught.value) == f"PUT {other} ('two') has the shape of the route {one.pattern} ('one')"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("/{x}", "/*"),
        ("/{x}", "/{x:int}"),
        ("/{x:int}", "/{x:float}"),
        ("/a{x}", "/{x}a"),
        ("/a{x}", "/a{x:int}"),
        ("/*", "/*$"),
        ("/a", "/A"),
        ("/{x}", "/{x}/{y}"),
    ],
)
def test_routes_of_two_shapes_stand_side_by_side(first: str, second: str) -> None:
    assert len(router_of(first, second).routes) == 2


def test_each_route_keeps_its_own_parameter_names() -> None:
    router = TrieRouter()
    router.add_route("/{user}", "show", ["GET"])
    router.add_route("/{id}", "change", ["POST"])
    router.add_route("/{name}/x{part}", "deep", ["GET"])
    router.add_route("/{title}/x{chapter}", "deep", ["POST"])

    assert answer(router, "/7", "GET") == ("show", {"user": "7"})
    assert answer(router, "/7", "POST") == ("change", {"id": "7"})
    assert answer(router, "/7/x1", "GET") == ("deep", {"name": "7", "part": "1"})
    assert answer(router, "/7/x1", "POST") == ("deep", {"title": "7", "chapter": "1"})


# -- rule 7: at least one character, at least one segment -----------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "path", "params"),
    [
        ("/img-{n}.png", "/img-.png", None),
        ("/img-{n}.png", "/img-1.png", {"n": "1"}),
        ("/{name}.{ext}", "/a.tar.gz", {"name": "a.tar", "ext": "gz"}),
        ("/{name}.{ext}", "/.gz", None),
        ("/{name}.{ext}", "/a.", None),
        ("/{a}-{b}-{c}", "/1-2-3-4", {"a": "1-2", "b": "3", "c": "4"}),
        ("/a/{rest}$", "/a", None),
        ("/a/{rest}$", "/a/", None),
        ("/a/{rest}$", "/a/b", {"rest": "b"}),
        ("/a/{rest}$", "/a/b/c/", {"rest": "b/c"}),
        ("/a/*$", "/a/", None),
        ("/a/*$", "/a/b/c", {}),
        ("/a/*", "/a/", None),
        ("/a/*", "/a/b", {}),
        ("/a/*", "/a/b/c", None),
        ("/{x}/{y}/{z}", "/a/b/c", {"x": "a", "y": "b", "z": "c"}),
        ("/{x}/{y:int}/{z}", "/a/2/c", {"x": "a", "y": 2, "z": "c"}),
        ("/{x}/v{y}/{z}", "/a/v2/c", {"x": "a", "y": "2", "z": "c"}),
        ("/{x}/*/{z}", "/a/b/c", {"x": "a", "z": "c"}),
        ("/{x}/b/{z}$", "/a/b/c/d", {"x": "a", "z": "c/d"}),
        ("/{x}", "/a%2Fb \n\x00é", {"x": "a%2Fb \n\x00é"}),
    ],
)
def test_what_parameters_take(pattern: str, path: str, params: dict[str, Any] | None) -> None:
    expected = None if params is None else (pattern, params)

    assert answer(router_of(pattern), path) == expected


# -- rule 10: HEAD and the allowed methods --------------------------------------------------------------


@pytest.mark.parametrize(
    ("routes", "expected"),
    [
        ([("GET", "/a")], "GET /a"),
        ([("POST", "/a")], None),
        ([("HEAD", "/a")], "HEAD /a"),
        ([("GET", "/a"), ("HEAD", "/a")], "HEAD /a"),
        ([("GET", "/a"), ("HEAD", "/{x}")], "GET /a"),
        ([("GET", "/{x}"), ("HEAD", "/a")], "HEAD /a"),
        ([("GET", "/{x}"), ("HEAD", "/*")], "GET /{x}"),
        ([("POST", "/a"), ("HEAD", "/{x}"), ("GET", "/*")], "HEAD /{x}"),
        ([("POST", "/a"), ("HEAD", "/*"), ("GET", "/{x}")], "GET /{x}"),
    ],
)
def test_get_answers_head_where_no_route_for_head_is_as_good(
    routes: list[tuple[str, str]], expected: str | None
) -> None:
    for order in itertools.permutations(routes):
        router = TrieRouter()
        for method, pattern in order:
            router.add_route(pattern, f"{method} {pattern}", [method])
        match = router.find_route("HEAD", "/a")
        assert (None if match is None else match.target) == expected


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/a", ("DELETE", "GET", "HEAD", "POST")),
        ("/a/", ("DELETE", "GET", "HEAD", "POST")),
        ("//a", ("DELETE", "GET", "HEAD", "POST")),
        ("/b", ("DELETE", "POST")),
        ("/7", ("DELETE", "POST", "PUT")),
        ("/b/c", ("PATCH",)),
        ("/b/c/d", ("PATCH",)),
        ("/h", ("DELETE", "HEAD", "POST")),
        ("/b" * 50, ("PATCH",)),
        ("/", ()),
        ("", ()),
    ],
)
def test_the_allowed_methods_are_those_of_every_route_that_has_the_path(
    path: str, methods: tuple[str, ...]
) -> None:
    router = TrieRouter()
    router.add_route("/a", 0, ["GET"])
    router.add_route("/h", 1, ["HEAD"])
    router.add_route("/{x}", 2, ["POST"])
    router.add_route("/*", 3, ["DELETE"])
    router.add_route("/{x:int}", 4, ["PUT"])
    router.add_route("/*/*$", 5, ["PATCH"])

    assert router.allowed_methods(path) == methods


def test_a_subtree_for_all_methods_hides_nothing_that_is_better() -> None:
    router = TrieRouter()
    router.add_route("/legacy", "mounted", ["GET", "POST", "HEAD"])
    router.add_route("/legacy/*$", "mounted", ["GET", "POST", "HEAD"])
    router.add_route("/legacy/new", "ours", ["GET"])

    assert answer(router, "/legacy/new", "GET") == ("ours", {})
    assert answer(router, "/legacy/new", "POST") == ("mounted", {})
    assert answer(router, "/legacy/new", "HEAD") == ("ours", {})
    assert answer(router, "/legacy/", "HEAD") == ("mounted", {})
    assert answer(router, "/legacy/new/er", "GET") == ("mounted", {})
    assert router.allowed_methods("/legacy/new") == ("GET", "HEAD", "POST")
    assert router.find_route("PUT", "/legacy/x") is None


def test_a_match_holds_target_parameters_and_route() -> None:
    router = TrieRouter()
    route = router.add_route("/users/{id:int}", "show", name="user")

    match = router.find_route("GET", "/users/7")

    assert match is not None
    assert (match.target, match.params, match.route) == ("show", {"id": 7}, route)
    assert repr(match.route) == "<Route GET /users/{id:int} name='user'>"
