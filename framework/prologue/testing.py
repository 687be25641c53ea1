"""Test an application without a server: a client that checks the protocol, and single requests to look into.

``TestClient`` needs WebTest, which the extra ``testing`` brings; all else needs nothing.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Self, cast
from urllib.parse import urlencode

from prologue.app import App
from prologue.context import Context
from prologue.errors import MissingExtraError
from prologue.response import Headers, Response

try:
    from webtest import TestApp as _TestApp
except ImportError:
    _TestApp = None

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication
    from werkzeug.wrappers import Request

    Write = Callable[[bytes], object]

__all__ = ["TestClient", "debug_response", "mock_app", "run_once"]

_LOOPBACK = "127.0.0.1"


class TestClient(_TestApp or object):  # type: ignore[misc]
    """Call an application in process, as WebTest's ``TestApp`` does, and check both sides of the protocol.

    Each request goes through WebTest's lint, which asserts what PEP 3333 demands of server and application.
    ``with TestClient(app) as client:`` runs startup before the block, and shutdown behind it. Without
    ``with`` the first request runs startup, as under a server, and the end of the process shutdown.

    Args:
        app: an App, or any other WSGI callable.
        environ: str, more keys for the environment of every request; ``REMOTE_ADDR`` is ``"127.0.0.1"`` if
            it is not among them.

    Raises:
        MissingExtraError: WebTest is not installed.

    Thread safety: a client keeps cookies and belongs to one thread; an application may have many clients.

    Example:
        >>> app = App()
        >>> @app.get("/")
        ... def hello(ctx):
        ...     return "hello"
        >>> TestClient(app).get("/").text
        'hello'
    """

    __test__ = False  # pytest collects what is called Test…

    def __init__(self, app: App | WSGIApplication, /, **environ: str) -> None:
        if _TestApp is None:
            raise MissingExtraError("prologue.testing.TestClient", "testing")
        super().__init__(app, extra_environ={"REMOTE_ADDR": _LOOPBACK, **environ}, lint=True)

    def __enter__(self) -> Self:
        """Run startup when the application is an App.

        Raises:
            LifecycleError: the application was shut down in this process, and cannot start again.
            Exception: what a startup handler raises.
        """
        if isinstance(self.app, App):
            self.app.lifecycle.startup()
        return self

    def __exit__(self, *_: object) -> None:
        if isinstance(self.app, App):
            self.app.lifecycle.shutdown()


def mock_app(app: App) -> App:
    """Make an application ready for requests that no server sends: run its startup.

    Args:
        app: the application.

    Returns:
        The application itself.

    Raises:
        LifecycleError: it was shut down in this process, and cannot start again.
        Exception: what a startup handler raises.

    Source: the original's ``mockApp``, which adds a middleware to keep its server out; here none is needed.
    """
    app.lifecycle.startup()
    return app


def run_once(
    app: App,
    request: Context | Request | dict[str, Any] | None = None,
    /,
    *,
    method: str = "GET",
    path: str = "/",
    query: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
    body: bytes | str | Mapping[str, Any] = b"",
) -> Context:
    """Run one request through the whole application and return its Context, with the final response.

    ``ctx.response`` has the status, the headers and the body that a server would have sent: a streamed body
    is collected, and has been closed; ``after_response`` callbacks have run. ``ctx.state``, ``ctx.route`` and
    all else are as the request left them. Startup runs first, if it has not.

    Args:
        app: the application; it stays as it is.
        request: a WSGI environment, a werkzeug Request, or a Context of the application that has not run;
            or None, and the request is made of the following.
        method: the request method.
        path: the path, percent-encoded or not; may have a query in place of ``query``.
        query: query parameters; a list or tuple repeats its key.
        headers: the fields of the request.
        body: bytes; text, sent as UTF-8; or a mapping of form fields, in which a pair of a binary file and a
            name is an upload.

    Returns:
        The request's Context.

    Raises:
        TypeError: there are a request and parts of one.
        ValueError: the path does not start with a slash, or there are two queries.
        Exception: what a streamed body raises, as a server would see it; errors of handlers are responses.

    Thread safety: any number of threads may run requests of one application.

    Source: the original's ``runOnce``.
    """
    if request is None:
        request = _environ(method, path, query, headers, body)
    elif (method, path, query, headers, body) != ("GET", "/", None, None, b""):
        raise TypeError("run_once takes a request or the parts of one, not both: change the request instead")
    ctx = _context(app, request)

    def context(app: App, environ: dict[str, Any], path: str, *found: Any) -> Context:
        ctx.path = path
        if found:
            ctx.path_params, ctx.route = found
        return ctx

    # A copy of the application shares all with the original but the making of the Context: that one is there.
    application = copy.copy(app)
    application.context_class = cast(Any, context)
    ctx.response = _collect(application, ctx.environ)
    return ctx


def _environ(
    method: str,
    path: str,
    query: Mapping[str, Any] | None,
    headers: Mapping[str, str] | None,
    body: bytes | str | Mapping[str, Any],
) -> dict[str, Any]:
    from werkzeug.test import EnvironBuilder

    if not path.startswith("/"):
        raise ValueError(f"a path starts with a slash, which {path!r} does not")
    return EnvironBuilder(
        path=f"http://localhost{path}",  # as a path alone, `//a/b` would be the host a
        method=method,
        query_string=None if query is None else urlencode(query, doseq=True),
        headers=None if headers is None else headers.items(),
        data=body,
        environ_base={"REMOTE_ADDR": _LOOPBACK},
    ).get_environ()


def _context(app: App, request: Context | Request | dict[str, Any]) -> Context:
    if isinstance(request, Context):
        return request
    return app.context_class(app, request if isinstance(request, dict) else request.environ)


def _collect(application: App, environ: dict[str, Any]) -> Response:
    """Call a WSGI application as a server does and return what it sends."""
    started: list[Any] = []
    chunks: list[bytes] = []

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Write:
        started[:] = status, headers
        return chunks.append

    iterable = application(environ, start_response)
    try:
        chunks.extend(iterable)
    finally:
        close = getattr(iterable, "close", None)
        if close is not None:
            close()
    status, headers = started
    response = Response(b"".join(chunks), int(status[:3]))
    response.headers = Headers.unchecked(headers)
    return response


def debug_response(ctx: Context) -> str:
    """Return a readable dump of a request and of its response so far, to print while a test is written.

    Args:
        ctx: best from :func:`run_once`, which has collected a streamed body; one that is still to be
            streamed is left alone.

    Returns:
        Text without a final line break: request line, route, status, headers, an empty line, and the body,
        as text where it is UTF-8.

    Source: the original's ``debugResponse``.
    """
    response = ctx.response
    if response.stream is not None:
        body = "<a body that is still to be streamed>"
    else:
        try:
            body = response.body.decode()
        except UnicodeDecodeError:
            body = repr(response.body)
    return "\n".join(
        (
            f"{ctx.method} {ctx.path}",
            f"route: {ctx.route.pattern if ctx.route is not None else 'none'}",
            str(response.status),
            *(f"{name}: {value}" for name, value in response.headers),
            "",
            body,
        )
    )
