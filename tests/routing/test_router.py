from __future__ import annotations

import re
from typing import Any

import pytest

from prologue.errors import (
    DuplicatedReversedRouteError,
    DuplicatedRouteError,
    RouteBuildError,
    RouteError,
)
from prologue.routing import Converter, TrieRouter
from prologue.routing.trie import Trie


def target(router: TrieRouter, path: str, method: str = "GET") -> Any:
    match = router.find_route(method, path)
    return None if match is None else match.target


# -- rule 9: regular expressions ------------------------------------------------------------------------


def test_regular_expressions_come_after_every_pattern_in_order() -> None:
    router = TrieRouter()
    router.add_route(re.compile(r"/a.*"), "first")
    router.add_route(re.compile(r"/.*"), "second")
    router.add_route("/*$", "rest", ["POST"])
    router.add_route("/ab", "pattern")

    assert target(router, "/ab") == "pattern"
    assert target(router, "/abc") == "first"
    assert target(router, "/b") == "second"
    assert target(router, "/b", "POST") == "rest"
    assert target(router, "/b", "PUT") is None
    assert target(router, "b") is None


def test_a_regular_expression_must_match_the_whole_path_as_it_was_received() -> None:
    router = TrieRouter()
    router.add_route(re.compile(r"/post(?P<num>\d+)"), "post")

    assert target(router, "/post1") == "post"
    for path in ("/post1/", "//post1", "/post1\n", "/xpost1", "post1", "/post"):
        assert target(router, path) is None


def test_named_groups_that_took_part_are_the_parameters() -> None:
    router = TrieRouter()
    router.add_route(re.compile(r"/(?P<year>[0-9]{4})(-(?P<month>[0-9]{2}))?(\.html)?"), "archive")

    short, long = router.find_route("GET", "/2024"), router.find_route("GET", "/2024-05.html")

    assert short is not None
    assert short.params == {"year": "2024"}
    assert long is not None
    assert long.params == {"year": "2024", "month": "05"}
    assert long.route.expression is not None
    assert long.route.pattern == r"/(?P<year>[0-9]{4})(-(?P<month>[0-9]{2}))?(\.html)?"


def test_an_expression_for_head_answers_head_before_one_for_get() -> None:
    router = TrieRouter()
    router.add_route(re.compile("/a"), "get a")
    router.add_route(re.compile("/[ab]"), "head", ["HEAD"])
    router.add_route(re.compile("/[abc]"), "get")

    paths = ("/a", "/b", "/c", "/d")
    assert [target(router, path, "HEAD") for path in paths] == ["head", "head", "get", None]
    assert [target(router, path) for path in paths] == ["get a", "get", "get", None]


def test_a_pattern_for_get_answers_head_before_an_expression_for_head() -> None:
    router = TrieRouter()
    router.add_route(re.compile("/a"), "expression", ["HEAD"])
    router.add_route("/{x}", "pattern")

    assert target(router, "/a", "HEAD") == "pattern"


def test_the_allowed_methods_count_expressions() -> None:
    router = TrieRouter()
    router.add_route("/{x}", 0, ["PUT"])
    router.add_route(re.compile("/[ab]"), 1, ["POST"])
    router.add_route(re.compile("/a"), 2, ["GET"])
    router.add_route(re.compile("/[ac]"), 3, ["DELETE", "PUT"])

    assert router.allowed_methods("/a") == ("DELETE", "GET", "HEAD", "POST", "PUT")
    assert router.allowed_methods("/b") == ("POST", "PUT")
    assert router.allowed_methods("/c") == ("DELETE", "PUT")
    assert router.allowed_methods("/d") == ("PUT",)
    assert router.allowed_methods("/d/e") == ()


def test_an_expression_of_bytes_is_an_error() -> None:
    router = TrieRouter()

    with pytest.raises(RouteError, match="regular expression b'/a' of a route is text, not bytes"):
        router.add_route(re.compile(b"/a"), 0)  # type: ignore[arg-type]

    assert router.routes == ()
    assert router.find_route("GET", "/a") is None


def test_an_expression_has_no_name() -> None:
    with pytest.raises(RouteError, match=r"route '/a' has parts without a name: it cannot be named 'a'"):
        TrieRouter().add_route(re.compile("/a"), 0, name="a")


# -- methods --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("methods", "expected"),
    [
        (("GET",), ("GET",)),
        (["get", "Post"], ("GET", "POST")),
        ("delete", ("DELETE",)),
        ({"PUT"}, ("PUT",)),
        (("POST", "GET", "post"), ("GET", "POST")),
        (("M-SEARCH", "X"), ("M-SEARCH", "X")),
    ],
)
def test_methods_are_upper_case_sorted_and_single(methods: Any, expected: tuple[str, ...]) -> None:
    assert TrieRouter().add_route("/a", 0, methods).methods == expected


@pytest.mark.parametrize("method", ["", "GET POST", "G\n", "GET\n", "ГЕТ", "GET,POST", "a/b", 1, None])
def test_what_is_no_method_is_an_error(method: Any) -> None:
    router = TrieRouter()

    with pytest.raises(RouteError, match="is not a request method") as caught:
        router.add_route("/a", 0, ["GET", method])

    assert str(caught.value).startswith(f"route '/a': {method!r}")
    assert router.routes == ()
    assert router.find_route("GET", "/a") is None


@pytest.mark.parametrize("methods", [(), [], set()])
def test_a_route_needs_a_method(methods: Any) -> None:
    with pytest.raises(RouteError, match="route '/a' needs a method at least"):
        TrieRouter().add_route("/a", 0, methods)


# -- names ----------------------------------------------------------------------------------------------


def test_the_methods_of_one_pattern_may_share_a_name() -> None:
    router = TrieRouter()
    router.add_route("/users/{id}", "show", ["GET"], name="user")
    router.add_route("/users/{id}/", "change", ["POST"], name="user")

    assert router.build_url("user", {"id": 1}) == "/users/1"


@pytest.mark.parametrize("pattern", ["/b/{x}", "/a/{y}", "/a"])
def test_a_name_for_two_patterns_is_an_error_and_changes_nothing(pattern: str) -> None:
    router = TrieRouter()
    route = router.add_route("/a/{x}", 1, name="page")

    with pytest.raises(DuplicatedReversedRouteError) as caught:
        router.add_route(pattern, 2, ["POST"], name="page")

    assert str(caught.value) == f"the name 'page' of route {pattern} is that of route /a/{{x}}"
    assert router.routes == (route,)
    assert router.find_route("POST", "/b/1") is router.find_route("POST", "/a/1") is None
    assert router.build_url("page", {"x": 1}) == "/a/1"


def test_a_duplicate_changes_nothing() -> None:
    router = TrieRouter()
    route = router.add_route("/{x}", 1)

    with pytest.raises(DuplicatedRouteError):
        router.add_route("/{y}", 2, ["GET", "POST"], name="page")

    assert router.routes == (route,)
    assert router.find_route("POST", "/a") is None
    with pytest.raises(RouteBuildError, match="no route has the name 'page'"):
        router.build_url("page", {"y": 1})


@pytest.mark.parametrize("pattern", ["/a/*", "/*/b", "/a/*$"])
def test_a_pattern_with_unnamed_parts_has_no_name(pattern: str) -> None:
    with pytest.raises(RouteError) as caught:
        TrieRouter().add_route(pattern, 0, name="page")

    assert str(caught.value) == f"route {pattern!r} has parts without a name: it cannot be named 'page'"


def test_a_pattern_with_a_named_rest_has_a_name() -> None:
    router = TrieRouter()
    router.add_route("/files/{rest}$", 0, name="file")

    assert router.build_url("file", {"rest": "a/b"}) == "/files/a/b"


# -- converters -----------------------------------------------------------------------------------------


def test_a_registered_converter_reads_and_writes() -> None:
    router = TrieRouter()
    router.register_converter("hex", lambda text: int(text, 16), lambda value: f"{value:x}")
    router.add_route("/{colour:hex}", "colour", name="colour")

    match = router.find_route("GET", "/ff")

    assert match is not None
    assert match.params == {"colour": 255}
    assert router.find_route("GET", "/xyz") is None
    assert router.build_url("colour", {"colour": 255}) == "/ff"


def test_a_converter_that_was_given_is_known() -> None:
    router = TrieRouter([Converter("slug", str)])

    assert router.add_route("/{title:slug}", 0).pattern == "/{title:slug}"


@pytest.mark.parametrize("name", ["int", "uuid", "path", "slug"])
def test_the_name_of_a_converter_is_taken_once(name: str) -> None:
    router = TrieRouter([Converter("slug", str)])

    with pytest.raises(RouteError, match=f"converter '{name}' is there already"):
        router.register_converter(name, str)


def test_converters_belong_to_one_router() -> None:
    TrieRouter().register_converter("slug", str)

    with pytest.raises(RouteError, match="converter 'slug' is not known"):
        TrieRouter().add_route("/{title:slug}", 0)


# -- URLs and tools -------------------------------------------------------------------------------------


def test_an_unknown_name_is_an_error_that_lists_the_names() -> None:
    router = TrieRouter()
    with pytest.raises(RouteBuildError, match="no route has the name 'x'; there are: none"):
        router.build_url("x")

    router.add_route("/b", 0, name="b")
    router.add_route("/a", 0, name="a")
    router.add_route("/c", 0)

    with pytest.raises(RouteBuildError, match="no route has the name 'x'; there are: a, b"):
        router.build_url("x")
    with pytest.raises(RouteBuildError, match="no route has the name ''"):
        router.build_url("")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (None, "/a"),
        ({}, "/a"),
        ({"q": "x y&z=é"}, "/a?q=x+y%26z%3D%C3%A9"),
        ({"q": [1, 2], "p": ("a",)}, "/a?q=1&q=2&p=a"),
        ({"q": "a\r\nb"}, "/a?q=a%0D%0Ab"),
    ],
)
def test_a_query_is_encoded(query: dict[str, Any] | None, expected: str) -> None:
    router = TrieRouter()
    router.add_route("/a", 0, name="a")

    assert router.build_url("a", query=query) == expected


def test_routes_are_listed_in_order_of_registration() -> None:
    router = TrieRouter()
    routes = [
        router.add_route("/b", 0, ["GET", "POST"]),
        router.add_route(re.compile("/x"), 1),
        router.add_route("/a/{x}", 2, name="a"),
    ]

    assert router.routes == tuple(routes)
    assert [repr(route) for route in routes] == [
        "<Route GET,POST /b>",
        "<Route GET /x>",
        "<Route GET /a/{x} name='a'>",
    ]


def test_routers_and_tries_show_their_size() -> None:
    router = TrieRouter()
    router.add_route("/a/b", 0)
    router.add_route("/a/{x}", 0)

    assert repr(router) == "<TrieRouter 2 routes, 4 nodes, depth 2>"
    assert repr(Trie()) == "<Trie 1 nodes, depth 0>"
