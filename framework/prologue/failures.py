"""Errors on their way to an answer: who handles them, what is logged, what the client sees."""

from __future__ import annotations

import inspect
import logging
import math
import traceback
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeGuard

from prologue.errors import DuplicatedRouteError, HTTPError, LeaseError, PoolError
from prologue.response import Headers, Response, error_page
from prologue.results import response_of, to_response
from prologue.routing import Converter, Group, TrieRouter
from prologue.sending import discard

if TYPE_CHECKING:
    from prologue.context import Context

__all__ = ["ErrorHandlers"]

logger = logging.getLogger("prologue")

Handler = Callable[..., Any]
Table = dict[int | type[BaseException], Handler]

_LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "[::1]")
_PROXY_HEADERS = ("HTTP_FORWARDED", "HTTP_X_FORWARDED", "HTTP_X_REAL_IP", "HTTP_VIA")


class ErrorHandlers:
    """The error handlers of an application and of its groups.

    A handler takes the Context, or the Context and the exception, and returns what any handler may return.
    Those of the innermost group come first, then those of its parents, then the application's; within each,
    the class of an exception before its status.

    Args:
        converters: those of the application, which prefixes of groups may name.
    """

    def __init__(self, converters: Iterable[Converter] = ()) -> None:
        self._tables: dict[Group | None, Table] = {None: {}}
        #: Groups with error handlers by prefix, and where to find them by path.
        self._groups: dict[str, list[Group]] = {}
        self._prefixes = TrieRouter(converters)

    def add_converter(self, converter: Converter) -> None:
        """Make a converter known to the prefixes of groups."""
        self._prefixes.add_converter(converter)

    def register(self, error: Any, handler: Handler, group: Group | None) -> None:
        """Register a handler for a status, an exception class, or several of them.

        Raises:
            TypeError: ``error`` is neither; or the handler takes neither one nor two arguments.
        """
        errors = tuple(error) if isinstance(error, Iterable) else (error,)
        for one in errors:
            is_status = isinstance(one, int) and 400 <= one <= 599
            if not is_status and not (isinstance(one, type) and issubclass(one, Exception)):
                raise TypeError(
                    f"an error handler is for a status from 400 to 599 or an Exception class, not {one!r}"
                )
        run = handler if _takes_error(handler) else lambda ctx, _: handler(ctx)
        if group is not None and group not in self._tables:
            self._add_group(group)
        self._tables[group].update(dict.fromkeys(errors, run))

    def _add_group(self, group: Group) -> None:
        self._tables[group] = {}
        groups = self._groups.setdefault(group.prefix, [])
        groups.append(group)
        if len(groups) == 1:
            try:
                self._prefixes.add_route(group.prefix or "/", groups)
                self._prefixes.add_route(f"{group.prefix}/*$", groups)
            except DuplicatedRouteError:
                # Another prefix differs in the names of parameters only: what no route matches is the
                # other's, what a route of this group matches is its own.
                pass

    def answer(self, ctx: Context, error: Exception) -> None:
        """Set the response for an exception: by the nearest handler of its class, else by its status.

        What was set on the response before is dropped: it belonged to an answer that there will not be.
        """
        discard(ctx)
        ctx.error = error
        handler = self._find(ctx, type(error).__mro__)
        if handler is not None:
            ctx.response = Response(b"", _status_of(error))
            self._run(handler, ctx)
        else:
            ctx.response = _response_for(ctx, error)
        self.complete(ctx)

    def complete(self, ctx: Context) -> None:
        """Give an error response without a body one, by the handler of its status, else a plain page."""
        response = ctx.response
        status = response.status
        if status < 400 or response.body or response.stream is not None:
            return
        handler = self._find(ctx, (status,))
        # A new one: a handler may return the same response every time. The type of no body goes.
        fields = [field for field in response.headers if field[0].lower() != "content-type"]
        ctx.response = Response(b"" if handler else _page(status), status, Headers.unchecked(fields))
        if handler is not None:
            self._run(handler, ctx)
            response = ctx.response
            if response.status >= 400 and not response.body and response.stream is None:
                response.set_body(_page(response.status))

    def _run(self, handler: Handler, ctx: Context) -> None:
        """Let an error handler answer; a 200 that it did not spell out becomes the status of the error."""
        status = ctx.response.status
        try:
            result = handler(ctx, ctx.error)
            if result is not None:
                ctx.response = to_response(result, ctx.response, ctx.environ)
            if ctx.response.status == 200 and not isinstance(result, tuple):
                ctx.response.status = status
        except Exception as failure:
            discard(ctx)
            ctx.error = failure
            ctx.response = _response_for(ctx, failure)
            if not ctx.response.body:
                ctx.response.set_body(_page(ctx.response.status))

    def _find(self, ctx: Context, keys: Iterable[Any]) -> Handler | None:
        """Return the first handler for the first key, of the nearest table that has any of the keys."""
        for table in self._tables_for(ctx) if self._groups else (self._tables[None],):
            for key in keys:
                if key in table:
                    return table[key]
        return None

    def _tables_for(self, ctx: Context) -> Iterator[Table]:
        """Yield the tables that count for a request: its route's group's, its prefix's, the application's."""
        own = ctx.route.target.group if ctx.route is not None else None
        match = self._prefixes.find_route("GET", ctx.path)
        for found in ([own], match.target if match is not None else []):
            groups = [group for group in found if group is not None]
            while groups:
                yield from (self._tables[group] for group in groups if group in self._tables)
                groups = [group.parent for group in groups if group.parent is not None]
        yield self._tables[None]


def _takes_error(handler: Handler) -> bool:
    """Return whether a handler must be given the exception too: a parameter with a default is its own."""
    for arguments in (1, 2):
        try:
            inspect.signature(handler).bind(*[None] * arguments)
        except TypeError:
            continue
        return arguments == 2
    raise TypeError(f"error handler {handler!r} must take (ctx) or (ctx, error)")


@cache
def _page(status: int) -> bytes:
    # PERF: made once a status, on first use: a 404 takes half the time.
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Error"
    return error_page(f"{status} {phrase}").encode()


def _status_of(error: Exception) -> int:
    """Return the status that an exception stands for, 500 when it stands for none."""
    if _lacks_connection(error):
        return 503
    status = error.status if isinstance(error, HTTPError) else getattr(error, "code", None)
    return status if isinstance(status, int) and 400 <= status <= 599 else 500


def _lacks_connection(error: Exception) -> TypeGuard[PoolError]:
    """Return whether a pool had no connection to give: all are in use, or the database is down."""
    return isinstance(error, PoolError) and not isinstance(error, LeaseError)


def _response_for(ctx: Context, error: Exception) -> Response:
    """Return the response that an exception stands for; log it when it stands for none."""
    try:
        response = _response_of(ctx, error)
        if response is not None:
            return response
    except Exception as failure:
        # The exception holds what may not be sent: that is the error then.
        failure.__context__ = error
        error = ctx.error = failure
    route = ctx.route.pattern if ctx.route is not None else "none"
    logger.error(
        "request %s failed: %s %s, route %s",
        ctx.request_id,
        ascii(ctx.environ.get("REQUEST_METHOD", ""))[1:-1],
        ascii(ctx.path)[1:-1],
        route,
        exc_info=error,
    )
    page = _debug_page(ctx, error) if ctx.app.settings.debug and _from_here(ctx) else b""
    return Response(page, 500, {"X-Request-ID": ctx.request_id})


def _response_of(ctx: Context, error: Exception) -> Response | None:
    """Return the response that an exception brings along, if it does."""
    # Imported here: startup has loaded it by now, and importing the package should not.
    from werkzeug.exceptions import HTTPException

    if isinstance(error, HTTPError):
        return Response(error.body and error_page(error.body), error.status, error.headers)
    if isinstance(error, HTTPException):
        if error.code is None or error.code < 400 or error.response is not None:
            return response_of(error.get_response(ctx.environ), ctx.environ)
        # Its text is not for clients; the page of its status is written as for any other.
        headers = [(name, value) for name, value in error.get_headers(ctx.environ) if name != "Content-Type"]
        return Response(b"", error.code, headers)
    if _lacks_connection(error):
        # One line, without a traceback: while a database is down there is one for each request.
        logger.warning("request %s: no database connection: %s", ctx.request_id, error)
        return Response(b"", 503, {"Retry-After": str(max(1, math.ceil(error.retry_after)))})
    if type(error).__module__ == "gunicorn.http.errors":
        # The server's own verdict on the body that the handler was reading.
        return Response(b"", 400)
    return None


def _from_here(ctx: Context) -> bool:
    """Return whether the client is on this machine, asked for it by name, and no proxy is in between."""
    from prologue.request import valid_host

    environ = ctx.environ
    peer = environ.get("REMOTE_ADDR", "")
    hosts = (*_LOOPBACK_HOSTS, *ctx.app.settings.trusted_hosts)
    return (
        (peer.startswith("127.") or peer == "::1")
        and valid_host(environ.get("HTTP_HOST", "localhost"), hosts)
        and not any(name.startswith(_PROXY_HEADERS) for name in environ)
    )


def _debug_page(ctx: Context, error: Exception) -> str:
    from html import escape

    shown = traceback.TracebackException.from_exception(error)
    route = ctx.route.pattern if ctx.route is not None else "none"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>500</title></head><body>'
        f"<h1>{escape(type(error).__name__)}</h1>"
        f"<p>{escape(str(shown))}</p>"
        f"<p>{escape(ctx.environ.get('REQUEST_METHOD', ''))} {escape(ctx.path)}, route {escape(route)},"
        f" request {ctx.request_id}</p><pre>{escape(''.join(shown.format()))}</pre></body></html>"
    )
