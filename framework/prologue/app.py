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
from prologue.lifecycle import Lifecycle, ShutdownManager
from prologue.response import HTML, JSON, Response, encode_json
from prologue.results import response_of
from prologue.routing import ALL_METHODS, Converter, Group, Route, TrieRouter, Verbs
from prologue.sending import run_callbacks, send
from prologue.settings import Settings

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from prologue.request import Limits, Request

__all__ = ["App"]

Handler = Callable[..., Any]

_HTML_FIELD = ("Content-Type", HTML)
_JSON_FIELD = ("Content-Type", JSON)


class Endpoint:
    """What a route leads to: the links of its chain, the handler last, and the limits of its body.

    ``handler`` is the handler when it is the only link, else None.
    """

    __slots__ = ("chain", "handler", "limits")

    def __init__(self, chain: tuple[Handler, ...], limits: Limits | None) -> None:
        self.chain = chain
        self.handler = chain[0] if len(chain) == 1 else None
        self.limits = limits

    def __repr__(self) -> str:
        handler = self.chain[-1]
        return f"{handler.__module__}.{getattr(handler, '__qualname__', handler)}"


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
        self.settings = Settings() if settings is None else settings
        self.router = TrieRouter(converters)
        self._find_route = self.router.find_route
        self.lifecycle = Lifecycle()
        self.resources = self.lifecycle.resources
        self.shutdown_manager = ShutdownManager(self.lifecycle)
        self.errors = ErrorHandlers()
        self.context_class = context_class
        self._middlewares: tuple[Handler, ...] = ()
        self._chain: tuple[Handler, ...] = ()
        self._guarded = self.settings.request_timeout is not None or bool(self.settings.trusted_hosts)
        self.on_startup(_load_request)
        for event in startup:
            self.on_startup(event)
        for event in shutdown:
            self.on_shutdown(event)
        for error, handler in (error_handlers or {}).items():
            self.register_error_handler(error, handler)
        self.use(*middlewares)

    def __repr__(self) -> str:
        return f"<App {self.settings.app_name!r} {len(self.routes)} routes, {len(self._middlewares)} middlewares>"

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
            group: the group that adds it.

        Returns:
            The route.

        Raises:
            RouteError: pattern, methods or name are wrong; the message shows where.
            DuplicatedRouteError: a route of the same shape has one of the methods.
            TypeError: handler or middleware cannot be called.
        """
        chain = (*middlewares, handler)
        for link in chain:
            if not callable(link):
                raise TypeError(f"route {pattern!r}: {link!r} is not a callable that takes the Context")
        return self.router.add_route(pattern, Endpoint(chain, limits), methods, name)

    def add_group(self, group: Group) -> None:
        """Make a group known; a Group calls this itself."""
        self.errors.add_group(group)

    def register_converter(
        self, name: str, parse: Callable[[str], Any], format: Callable[[Any], str] = str
    ) -> None:
        """Make ``{parameter:name}`` known; see :meth:`prologue.routing.TrieRouter.register_converter`."""
        self.router.register_converter(name, parse, format)

    def register_error_handler(self, error: Any, handler: Handler, *, group: Group | None = None) -> None:
        """Handle a status, an exception class, or a set, list or tuple of these.

        Args:
            error: a status from 400 to 599 is handled where a response has it and no body; an exception class
                where it or a subclass is raised, the nearest class first.
            handler: takes ``(ctx)`` or ``(ctx, error)``; returns what any handler may return.
            group: handle only what is under its prefix.

        Raises:
            TypeError: ``error`` is none of these, or the handler takes other arguments.
        """
        self.errors.register(error, handler, group)

    def mount(self, prefix: str, application: WSGIApplication, name: str = "") -> None:
        """Hand every request below a prefix to another WSGI application, which sees the rest of the path.

        Args:
            prefix: static text such as ``/legacy``.
            application: any WSGI callable.
            name: for ``url_for`` of the prefix.

        Raises:
            RouteError: the prefix is wrong or taken.
        """
        depth = len([part for part in prefix.split("/") if part])

        def mounted(ctx: Context) -> Response:
            return response_of(application, _shift(ctx.environ, depth))

        methods = (*ALL_METHODS, "HEAD")
        self.add_route(prefix, mounted, methods, name)
        self.add_route(f"{prefix}/*$", mounted, methods)

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
        ctx = self.context_class(self, environ)
        try:
            if not self.lifecycle.started:
                self.lifecycle.startup()
            path = environ.get("PATH_INFO", "")
            try:
                # PERF: two C calls recognise the usual path; any other is decoded and checked in a function.
                if path.isascii() and path.isprintable():
                    ctx.path = path
                else:
                    _decode(ctx, path)
                if self._guarded:
                    self._guard(ctx)
            except HTTPError as error:
                self._refuse(ctx, error)
                return self._finish(ctx, start_response)
            if self._chain:
                ctx._chain = self._chain
                ctx.next()
            else:
                self._route(ctx)
            # PERF: plain text and JSON, without a header set before, need no Response object: it would add
            # half to the cost of a request.
            if ctx._response is None and ctx._after is None:
                result = ctx._result
                kind = type(result)
                if kind is str:
                    body = result.encode("utf-8", "replace")
                    headers = [_HTML_FIELD, ("Content-Length", str(len(body)))]
                elif kind is dict or kind is list:
                    body = encode_json(result)
                    headers = [_JSON_FIELD, ("Content-Length", str(len(body)))]
                else:
                    return self._finish(ctx, start_response)
                if environ["REQUEST_METHOD"] != "HEAD":
                    start_response("200 OK", headers)
                    return [body]
            return self._finish(ctx, start_response)
        except Exception as error:
            return self._fail(ctx, error, start_response)
        except BaseException:
            run_callbacks(ctx)
            raise

    def _guard(self, ctx: Context) -> None:
        """Do what only some settings ask of every request."""
        if self.settings.request_timeout is not None:
            ctx._deadline = time.monotonic() + self.settings.request_timeout
        trusted = self.settings.trusted_hosts
        if trusted:
            from prologue.request import valid_host

            if not valid_host(ctx.environ.get("HTTP_HOST", ""), trusted):
                raise HTTPError(400, "the Host header names no host of this site")

    def _refuse(self, ctx: Context, error: HTTPError) -> None:
        """Answer a request that is not routed: of all middlewares the outermost alone has a hand in it."""

        def refuse(_ctx: Context) -> None:
            raise error

        ctx._chain = (*self._chain[:2], refuse)
        ctx.next()

    def _finish(self, ctx: Context, start_response: StartResponse) -> Iterable[bytes]:
        if ctx.response.status >= 400:
            self.errors.complete(ctx)
        return send(ctx.response, ctx, start_response)

    def _fail(self, ctx: Context, error: Exception, start_response: StartResponse) -> Iterable[bytes]:
        try:
            self.errors.answer(ctx, error)
            return send(ctx.response, ctx, start_response)
        except BaseException:
            run_callbacks(ctx)
            raise

    def _answer_errors(self, ctx: Context) -> None:
        """Run the rest of the chain and make a response of what it raises."""
        try:
            ctx.next()
            if ctx._response is not None or ctx._result is None or type(ctx._result) is tuple:
                if ctx.response.status >= 400:
                    self.errors.complete(ctx)
        except Exception as error:
            self.errors.answer(ctx, error)

    def _route(self, ctx: Context) -> None:
        """Find the route and run its chain: the link behind the global middlewares."""
        method = ctx.environ["REQUEST_METHOD"]
        match = self._find_route(method, ctx.path)
        if match is None:
            self._no_route(ctx, method)
            return
        ctx.route = match.route
        ctx.path_params = match.params
        endpoint = match.target
        if endpoint.handler is not None:
            # PERF: a handler without middlewares of its own is called here, as `Context.next` would.
            result = endpoint.handler(ctx)
            if result is not None:
                if ctx._response is None:
                    ctx._result = result
                else:
                    ctx.answer(result)
            return
        ctx._chain = endpoint.chain
        ctx._index = 0
        ctx.next()
        # A global middleware that calls next() again must not run the route's chain a second time.
        ctx._index = len(endpoint.chain)

    def _no_route(self, ctx: Context, method: str) -> None:
        allowed = self.router.allowed_methods(ctx.path)
        if not allowed:
            ctx.response.status = 404
            return
        ctx.response.headers["Allow"] = ", ".join(sorted({*allowed, "OPTIONS"}))
        ctx.response.status = 204 if method == "OPTIONS" else 405

    def make_request(self, ctx: Context) -> Request:
        """Make the werkzeug request of a Context, with the limits of its route."""
        from prologue.request import Limits, Request

        settings = self.settings
        own = (ctx.route.target.limits if ctx.route is not None else None) or Limits()
        request = Request(ctx.environ)
        request.apply_limits(
            settings.max_body_size if own.body_size is None else own.body_size,
            settings.max_form_memory_size if own.form_memory_size is None else own.form_memory_size,
            settings.max_form_parts if own.form_parts is None else own.form_parts,
        )
        if request.mimetype == "multipart/form-data":
            ctx.after_response(request.close)
        return request

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


def _decode(ctx: Context, path: str) -> None:
    """Decode a WSGI path (PEP 3333: its bytes as Latin-1) from UTF-8."""
    text = path if path.isascii() else path.encode("latin-1", "replace").decode("utf-8", "replace")
    ctx.path = text.replace("\0", "\ufffd")
    if "\0" in path:
        raise HTTPError(400, "the path holds a NUL character")


def _shift(environ: WSGIEnvironment, depth: int) -> WSGIEnvironment:
    """Return an environ whose first path segments have moved to SCRIPT_NAME."""
    rest = environ.get("PATH_INFO", "")
    consumed = ""
    for _ in range(depth):
        stripped = rest.lstrip("/")
        segment, slash, tail = stripped.partition("/")
        consumed += f"/{segment}"
        rest = slash + tail
    return {**environ, "SCRIPT_NAME": environ.get("SCRIPT_NAME", "") + consumed, "PATH_INFO": rest}
