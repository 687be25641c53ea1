"""What a handler may return, and the response that it becomes."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import is_dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from prologue.response import BINARY, HTML, JSON, Headers, Response, Whole, encode_json

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
            headers but for those that the result brings along; its status is kept where the result has
            none, its type where it has no body that the type belongs to.
        environ: the request.

    Raises:
        TypeError: the result is none of these; the message names its type.
        HeaderError: status or header may not be sent.
    """
    if result is None:
        return Response() if base is None else base
    if type(result) is Whole:
        return Response.unchecked(200, result.headers, result.body)
    if isinstance(result, tuple):
        return _from_tuple(result, base, environ)
    if isinstance(result, Response):
        return base if base is result else _keep(base, result)
    if hasattr(result, "get_wsgi_response"):
        return _keep(base, response_of(result, environ))
    body, content_type = _encode(result)
    if base is None:
        return Response(body, 200, (), content_type)
    chosen = base.content_type if not base.body and base.stream is None else HTML
    base.set_body(body)
    base.content_type = content_type if chosen is None or chosen == HTML else chosen
    return base


def _encode(result: Any) -> tuple[Any, str]:
    if isinstance(result, str):
        return result, HTML
    is_object = is_dataclass(result) and not isinstance(result, type)
    if is_object or isinstance(result, (dict, list, msgspec.Struct)):
        return encode_json(result), JSON
    if isinstance(result, (bytes, bytearray, memoryview)):
        return result, BINARY
    if isinstance(result, Iterator):
        return result, HTML
    raise TypeError(
        f"a handler returned {type(result).__name__}; it may return str, bytes, dict, list, a Struct or"
        " dataclass, a Response, an iterator, (body, status), (body, status, headers) or None"
    )


def _from_tuple(result: tuple[Any, ...], base: Response | None, environ: dict[str, Any]) -> Response:
    if len(result) not in (2, 3) or isinstance(result[1], bool) or not isinstance(result[1], int):
        raise TypeError(f"a tuple is (body, status) or (body, status, headers), not {result!r:.200}")
    response = to_response(result[0], base, environ)
    response.status = result[1]
    if len(result) == 3:
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = result[2]
        pairs = Headers(headers).items()
        for name in {name.lower() for name, _ in pairs} - {"set-cookie"}:
            del response.headers[name]
        response.headers.extend(pairs)
    return response


def _keep(base: Response | None, response: Response) -> Response:
    """Return a copy of a response with what was set before, on the one that it replaces."""
    # SECURITY: a copy, since the cookies of one request must not stay on a response that a handler returns
    # every time.
    fields = response.headers.items()
    if base is not None and len(base.headers):
        present = {name.lower() for name, _ in fields} - {"set-cookie"}
        present.update(("content-type", "content-length"))
        fields += [(name, value) for name, value in base.headers if name.lower() not in present]
    if type(response) is Response:
        # PERF: 0.5 µs; copy.copy takes 2.5.
        kept = Response.unchecked(response.status, fields, [response.body])
        kept.stream = response.stream
    else:
        kept = copy.copy(response)
        kept.headers = Headers.unchecked(fields)
    return kept


def response_of(application: WSGIApplication, environ: dict[str, Any]) -> Response:
    """Run another WSGI application and return its response, its body still to be streamed.

    Args:
        application: any WSGI callable; a werkzeug Response is one.
        environ: the request that it sees.

    Raises:
        RuntimeError: it breaks PEP 3333: no status, or two.
        HeaderError: its status may not be sent.
        Exception: what it raises.
    """
    from werkzeug.wsgi import ClosingIterator

    started: list[tuple[str, list[tuple[str, str]]]] = []
    early: list[bytes] = []
    returned = False

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        if exc_info is None and started:
            raise RuntimeError(f"application {application!r} called start_response twice")
        if exc_info is not None and returned:
            raise exc_info[1].with_traceback(exc_info[2])
        started[:] = [(status, headers)]
        return early.append

    body = application(environ, start_response)
    close = getattr(body, "close", lambda: None)
    try:
        chunks = iter(body)
        if not started:
            # A generator starts its response when it is asked for its first bytes.
            early.extend(itertools.islice(chunks, 1))
        if not started:
            raise RuntimeError(f"application {application!r} did not call start_response")
        status, headers = started[0]
        # What another application sends is its own affair; a server checks it again.
        response = Response(b"", int(status[:3]), Headers.unchecked(headers), None)
    except BaseException:
        close()
        raise
    returned = True
    response.stream = ClosingIterator(itertools.chain(early, chunks), close)
    return response
