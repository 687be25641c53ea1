"""Applications behind the cache, and a clock that stands still."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from prologue.cache import CacheBackend, CacheOptions, InMemoryCache
from prologue.http_cache.fields import Headers
from prologue.http_cache.wsgi import HTTPCache
from tests.calling import Answer, call


class Clock:
    """Stands still until it is told; both the wall clock and the monotonic one."""

    def __init__(self) -> None:
        self.now = 1_000_000_000.0

    def __call__(self) -> float:
        return self.now


class Origin:
    """A WSGI application that answers as it is told, and keeps the requests."""

    def __init__(self, *headers: tuple[str, str], body: bytes = b"body", status: str = "200 OK") -> None:
        self.headers: Headers = list(headers)
        self.body: Any = body
        self.status = status
        self.requests: list[dict[str, Any]] = []
        self.error: Exception | None = None
        self.validates = False

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        self.requests.append(environ)
        if self.error is not None:
            raise self.error
        tags = dict(self.headers)
        condition = environ.get("HTTP_IF_NONE_MATCH") == tags.get("ETag") and "ETag" in tags
        condition = condition or environ.get("HTTP_IF_MODIFIED_SINCE") == tags.get("Last-Modified") != None  # noqa: E711
        if self.validates and condition:
            start_response("304 Not Modified", self.headers)
            return []
        body = self.body
        start_response(self.status, [("Content-Type", "text/plain"), *self.headers])
        return [body] if isinstance(body, bytes) else body

    @property
    def calls(self) -> int:
        return len(self.requests)


def memory(clock: Clock) -> CacheBackend:
    return InMemoryCache(clock=clock, options=CacheOptions())


class Setting:
    """A cache around an origin."""

    make_store: Callable[[Clock], CacheBackend] = staticmethod(memory)

    def __init__(
        self, *headers: tuple[str, str], body: bytes = b"body", status: str = "200 OK", **options: Any
    ) -> None:
        self.clock = Clock()
        self.origin = Origin(*headers, body=body, status=status)
        self.store: Any = self.make_store(self.clock)
        self.cache = HTTPCache(self.origin, self.store, clock=self.clock, **options)

    def get(self, path: str = "/", method: str = "GET", **more: Any) -> Answer:
        return call(self.cache, method, path, **more)

    def status(self, path: str = "/", **more: Any) -> str:
        return self.get(path, **more).header("Cache-Status") or ""
