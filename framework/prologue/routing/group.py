"""Verbs and groups: the two ways in which routes are written down."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeVar, cast, overload

from prologue.errors import RouteError
from prologue.routing.route import Route

__all__ = ["ALL_METHODS", "Group", "Verbs"]

Handler = Callable[..., Any]
H = TypeVar("H", bound=Handler)

#: What ``all`` registers, as the original does.
ALL_METHODS = ("GET", "POST", "PUT", "DELETE", "TRACE", "OPTIONS", "CONNECT", "PATCH")


class _Verb(Protocol):
    """A method of :class:`Verbs`, bound: call it with a handler, or use what it returns as a decorator."""

    @overload
    def __call__(
        self,
        pattern: str | re.Pattern[str],
        handler: None = None,
        name: str = "",
        middlewares: Iterable[Handler] = (),
        limits: Any = None,
    ) -> Callable[[H], H]: ...

    @overload
    def __call__(
        self,
        pattern: str | re.Pattern[str],
        handler: H,
        name: str = "",
        middlewares: Iterable[Handler] = (),
        limits: Any = None,
    ) -> H: ...


def _verb(*methods: str) -> _Verb:
    def verb(
        self: Verbs,
        pattern: str | re.Pattern[str],
        handler: Handler | None = None,
        name: str = "",
        middlewares: Iterable[Handler] = (),
        limits: Any = None,
    ) -> Any:
        return self.route(pattern, handler, methods, name, middlewares, limits)

    verb.__doc__ = f"Register a handler for {', '.join(methods)}; see :meth:`route`."
    return cast(_Verb, verb)


class Verbs(ABC):
    """The verbs, on whatever can add a route: each as a call and as a decorator."""

    __slots__ = ()

    @abstractmethod
    def add_route(
        self,
        pattern: str | re.Pattern[str],
        handler: Handler,
        methods: Sequence[str] = ("GET",),
        name: str = "",
        middlewares: Iterable[Handler] = (),
        limits: Any = None,
    ) -> Route:
        """Add a route; see :meth:`prologue.App.add_route`."""

    @overload
    def route(
        self,
        pattern: str | re.Pattern[str],
        handler: H,
        methods: Sequence[str] = ("GET",),
        name: str = "",
        middlewares: Iterable[Handler] = (),
        limits: Any = None,
    ) -> H: ...

    @overload
    def route(
        self,
        pattern: str | re.Pattern[str],
        handler: None = None,
        methods: Sequence[str] = ("GET",),
        name: str = "",
        middlewares: Iterable[Handler] = (),
        limits: Any = None,
    ) -> Callable[[H], H]: ...

    def route(
        self,
        pattern: str | re.Pattern[str],
        handler: Handler | None = None,
        methods: Sequence[str] = ("GET",),
        name: str = "",
        middlewares: Iterable[Handler] = (),
        limits: Any = None,
    ) -> Any:
        """Register a handler for a pattern and some methods; without a handler, return a decorator.

        Args:
            pattern: see :mod:`prologue.routing`.
            handler: takes the Context, returns the answer.
            methods: the request methods.
            name: for ``url_for``.
            middlewares: run for this route alone.
            limits: what a body may cost, in place of the settings.

        Returns:
            The handler, unchanged; or a decorator that returns it.

        Raises:
            RouteError: pattern, methods or name are wrong.
            DuplicatedRouteError: a route of the same shape has one of the methods.
        """

        def register(function: H) -> H:
            self.add_route(pattern, function, methods, name, middlewares, limits)
            return function

        return register if handler is None else register(handler)

    get = _verb("GET")
    head = _verb("HEAD")
    post = _verb("POST")
    put = _verb("PUT")
    patch = _verb("PATCH")
    delete = _verb("DELETE")
    options = _verb("OPTIONS")
    trace = _verb("TRACE")
    connect = _verb("CONNECT")
    all = _verb(*ALL_METHODS)


class _Owner(Protocol):
    """What a group needs of the application."""

    def add_route(
        self,
        pattern: str | re.Pattern[str],
        handler: Handler,
        methods: Sequence[str] = ...,
        name: str = ...,
        middlewares: Iterable[Handler] = ...,
        limits: Any = ...,
        *,
        group: Group | None = ...,
    ) -> Route: ...

    def register_error_handler(self, error: Any, handler: Handler, *, group: Group | None = ...) -> None: ...


class Group(Verbs):
    """Routes under one prefix, with middlewares and error handlers of their own.

    Args:
        app: the application that gets the routes.
        prefix: starts with a slash, does not end with one (but ``/`` alone adds nothing); may hold
            parameters.
        middlewares: run for the routes of the group, between those of its parent and those of the route.
        parent: the group that this one is inside of.

    Raises:
        RouteError: the prefix is wrong, or the parent belongs to another application.

    The middlewares of a group are those it had when a route was added to it.
    """

    __slots__ = ("app", "middlewares", "parent", "prefix")

    def __init__(
        self,
        app: _Owner,
        prefix: str,
        middlewares: Iterable[Handler] = (),
        parent: Group | None = None,
    ) -> None:
        if not prefix.startswith("/") or (prefix != "/" and prefix.endswith("/")):
            raise RouteError(f"the prefix of a group starts with '/' and does not end with one: {prefix!r}")
        if parent is not None and parent.app is not app:
            raise RouteError(f"group {prefix!r} and its parent {parent!r} belong to two applications")
        self.app: _Owner = app
        self.parent: Group | None = parent
        self.prefix: str = (parent.prefix if parent else "") + ("" if prefix == "/" else prefix)
        self.middlewares: tuple[Handler, ...] = (*(parent.middlewares if parent else ()), *middlewares)

    def __repr__(self) -> str:
        return f"<Group {self.prefix or '/'}>"

    def use(self, *middlewares: Handler) -> None:
        """Add middlewares for the routes that are added to this group from now on."""
        self.middlewares += middlewares

    def add_route(
        self,
        pattern: str | re.Pattern[str],
        handler: Handler,
        methods: Sequence[str] = ("GET",),
        name: str = "",
        middlewares: Iterable[Handler] = (),
        limits: Any = None,
    ) -> Route:
        """Add a route under the prefix, its middlewares behind the group's.

        The arguments are those of :meth:`prologue.App.add_route`.

        Raises:
            DuplicatedRouteError: a route of the same shape has one of the methods.
            RouteError: pattern, methods or name are wrong; also when the pattern is a regular expression,
                which a prefix cannot be put before.
        """
        if isinstance(pattern, re.Pattern):
            raise RouteError(
                f"a regular expression has no place in group {self.prefix or '/'}:"
                f" add {pattern.pattern!r} to the App"
            )
        path = pattern if pattern.startswith("/") else f"/{pattern}"
        middlewares = (*self.middlewares, *middlewares)
        return self.app.add_route(self.prefix + path, handler, methods, name, middlewares, limits, group=self)

    def register_error_handler(self, error: Any, handler: Handler) -> None:
        """Handle errors of every request under the prefix.

        The arguments are those of :meth:`prologue.App.register_error_handler`.
        """
        self.app.register_error_handler(error, handler, group=self)
