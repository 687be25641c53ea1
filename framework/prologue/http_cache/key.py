"""The key: which URL a request means, and how it was spelled (RFC 9111 section 2, RFC 9110 section 4.2.3).

The key holds host, path and query. The host is in lower case and without the port of its scheme; the path is
decoded, as WSGI has it. All that is left out of it — the scheme, the spelling of host and path, and in a
careful cache the request fields that are often trusted and never named in Vary — is the *spelling*, and a
stored response answers a request of the same spelling only. So whatever changes the URL's content clears it
for every spelling, and no input of this kind can change what another client gets.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

import msgspec

from prologue.errors import SettingsError

__all__ = ["FORWARDED", "OVERRIDES", "Target", "key_of", "key_of_url", "origin_of", "target_of"]

#: Fields that make some frameworks take a request for another one.
OVERRIDES = frozenset(
    (
        "HTTP_X_HTTP_METHOD",
        "HTTP_X_HTTP_METHOD_OVERRIDE",
        "HTTP_X_METHOD_OVERRIDE",
        "HTTP_X_ORIGINAL_URI",
        "HTTP_X_ORIGINAL_URL",
        "HTTP_X_REWRITE_URL",
    )
)

#: Fields that some applications build links and redirects from.
FORWARDED = frozenset(
    (
        "HTTP_FORWARDED",
        "HTTP_X_FORWARDED_HOST",
        "HTTP_X_FORWARDED_PATH",
        "HTTP_X_FORWARDED_PORT",
        "HTTP_X_FORWARDED_PREFIX",
        "HTTP_X_FORWARDED_PROTO",
        "HTTP_X_FORWARDED_SCHEME",
        "HTTP_X_FORWARDED_SERVER",
        "HTTP_X_FORWARDED_SSL",
        "HTTP_X_HOST",
        "HTTP_X_URL_SCHEME",
        "HTTP_FRONT_END_HTTPS",
    )
)

_PORTS = {"http": ":80", "https": ":443"}


class Target(msgspec.Struct, frozen=True):
    """What a request asks for: the key of its URL, and its spelling."""

    key: str
    spelling: str


def key_of(scheme: str, host: str, path: str, query: str) -> str:
    """Return the key of a URL; different ones have different keys.

    Args:
        scheme: decides only which port need not be said.
        host: with its port, if it has one.
        path: decoded, its bytes as Latin-1 (PEP 3333).
        query: as it was sent.
    """
    host = host.lower()
    port = _PORTS.get(scheme)
    if port is not None and host.endswith(port):
        host = host[: -len(port)]
    return f"http:{len(host)}:{len(path)}:{host}{path}?{query}"


def key_of_url(url: str) -> str:
    """Return the key of an absolute URL.

    Raises:
        SettingsError: it is none.
    """
    parts = urlsplit(url)
    if parts.scheme.lower() not in _PORTS or not parts.netloc:
        raise SettingsError(f"{url!r} is no absolute URL; write 'http://example.com/path'")
    path = unquote_to_bytes(parts.path or "/").decode("latin-1")
    return key_of(parts.scheme.lower(), parts.netloc.rpartition("@")[2], path, parts.query)


def origin_of(environ: Mapping[str, Any]) -> tuple[str, str]:
    """Return the scheme and the host, as the request has it."""
    host = environ.get("HTTP_HOST") or f"{environ.get('SERVER_NAME', '')}:{environ.get('SERVER_PORT', '')}"
    return environ["wsgi.url_scheme"], host


def target_of(environ: Mapping[str, Any], careful: bool) -> Target:
    """Return what a request asks for.

    Args:
        environ: the request.
        careful: whether the fields of ``FORWARDED`` belong to the spelling.
    """
    scheme = environ["wsgi.url_scheme"]
    host = environ.get("HTTP_HOST") or f"{environ.get('SERVER_NAME', '')}:{environ.get('SERVER_PORT', '')}"
    path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    query = environ.get("QUERY_STRING", "")
    spelling = f"{scheme} {host}"
    raw = environ.get("RAW_URI") or environ.get("REQUEST_URI")
    if raw is not None and raw != path and raw != f"{path}?{query}":
        spelling = f"{spelling} {raw}"
    if careful and not environ.keys().isdisjoint(FORWARDED):
        said = [(name, environ[name]) for name in sorted(FORWARDED & environ.keys())]
        # repr, so that no value can look like two.
        spelling = f"{spelling} {said!r}"
    return Target(key_of(scheme, host, path, query), spelling)
