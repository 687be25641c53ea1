"""The App: puts router, lifecycle, resources and error handlers together, and dispatches."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from prologue.context import Context
from prologue.errors import HTTPError
from prologue.failures import ErrorHandlers
from prologue.lazy import LazyResource
from prologue.lifecycle import Lifecycle, ShutdownManager, check_callable
from prologue.response import HTML, JSON, Response, Whole, encode_json
from prologue.results import response_of
from prologue.routing import ALL_METHODS, Converter, Group, Route, TrieRouter, Verbs
from prologue.sending import run_callbacks, send
from prologue.settings import Settings

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from prologue.bodies import Limits

__all__ = ["App"]

Handler = Callable[..., Any]

_HTML_FIELD = ("Content-Type", HTML)
_JSON_FIELD = ("Content-Type", JSON)
# PERF: of small bodies; a plain request takes 5 % less than with a tuple and a text made each time.
_LENGTH_FIELDS = tuple(("Content-Length", str(length)) for length in range(1024))


class Endpoint:
    """What a route leads to: the links of its chain, the handler last, the limits of its body, its group.

    ``handler`` takes the Context and runs them all: it is the handler itself where that is the only link.
    """

    __slots__ = ("chain", "group", "handler", "limits")

    def __init__(self, chain: tuple[Handler, ...], limits: Limits | None, group: Group | None) -> None:
        self.chain = chain
        # PERF: a handler without middlewares is called at once, as `Context.next` would.
        self.handler: Handler = chain[0] if len(chain) == 1 else self._run_chain
        self.limits = limits
        self.group = group

    def _run_chain(self, ctx: Context) -> None:
        ctx._chain = self.chain
        ctx._index = 0
        ctx.next()

    def __repr__(self) -> str:
        handler = self.chain[-1]
        return f"{handler.__module__}.{getattr(handler, '__qualname__', handler)}"


class Mount:
    """The handler that hands a request on to another WSGI application."""

    __slots__ = ("application", "depth")

    def __init__(self, application: WSGIApplication, depth: int) -> None:
        self.application = application
        self.depth = depth

    def __call__(self, ctx: Context) -> Response:
        return response_of(self.application, _shift(ctx, self.depth))


class App(Verbs):
    """A WSGI application.

    Args:
        settings: default ``Settings()``.
        middlewares: run for every request, in this order.
        startup: called once per process, after fork and before the first request.
        shutdown: called once at the end of a process that was started, in reverse order.
        error_handlers: handlers by status, exception class, or a tuple of these.
        converters: more converters for typed path parameters.
        context_class: a subclass of Context for the handlers of this application.

    Raises:
        TypeError: the settings are no Settings, a middleware or a handler cannot be called, or an error
            cannot be handled.

    Thread safety: an App is shared by all threads once it serves; routes, middlewares and handlers are
    registered before.
    Fork safety: what was opened before a fork is forgotten in the child and made anew.

    Example:
        >>> app = App()
        >>> @app.get("/")
        ... def hello(ctx):
        ...     return "<h1>Hello, Prologue!</h1>"
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        middlewares: Iterable[Handler] = (),
        startup: Iterable[Callable[[], object]] = (),
        shutdown: Iterable[Callable[[], object]] = (),
        error_handlers: Mapping[Any, Handler] | None = None,
        converters: Iterable[Converter] = (),
        context_class: type[Context] = Context,
    ) -> None:
        converters = tuple(converters)
        self.router = TrieRouter(converters)
        self._find_route = self.router.find_route
        self.lifecycle = Lifecycle()
        self.resources = self.lifecycle.resources
        self.shutdown_manager = ShutdownManager(self.lifecycle)
        self.errors = ErrorHandlers(converters)
        self.context_class = context_class
        self._middlewares: tuple[Handler, ...] = ()
        self._chain: tuple[Handler, ...] = ()
        self.settings = Settings() if settings is None else settings
        self.on_startup(_load_request)
        for event in startup:
            self.on_startup(event)
        for event in shutdown:
            self.on_shutdown(event)
        for error, handler in (error_handlers or {}).items():
            self.register_error_handler(error, handler)
        self.use(*middlewares)

    def __repr__(self) -> str:
        counts = f"{len(self.routes)} routes, {len(self._middlewares)} middlewares"
        return f"<App {self.settings.app_name!r} {counts}>"

    @property
    def settings(self) -> Settings:
        """The settings; assign others before serving: ``app.settings = app.settings.replace(debug=True)``."""
        return self._settings

    @settings.setter
    def settings(self, settings: Settings) -> None:
        if not isinstance(settings, Settings):
            raise TypeError(f"an App takes Settings(...), not {settings!r:.200}")
        self._settings = settings
        self._guarded = settings.request_timeout is not None or bool(settings.trusted_hosts)
        self._choose_direct()

    # -- assembling -----------------------------------------------------------------------------------

    @property
    def routes(self) -> tuple[Route, ...]:
        """Every route, in order of registration."""
        return self.router.routes

    @property
    def middlewares(self) -> tuple[Handler, ...]:
        """The global middlewares, in order."""
        return self._middlewares

    def use(self, *middlewares: Handler) -> None:
        """Add global middlewares: ``def timing(ctx): …; ctx.next(); …``."""
        for middleware in middlewares:
            if not callable(middleware):
                raise TypeError(f"a middleware is a callable that takes the Context, not {middleware!r}")
        self._middlewares += middlewares
        outermost, inner = self._middlewares[:1], self._middlewares[1:]
        # Errors become a response inside the outermost middleware, which so sees what is sent.
        self._chain = (*outermost, self._answer_errors, *inner, self._route) if outermost else ()
        self._choose_direct()

    def _choose_direct(self) -> None:
        """Look static paths up first, unless middlewares or settings have a say before the handler."""
        self._direct = {} if self._chain or self._guarded else self.router.static

    def add_route(
        self,
        pattern: str | re.Pattern[str],
        handler: Handler,
        methods: Sequence[str] = ("GET",),
        name: str = "",
        middlewares: Iterable[Handler] = (),
        limits: Limits | None = None,
        *,
        group: Group | None = None,
    ) -> Route:
        """Add a route.

        Args:
            pattern: see :mod:`prologue.routing`; or a compiled regular expression.
            handler: takes the Context; returns the answer, see :mod:`prologue.results`.
            methods: the request methods; GET answers HEAD too.
            name: for ``url_for``.
            middlewares: run for this route, behind the global ones and those of its group.
            limits: what a body may cost, in place of the settings.
            group: the group that adds it; its error handlers are asked first.

        Returns:
            The route.

        Raises:
            RouteError: pattern, methods or name are wrong; the message shows where.
            DuplicatedRouteError: a route of the same shape has one of the methods.
            TypeError: handler or middleware cannot be called, or the limits are none.
        """
        chain = (*middlewares, handler)
        for link in chain:
            if not callable(link):
                raise TypeError(f"route {pattern!r}: {link!r} is not a callable that takes the Context")
        if limits is not None:
            from prologue.bodies import Limits

            if not isinstance(limits, Limits):
                raise TypeError(f"route {pattern!r}: limits are Limits(body_size=...), not {limits!r:.200}")
        return self.router.add_route(pattern, Endpoint(chain, limits, group), methods, name)

    def register_converter(
        self, name: str, parse: Callable[[str], Any], format: Callable[[Any], str] = str
    ) -> None:
        """Make ``{parameter:name}`` known; see :meth:`prologue.routing.TrieRouter.register_converter`."""
        converter = Converter(name, parse, format)
        self.router.add_converter(converter)
        self.errors.add_converter(converter)

    def register_error_handler(self, error: Any, handler: Handler, *, group: Group | None = None) -> None:
        """Handle a status, an exception class, or a set, list or tuple of these.

        Args:
            error: a status from 400 to 599 is handled where a response has it and no body; an exception class
                where it or a subclass is raised, the nearest class first.
            handler: takes ``(ctx)`` or ``(ctx, error)``, both without a default; returns what any handler may
                return. Its answer has the status of the error, 500 for an exception without one, unless it
                has another than 200 or spells it out: ``return page, 200``.
            group: handle only what is under its prefix.

        Raises:
            TypeError: ``error`` is none of these, or the handler takes other arguments.
        """
        self.errors.register(error, handler, group)

    def mount(self, prefix: str, application: WSGIApplication, name: str = "") -> None:
        """Hand every request below a prefix to another WSGI application, which sees the rest of the path.

        More specific routes win; a route at the prefix itself is added before and keeps its methods.

        Args:
            prefix: static text such as ``/legacy``.
            application: any WSGI callable.
            name: for ``url_for`` of the prefix.

        Raises:
            RouteError: the prefix is wrong or taken.
            TypeError: the application cannot be called.
        """
        check_callable(application, "a WSGI application")
        parts = [part for part in prefix.split("/") if part]
        path = "/" + "/".join(parts)
        mounted = Mount(application, len(parts))
        methods = {*ALL_METHODS, "HEAD"}
        self.add_route(f"{prefix}/*$", mounted, tuple(methods))
        taken = {method for route in self.routes if route.pattern == path for method in route.methods}
        free = methods - taken - ({"HEAD"} if "GET" in taken else set())
        if free:
            self.add_route(path, mounted, tuple(free), name)

    def on_startup(self, function: Callable[[], object]) -> Callable[[], object]:
        """Call a function once per process, after fork and before the first request; also a decorator."""
        return self.lifecycle.on_startup(function)

    def on_shutdown(self, function: Callable[[], object]) -> Callable[[], object]:
        """Call a function once when a process that was started ends, last in first out; also a decorator."""
        return self.lifecycle.on_shutdown(function)

    def lazy(self, name: str, loader: Callable[[], Any], **options: Any) -> LazyResource[Any]:
        """Put a LazyResource among the resources: ``app.resources[name]`` loads it on first use.

        Args:
            name: not taken yet.
            loader: makes the value.
            options: ``close`` and ``ttl``, as for :class:`prologue.LazyResource`.
        """
        resource: LazyResource[Any] = LazyResource(loader, name=name, **options)
        self.resources.add(name, resource)
        return resource

    def url_for(
        self,
        name: str,
        parameters: Mapping[str, Any] | None = None,
        query: Mapping[str, Any] | None = None,
        *,
        script_name: str = "",
    ) -> str:
        """Return the path of a named route, percent-encoded.

        Args:
            name: the route's name.
            parameters: a value for each of its parameters.
            query: query parameters.
            script_name: where the application is mounted; :meth:`Context.url_for` knows it.

        Raises:
            RouteBuildError: no such name; a parameter is missing, unknown or unfit.
        """
        prefix = quote(script_name.encode("latin-1", "replace").rstrip(b"/"), safe="/!$&'()*+,;=:@")
        return prefix + self.router.build_url(name, parameters, query)

    # -- dispatching ----------------------------------------------------------------------------------

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request (PEP 3333)."""
        path = environ.get("PATH_INFO", "")
        # PERF: a static path is found here: a plain request takes 0.55 µs, not 0.7.
        routes = self._direct.get(path)
        route = None if routes is None else routes.get(environ["REQUEST_METHOD"])
        if route is None:
            ctx = self.context_class(self, environ, path)
        else:
            ctx = self.context_class(self, environ, path, {}, route)
        try:
            if not self.lifecycle.started:
                self.lifecycle.startup()
            if route is not None:
                result = route.target.handler(ctx)
            else:
                # PERF: two C calls recognise the usual path; any other is decoded and checked in a function.
                if self._guarded or not (path.isascii() and path.isprintable()):
                    self._check(ctx, path)
                if self._chain:
                    ctx._chain = self._chain
                    ctx.next()
                    result = None
                else:
                    result = self._route(ctx)
            if result is None:
                result = ctx._result
            # PERF: plain text, JSON and what a cache kept, without a header set before, need no Response.
            content_type = None
            whole = None
            if ctx._response is None and not ctx._after and environ["REQUEST_METHOD"] != "HEAD":
                kind = type(result)
                if kind is str:
                    content_type = _HTML_FIELD
                    try:
                        body = result.encode()
                    except UnicodeEncodeError:
                        body = result.encode("utf-8", "replace")
                elif kind is dict or kind is list:
                    content_type = _JSON_FIELD
                    body = encode_json(result)
                elif kind is Whole:
                    whole = result
                else:
                    ctx._result = result
            elif result is not None:
                ctx.answer(result)
        except Exception as error:
            return self._finish(ctx, start_response, error)
        except BaseException:
            run_callbacks(ctx)
            raise
        if whole is not None:
            start_response("200 OK", whole.headers)
            return whole.body  # type: ignore[no-any-return]
        if content_type is None:
            return self._finish(ctx, start_response)
        length = len(body)
        # PERF: f"{n}" takes 40 % of the time of str(n).
        length_field = _LENGTH_FIELDS[length] if length < 1024 else ("Content-Length", f"{length}")
        start_response("200 OK", [content_type, length_field])
        return [body]

    def _check(self, ctx: Context, path: str) -> None:
        """Set path and deadline, and refuse what no handler should see."""
        ctx.path = _decode(path).replace("\0", "\ufffd")
        settings = self.settings
        if settings.request_timeout is not None:
            ctx._deadline = time.monotonic() + settings.request_timeout
        problem = "the path holds a NUL character" if "\0" in path else ""
        if settings.trusted_hosts:
            from prologue.request import valid_host

            if not valid_host(ctx.environ.get("HTTP_HOST", ""), tuple(settings.trusted_hosts)):
                problem = "the Host header names no host of this site"
        if problem:
            ctx.error = HTTPError(400, problem)
            if not self._chain:
                raise ctx.error

    def _finish(
        self, ctx: Context, start_response: StartResponse, error: Exception | None = None
    ) -> Iterable[bytes]:
        """Answer an error, if there is one, and send the response; from then on errors are the server's."""
        try:
            try:
                if error is not None:
                    raise error
                response = ctx._result
                # PERF: nobody has looked at it, and nobody will write on it: it is sent as the handler
                # returned it. The copy that `ctx.response` makes takes a seventh of such a request.
                if type(response) is not Response:
                    response = ctx.response
                if response.status >= 400:
                    self.errors.complete(ctx)
                    response = ctx.response
            except Exception as error:
                self.errors.answer(ctx, error)
                response = ctx.response
            return send(response, ctx, start_response)
        except BaseException:
            run_callbacks(ctx)
            raise

    def _answer_errors(self, ctx: Context) -> None:
        """Run the rest of the chain and make a response of what it raises."""
        try:
            if ctx.error is not None:
                raise ctx.error  # what `_check` found: it is answered here, so that the outermost sees it
            ctx.next()
            # PERF: these become a response when somebody asks for it: they cannot fail, and have status 200.
            lazy = ctx._response is None and type(ctx._result) in (str, Whole)
            if not lazy and ctx.response.status >= 400:
                self.errors.complete(ctx)
        except Exception as error:
            self.errors.answer(ctx, error)

    def _route(self, ctx: Context) -> Any:
        """Find the route and run its chain: the link behind the global middlewares."""
        method = ctx.environ["REQUEST_METHOD"]
        match = self._find_route(method, ctx.path)
        if match is None:
            self._no_route(ctx, method)
            return None
        ctx.route = match.route
        ctx.path_params = match.params
        return match.route.target.handler(ctx)

    def _no_route(self, ctx: Context, method: str) -> None:
        allowed = self.router.allowed_methods(ctx.path)
        if not allowed:
            ctx.response.status = 404
            return
        ctx.response.headers["Allow"] = ", ".join(sorted({*allowed, "OPTIONS"}))
        ctx.response.status = 204 if method == "OPTIONS" else 405

    def run(self, host: str | None = None, port: int | None = None, **options: Any) -> None:
        """Serve the application: gunicorn inside this process, or the development server in debug.

        Args:
            host: default ``settings.address``.
            port: default ``settings.port``.
            options: ``workers``, ``threads`` and any other setting of gunicorn.

        Raises:
            MissingExtraError: gunicorn is not installed.
        """
        from prologue.server import run

        run(self, host=host, port=port, **options)


def _load_request() -> None:
    """Import what the first request that is looked into would have to wait for."""
    import prologue.request  # noqa: F401


def _decode(path: str) -> str:
    """Decode a WSGI path (PEP 3333: its bytes as Latin-1) from UTF-8."""
    return path if path.isascii() else path.encode("latin-1", "replace").decode("utf-8", "replace")


def _shift(ctx: Context, depth: int) -> WSGIEnvironment:
    """Return an environ whose first path segments have moved to SCRIPT_NAME."""
    environ = ctx.environ
    rest = environ.get("PATH_INFO", "")
    if ctx.path != _decode(rest):
        rest = ctx.path.encode("utf-8", "replace").decode("latin-1")  # a middleware has rewritten it
    consumed = ""
    for _ in range(depth):
        segment, slash, tail = rest.lstrip("/").partition("/")
        consumed += f"/{segment}"
        rest = slash + tail
    return {**environ, "SCRIPT_NAME": environ.get("SCRIPT_NAME", "") + consumed, "PATH_INFO": rest}
