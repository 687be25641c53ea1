from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest

from prologue.errors import RouteError
from prologue.routing import ALL_METHODS, Group, Route, TrieRouter, Verbs

Handler = Callable[..., Any]


class Owner(Verbs):
    """The least that verbs and groups need of an application; it notes what it gets."""

    def __init__(self) -> None:
        self.router = TrieRouter()
        self.added: list[tuple[Group | None, tuple[Handler, ...], Any]] = []
        self.errors: list[tuple[Any, Handler, Group | None]] = []

    def add_route(
        self,
        pattern: str | re.Pattern[str],
        handler: Handler,
        methods: Sequence[str] = ("GET",),
        name: str = "",
        middlewares: Iterable[Handler] = (),
        limits: Any = None,
        *,
        group: Group | None = None,
    ) -> Route:
        self.added.append((group, tuple(middlewares), limits))
        return self.router.add_route(pattern, handler, methods, name)

    def register_error_handler(self, error: Any, handler: Handler, *, group: Group | None = None) -> None:
        self.errors.append((error, handler, group))


def show(ctx: object) -> str:
    return f"show {ctx}"


def log(ctx: object) -> None: ...


def check(ctx: object) -> None: ...


def count(ctx: object) -> None: ...


@pytest.mark.parametrize(
    "verb", ["get", "head", "post", "put", "patch", "delete", "options", "trace", "connect"]
)
def test_each_verb_registers_its_method_as_a_call_and_as_a_decorator(verb: str) -> None:
    owner = Owner()
    register = getattr(owner, verb)

    assert register("/call", show, name="call") is show
    assert register("/decorated", name="decorated")(show) is show

    assert [(r.pattern, r.methods, r.target, r.name) for r in owner.router.routes] == [
        ("/call", (verb.upper(),), show, "call"),
        ("/decorated", (verb.upper(),), show, "decorated"),
    ]


def test_all_registers_every_method() -> None:
    owner = Owner()

    assert owner.all("/call", show) is show
    assert owner.all("/decorated")(show) is show

    assert [route.methods for route in owner.router.routes] == [tuple(sorted(ALL_METHODS))] * 2
    assert len(ALL_METHODS) == 8


def test_route_takes_methods_and_options() -> None:
    owner = Owner()

    assert owner.route("/a", show, ["PUT"], name="a", middlewares=[log], limits="small") is show
    assert owner.route("/b", methods=("POST", "PATCH"), limits="large")(show) is show
    assert owner.route("/c")(show) is show

    assert [route.methods for route in owner.router.routes] == [("PUT",), ("PATCH", "POST"), ("GET",)]
    assert owner.added == [(None, (log,), "small"), (None, (), "large"), (None, (), None)]


@pytest.mark.parametrize(
    ("prefix", "pattern", "expected"),
    [
        ("/api", "/users", "/api/users"),
        ("/api", "users", "/api/users"),
        ("/api", "/", "/api"),
        ("/api", "", "/api"),
        ("/", "/users", "/users"),
        ("/", "/", "/"),
        ("/", "", "/"),
        ("/api/v1", "/{id}", "/api/v1/{id}"),
        ("/{user}", "/*$", "/{user}/*$"),
    ],
)
def test_a_prefix_comes_before_the_pattern(prefix: str, pattern: str, expected: str) -> None:
    owner = Owner()

    route = Group(owner, prefix).add_route(pattern, show)

    assert route.pattern == expected


def test_groups_nest() -> None:
    owner = Owner()
    api = Group(owner, "/api", middlewares=[log])
    root = Group(owner, "/", middlewares=[check], parent=api)
    v1 = Group(owner, "/v1", middlewares=[count], parent=root)

    v1.get("/x", show, middlewares=[log])

    assert owner.router.routes[0].pattern == "/api/v1/x"
    assert owner.added == [(v1, (log, check, count, log), None)]
    assert (v1.parent, root.parent, api.parent) == (root, api, None)
    assert [repr(group) for group in (api, root, v1, Group(owner, "/"))] == [
        "<Group /api>",
        "<Group /api>",
        "<Group /api/v1>",
        "<Group />",
    ]


def test_middlewares_count_for_what_is_added_after_them() -> None:
    owner = Owner()
    api = Group(owner, "/api")
    api.get("/before", show)
    early = Group(owner, "/early", parent=api)
    api.use(log, check)
    api.use(count)
    api.get("/after", show)
    early.get("/x", show)
    Group(owner, "/late", parent=api).get("/x", show)

    assert [middlewares for _, middlewares, _ in owner.added] == [
        (),
        (log, check, count),
        (),
        (log, check, count),
    ]


def test_a_group_hands_on_methods_name_limits_and_itself() -> None:
    owner = Owner()
    api = Group(owner, "/api")

    route = api.add_route("/x", show, ["PUT"], "x", [log], "small")

    assert (route.methods, route.name) == (("PUT",), "x")
    assert owner.added == [(api, (log,), "small")]


def test_a_group_owns_the_errors_under_its_prefix() -> None:
    owner = Owner()
    api = Group(owner, "/api")

    api.register_error_handler(404, show)

    assert owner.errors == [(404, show, api)]


def test_a_group_and_its_parent_belong_to_one_application() -> None:
    parent = Group(Owner(), "/api")

    with pytest.raises(RouteError, match=r"'/v1' and its parent <Group /api> belong to two applications"):
        Group(Owner(), "/v1", parent=parent)


@pytest.mark.parametrize("prefix", ["", "api", "api/", "/api/", "//", "/api//", "*"])
def test_a_wrong_prefix_is_an_error(prefix: str) -> None:
    owner = Owner()

    with pytest.raises(RouteError) as caught:
        Group(owner, prefix)

    assert str(caught.value) == (
        f"the prefix of a group starts with '/' and does not end with one: {prefix!r}"
    )


@pytest.mark.parametrize(("prefix", "shown"), [("/api", "/api"), ("/", "/")])
def test_a_regular_expression_has_no_place_in_a_group(prefix: str, shown: str) -> None:
    owner = Owner()

    with pytest.raises(RouteError) as caught:
        Group(owner, prefix).add_route(re.compile(r"/x\d"), show)

    message = f"a regular expression has no place in group {shown}: add '/x\\\\d' to the App"
    assert str(caught.value) == message
    assert owner.added == []
