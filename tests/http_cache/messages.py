"""Requests and responses for the rules."""

from __future__ import annotations

from typing import Any

from prologue.http_cache.fields import Headers, environ_name, fields_of
from prologue.http_cache.key import target_of
from prologue.http_cache.profile import Profile
from prologue.http_cache.storable import make_stored, why_not_storable
from prologue.http_cache.stored import Stored

NOW = 1_000_000_000.0


def request(method: str = "GET", url: str = "/", **fields: str) -> dict[str, Any]:
    """An environ; fields are given by names with underscores."""
    path, _, query = url.partition("?")
    environ = {
        "REQUEST_METHOD": method,
        "wsgi.url_scheme": "http",
        "HTTP_HOST": "example.com",
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": query,
    }
    return environ | {environ_name(name.replace("_", "-")): value for name, value in fields.items()}


def why_not(
    environ: dict[str, Any], status: int, headers: Headers, profile: Profile, personal: bool = False
) -> str:
    return why_not_storable(environ, status, fields_of(headers), NOW, profile, personal)


def stored(
    headers: Headers,
    profile: Profile,
    environ: dict[str, Any] | None = None,
    status: int = 200,
    age: float = 0,
) -> Stored:
    """A response that was received `age` seconds ago, with a body of four bytes."""
    environ = request() if environ is None else environ
    spelling = target_of(environ, profile.careful).spelling
    received = NOW - age
    made = make_stored(environ, spelling, status, headers, fields_of(headers), received, received, profile)
    assert made.useful(NOW) > 0
    from msgspec.structs import replace

    return replace(made, body="body", length=4)
