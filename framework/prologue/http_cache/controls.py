"""What a route says about the caching of its answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

from prologue.errors import HeaderError
from prologue.http_cache.structured import OWN_FIELD

if TYPE_CHECKING:
    from prologue.context import Context

__all__ = ["CacheControls", "cache_control", "format_directives"]

Handler = TypeVar("Handler", bound=Callable[..., Any])

_FLAGS = ("immutable", "must_revalidate", "no_cache", "no_store", "private", "proxy_revalidate", "public")
_SECONDS = ("max_age", "s_maxage", "stale_if_error", "stale_while_revalidate")


def format_directives(**directives: Any) -> str:
    """Return a Cache-Control value: ``format_directives(public=True, max_age=60)``.

    Args:
        directives: the names of RFC 9111 and RFC 5861 with underscores: a flag is True, a number of seconds
            an int; False and None leave a directive out.

    Raises:
        HeaderError: a name is unknown, a value is of the wrong type, or they contradict each other.
    """
    parts = []
    for name, value in directives.items():
        word = name.replace("_", "-")
        if name in _FLAGS and isinstance(value, bool):
            parts += [word] if value else []
        elif name in _SECONDS and (value is None or (type(value) is int and value >= 0)):
            parts += [] if value is None else [f"{word}={value}"]
        elif name in _FLAGS or name in _SECONDS:
            wanted = "True or False" if name in _FLAGS else "seconds, an int of 0 or more"
            raise HeaderError(f"Cache-Control: {name} is {wanted}, not {value!r}")
        else:
            raise HeaderError(
                f"Cache-Control has no {name!r}; there are {', '.join(sorted(_FLAGS + _SECONDS))}"
            )
    if directives.get("public") and (directives.get("private") or directives.get("no_store")):
        raise HeaderError("Cache-Control: public contradicts private and no_store; leave one out")
    if not parts:
        raise HeaderError("Cache-Control: name a directive, such as max_age=60")
    return ", ".join(parts)


def cache_control(
    *, tags: Iterable[str] = (), vary: Iterable[str] = (), **directives: Any
) -> Callable[[Handler], Handler]:
    """Say how the answers of a handler may be cached: ``@cache_control(public=True, max_age=60)``.

    It applies to answers with a status below 400 that do not say it themselves.

    Args:
        tags: what purges them.
        vary: request fields that they depend on.
        directives: see :func:`format_directives`.

    Raises:
        HeaderError: the directives cannot be said so.
    """
    value = format_directives(**directives)
    tags, vary = tuple(tags), tuple(vary)

    def decorate(handler: Handler) -> Handler:
        @wraps(handler)
        def controlled(ctx: Context) -> None:
            result = handler(ctx)
            if result is not None:
                ctx.answer(result)
            response = ctx.response
            if response.status < 400:
                response.headers.setdefault("Cache-Control", value)
                for name in vary:
                    response.headers.add_vary(name)
                if tags:
                    response.headers.add("Surrogate-Key", " ".join(tags))

        return controlled  # type: ignore[return-value]

    return decorate


class CacheControls:
    """``ctx.cache``: how the answer to this request may be cached.

    It sets fields of ``ctx.response``, which a handler's result keeps.

    Args:
        ctx: of the request.
    """

    __slots__ = ("_ctx",)

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx

    def control(self, **directives: Any) -> None:
        """Set ``Cache-Control``; see :func:`format_directives`.

        Raises:
            HeaderError: the directives cannot be said so.
        """
        self._ctx.response.headers["Cache-Control"] = format_directives(**directives)

    def tag(self, *tags: str) -> None:
        """Add tags, which purge the answer: words without blanks.

        Raises:
            HeaderError: a tag cannot be sent.
        """
        for tag in tags:
            if not tag or " " in tag:
                raise HeaderError(f"a cache tag is a word without blanks, not {tag!r}")
        self._ctx.response.headers.add("Surrogate-Key", " ".join(tags))

    def vary(self, *names: str) -> None:
        """Add request fields that the answer depends on."""
        for name in names:
            self._ctx.response.headers.add_vary(name)

    def exclude(self) -> None:
        """Keep the answer out of this application's cache; what other caches may do stays as it is."""
        self._ctx.response.headers["-".join(part.capitalize() for part in OWN_FIELD.split("-"))] = "no-store"
