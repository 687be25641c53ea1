"""Asking for the same again: what a refresh sends, and what is changed to get a whole response."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from typing import TYPE_CHECKING, Any

from prologue.http_cache.asking import close

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

__all__ = ["CONDITIONS", "REFRESH", "WHOLE", "WITNESS", "refreshing", "run"]

#: In the environ of a refresh: the engine that wants it.
REFRESH = "prologue.http_cache.refresh"

#: In the environ of an explanation: where caches put the application's own answer.
WITNESS = "prologue.http_cache.witness"

CONDITIONS = {"HTTP_IF_NONE_MATCH": None, "HTTP_IF_MODIFIED_SINCE": None}
WHOLE = {**CONDITIONS, "HTTP_RANGE": None, "HTTP_IF_RANGE": None}


def refreshing(environ: Mapping[str, Any], engine: object) -> dict[str, Any]:
    """Return an environ that asks for the same again, whole and without conditions."""
    wanted = {
        name: value
        for name, value in environ.items()
        if isinstance(value, str) and name not in WHOLE and name not in ("HTTP_CACHE_CONTROL", "HTTP_PRAGMA")
    }
    for name in ("wsgi.version", "wsgi.multithread", "wsgi.multiprocess", "wsgi.run_once", "wsgi.errors"):
        if name in environ:
            wanted[name] = environ[name]
    return wanted | {"REQUEST_METHOD": "GET", "wsgi.input": BytesIO(), REFRESH: engine}


def run(application: WSGIApplication, environ: dict[str, Any]) -> None:
    """Send a request to an application, and throw its answer away."""
    body = application(environ, lambda status, headers, exc_info=None: lambda data: None)
    try:
        for _ in body:
            pass
    finally:
        close(body)
