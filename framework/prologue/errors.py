"""Every exception of the package, in one tree.

Each class derives from :class:`PrologueError` and, where a caller would already catch a builtin
exception for the same mistake, from that builtin too. Messages say what failed, the offending value
and the remedy. This module imports nothing of the package.
"""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus

__all__ = [
    "AbortError",
    "BodyTooLargeError",
    "CacheClosedError",
    "CacheError",
    "CacheLockError",
    "CacheOptionError",
    "CacheTimeoutError",
    "CacheUnavailableError",
    "CacheValueError",
    "ClosedResourceError",
    "CodecError",
    "DuplicatedReversedRouteError",
    "DuplicatedRouteError",
    "EmptySecretKeyError",
    "EnvError",
    "EnvWrongFormatError",
    "HTTPError",
    "HeaderError",
    "LazyCycleError",
    "LeaseError",
    "LifecycleError",
    "MissingExtraError",
    "PoolClosedError",
    "PoolError",
    "PoolFullError",
    "PoolTimeoutError",
    "PoolUnavailableError",
    "PrologueError",
    "RouteBuildError",
    "RouteError",
    "SettingsError",
    "ValidationError",
]


class PrologueError(Exception):
    """Base of every error that this package raises on purpose."""


class HTTPError(PrologueError):
    """Answer the request with an HTTP status; raise it from a handler or a middleware.

    Args:
        status: the HTTP status code, 400 to 599.
        body: text of the answer; empty lets the error handler of the status write it.
        headers: extra header fields as (name, value) pairs.
    """

    def __init__(self, status: int, body: str = "", headers: Iterable[tuple[str, str]] = ()) -> None:
        try:
            phrase = HTTPStatus(status).phrase
        except ValueError:
            phrase = "unknown status"
        super().__init__(f"{status} {phrase}" + (f": {body}" if body else ""))
        self.status = status
        self.body = body
        self.headers = tuple(headers)


class AbortError(HTTPError):
    """End the request now with the response that was set (``ctx.abort_exit``)."""


class BodyTooLargeError(HTTPError):
    """The request body is over a limit (413); the message names the limit and the setting."""

    def __init__(self, body: str) -> None:
        super().__init__(413, body)


class ValidationError(HTTPError):
    """The request body has the right syntax and the wrong content (422); the body names the field."""

    def __init__(self, body: str) -> None:
        super().__init__(422, body)


class RouteError(PrologueError, ValueError):
    """A route pattern, a name or a method cannot be registered; the message shows where."""


class DuplicatedRouteError(RouteError):
    """Two routes of the same shape and method; the message names both."""


class DuplicatedReversedRouteError(RouteError):
    """One route name for two patterns; the message names both."""


class RouteBuildError(RouteError, LookupError):
    """``url_for`` got an unknown name, a missing, unknown or unfit parameter."""


class HeaderError(PrologueError, ValueError):
    """A header name, value, status or cookie attribute holds a character that may not be sent."""


class SettingsError(PrologueError, ValueError):
    """A setting has an unknown key, a wrong type or a value out of range; the message names the key."""


class EmptySecretKeyError(SettingsError):
    """Something signs and no secret key is set."""


class EnvError(SettingsError):
    """An environment file cannot be used."""


class EnvWrongFormatError(EnvError):
    """A line of an environment file is not ``KEY=value``; the message names file and line."""


class LifecycleError(PrologueError, RuntimeError):
    """A resource or an event is used at a time when it cannot be."""


class ClosedResourceError(LifecycleError):
    """A resource is used after it was closed."""


class LazyCycleError(PrologueError, RuntimeError):
    """A lazy resource needs itself to load; the message names the cycle."""


class MissingExtraError(PrologueError, ImportError):
    """An optional dependency is not installed; the message names the extra to install."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs an optional dependency: pip install 'prologue-wsgi[{extra}]'")
        self.extra = extra


class PoolError(PrologueError):
    """A connection pool cannot give a connection, or cannot take one back; the message names the pool.

    Attributes:
        retry_after: seconds after which another try may succeed; a 503 tells it to the client.
    """

    retry_after: float = 1.0


class PoolTimeoutError(PoolError, TimeoutError):
    """Every connection is in use and none came back in time; the message says how many, and how long."""


class PoolFullError(PoolError, RuntimeError):
    """As many callers as the pool allows wait for a connection already."""


class PoolUnavailableError(PoolError, ConnectionError):
    """The database does not answer; the error of the last attempt to connect is the cause."""


class PoolClosedError(PoolError, ClosedResourceError):
    """A connection is asked of a pool that was closed."""


class LeaseError(PoolError, RuntimeError):
    """A borrowed connection is used or given back by somebody who does not hold it."""


class CacheError(PrologueError):
    """A cache cannot do what it was asked."""


class CacheOptionError(CacheError, ValueError):
    """An option of a cache is out of range, or makes no sense beside another."""


class CacheValueError(CacheError, ValueError):
    """A value cannot be stored: no codec for its type, too large, not a counter."""


class CodecError(CacheValueError):
    """A codec cannot turn a value into bytes, or bytes found in a store into a value."""


class CacheTimeoutError(CacheError, TimeoutError):
    """A factory or a lock took longer than the caller wanted to wait."""


class CacheUnavailableError(CacheError, ConnectionError):
    """The store of a cache does not answer; the driver's error is the cause."""


class CacheLockError(CacheError, RuntimeError):
    """A lock is released by somebody who does not hold it any more."""


class CacheClosedError(CacheError, ClosedResourceError):
    """A cache is used after it was closed."""
