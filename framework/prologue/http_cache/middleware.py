"""The cache as a middleware of an application of this package."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from prologue.http_cache.asking import Answer
from prologue.http_cache.engine import Engine
from prologue.http_cache.normal import Normal
from prologue.http_cache.profile import make_profile
from prologue.http_cache.wsgi import Purging, answer_purge

if TYPE_CHECKING:
    from prologue.cache import CacheBackend
    from prologue.context import Context

__all__ = ["CacheMiddleware", "cache_middleware"]


class CacheMiddleware(Purging):
    """What :func:`cache_middleware` returns: takes the Context, and can be told to purge."""

    def __init__(self, engine: Engine, purge_token: str, server_timing: bool) -> None:
        self.engine = engine
        self._normal = engine.normal or None
        self._handle = engine.answer_timed if server_timing else engine.answer
        self._purge_token = purge_token

    def __call__(self, ctx: Context) -> None:
        """Answer from the cache, or run the rest of the chain and store what it answers."""
        environ = ctx.environ
        if self._normal is not None:
            _normalise(ctx, self._normal)
        if self._purge_token and environ["REQUEST_METHOD"] == "PURGE":
            answer = answer_purge(self, environ, self._purge_token)
        else:
            answer = self._handle(environ, partial(_ask, ctx), ctx.app)
        _set_response(ctx, answer)


def cache_middleware(
    cache: CacheBackend,
    ttl: float = 0.0,
    *,
    profile: str = "safe",
    stale_if_error: float = 0.0,
    keep: float = 600.0,
    ignored_cookies: Iterable[str] = (),
    max_body_size: int = 1_048_576,
    coalesce_timeout: float = 5.0,
    encodings: Sequence[str] = (),
    languages: Sequence[str] = (),
    ignored_parameters: Iterable[str] = (),
    sort_query: bool = False,
    no_vary_search: bool = False,
    server_timing: bool = False,
    purge_token: str = "",
    name: str = "prologue",
    detail: bool = False,
    clock: Callable[[], float] = time.time,
) -> CacheMiddleware:
    """Return a middleware that answers GET and HEAD from a cache: ``app.use(cache_middleware(cache,
    ttl=60))``.

    It knows more than :class:`HTTPCache` does: a response for which session or cookies were looked at is not
    stored, whatever it says.

    Args:
        cache: where responses are kept: any cache of :mod:`prologue.cache`.
        ttl: seconds that a GET response with status 200 lives that states no life; default 0: it is not
            stored.
        profile: and the rest: as for :class:`HTTPCache`.

    Raises:
        SettingsError: the profile is unknown, or a value is out of range.
    """
    judged = make_profile(
        profile, ttl=ttl, stale_if_error=stale_if_error, keep=keep, ignored_cookies=ignored_cookies
    )
    engine = Engine(
        cache,
        judged,
        Normal(encodings, languages, ignored_parameters, sort_query),
        max_body_size=max_body_size,
        coalesce_timeout=coalesce_timeout,
        no_vary_search=no_vary_search,
        name=name,
        detail=detail,
        clock=clock,
    )
    return CacheMiddleware(engine, purge_token, server_timing)


def _ask(ctx: Context, changes: Mapping[str, str | None]) -> Answer:
    """Run the rest of the chain, with changes to the request, and return what it answers."""
    environ = ctx.environ
    before = {name: environ.get(name) for name in changes}
    _update(environ, changes)
    try:
        ctx.next()
        response = ctx.response
    finally:
        _update(environ, before)
    body: Any = response.stream
    if body is None:
        body = [response.body] if response.body else []
    headers = response.headers.items()
    if response.content_type is None:
        # As it would be sent: a stored response lacks nothing.
        headers.append(("Content-Type", "application/octet-stream"))
    return Answer(str(response.status), headers, body, _is_personal(ctx))


def _update(environ: dict[str, Any], changes: Mapping[str, str | None]) -> None:
    for name, value in changes.items():
        if value is None:
            environ.pop(name, None)
        else:
            environ[name] = value


def _normalise(ctx: Context, normal: Normal) -> None:
    """Make a request like others, for whoever looks at it from now on."""
    changes = normal.changes(ctx.environ)
    _update(ctx.environ, changes)
    if changes and ctx.environ["REQUEST_METHOD"] in ("GET", "HEAD"):
        # What was read of it already is read again. Other methods are not answered from the cache, and may
        # have a body that was read already.
        seen, ctx._request, ctx._query = ctx._request, None, None
        if seen is not None and "cookies" in vars(seen):
            _ = ctx.request.cookies  # still counts as looked at


def _is_personal(ctx: Context) -> bool:
    """Return whether somebody looked at the session or at a cookie.

    A session tells by its attribute ``touched``; one without it counts as touched.
    """
    session = ctx._session
    if session is not None and getattr(session, "touched", True):
        return True
    return ctx._request is not None and "cookies" in vars(ctx._request)


def _set_response(ctx: Context, answer: Answer) -> None:
    headers, body = answer.headers, answer.body
    if answer.status == "200 OK" and type(body) is list and headers[-1][0] == "Content-Length":
        ctx.set_whole_response(headers, body)
    else:
        ctx.set_checked_response(int(answer.status[:3]), headers, body)
