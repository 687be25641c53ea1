"""Properties: the answers are those of a matcher written from the rules, in any order of registration."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.exceptions import MethodNotAllowed, NotFound
from werkzeug.routing import Map, MapAdapter, Rule

from prologue.errors import DuplicatedRouteError
from prologue.routing import Converter, TrieRouter

quick = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)

# -- the rules once more, by brute force ----------------------------------------------------------------


@dataclass(frozen=True)
class Type:
    """A converter: its place in rule 4, the texts it accepts, and what they become."""

    name: str
    order: tuple[int, str]
    texts: str
    value: Any = str


TYPES = [
    Type("int", (3, ""), r"[0-9]{1,20}", int),
    Type("float", (4, ""), r"[0-9]{1,20}(\.[0-9]{1,20})?", float),
    Type("even", (5, "even"), r"(..)+"),
    Type("letters", (5, "letters"), r"[ab]+"),
]
UNTYPED = Type("", (9, ""), r".+")


@dataclass(frozen=True)
class Part:
    """A segment of a pattern: ``rank`` as in rule 2, text around the parameters, their types."""

    rank: int
    texts: tuple[str, ...] = ("", "")
    types: tuple[Type, ...] = ()

    def write(self, names: Iterable[str]) -> str:
        if self.rank in (4, 5) and not self.types:
            return "*" if self.rank == 4 else "*$"
        written = self.texts[0]
        for kind, name, text in zip(self.types, names, self.texts[1:], strict=False):
            written += f"{{{name}:{kind.name}}}" if kind.name else f"{{{name}}}"
            written += text
        return written + "$" if self.rank == 5 else written

    @property
    def key(self) -> tuple[object, ...]:
        """Its place among the parts that accept one segment, the best first (rules 2 and 4)."""
        fixed = sum(map(len, self.texts))
        orders = tuple(kind.order for kind in self.types)
        conditional = self.rank in (1, 2)
        return (self.rank, -fixed, -len(self.texts[0]), orders, self.texts) if conditional else (self.rank,)

    def read(self, segment: str) -> list[Any] | None:
        """The values in a segment: of all splits the one whose parameters are longest, from the left."""
        if self.rank == 0:
            return [] if segment == self.texts[0] else None
        if not self.types:
            return []
        splits = list(self.splits(segment, self.texts))
        if not splits:
            return None
        best = max(splits, key=lambda split: [len(text) for text in split])
        if not all(re.fullmatch(kind.texts, text) for kind, text in zip(self.types, best, strict=True)):
            return None
        return [kind.value(text) for kind, text in zip(self.types, best, strict=True)]

    def splits(self, segment: str, texts: Sequence[str]) -> Iterable[list[str]]:
        if not segment.startswith(texts[0]):
            return
        rest = segment[len(texts[0]) :]
        if len(texts) == 1:
            if not rest:
                yield []
            return
        for size in range(1, len(rest) + 1):
            for others in self.splits(rest[size:], texts[1:]):
                yield [rest[:size], *others]


@dataclass(frozen=True)
class Spec:
    """A route: its parts, its methods."""

    parts: tuple[Part, ...]
    methods: tuple[str, ...]

    @property
    def shape(self) -> tuple[object, ...]:
        return tuple((part.key, part.texts if part.rank == 0 else ()) for part in self.parts)

    def pattern(self, prefix: str) -> str:
        names = (f"{prefix}{number}" for number in itertools.count())
        return "/" + "/".join(part.write([next(names) for _ in part.types]) for part in self.parts)

    def read(self, segments: list[str]) -> list[Any] | None:
        greedy = bool(self.parts) and self.parts[-1].rank == 5
        if len(segments) != len(self.parts) and not (greedy and len(segments) > len(self.parts)):
            return None
        values: list[Any] = []
        for index, part in enumerate(self.parts):
            if part.rank == 5:
                values += ["/".join(segments[index:])] * len(part.types)
                continue
            read = part.read(segments[index])
            if read is None:
                return None
            values += read
        return values


def best(specs: list[Spec], method: str, path: str) -> tuple[int, list[Any]] | None:
    """Rules 1 to 10 for patterns: the number of the best route, and the values of its parameters."""
    segments = [segment for segment in path.split("/") if segment]
    found = []
    for number, spec in enumerate(specs):
        values = spec.read(segments)
        if values is None:
            continue
        if method in spec.methods or (method == "HEAD" and "GET" in spec.methods):
            found.append(([part.key for part in spec.parts], method not in spec.methods, number, values))
    if not found:
        return None
    _, _, number, values = min(found, key=lambda entry: entry[:2])
    return number, values


def allowed(specs: list[Spec], path: str) -> tuple[str, ...]:
    segments = [segment for segment in path.split("/") if segment]
    methods = {method for spec in specs if spec.read(segments) is not None for method in spec.methods}
    return tuple(sorted(methods | ({"HEAD"} if "GET" in methods else set())))


# -- small alphabets, so that routes overlap ------------------------------------------------------------

typed = st.sampled_from(TYPES)
some_type = st.sampled_from([UNTYPED, UNTYPED, *TYPES])
around = st.sampled_from(["", "a", "b", "ab", "1"])
parts = st.one_of(
    st.sampled_from(["a", "b", "ab", "1", "12", "a-b"]).map(lambda text: Part(0, (text,))),
    typed.map(lambda kind: Part(1, ("", ""), (kind,))),
    st.tuples(around, around, some_type)
    .filter(lambda drawn: drawn[0] + drawn[1] != "")
    .map(lambda drawn: Part(2, drawn[:2], drawn[2:])),
    st.tuples(around, st.sampled_from(["-", "a", "1"]), around, some_type, some_type).map(
        lambda drawn: Part(2, drawn[:3], drawn[3:])
    ),
    st.just(Part(3, types=(UNTYPED,))),
    st.just(Part(4)),
)
tails = st.sampled_from([(), (), (Part(5),), (Part(5, types=(UNTYPED,)),)])
methods = st.sampled_from([("GET",), ("GET",), ("POST",), ("HEAD",), ("GET", "POST"), ("PUT",)])
specs_of_any_kind = st.builds(
    lambda parts, tail, methods: Spec((*parts, *tail), methods), st.lists(parts, max_size=3), tails, methods
)


def without_duplicates(specs: list[Spec]) -> list[Spec]:
    taken: set[tuple[object, str]] = set()
    kept = []
    for spec in specs:
        keys = {(spec.shape, method) for method in spec.methods}
        if not keys & taken:
            taken |= keys
            kept.append(spec)
    return kept


route_sets = st.lists(specs_of_any_kind, min_size=1, max_size=12).map(without_duplicates)
segment_texts = st.sampled_from(
    ["a", "b", "1", "12", "ab", "ab1", "a-b", "1-1", "b12", "a1b", "1.5", "bb-a-1", "é"]
)
paths = st.lists(st.lists(segment_texts, max_size=4), min_size=1, max_size=6).map(
    lambda many: ["/" + "/".join(segments) for segments in many]
)


def router_of(specs: Iterable[tuple[int, Spec]]) -> TrieRouter:
    router = TrieRouter([Converter(kind.name, checked(kind)) for kind in TYPES[2:]])
    for number, spec in specs:
        router.add_route(spec.pattern(f"p{number}_"), number, spec.methods)
    return router


def checked(kind: Type) -> Any:
    def parse(text: str) -> str:
        if not re.fullmatch(kind.texts, text):
            raise ValueError(text)
        return text

    return parse


def answer(router: TrieRouter, method: str, path: str) -> tuple[int, list[Any]] | None:
    match = router.find_route(method, path)
    if match is None:
        return None
    assert all(name.startswith(f"p{match.target}_") for name in match.params)
    by_place = sorted(match.params.items(), key=lambda item: int(item[0].partition("_")[2]))
    return match.target, [value for _, value in by_place]


# -- the properties -------------------------------------------------------------------------------------


@quick
@given(route_sets, paths)
def test_answers_are_those_of_the_rules(specs: list[Spec], paths: list[str]) -> None:
    router = router_of(enumerate(specs))

    for path in [*paths, *paths]:  # the second time by the states of the first
        for method in ("GET", "HEAD", "POST", "PUT", "TRACE"):
            assert answer(router, method, path) == best(specs, method, path)
        assert router.allowed_methods(path) == allowed(specs, path)
    static = {
        ("/" + "/".join(part.texts[0] for part in spec.parts), method): number
        for number, spec in enumerate(specs)
        if all(part.rank == 0 for part in spec.parts)
        for method in spec.methods
    }
    assert static == {
        (path, method): route.target
        for path, routes in router.static.items()
        for method, route in routes.items()
    }
    for (path, method), number in static.items():
        assert best(specs, method, path) == (number, [])


@quick
@given(route_sets.flatmap(lambda specs: st.permutations(list(enumerate(specs)))), paths)
def test_the_order_of_registration_changes_no_answer(
    numbered: list[tuple[int, Spec]], paths: list[str]
) -> None:
    one, other = router_of(sorted(numbered, key=lambda pair: pair[0])), router_of(numbered)

    for path in paths:
        for method in ("GET", "HEAD", "POST", "PUT"):
            assert answer(one, method, path) == answer(other, method, path)
        assert one.allowed_methods(path) == other.allowed_methods(path)


@quick
@given(route_sets, paths)
def test_routes_that_are_added_between_lookups_count_from_then_on(
    specs: list[Spec], paths: list[str]
) -> None:
    router = router_of([])

    for number, spec in enumerate(specs):
        router.add_route(spec.pattern(f"p{number}_"), number, spec.methods)
        for path in paths:
            for method in ("GET", "HEAD", "POST"):
                assert answer(router, method, path) == best(specs[: number + 1], method, path)


@quick
@given(st.lists(specs_of_any_kind, max_size=12))
def test_exactly_the_routes_of_one_shape_and_method_are_duplicates(specs: list[Spec]) -> None:
    router = router_of([])
    taken: set[tuple[object, str]] = set()

    for number, spec in enumerate(specs):
        keys = {(spec.shape, method) for method in spec.methods}
        if keys & taken:
            with pytest.raises(DuplicatedRouteError):
                router.add_route(spec.pattern("p"), number, spec.methods)
        else:
            router.add_route(spec.pattern("p"), number, spec.methods)
            taken |= keys


@quick
@given(route_sets, st.lists(segment_texts, max_size=4), st.lists(st.integers(0, 3), min_size=5, max_size=5))
def test_empty_segments_change_no_answer(specs: list[Spec], segments: list[str], extra: list[int]) -> None:
    router = router_of(enumerate(specs))
    untidy = "/" * extra[0]
    for segment, slashes in zip(segments, extra[1:], strict=False):
        untidy += segment + "/" * (1 + slashes)

    for path in (untidy, untidy.rstrip("/")):
        for method in ("GET", "HEAD", "POST"):
            tidy = "/" + "/".join(segments)
            assert answer(router, method, path) == answer(router, method, tidy) == best(specs, method, tidy)


# The common subset with werkzeug: whole segments of text, of int and of any text, and no slash at the end.
# Werkzeug too prefers text to int to any text, segment by segment from the left.
plain_parts = st.one_of(
    st.sampled_from(["a", "b", "1"]).map(lambda text: Part(0, (text,))),
    st.just(Part(1, ("", ""), (TYPES[0],))),
    st.just(Part(3, types=(UNTYPED,))),
)
plain_sets = st.lists(
    st.builds(
        Spec,
        st.lists(plain_parts, min_size=1, max_size=4).map(tuple),
        st.sampled_from([("GET",), ("POST",), ("GET", "POST")]),
    ),
    min_size=1,
    max_size=15,
).map(without_duplicates)
plain_paths = st.lists(
    st.lists(st.sampled_from(["a", "b", "c", "1", "2"]), min_size=1, max_size=4), min_size=1, max_size=8
).map(lambda many: ["/" + "/".join(segments) for segments in many])


@quick
@given(plain_sets, plain_paths)
def test_answers_are_those_of_werkzeug(specs: list[Spec], paths: list[str]) -> None:
    router = router_of(enumerate(specs))
    rules = []
    for number, spec in enumerate(specs):
        text = re.sub(r"\{(\w+):int\}", r"<int:\1>", spec.pattern(f"p{number}_"))
        text = re.sub(r"\{(\w+)\}", r"<\1>", text)
        rules.append(Rule(text, endpoint=number, methods=spec.methods))
    adapter = Map(rules).bind("localhost")

    for path in paths:
        for method in ("GET", "HEAD", "POST"):
            match = router.find_route(method, path)
            ours = None if match is None else (match.target, match.params)
            found = ours, None if ours else router.allowed_methods(path)
            assert found == of_werkzeug(adapter, path, method)


def of_werkzeug(adapter: MapAdapter, path: str, method: str) -> tuple[object, object]:
    """Return endpoint and values, or None; and where it is None, the allowed methods."""
    try:
        return adapter.match(path, method), None
    except MethodNotAllowed as error:
        return None, tuple(sorted(error.valid_methods or ()))
    except NotFound:
        return None, ()


# -- URLs -----------------------------------------------------------------------------------------------

any_text = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="/"), min_size=1, max_size=8
).filter(lambda text: text not in (".", ".."))

ROUTES: list[tuple[str, dict[str, st.SearchStrategy[Any]]]] = [
    ("/a/{x}", {"x": any_text}),
    ("/{x}/é/{y}", {"x": any_text, "y": any_text}),
    ("/{x:int}", {"x": st.integers(0, 10**20 - 1)}),
    ("/v{x:int}", {"x": st.integers(0, 10**20 - 1)}),
    ("/{x:float}", {"x": st.floats(0.001, 1e6).map(lambda number: round(number, 3))}),
    ("/{x:uuid}/b", {"x": st.uuids()}),
    ("/{x:date}", {"x": st.dates()}),
    ("/img-{x}.png", {"x": any_text}),
    ("/{x}-{y:int}", {"x": any_text, "y": st.integers(0, 99)}),
    ("/{x}.{y}", {"x": any_text, "y": any_text.filter(lambda text: "." not in text)}),
    ("/f/{rest}$", {"rest": st.lists(any_text, min_size=1, max_size=4).map("/".join)}),
]


@pytest.mark.parametrize(("pattern", "strategies"), ROUTES, ids=[pattern for pattern, _ in ROUTES])
def test_a_url_leads_back_to_its_values_and_these_to_it(
    pattern: str, strategies: dict[str, st.SearchStrategy[Any]]
) -> None:
    router = TrieRouter()
    router.add_route(pattern, 0, name="page")

    @settings(quick, max_examples=40)
    @given(st.fixed_dictionaries(strategies))
    def check(values: dict[str, Any]) -> None:
        url = router.build_url("page", values)
        match = router.find_route("GET", unquote(url))
        assert match is not None
        assert match.params == values
        assert router.build_url("page", match.params) == url

    check()


@quick
@given(st.lists(any_text, min_size=4, max_size=7))
def test_building_from_a_match_gives_the_path_back(segments: list[str]) -> None:
    router = TrieRouter()
    for number, pattern in enumerate(["/{x}.{y}", "/{x}", "/{x}-{y}/{z}", "/{x}/{y}", "/{x}/{y}/{rest}$"]):
        router.add_route(pattern, number, name=str(number))

    for size in (1, 2, len(segments)):
        path = "/" + "/".join(segments[:size])
        match = router.find_route("GET", path)
        assert match is not None
        assert unquote(router.build_url(match.route.name, match.params)) == path
        assert router.build_url(match.route.name, match.params) == quote(path, safe="/!$&'()*+,;=:@")
