from __future__ import annotations

import itertools

import pytest

from prologue.errors import RouteError
from prologue.routing.converters import BUILTIN_CONVERTERS
from prologue.routing.pattern import Kind, Pattern, Segment, parse_pattern

CONVERTERS = {converter.name: converter for converter in BUILTIN_CONVERTERS}


def parse(text: str) -> Pattern:
    return parse_pattern(text, CONVERTERS, {})


def segment_of(text: str) -> Segment:
    (segment,) = parse(text).segments
    return segment


@pytest.mark.parametrize(
    ("text", "kind", "names"),
    [
        ("a", Kind.STATIC, ()),
        ("price$", Kind.STATIC, ()),
        ("кафе", Kind.STATIC, ()),
        ("a b", Kind.STATIC, ()),
        ("~", Kind.STATIC, ()),
        ("{id:int}", Kind.TYPED, ("id",)),
        ("{id:uuid}", Kind.TYPED, ("id",)),
        ("img-{n}.png", Kind.AFFIXED, ("n",)),
        ("v{n:int}", Kind.AFFIXED, ("n",)),
        ("{name}.{ext}", Kind.AFFIXED, ("name", "ext")),
        ("{a}$b", Kind.AFFIXED, ("a",)),
        ("${a}", Kind.AFFIXED, ("a",)),
        ("{id}", Kind.PARAMETER, ("id",)),
        ("{_id2}", Kind.PARAMETER, ("_id2",)),
        ("{ключ}", Kind.PARAMETER, ("ключ",)),
        ("*", Kind.WILDCARD, ()),
        ("*$", Kind.GREEDY, ()),
        ("{rest}$", Kind.GREEDY, ("rest",)),
        ("{rest:path}", Kind.GREEDY, ("rest",)),
        ("{rest:path}$", Kind.GREEDY, ("rest",)),
    ],
)
def test_every_form_of_segment_has_its_kind(text: str, kind: Kind, names: tuple[str, ...]) -> None:
    pattern = parse(f"/x/{text}")

    assert pattern.segments[1].kind is kind
    assert tuple(parameter.name for parameter in pattern.parameters) == names
    assert repr(pattern.segments[1]) == f"<Segment {kind.name.lower()} {text!r}>"


@pytest.mark.parametrize("text", ["/a/{b}", "a/{b}", "/a/{b}/", "//a///{b}//"])
def test_the_normal_text_has_one_leading_slash_and_no_empty_segment(text: str) -> None:
    assert parse(text).text == "/a/{b}"


@pytest.mark.parametrize("text", ["/", "//", "///"])
def test_the_root_has_no_segments(text: str) -> None:
    assert parse(text) == ("/", ())


@pytest.mark.parametrize(
    ("text", "part", "character", "reason"),
    [
        ("/a/{", "{", 1, "'{' is not closed"),
        ("/a/x{id", "x{id", 2, "'{' is not closed"),
        ("/a/id}", "id}", 3, "'}' without '{'"),
        ("/a/{id}}", "{id}}", 5, "'}' without '{'"),
        ("/{a}b}", "{a}b}", 5, "'}' without '{'"),
        ("/}{", "}{", 1, "'}' without '{'"),
        ("/{}", "{}", 2, "parameter name '' must be a Python identifier"),
        ("/ab{}", "ab{}", 4, "parameter name '' must be a Python identifier"),
        ("/{1a}", "{1a}", 2, "parameter name '1a' must be a Python identifier"),
        ("/{a-b}", "{a-b}", 2, "parameter name 'a-b' must be a Python identifier"),
        ("/{ id }", "{ id }", 2, "parameter name ' id ' must be a Python identifier"),
        ("/{a{b}}", "{a{b}}", 2, "parameter name 'a{b' must be a Python identifier"),
        ("/{:int}", "{:int}", 2, "parameter name '' must be a Python identifier"),
        ("/{id:}", "{id:}", 5, "converter '' is not known; known are date, float, int, path, uuid"),
        ("/x/{id:INT}", "{id:INT}", 5, "converter 'INT' is not known"),
        ("/x/a{id:int:int}", "a{id:int:int}", 6, "converter 'int:int' is not known"),
        ("/{id:int }", "{id:int }", 5, "converter 'int ' is not known"),
        ("/{a}{b}", "{a}{b}", 4, "two parameters need text between them"),
        ("/x{a}{b}", "x{a}{b}", 5, "two parameters need text between them"),
        ("/a*", "a*", 2, "'*' must be a segment of its own"),
        ("/*a", "*a", 1, "'*' must be a segment of its own"),
        ("/**", "**", 1, "'*' must be a segment of its own"),
        ("/a*$", "a*$", 2, "'*' must be a segment of its own"),
        ("/{a}*", "{a}*", 4, "'*' must be a segment of its own"),
        ("/x{a}$", "x{a}$", 1, "the rest of the path must be a segment of its own"),
        ("/{a}.{b}$", "{a}.{b}$", 1, "the rest of the path must be a segment of its own"),
        ("/x{a:path}", "x{a:path}", 1, "the rest of the path must be a segment of its own"),
        ("/{a:path}.{b}", "{a:path}.{b}", 1, "the rest of the path must be a segment of its own"),
        ("/{a:int}$", "{a:int}$", 1, "the rest of the path cannot have a type"),
        ("/{a}$/b", "b", 1, "nothing may follow {a}$"),
        ("/x/{a:path}/b/c", "b", 1, "nothing may follow {a:path}"),
        ("/*$/{b}", "{b}", 1, "nothing may follow *$"),
        ("/*$/*$", "*$", 1, "nothing may follow *$"),
        ("/{a}/{a}", "{a}", 1, "parameter name 'a' is used twice"),
        ("/{a}/x-{a:int}", "x-{a:int}", 1, "parameter name 'a' is used twice"),
        ("/{a}.{a}", "{a}.{a}", 1, "parameter name 'a' is used twice"),
        ("/{a}/b/{a}$", "{a}$", 1, "parameter name 'a' is used twice"),
        ("/a?b=1", "a?b=1", 2, "'?' cannot be part of a path"),
        ("/{a?}", "{a?}", 3, "'?' cannot be part of a path"),
        ("/a#top", "a#top", 2, "'#' cannot be part of a path"),
        ("/a\n", "a\n", 2, "'\\n' cannot be part of a path"),
        ("/a\x00b", "a\x00b", 2, "'\\x00' cannot be part of a path"),
        ("/\x7f", "\x7f", 1, "'\\x7f' cannot be part of a path"),
        ("/a\ud800", "a\ud800", 2, "'\\ud800' cannot be part of a path"),
        ("/{a}\n", "{a}\n", 4, "'\\n' cannot be part of a path"),
        ("/{a}?", "{a}?", 4, "'?' cannot be part of a path"),
    ],
)
def test_a_wrong_pattern_is_an_error_that_says_where(
    text: str, part: str, character: int, reason: str
) -> None:
    with pytest.raises(RouteError) as caught:
        parse(text)

    assert str(caught.value).startswith(f"route {text!r}, segment {part!r}, character {character}: ")
    assert reason in str(caught.value)


def test_an_empty_pattern_is_an_error() -> None:
    with pytest.raises(RouteError, match="a route pattern must not be empty; the root is '/'"):
        parse("")


@pytest.mark.parametrize("text", [None, 1, b"/a", ["/a"]])
def test_a_pattern_that_is_no_text_is_an_error(text: object) -> None:
    with pytest.raises(RouteError, match="a route pattern is a str, not") as caught:
        parse(text)  # type: ignore[arg-type]

    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    ("pattern", "text", "values"),
    [
        ("img-{n}.png", "img-1.png", ("1",)),
        ("img-{n}.png", "img-.png", None),
        ("img-{n}.png", "img-1.PNG", None),
        ("img-{n}.png", "Img-1.png", None),
        ("img-{n}.png", "img-1.pngx", None),
        ("img-{n}.png", "ximg-1.png", None),
        ("aba{x}aba", "aba", None),
        ("aba{x}aba", "ababa", None),
        ("aba{x}aba", "abaaba", None),
        ("aba{x}aba", "abaxaba", ("x",)),
        ("a{x}", "a", None),
        ("a{x}", "aa", ("a",)),
        ("{x}a", "a", None),
        ("{x}a", "aa", ("a",)),
        ("{a}-{b}", "-", None),
        ("{a}-{b}", "x-", None),
        ("{a}-{b}", "-x", None),
        ("{a}-{b}", "x-y", ("x", "y")),
        ("{a}-{b}", "x-y-z", ("x-y", "z")),
        ("{a}-{b}", "---", ("-", "-")),
        ("{a}-{b}", "x--", ("x", "-")),
        ("{a}-{b}", "--x", ("-", "x")),
        ("{a}-{b}", "xy", None),
        ("{a}--{b}", "a---b", ("a-", "b")),
        ("{a}-{b}-{c}", "1-2-3-4", ("1-2", "3", "4")),
        ("{a}-{b}-{c}", "1-2", None),
        ("{a}-{b}-{c}", "-----", ("-", "-", "-")),
        ("{a}.{b}-{c}", "1.2.3-4-5", ("1.2", "3-4", "5")),
        ("{a}.{b}-{c}", "1-2.3", None),
        ("{name}.{ext}", "a.tar.gz", ("a.tar", "gz")),
        ("v{n:int}", "v12", (12,)),
        ("v{n:int}", "v1x", None),
        ("{a:int}-{b:int}", "1-2", (1, 2)),
        ("{a:int}-{b:int}", "1-2-3", None),
        ("{a}-{b:int}", "x-1-2", ("x-1", 2)),
        ("x{a}y{b}z", "xayybz", ("ay", "b")),
        ("x{a}y{b}z", "xyybz", ("y", "b")),
        ("x{a}y{b}z", "xybz", None),
        ("{id:int}", "7", (7,)),
        ("{id:int}", "x", None),
        ("{id}", "x", ("x",)),
        ("{id}", "", None),
    ],
)
def test_a_segment_reads_each_parameter_as_long_as_it_can_be_from_left_to_right(
    pattern: str, text: str, values: tuple[object, ...] | None
) -> None:
    assert segment_of(pattern).read(text) == values


def test_segments_that_differ_only_in_names_have_one_shape() -> None:
    same = ["x{a}y", "x{b}y"], ["{a:int}", "{b:int}"], ["{a}-{b:int}", "{c}-{d:int}"]

    for first, second in same:
        assert segment_of(first).shape == segment_of(second).shape
    for first, second in itertools.combinations(
        ["x{a}y", "xy{a}", "{a}xy", "x{a:int}y", "x{a:float}y", "{a}x{b}y", "{a}-{b:int}", "{a:int}-{b}"], 2
    ):
        assert segment_of(first).shape != segment_of(second).shape


def test_the_order_of_typed_and_affixed_segments() -> None:
    ordered = [
        "{a:uuid}",
        "{a:date}",
        "{a:int}",
        "{a:float}",
        "xx{a}yy",
        "xxx{a}",
        "xx{a:int}y",
        "xx{a}y",
        "x{a}yy",
        "{a}yyy",
        "x{a:int}y{b}",
        "x{a}y{b:int}",
        "x{a}y{b}",
        "{a}-{b}y",
        "{a}x{b}y",
        "x{a:date}",
        "x{a:int}",
        "x{a}",
        "{a}x",
    ]

    shuffled = [segment_of(text) for text in reversed(ordered)]

    assert [s.text for s in sorted(shuffled, key=lambda s: s.precedence)] == ordered


def test_segments_are_parsed_once_and_a_wrong_one_is_not_kept() -> None:
    cache: dict[str, Segment] = {}
    first = parse_pattern("/a/{b}", CONVERTERS, cache)

    with pytest.raises(RouteError):
        parse_pattern("/{b}/x*", CONVERTERS, cache)

    assert parse_pattern("/{b}", CONVERTERS, cache).segments[0] is first.segments[1]
    assert sorted(cache) == ["a", "{b}"]
