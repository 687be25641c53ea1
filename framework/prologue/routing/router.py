"""The router: patterns in the trie, regular expressions after it, names for URL building."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from prologue.errors import DuplicatedReversedRouteError, RouteBuildError, RouteError
from prologue.routing.converters import BUILTIN_CONVERTERS, GREEDY_CONVERTER, Converter
from prologue.routing.pattern import Segment, parse_pattern
from prologue.routing.route import Route
from prologue.routing.trie import Match, Trie

__all__ = ["TrieRouter"]


class TrieRouter(Trie):
    """Find the route of a request in time linear in its path, whatever the number of routes.

    Usable alone; a target is any object. Routes are best added before the first lookup: each one
    added later makes the following lookups build their states anew.

    Args:
        converters: more converters for typed parameters.

    Thread safety: lookups run in any number of threads without a lock, also while routes are added.
    Fork safety: nothing needs to be done; a child goes on with what its parent had.

    Example:
        >>> router = TrieRouter()
        >>> route = router.add_route("/users/{id:int}", "show", name="user")
        >>> router.find_route("GET", "/users/42").params
        {'id': 42}
        >>> router.build_url("user", {"id": 42})
        '/users/42'
    """

    def __init__(self, converters: Iterable[Converter] = ()) -> None:
        super().__init__()
        self._converters = {converter.name: converter for converter in BUILTIN_CONVERTERS}
        self._segments: dict[str, Segment] = {}
        self._routes: list[Route] = []
        self._expressions: tuple[Route, ...] = ()
        self._names: dict[str, Route] = {}
        for converter in converters:
            self.add_converter(converter)

    def __repr__(self) -> str:
        return f"<TrieRouter {len(self._routes)} routes, {self._nodes} nodes, depth {self._depth}>"

    @property
    def routes(self) -> tuple[Route, ...]:
        """Every route, in order of registration."""
        return tuple(self._routes)

    def add_converter(self, converter: Converter) -> None:
        """Make a converter known to the patterns that are added later.

        Raises:
            RouteError: the name is taken.
        """
        if converter.name in self._converters or converter.name == GREEDY_CONVERTER:
            raise RouteError(f"converter {converter.name!r} is there already")
        self._converters[converter.name] = converter

    def register_converter(
        self, name: str, parse: Callable[[str], Any], format: Callable[[Any], str] = str
    ) -> None:
        """Make ``{parameter:name}`` known to the patterns that are added later.

        Args:
            name: letters, digits and underscores.
            parse: takes the decoded text, returns the value; ValueError says that it is no match.
            format: takes a value, returns the text for a URL; default ``str``.

        Raises:
            RouteError: the name is taken or is not an identifier.
        """
        self.add_converter(Converter(name, parse, format))

    def add_route(
        self,
        pattern: str | re.Pattern[str],
        target: Any,
        methods: Sequence[str] = ("GET",),
        name: str = "",
    ) -> Route:
        """Add a route.

        Args:
            pattern: a pattern (see :mod:`prologue.routing`), or a compiled regular expression that the
                whole path must match, tried after all patterns.
            target: what a match hands out.
            methods: request methods; GET answers HEAD too where no other route does.
            name: for :meth:`build_url`; several methods of one pattern may share it.

        Returns:
            The route.

        Raises:
            RouteError: pattern, methods or name are wrong; the message shows where.
            DuplicatedRouteError: a route of the same shape has one of the methods.
            DuplicatedReversedRouteError: another pattern has the name.
        """
        if isinstance(pattern, re.Pattern):
            route = Route(pattern, target, methods, name)
            self._expressions = (*self._expressions, route)
        else:
            route = Route(parse_pattern(pattern, self._converters, self._segments), target, methods, name)
            named = self._names.get(name) if name else None
            if named is not None and named.pattern != route.pattern:
                raise DuplicatedReversedRouteError(
                    f"the name {name!r} of route {route.pattern} is that of route {named.pattern}"
                )
            self._add(route)
            if name:
                self._names.setdefault(name, route)
        self._routes.append(route)
        return route

    def _find_slowly(self, method: str, path: str) -> Match | None:
        match = super()._find_slowly(method, path)
        return match if match is not None else self._find_expression(method, path)

    def _find_expression(self, method: str, path: str) -> Match | None:
        for wanted in (method, "GET") if method == "HEAD" else (method,):
            for route in self._expressions:
                if wanted in route.methods and (params := _match_expression(route, path)) is not None:
                    return Match(params, route)
        return None

    def allowed_methods(self, path: str) -> tuple[str, ...]:
        """Return the methods, sorted, that some route has for a path: what ``Allow`` says in a 405.

        Empty when no route has the path.
        """
        allowed = super().allowed_methods(path)
        matching = [route for route in self._expressions if _match_expression(route, path) is not None]
        if not matching:
            return allowed
        methods = {*allowed, *(method for route in matching for method in route.methods)}
        return tuple(sorted(methods | {"HEAD"} if "GET" in methods else methods))

    def build_url(
        self, name: str, parameters: Mapping[str, Any] | None = None, query: Mapping[str, Any] | None = None
    ) -> str:
        """Write the URL of a named route: path, and query when there is one, percent-encoded.

        Args:
            name: the name of the route.
            parameters: a value for each of its parameters, and no others.
            query: query parameters; a list or tuple repeats its key.

        Raises:
            RouteBuildError: no route has the name; a parameter is missing, unknown, or of a value that
                the route would not read back.
        """
        route = self._names.get(name)
        if route is None:
            known = ", ".join(sorted(self._names)) or "none"
            raise RouteBuildError(f"no route has the name {name!r}; there are: {known}")
        path = route.build(parameters or {})
        return f"{path}?{urlencode(query, doseq=True)}" if query else path


def _match_expression(route: Route, path: str) -> dict[str, Any] | None:
    found = route.expression.fullmatch(path) if route.expression is not None else None
    if found is None:
        return None
    return {name: value for name, value in found.groupdict().items() if value is not None}
