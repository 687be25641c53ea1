"""The Context: all that one request knows, made in a fraction of a microsecond and filled when asked."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from types import MappingProxyType, SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeVar, overload

import msgspec

from prologue.errors import AbortError, HTTPError, LifecycleError, ValidationError
from prologue.parameters import typed, typed_form
from prologue.response import HTML, Body, HeaderItems, Response, Whole, content_disposition
from prologue.results import to_response

if TYPE_CHECKING:
    from werkzeug.datastructures import MultiDict

    from prologue.app import App
    from prologue.db.shared import Block, SharedConnection
    from prologue.http_cache.controls import CacheControls
    from prologue.request import Request, UploadFile
    from prologue.routing import Route

__all__ = ["Context", "switch"]

T = TypeVar("T")
Link = Callable[["Context"], Any]

_NO_PARAMS: Any = MappingProxyType({})
_UNSET: Any = object()


class Context(msgspec.Struct, eq=False):
    """One request's state; handlers and middlewares are handed it.

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

    # PERF: a Struct fills its fields in 110 ns, a class with __slots__ and __init__ in 380 ns: an eighth
    # of a plain request (CPython 3.11).
    app: App
    environ: dict[str, Any]
    path: str = ""
    path_params: dict[str, Any] = _NO_PARAMS
    route: Route | None = None
    error: BaseException | None = None
    _chain: tuple[Link, ...] = ()
    _index: int = 0
    _result: Any = None
    _response: Response | None = None
    _request: Request | None = None
    _after: list[Callable[[], object]] | None = None
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

    # -- request --------------------------------------------------------------------------------------

    @property
    def request(self) -> Request:
        """The request, made on first use."""
        request = self._request
        if request is None:
            request = self._request = self.app.make_request(self)
        return request

    @property
    def method(self) -> str:
        """The request method."""
        return str(self.environ["REQUEST_METHOD"])

    @property
    def query(self) -> MultiDict[str, str]:
        """The query parameters; ``getlist`` has the repeated ones."""
        return self.request.args

    @property
    def form(self) -> MultiDict[str, str]:
        """The form fields, urlencoded or multipart."""
        return self.request.form

    @property
    def files(self) -> MultiDict[str, UploadFile]:
        """The uploaded files by field name."""
        from werkzeug.datastructures import MultiDict

        from prologue.request import UploadFile

        return MultiDict([(name, UploadFile(file)) for name, file in self.request.files.items(multi=True)])

    def get_upload_file(self, name: str) -> UploadFile:
        """Return an uploaded file by its field name.

        Raises:
            HTTPError: 400, no such file was sent.
        """
        file = self.files.get(name)
        if file is None:
            raise HTTPError(400, f"the form has no file {name!r}")
        return file

    @overload
    def get_path_params(self, key: str) -> Any: ...
    @overload
    def get_path_params(self, key: str, default: T) -> T: ...
    def get_path_params(self, key: str, default: Any = _UNSET) -> Any:
        """Return a path parameter, converted to the type of the default.

        Without a default it is as the route's converter made it, ``""`` if it is missing; with one, the
        default if it is missing or unfit.
        """
        if default is _UNSET:
            return self.path_params.get(key, "")
        return typed(self.path_params.get(key), default)

    @overload
    def get_query_params(self, key: str) -> str: ...
    @overload
    def get_query_params(self, key: str, default: T) -> T: ...
    def get_query_params(self, key: str, default: Any = "") -> Any:
        """Return a query parameter, converted to the type of the default; that if it is missing or unfit.

        A list as default returns every value of the key.
        """
        return typed_form(self.query, key, default)

    @overload
    def get_post_params(self, key: str) -> str: ...
    @overload
    def get_post_params(self, key: str, default: T) -> T: ...
    def get_post_params(self, key: str, default: Any = "") -> Any:
        """Return a field of a urlencoded body, converted as in :meth:`get_query_params`."""
        if self.request.mimetype != "application/x-www-form-urlencoded":
            return default
        return typed_form(self.form, key, default)

    @overload
    def get_form_params(self, key: str) -> str: ...
    @overload
    def get_form_params(self, key: str, default: T) -> T: ...
    def get_form_params(self, key: str, default: Any = "") -> Any:
        """Return a field of a urlencoded or multipart body, converted as in :meth:`get_query_params`."""
        return typed_form(self.form, key, default)

    def get_path_params_option(self, key: str) -> Any:
        """Return a path parameter, or None."""
        return self.path_params.get(key)

    def get_query_params_option(self, key: str) -> str | None:
        """Return a query parameter, or None."""
        return self.query.get(key)

    def get_post_params_option(self, key: str) -> str | None:
        """Return a field of a urlencoded body, or None."""
        return self.get_post_params(key, None)

    def get_form_params_option(self, key: str) -> str | None:
        """Return a form field, or None."""
        return self.form.get(key)

    def get_cookie(self, key: str, default: str = "") -> str:
        """Return a cookie that the client sent, or the default."""
        return self.request.cookies.get(key, default)

    @overload
    def json(self) -> Any: ...
    @overload
    def json(self, type: type[T]) -> T: ...
    def json(self, type: Any = Any) -> Any:
        """Return the JSON body, checked against a type.

        Args:
            type: what msgspec decodes into: a Struct, a dataclass, ``list[int]`` …; default anything.

        Raises:
            HTTPError: 415, the body is not declared to be JSON; 400, it is not JSON; 413, it is too large.
            ValidationError: 422, it is not of the type; the message names the field.
        """
        body = self.request.json_body()
        try:
            return msgspec.json.decode(body, type=type)
        except msgspec.ValidationError as error:
            raise ValidationError(str(error)) from error
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
            raise HTTPError(400, f"the body is not JSON: {error}") from error

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
        """
        if self._after is None:
            self._after = []
        self._after.append(function)


#: Beyond the last link of any chain.
_DONE = sys.maxsize


def switch(ctx: Context) -> None:
    """Run the rest of the chain: the original's name for ``ctx.next()``."""
    ctx.next()
