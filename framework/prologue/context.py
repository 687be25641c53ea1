"""The Context: all that one request knows, made in a fraction of a microsecond and filled when asked."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeVar

from prologue.errors import AbortError, LifecycleError
from prologue.incoming import Incoming
from prologue.lifecycle import check_callable
from prologue.response import HTML, Body, HeaderItems, Response, Whole, content_disposition
from prologue.results import to_response

if TYPE_CHECKING:
    from prologue.db.shared import Block, SharedConnection
    from prologue.http_cache.controls import CacheControls

__all__ = ["Context", "switch"]

T = TypeVar("T")
Link = Callable[["Context"], Any]


class Context(Incoming, eq=False):
    """One request's state; handlers and middlewares are handed it. What the client sent is in its base.

    A subclass may add fields with defaults, properties and methods; the App makes it with
    ``context_class=``.

    Attributes:
        app: the application.
        environ: the WSGI environment.
        path: the decoded path that is routed; a middleware may change it before it calls :meth:`next`.
        path_params: the path parameters by name, converted.
        route: the route, once it is found; None before and where there is none.
        error: the exception that an error handler is answering, or None.

    Thread safety: a Context belongs to the thread that serves the request.
    """

    error: BaseException | None = None
    _chain: tuple[Link, ...] = ()
    _index: int = 0
    _result: Any = None
    _response: Response | None = None
    _state: SimpleNamespace | None = None
    _session: Any = None
    _deadline: float | None = None
    _request_id: str = ""
    _connections: dict[str, SharedConnection] | None = None

    def __repr__(self) -> str:
        method = self.environ.get("REQUEST_METHOD", "")
        return f"<{type(self).__name__} {method} {self.path!r} route={self.route and self.route.pattern!r}>"

    # -- the chain ------------------------------------------------------------------------------------

    def next(self) -> None:
        """Run the rest of the chain: the next middleware, in the end the handler.

        Returns when they are done; ``response`` is then what they answered. Not calling it answers with the
        response as it is. A second call does nothing.
        """
        index = self._index
        if index < len(self._chain):
            self._index = index + 1
            try:
                result = self._chain[index](self)
            finally:
                # Also for links that were not reached: one that refuses a request has the last word.
                self._index = _DONE
            if result is not None:
                self.answer(result)

    def answer(self, result: Any) -> None:
        """Answer with what a handler may return: what was set on the response before is kept.

        Raises:
            TypeError: the result is none of what a handler may return.
        """
        if self._response is None:
            self._result = result
        else:
            self._response = to_response(result, self._response, self.environ)

    # -- response -------------------------------------------------------------------------------------

    @property
    def response(self) -> Response:
        """The response so far; what the handler returned, once it has.

        Where that cannot be sent, it is the response to this error.
        """
        response = self._response
        if response is None:
            result, self._result = self._result, None
            try:
                response = self._response = to_response(result, None, self.environ)
            except Exception as error:
                # Not raised: a middleware that adds headers to every response would never add them.
                self.app.errors.answer(self, error)
                return self.response
        return response

    @response.setter
    def response(self, response: Response) -> None:
        self._response = response
        self._result = None

    def resp(self, body: Body | Response, status: int = 200) -> None:
        """Set the body and the status and keep the headers; or replace the whole response by another."""
        if isinstance(body, Response):
            self.response = body
            return
        self.response.set_body(body)
        self.response.status = status

    def resp_default(self, status: int) -> None:
        """Set the status and drop the body: the error handler of the status writes one."""
        self.resp(b"", status)

    def set_response(
        self, status: int, body: Body = b"", headers: HeaderItems = (), content_type: str = HTML
    ) -> None:
        """Replace the whole response."""
        self.response = Response(body, status, headers, content_type)

    def set_checked_response(
        self, status: int, headers: list[tuple[str, str]], body: list[bytes] | Iterable[bytes]
    ) -> None:
        """Replace the whole response by one that was checked before: what a cache kept, or passes on.

        Args:
            status: of the response.
            headers: the fields; the response takes the list over.
            body: a list is the whole body, any other iterable is streamed.
        """
        self._response = Response.unchecked(status, headers, body)
        self._result = None

    def set_whole_response(self, headers: list[tuple[str, str]], body: list[bytes]) -> None:
        """Replace the whole response by a checked one of status 200 that lacks nothing.

        Args:
            headers: the fields, with ``Content-Type`` and ``Content-Length``; the list is taken over.
            body: the whole body.
        """
        # PERF: it becomes a Response when somebody looks at it; to make and to send one takes 3 µs more.
        self._response = None
        self._result = Whole(headers, body)

    def abort_exit(self, status: int = 401, body: str = "", headers: Iterable[tuple[str, str]] = ()) -> None:
        """End the request here with a status.

        Raises:
            AbortError: always.
        """
        raise AbortError(status, body, headers)

    def set_cookie(
        self,
        name: str,
        value: str = "",
        *,
        max_age: int | timedelta | None = None,
        expires: datetime | None = None,
        domain: str = "",
        path: str = "/",
        secure: bool | None = None,
        http_only: bool = True,
        same_site: str | None = "Lax",
        partitioned: bool = False,
    ) -> None:
        """Set a cookie on the response; ``secure`` is by default whether the request came over TLS.

        For the rest see :meth:`prologue.Response.set_cookie`.
        """
        self.response.set_cookie(
            name,
            value,
            max_age=max_age,
            expires=expires,
            domain=domain,
            path=path,
            secure=self.environ.get("wsgi.url_scheme") == "https" if secure is None else secure,
            http_only=http_only,
            same_site=same_site,
            partitioned=partitioned,
        )

    def delete_cookie(self, name: str, *, path: str = "/", domain: str = "") -> None:
        """Make the client forget a cookie."""
        self.response.delete_cookie(name, path=path, domain=domain)

    def attachment(self, download_name: str, charset: str = "utf-8") -> None:
        """Make the browser save the response under a name (RFC 6266), typed by its extension.

        Without a name nothing changes.
        """
        if not download_name:
            return
        import mimetypes

        media_type = mimetypes.guess_type(download_name)[0] or "application/octet-stream"
        if media_type.startswith("text/"):
            media_type += f"; charset={charset}"
        self.response.content_type = media_type
        self.response.set_header("Content-Disposition", content_disposition(download_name))

    def static_file_response(
        self,
        file_name: str,
        directory: str = "",
        mimetype: str = "",
        download_name: str = "",
        charset: str = "utf-8",
        headers: dict[str, str] | None = None,
    ) -> Response:
        """Answer with a file, and return that response; 404 when there is none. See :mod:`prologue.files`.

        What was set on the response before is kept, but for what the file says itself.
        """
        from prologue.files import file_response

        response = file_response(
            self.environ,
            file_name,
            directory,
            mimetype=mimetype,
            download_name=download_name,
            charset=charset,
            headers=headers,
        )
        self.answer(Response(status=404) if response is None else response)
        return self.response

    def url_for(
        self,
        name: str,
        parameters: dict[str, Any] | None = None,
        query: dict[str, Any] | None = None,
        /,
        **values: Any,
    ) -> str:
        """Return the path of a named route, percent-encoded, below where the application is mounted.

        Args:
            name: the route's name.
            parameters: its parameters, or given by keyword.
            query: query parameters.

        Raises:
            RouteBuildError: no such name; a parameter is missing, unknown or unfit.
        """
        return self.app.url_for(name, {**(parameters or {}), **values}, query, script_name=self._script_name)

    @property
    def _script_name(self) -> str:
        return str(self.environ.get("SCRIPT_NAME", ""))

    # -- state ----------------------------------------------------------------------------------------

    @property
    def state(self) -> SimpleNamespace:
        """A place for what middlewares and handlers tell each other: ``ctx.state.user = …``."""
        state = self._state
        if state is None:
            state = self._state = SimpleNamespace()
        return state

    @property
    def session(self) -> Any:
        """The session, where a session middleware is in use.

        Raises:
            LifecycleError: none is.
        """
        if self._session is None:
            raise LifecycleError("ctx.session needs a session middleware: app.use(session_middleware(...))")
        return self._session

    @session.setter
    def session(self, session: Any) -> None:
        self._session = session

    @property
    def cache(self) -> CacheControls:
        """How the answer may be cached: ``ctx.cache.control(max_age=60)``, ``ctx.cache.tag("users")``."""
        from prologue.http_cache.controls import CacheControls

        return CacheControls(self)

    @property
    def request_id(self) -> str:
        """An id of this request for logs, made on first use; a client's own is not trusted."""
        if not self._request_id:
            import secrets

            self._request_id = secrets.token_hex(8)
        return self._request_id

    @property
    def deadline(self) -> float | None:
        """When the request is too late, on the monotonic clock; None without a ``request_timeout``."""
        return self._deadline

    def time_left(self) -> float | None:
        """Return the seconds until the deadline, 0 when it has passed, None when there is none."""
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    @property
    def settings(self) -> Any:
        """The application's settings."""
        return self.app.settings

    def connection(
        self, timeout: float | None = None, readonly: bool = False, name: str = "connection_pool"
    ) -> Block:
        """Borrow a connection for a ``with`` block; those inside of it share it, and are savepoints.

        The outermost block commits at its end, and rolls back if it raises; one inside that raises undoes its
        own work. What is not left at the end of the response is rolled back.

        Args:
            timeout: seconds to wait for it; None means the pool's ``connection_timeout``, 0 tries. It ends at
                the deadline of the request.
            readonly: whether a replica will do, where the pool has any.
            name: as given to :func:`prologue.db.init_connection_pool`.

        Returns:
            A context manager that gives the driver's own connection. Entering it raises a ``PoolError`` when
            there is none, which is a 503 for the client.

        Raises:
            LifecycleError: there is no pool of this name.
            PoolClosedError: the application has shut down.
        """
        connections = self._connections
        if connections is None:
            connections = self._connections = {}
        shared = connections.get(name)
        if shared is None:
            from prologue.db.application import shared_connection

            self._after = [] if self._after is None else self._after
            shared = shared_connection(self.app.resources, name, self._deadline, self._after)
            connections[name] = shared
        return shared.connection(timeout, readonly)

    def with_connection(
        self,
        function: Callable[[Any], T],
        timeout: float | None = None,
        readonly: bool = False,
        name: str = "connection_pool",
    ) -> T:
        """Call a function with a connection, in a block of :meth:`connection`; return what it returns."""
        with self.connection(timeout, readonly, name) as connection:
            return function(connection)

    def after_response(self, function: Callable[[], object]) -> None:
        """Call a function after the last byte was sent, or the client has gone.

        The functions run last in first out, after errors too, each even if another raises.

        Raises:
            TypeError: it cannot be called.
        """
        check_callable(function, "what runs after the response")
        if self._after is None:
            self._after = []
        self._after.append(function)


#: Beyond the last link of any chain.
_DONE = sys.maxsize


def switch(ctx: Context) -> None:
    """Run the rest of the chain: the original's name for ``ctx.next()``."""
    ctx.next()
