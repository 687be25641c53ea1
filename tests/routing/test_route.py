"""Building URLs: what is written leads back to the route, or is an error."""

from __future__ import annotations

from datetime import date
from typing import Any
from urllib.parse import unquote
from uuid import UUID

import pytest

from prologue.errors import RouteBuildError
from prologue.routing import Converter, Route, TrieRouter

UUID_TEXT = "01234567-89ab-cdef-0123-456789abcdef"


def route_of(pattern: str) -> Route:
    router = TrieRouter([Converter("upper", str.lower, str.upper)])
    return router.add_route(pattern, 0, name="page")


def read(route: Route, url: str) -> dict[str, Any] | None:
    router = TrieRouter([Converter("upper", str.lower, str.upper)])
    router.add_route(route.pattern, 0)
    match = router.find_route("GET", unquote(url))
    return None if match is None else match.params


@pytest.mark.parametrize(
    ("pattern", "values", "url"),
    [
        ("/", {}, "/"),
        ("/a/b/", {}, "/a/b"),
        ("/кафе", {}, "/%D0%BA%D0%B0%D1%84%D0%B5"),
        ("/a b%", {}, "/a%20b%25"),
        ("/{x}", {"x": "a"}, "/a"),
        ("/{x}", {"x": 7}, "/7"),
        ("/{x}", {"x": "é"}, "/%C3%A9"),
        ("/{x}", {"x": "a b?c#d%e"}, "/a%20b%3Fc%23d%25e"),
        ("/{x}", {"x": "a\r\nb\x00"}, "/a%0D%0Ab%00"),
        ("/{x}", {"x": "-._~!$&'()*+,;=:@"}, "/-._~!$&'()*+,;=:@"),
        ("/{x}", {"x": '"<>\\^`{|}[]'}, "/%22%3C%3E%5C%5E%60%7B%7C%7D%5B%5D"),
        ("/{x}", {"x": "😀"}, "/%F0%9F%98%80"),
        ("/{x}", {"x": "..."}, "/..."),
        ("/{x}/{y}", {"y": 2, "x": 1}, "/1/2"),
        ("/{x:int}", {"x": 7}, "/7"),
        ("/{x:int}", {"x": "7"}, "/7"),
        ("/{x:int}", {"x": 10**20 - 1}, "/99999999999999999999"),
        ("/{x:float}", {"x": 1.5}, "/1.5"),
        ("/{x:float}", {"x": 1}, "/1"),
        ("/{x:uuid}", {"x": UUID(UUID_TEXT)}, f"/{UUID_TEXT}"),
        ("/{x:uuid}", {"x": UUID_TEXT.upper()}, f"/{UUID_TEXT.upper()}"),
        ("/{x:date}", {"x": date(2024, 2, 29)}, "/2024-02-29"),
        ("/{x:upper}", {"x": "ab"}, "/AB"),
        ("/img-{n:int}.png", {"n": 3}, "/img-3.png"),
        ("/é{n}", {"n": "ü"}, "/%C3%A9%C3%BC"),
        ("/{name}.{ext}", {"name": "a.tar", "ext": "gz"}, "/a.tar.gz"),
        ("/{a}-{b}", {"a": "x-y", "b": "z"}, "/x-y-z"),
        ("/.{x}", {"x": "a"}, "/.a"),
        ("/f/{rest}$", {"rest": "a/b c"}, "/f/a/b%20c"),
        ("/f/{rest:path}", {"rest": "a"}, "/f/a"),
    ],
)
def test_a_url_is_percent_encoded_and_leads_back(pattern: str, values: dict[str, Any], url: str) -> None:
    route = route_of(pattern)

    assert route.build(values) == url
    values_read = read(route, url)
    assert values_read is not None
    assert read(route, route.build(values_read)) == values_read


@pytest.mark.parametrize(
    ("pattern", "values"),
    [
        ("/{x}", {"x": ""}),
        ("/{x}", {"x": "."}),
        ("/{x}", {"x": ".."}),
        ("/{x}", {"x": "/"}),
        ("/{x}", {"x": "a/b"}),
        ("/{x}", {"x": "/a"}),
        ("/{x}", {"x": "\ud800"}),
        ("/{x:int}", {"x": ""}),
        ("/{x:int}", {"x": -1}),
        ("/{x:int}", {"x": 1.5}),
        ("/{x:int}", {"x": "a"}),
        ("/{x:int}", {"x": True}),
        ("/{x:int}", {"x": 10**20}),
        ("/{x:int}", {"x": "٣"}),
        ("/{x:float}", {"x": float("nan")}),
        ("/{x:float}", {"x": float("inf")}),
        ("/{x:float}", {"x": 1e30}),
        ("/{x:float}", {"x": -0.5}),
        ("/{x:uuid}", {"x": UUID_TEXT.replace("-", "")}),
        ("/{x:date}", {"x": "2023-02-29"}),
        ("/.{x}", {"x": "."}),
        ("/{x}.", {"x": "."}),
        ("/a{x}", {"x": ""}),
        ("/a{x}b", {"x": "c/d"}),
        ("/{a}-{b}", {"a": "x", "b": "y-z"}),
        ("/{a}-{b}", {"a": "x", "b": "-y"}),
        ("/{a}-{b}", {"a": "", "b": "y"}),
        ("/{a}-{b:int}", {"a": "y", "b": "x"}),
        ("/{rest}$", {"rest": ""}),
        ("/{rest}$", {"rest": "/"}),
        ("/{rest}$", {"rest": "/a"}),
        ("/{rest}$", {"rest": "a/"}),
        ("/{rest}$", {"rest": "a//b"}),
        ("/{rest}$", {"rest": "a/../b"}),
        ("/{rest}$", {"rest": "./b"}),
        ("/{rest}$", {"rest": "a/.."}),
        ("/{rest}$", {"rest": "a/\udcff"}),
    ],
)
def test_a_value_that_would_not_lead_back_is_an_error_that_shows_it(
    pattern: str, values: dict[str, Any]
) -> None:
    with pytest.raises(RouteBuildError) as caught:
        route_of(pattern).build(values)

    given = ", ".join(f"{name}={value!r}" for name, value in values.items())
    assert str(caught.value) == (
        f"route 'page' ({pattern}) cannot be built with {given}: its URL would not lead back to it"
    )


@pytest.mark.parametrize(
    ("pattern", "values", "message"),
    [
        ("/{x}/{y}/{z}", {"y": 1}, "route 'page' (/{x}/{y}/{z}) needs the parameter x, z"),
        ("/{x}", {"X": 1}, "route 'page' (/{x}) needs the parameter x"),
        ("/{x}", {"x": None}, "route 'page' (/{x}) needs the parameter x"),
        ("/{rest}$", {}, "route 'page' (/{rest}$) needs the parameter rest"),
        ("/{a}.{b}", {"a": 1}, "route 'page' (/{a}.{b}) needs the parameter b"),
        ("/{y}/{x}", {"x": 1, "y": 2, "z": 3}, "route 'page' (/{y}/{x}) has no parameter z; it has x, y"),
        ("/a", {"x": 1, "y": 2}, "route 'page' (/a) has no parameter x, y; it has none"),
    ],
)
def test_missing_and_unknown_parameters_are_errors_that_name_them(
    pattern: str, values: dict[str, Any], message: str
) -> None:
    with pytest.raises(RouteBuildError) as caught:
        route_of(pattern).build(values)

    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("pattern", "segments", "expected"),
    [
        ("/a/{x}", ["", "a", "b"], {"x": "b"}),
        ("/a/{x}", ["", "a", ""], None),
        ("/a/{x:int}", ["", "a", "7"], {"x": 7}),
        ("/a/{x:int}", ["", "a", "b"], None),
        ("/a/v{x:int}", ["", "a", "vb"], None),
        ("/a/*", ["", "a", "b"], {}),
        ("/a/*", ["", "a", ""], None),
        ("/{x}/{rest}$", ["", "a", "b", "c"], {"x": "a", "rest": "b/c"}),
        ("/{x}/{rest}$", ["", "a", "", "c"], None),
        ("/{x}/{rest}$", ["", "a", "b", ""], None),
        ("/{x}/{rest}$", ["", "a", "b", "", "c"], None),
        ("/{x}/{rest}$", ["", "a", "", ""], None),
        ("/{x}/{rest}$", ["", "a", ""], None),
    ],
)
def test_what_is_empty_or_refused_is_not_read(
    pattern: str, segments: list[str], expected: dict[str, Any] | None
) -> None:
    assert TrieRouter().add_route(pattern, 0).read(segments) == expected


@pytest.mark.parametrize(
    ("pattern", "plain", "layout"),
    [
        ("/", 0, ()),
        ("/a", 0, ()),
        ("/{x}", 1, ("x", 1)),
        ("/{x}/a/{y}", 2, ("x", 1, "y", 3)),
        ("/{x}/{y}/{z}", 3, ("x", 1, "y", 2, "z", 3)),
        ("/{x}/{y}/{z}/{a}", -1, ()),
        ("/{x:int}/{y}", -1, ()),
        ("/a{x}", -1, ()),
        ("/{x}$", -1, ()),
    ],
)
def test_routes_of_up_to_three_plain_parameters_are_laid_out_for_the_lookup(
    pattern: str, plain: int, layout: tuple[object, ...]
) -> None:
    route = route_of(pattern)

    assert (route.plain, route.layout) == (plain, layout)
