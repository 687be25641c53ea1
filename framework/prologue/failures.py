"""Errors on their way to an answer: who handles them, what is logged, what the client sees."""

from __future__ import annotations

import inspect
import logging
import traceback
from collections.abc import Callable, Iterable
from html import escape
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from prologue.errors import HeaderError, HTTPError
from prologue.response import Response, error_page
from prologue.results import to_response
from prologue.routing import Group, TrieRouter

if TYPE_CHECKING:
    from prologue.context import Context

__all__ = ["ErrorHandlers"]

logger = logging.getLogger("prologue")

_PROXY_FIELDS = ("HTTP_X_FORWARDED", "HTTP_FORWARDED", "HTTP_X_REAL_IP", "HTTP_VIA")
_LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "[::1]")


class ErrorHandlers:
    """The error handlers of an application and of its groups.

    A handler takes the Context, or the Context and the exception, and returns what any handler may return.
    """

    def __init__(self) -> None:
        self._tables: dict[Group | None, dict[int | type[BaseException], Callable[..., Any]]] = {None: {}}
        self._prefixes = TrieRouter()

    def add_group(self, group: Group) -> None:
        """Make the errors under a group's prefix its own; of two groups with one prefix the first has them."""
        self._tables.setdefault(group, {})
        known = {route.pattern for route in self._prefixes.routes}
        for pattern in (group.prefix or "/", f"{group.prefix}/*$"):
            if pattern not in known:
                self._prefixes.add_route(pattern, group)

    def register(self, error: Any, handler: Callable[..., Any], group: Group | None) -> None:
        """Register a handler for a status, an exception class, or several of them.

        Raises:
            TypeError: ``error`` is neither; or the handler takes neither one nor two arguments.
        """
        takes_error = _takes_error(handler)
        for one in error if isinstance(error, (set, frozenset, list, tuple)) else (error,):
            is_status = isinstance(one, int) and 400 <= one <= 599
            if not is_status and not (isinstance(one, type) and issubclass(one, Exception)):
                raise TypeError(f"an error handler is for a status from 400 to 599 or an Exception class, not {one!r}")
            self._tables[group][int(one) if is_status else one] = (
                handler if takes_error else lambda ctx, _error, handler=handler: handler(ctx)
            )

    def answer(self, ctx: Context, error: Exception) -> None:
        """Set the response for an exception, by the nearest handler of its class, else by its status."""
        ctx.error = error
        for table in self._chain(ctx):
            for cls in type(error).__mro__:
                handler = table.get(cls)
                if handler is not None:
                    self._run(handler, ctx, error)
                    return
        ctx.response = _response_for(ctx, error)
        self.complete(ctx)

    def complete(self, ctx: Context) -> None:
        """Give an error response without a body one, by the handler of its status, else a plain page."""
        response = ctx.response
        status = response.status
        if status < 400 or response.body or response.stream is not None:
            return
        for table in self._chain(ctx):
            handler = table.get(status)
            if handler is not None:
                self._run(handler, ctx, ctx.error)
                if ctx.response.status == 200:
                    ctx.response.status = status
                return
        response.set_body(_page(status))

    def _run(self, handler: Callable[..., Any], ctx: Context, error: BaseException | None) -> None:
        try:
            result = handler(ctx, error)
            if result is not None:
                ctx.response = to_response(result, ctx.response, ctx.environ)
        except Exception as failure:
            ctx.error = failure
            ctx.response = _response_for(ctx, failure)
            if not ctx.response.body:
                ctx.response.set_body(_page(ctx.response.status))

    def _chain(self, ctx: Context) -> Iterable[dict[int | type[BaseException], Callable[..., Any]]]:
        """Yield the tables that count for a request: of the innermost group, of its parents, of the application."""
        match = self._prefixes.find_route("GET", ctx.path) if len(self._tables) > 1 else None
        group = match.target if match is not None else None
        while group is not None:
            yield self._tables[group]
            group = group.parent
        yield self._tables[None]


def _takes_error(handler: Callable[..., Any]) -> bool:
    try:
        inspect.signature(handler).bind(None, None)
    except TypeError:
        try:
            inspect.signature(handler).bind(None)
        except TypeError:
            raise TypeError(f"error handler {handler!r} must take (ctx) or (ctx, error)") from None
        return False
    return True


def _page(status: int) -> str:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Error"
    return error_page(f"{status} {phrase}")


def _response_for(ctx: Context, error: Exception) -> Response:
    """Return the response that an exception stands for; log it when it stands for none."""
    if isinstance(error, HTTPError):
        try:
            return Response(error.body and error_page(error.body), error.status, error.headers)
        except HeaderError as mistake:
            mistake.__cause__ = error
            error = mistake
    if hasattr(error, "get_response") and isinstance(getattr(error, "code", None), int):
        # A werkzeug exception: the request's own parsing raises them.
        code: int = error.code  # type: ignore[attr-defined]
        allow = [(k, v) for k, v in error.get_headers(ctx.environ) if k.lower() != "content-type"]  # type: ignore[attr-defined]
        return Response(b"", code, allow)
    if type(error).__module__ == "gunicorn.http.errors":
        # The server's own verdict on the body that the handler was reading.
        return Response(b"", 400)
    route = ctx.route.pattern if ctx.route is not None else "none"
    logger.error(
        "request %s failed: %s %s, route %s",
        ctx.request_id,
        ascii(ctx.environ.get("REQUEST_METHOD", ""))[1:-1],
        ascii(ctx.path)[1:-1],
        route,
        exc_info=error,
    )
    if ctx.app.settings.debug and _from_here(ctx):
        return Response(_debug_page(ctx, error), 500)
    return Response(b"", 500, {"X-Request-ID": ctx.request_id})


def _from_here(ctx: Context) -> bool:
    """Return whether the client is on this machine and no proxy is in between."""
    environ = ctx.environ
    peer = environ.get("REMOTE_ADDR", "")
    host = environ.get("HTTP_HOST", "localhost")
    bare = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    return (
        (peer.startswith("127.") or peer == "::1")
        and (bare in _LOOPBACK_HOSTS or bare in ctx.app.settings.trusted_hosts)
        and not any(name.startswith(_PROXY_FIELDS) for name in environ)
    )


def _debug_page(ctx: Context, error: Exception) -> str:
    text = "".join(traceback.format_exception(error))
    route = ctx.route.pattern if ctx.route is not None else "none"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>500</title></head><body>'
        f"<h1>{escape(type(error).__name__)}</h1>"
        f"<p>{escape(str(error))}</p>"
        f"<p>{escape(ctx.environ.get('REQUEST_METHOD', ''))} {escape(ctx.path)}, route {escape(route)},"
        f" request {ctx.request_id}</p><pre>{escape(text)}</pre></body></html>"
    )


