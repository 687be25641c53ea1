"""What a handler may return, and the response that it becomes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import is_dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from prologue.response import BINARY, HTML, JSON, Headers, Response, encode_json

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

__all__ = ["response_of", "to_response"]


def to_response(result: Any, base: Response | None, environ: dict[str, Any]) -> Response:
    """Return the response that a handler's result stands for.

    Args:
        result: str → HTML; bytes → octets; dict, list, msgspec Struct or dataclass → JSON; a Response;
            a werkzeug Response; an iterator, streamed as HTML; (body, status) or (body, status, headers) of
            these; None → ``base`` as it is.
        base: what was set on ``ctx.response`` before, or None. Its cookies are kept, and so are its other
            headers but for those that the result brings along.
        environ: the request.

    Raises:
        TypeError: the result is none of these; the message names its type.
        HeaderError: status or header may not be sent.
    """
    if result is None:
        return Response() if base is None else base
    if isinstance(result, tuple):
        return _from_tuple(result, base, environ)
    if isinstance(result, Response):
        return result if base is None or base is result else _keep(base, result)
    if hasattr(result, "get_wsgi_response"):
        made = response_of(result, environ)
        return made if base is None else _keep(base, made)
    body, content_type = _encode(result)
    if base is None:
        return Response(body, 200, (), content_type)
    explicit = base.content_type if base.content_type != HTML else None
    base.set_body(body)
    base.content_type = explicit or content_type
    return base


def _encode(result: Any) -> tuple[Any, str]:
    if isinstance(result, str):
        return result, HTML
    if isinstance(result, (dict, list, msgspec.Struct)) or (is_dataclass(result) and not isinstance(result, type)):
        return encode_json(result), JSON
    if isinstance(result, (bytes, bytearray, memoryview)):
        return result, BINARY
    if isinstance(result, Iterator):
        return result, HTML
    raise TypeError(
        f"a handler returned {type(result).__name__}; it may return str, bytes, dict, list, a Struct or dataclass,"
        " a Response, an iterator, (body, status), (body, status, headers) or None"
    )


def _from_tuple(result: tuple[Any, ...], base: Response | None, environ: dict[str, Any]) -> Response:
    if len(result) not in (2, 3) or isinstance(result[1], bool) or not isinstance(result[1], int):
        raise TypeError(f"a handler's tuple is (body, status) or (body, status, headers), not {result!r:.200}")
    response = to_response(b"" if result[0] is None else result[0], base, environ)
    response.status = result[1]
    if len(result) == 3:
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = result[2]
        pairs = Headers(headers).items()
        for name in {name.lower() for name, _ in pairs} - {"set-cookie"}:
            del response.headers[name]
        response.headers.extend(pairs)
    return response


def _keep(base: Response, response: Response) -> Response:
    """Carry what was set before over to the response that replaces it."""
    present = {name.lower() for name, _ in response.headers} - {"set-cookie"}
    for name, value in base.headers:
        if name.lower() not in present and name.lower() not in ("content-type", "content-length"):
            response.headers.add(name, value)
    return response


def response_of(application: WSGIApplication, environ: dict[str, Any]) -> Response:
    """Run another WSGI application and return its response, its body still to be streamed.

    Args:
        application: any WSGI callable; a werkzeug Response is one.
        environ: the request that it sees.
    """
    from werkzeug.test import run_wsgi_app

    body, status, headers = run_wsgi_app(application, environ)
    response = Response(b"", int(status[:3]), (), None)
    # What another application sends is its own affair; a server checks it again.
    response.headers = Headers.unchecked(headers)
    response.stream = body
    return response
