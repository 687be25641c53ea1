"""The cache around any WSGI application."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from hmac import compare_digest
from typing import TYPE_CHECKING, Any

from prologue.http_cache.asking import Answer, ask_wsgi
from prologue.http_cache.engine import Engine
from prologue.http_cache.key import target_of
from prologue.http_cache.normal import Normal
from prologue.http_cache.profile import make_profile

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication

    from prologue.cache import CacheBackend

__all__ = ["HTTPCache"]


class Purging:
    """What both forms of the cache have in common: clearing by URL and by tag, and closing."""

    engine: Engine

    def purge(self, *urls: str) -> None:
        """Remove the responses of absolute URLs, in every worker that shares the cache.

        What is being made for them now is not stored either.

        Raises:
            SettingsError: one of them is no absolute URL; nothing is removed.
            CacheUnavailableError: the cache does not answer, and may keep them.
        """
        keys = [self.engine.key_of_url(url) for url in urls]
        self.engine.invalidate(keys)

    def purge_tags(self, *tags: str) -> None:
        """Remove the responses with one of the tags (``Surrogate-Key``), and the cache's own values with it.

        Raises:
            CacheUnavailableError: the cache does not answer, and may keep them.
        """
        self.engine.invalidate(tags=tags)

    def close(self, timeout: float = 5.0) -> None:
        """Start no refresh any more, and wait for those that run, so many seconds at the most."""
        self.engine.close(timeout)


class HTTPCache(Purging):
    """A shared HTTP cache (RFC 9111) around a WSGI application.

    Args:
        application: any WSGI callable.
        cache: where responses are kept: any cache of :mod:`prologue.cache`.
        profile: ``safe`` (default), or ``rfc9111``: exactly what the RFC lets a shared cache do.
        ttl: seconds that a GET response with status 200 lives that states no life; default 0: it is not
            stored. For ``safe`` only.
        stale_if_error: seconds after its life that a response is served when the application fails, where it
            does not say it itself and does not forbid it; default 0.
        keep: seconds after its life that a response with a validator is kept to be validated; default 600.
        ignored_cookies: names of cookies that no response depends on, such as those of statistics.
        max_body_size: bytes of the largest body that is stored; default 1 MiB.
        coalesce_timeout: seconds that a request waits for another that asks for the same; default 5.
        encodings: content codings that the application offers, the best first; ``Accept-Encoding`` becomes
            the one that is chosen, so that there are no more variants than codings.
        languages: languages that it offers, the best first; ``Accept-Language`` likewise.
        ignored_parameters: names of query parameters that the application does not get, such as ``utm_*``.
        sort_query: whether query parameters are sorted by their names, for the application too.
        no_vary_search: whether responses may say by ``No-Vary-Search`` which query parameters make no
            difference; needs the extra ``http-cache``.
        server_timing: whether ``Server-Timing`` says how long the cache took.
        purge_token: switches ``PURGE`` on for requests with ``Authorization: Bearer`` and this secret;
            default "": off, the application gets them.
        name: of this cache in ``Cache-Status``; a token.
        detail: whether ``Cache-Status`` has the key, and why a response was not stored; not for production.
        clock: the wall clock.

    Raises:
        SettingsError: the profile is unknown, or a value is out of range.

    Thread safety: any thread may call it.
    Fork safety: refreshes and waits of the parent are forgotten in the child.
    """

    def __init__(
        self,
        application: WSGIApplication,
        cache: CacheBackend,
        *,
        profile: str = "safe",
        ttl: float = 0.0,
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
    ) -> None:
        self.application = application
        normal = Normal(encodings, languages, ignored_parameters, sort_query)
        self.engine = Engine(
            cache,
            make_profile(
                profile, ttl=ttl, stale_if_error=stale_if_error, keep=keep, ignored_cookies=ignored_cookies
            ),
            normal,
            max_body_size=max_body_size,
            coalesce_timeout=coalesce_timeout,
            no_vary_search=no_vary_search,
            name=name,
            detail=detail,
            clock=clock,
        )
        # PERF: None costs a hit nothing, an empty Normal a call of its __bool__.
        self._normal = normal or None
        self._handle = self.engine.answer_timed if server_timing else self.engine.answer
        self._purge_token = purge_token

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request (PEP 3333)."""
        if self._normal is not None:
            changed = {**environ, **self._normal.changes(environ)}
            environ = {name: value for name, value in changed.items() if value is not None}
        if self._purge_token and environ["REQUEST_METHOD"] == "PURGE":
            answer = answer_purge(self, environ, self._purge_token)
        else:
            answer = self._handle(environ, partial(ask_wsgi, self.application, environ), self)
        start_response(answer.status, answer.headers)
        body: Iterable[bytes] = answer.body
        return body


def answer_purge(cache: Purging, environ: dict[str, Any], token: str) -> Answer:
    """Answer ``PURGE``: clear the URL, or the tags of ``Surrogate-Key``; 403 without the secret."""
    given = environ.get("HTTP_AUTHORIZATION", "").encode("latin-1", "replace")
    status, text = "403 Forbidden", b"forbidden\n"
    if compare_digest(given, f"Bearer {token}".encode()):
        tags = environ.get("HTTP_SURROGATE_KEY", "").split()
        if tags:
            cache.purge_tags(*tags)
        else:
            cache.engine.invalidate(keys=[target_of(environ, careful=False).key])
        status, text = "200 OK", b"purged\n"
    headers = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(text)))]
    return Answer(status, headers, [text])
