"""What a client sent: path, query, form, files, cookies, JSON; read when it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import IO, TYPE_CHECKING, Any, TypeVar, overload

import msgspec

from prologue.errors import HTTPError, ValidationError
from prologue.parameters import typed, typed_form

if TYPE_CHECKING:
    from werkzeug.datastructures import MultiDict

    from prologue.app import App
    from prologue.request import Request, UploadFile
    from prologue.routing import Route

__all__ = ["Incoming"]

T = TypeVar("T")

_NO_PARAMS: Any = MappingProxyType({})
_UNSET: Any = object()


class Incoming(msgspec.Struct, eq=False):
    """The part of a :class:`prologue.Context` that comes from the client; see there for the attributes."""

    # PERF: a Struct fills its fields in 110 ns, a class with __slots__ and __init__ in 380 ns: an eighth
    # of a plain request (CPython 3.11).
    app: App
    environ: dict[str, Any]
    path: str = ""
    path_params: dict[str, Any] = _NO_PARAMS
    route: Route | None = None
    _request: Request | None = None
    _query: MultiDict[str, str] | None = None
    _form: MultiDict[str, str] | None = None
    #: The body, once a form was read from it; with it a request goes on where that has stopped.
    _body: IO[bytes] | None = None
    _after: list[Callable[[], object]] | None = None

    @property
    def request(self) -> Request:
        """The request, made on first use."""
        request = self._request
        if request is None:
            from prologue.request import Request

            # The request is given the list and not the Context: a cycle would wait for the collector.
            after = self._after = [] if self._after is None else self._after
            request = self._request = Request(self.environ, after.append)
            request.apply_limits(*self._limits())
            if self._body is not None:
                request.keep_body(self._body, self._form)
        return request

    def _limits(self) -> tuple[int, ...]:
        """Return what the body may cost: bytes, bytes of its fields, and parts."""
        settings = self.app.settings
        limits = (settings.max_body_size, settings.max_form_memory_size, settings.max_form_parts)
        own = self.route.target.limits if self.route is not None else None
        if own is None:
            return limits
        return tuple(limit if one is None else one for one, limit in zip(own, limits, strict=True))

    @property
    def method(self) -> str:
        """The request method."""
        return str(self.environ["REQUEST_METHOD"])

    @property
    def query(self) -> MultiDict[str, str]:
        """The query parameters; ``getlist`` has the repeated ones."""
        # PERF: neither this nor a urlencoded form needs a werkzeug request, which costs as much as all else.
        query = self._query
        if query is None:
            from prologue.bodies import read_query

            query = self._query = read_query(self.environ)
        return query

    @property
    def form(self) -> MultiDict[str, str]:
        """The form fields, urlencoded or multipart."""
        form = self._form
        if form is None:
            form = self._form = self._read_form()
        return form

    def _read_form(self) -> MultiDict[str, str]:
        if self._request is not None or not self._has_urlencoded_body():
            return self.request.form
        from prologue.bodies import body_stream, read_urlencoded

        body_size, memory_size, parts = self._limits()
        if self._body is None:
            self._body = body_stream(self.environ, body_size, at_once=True)
        return read_urlencoded(self._body, memory_size, parts)

    def _has_urlencoded_body(self) -> bool:
        declared: str = self.environ.get("CONTENT_TYPE", "")
        return declared.partition(";")[0].strip().lower() == "application/x-www-form-urlencoded"

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
        return typed_form(self.form, key, default) if self._has_urlencoded_body() else default

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
