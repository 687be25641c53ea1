"""Answers from a stored response: whole, 304, a range, the head of it (RFC 9110 sections 13 to 15)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from prologue.http_cache.asking import Answer
from prologue.http_cache.conditions import not_modified, range_applies
from prologue.http_cache.fields import Headers
from prologue.http_cache.ranges import multipart, parse_ranges
from prologue.http_cache.stored import Stored

__all__ = ["CONDITIONAL", "FindBody", "quoted", "refusal", "reply", "status_line", "writes_date"]

#: Returns the body of a stored response; None when it is gone.
FindBody = Callable[[Stored], "bytes | None"]

_STATUS_LINES = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}

_EMPTY = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", "0")]

#: What a 304 repeats of a stored response (RFC 9110 section 15.4.5).
_IN_304 = frozenset(("content-location", "etag", "expires", "vary"))

# PERF: what asks for something else than the whole response is looked for at once.
CONDITIONAL = frozenset(("HTTP_IF_NONE_MATCH", "HTTP_IF_MODIFIED_SINCE", "HTTP_RANGE"))


def status_line(status: int) -> str:
    """Return ``200 OK`` for 200."""
    return _STATUS_LINES.get(status) or f"{status} Unknown"


def writes_date(environ: Mapping[str, Any]) -> bool:
    """Return whether the server adds a ``Date`` of its own even where there is one.

    gunicorn's workers do; this package's worker, which is known by its exchange, does not.
    """
    software: str = environ.get("SERVER_SOFTWARE", "")
    return software.startswith("gunicorn") and "prologue.exchange" not in environ


def reply(
    environ: Mapping[str, Any], stored: Stored, age: float, cache_status: str, find_body: FindBody
) -> Answer | None:
    """Return the answer to a GET or HEAD from a stored response; None when its body is gone.

    Args:
        environ: the request; its conditions and its range are answered too.
        stored: the response.
        age: of the response, in seconds.
        cache_status: this cache's member of ``Cache-Status``.
        find_body: returns the body of a stored response; called only where it is needed.
    """
    status = stored.status
    head = environ["REQUEST_METHOD"] == "HEAD"
    headers = [*stored.headers, ("Age", f"{int(age)}"), ("Cache-Status", cache_status)]
    if not writes_date(environ):
        headers.append(("Date", stored.date))
    if status != 204:  # it has no content and no length (RFC 9110 section 8.6)
        headers.append(("Content-Length", f"{stored.length}"))
    if status == 200 and not environ.keys().isdisjoint(CONDITIONAL):
        if not_modified(environ, stored.etag, stored.last_modified, stored.date):
            return Answer(status_line(304), _headers_of_304(headers, stored), [])
        if "HTTP_RANGE" in environ and not head:
            return _range(environ, stored, headers, find_body)
    if head or not stored.length:
        return Answer(status_line(status), headers, [])
    body = find_body(stored)
    return None if body is None else Answer(status_line(status), headers, [body])


def _headers_of_304(headers: Headers, stored: Stored) -> Headers:
    kept = _IN_304 | {"age", "cache-status", "date"}
    if not stored.etag:
        kept |= {"last-modified"}
    # Those of other targets too (RFC 9213): a cache on the way updates what it has by them.
    return [
        (name, value)
        for name, value in headers
        if name.lower() in kept or name.lower().endswith("cache-control")
    ]


def _range(
    environ: Mapping[str, Any], stored: Stored, headers: Headers, find_body: FindBody
) -> Answer | None:
    ranges = None
    if range_applies(environ, stored.etag, stored.last_modified, stored.date):
        ranges = parse_ranges(environ["HTTP_RANGE"], stored.length)
    if ranges is not None and not ranges:
        fields = [(name, value) for name, value in headers if name.lower() in ("age", "cache-status", "date")]
        fields += [("Content-Range", f"bytes */{stored.length}"), *_EMPTY]
        return Answer(status_line(416), fields, [])
    body = find_body(stored)
    if body is None:
        return None
    if ranges is None:
        return Answer(status_line(200), headers, [body])
    content_type = next((value for name, value in headers if name.lower() == "content-type"), "")
    fields = [field for field in headers if field[0].lower() != "content-length"]
    if len(ranges) == 1:
        start, stop = ranges[0]
        content = body[start:stop]
        fields.append(("Content-Range", f"bytes {start}-{stop - 1}/{stored.length}"))
    else:
        content_type, content = multipart(body, ranges, content_type)
        fields = [field for field in fields if field[0].lower() != "content-type"]
        fields.append(("Content-Type", content_type))
    fields.append(("Content-Length", f"{len(content)}"))
    return Answer(status_line(206), fields, [content])


def refusal() -> Answer:
    """Return the answer to a request that wanted a stored response only (RFC 9111 section 5.2.1.7).

    It has no ``Cache-Status``: it is based on no stored response, and nobody was asked (RFC 9211 section 2).
    """
    return Answer(status_line(504), [*_EMPTY], [])


def quoted(text: str) -> str:
    """Return a text as a String of RFC 9651, what it cannot hold replaced."""
    printable = "".join(character if " " <= character <= "~" else "?" for character in text)
    escaped = printable.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
