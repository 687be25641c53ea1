"""Whether a response may be stored, and what for (RFC 9111 section 3)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from prologue.http_cache.dates import format_date
from prologue.http_cache.directives import Directives, parse_directives
from prologue.http_cache.fields import Fields, Headers, split_list
from prologue.http_cache.freshness import HEURISTIC_STATUSES, explicit_lifetime, initial_age, lifetime
from prologue.http_cache.profile import Profile
from prologue.http_cache.stored import Stored
from prologue.http_cache.structured import OWN_FIELD, directives_of, parse_groups
from prologue.http_cache.vary import ANYTHING, parse_vary, selecting_values

__all__ = [
    "CREDENTIALS",
    "forbids_storing",
    "group_tag",
    "has_cookies",
    "is_authorized",
    "make_stored",
    "why_not_storable",
]

#: What can tell an application who asks. Some servers keep Authorization and say REMOTE_USER (RFC 3875).
CREDENTIALS = frozenset(("HTTP_AUTHORIZATION", "HTTP_COOKIE", "REMOTE_USER"))

#: The statuses whose rules for caches are known (section 3, condition 3): 206 and 304 are not stored here.
_UNDERSTOOD = HEURISTIC_STATUSES | {
    302,
    303,
    307,
    400,
    401,
    403,
    406,
    409,
    411,
    415,
    422,
    429,
    451,
    500,
    502,
    503,
    504,
}

_NOT_STORED = frozenset(
    (
        "age",
        "connection",
        "content-length",
        "date",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authentication-info",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        OWN_FIELD,
    )
)


def has_cookies(environ: Mapping[str, Any], profile: Profile) -> bool:
    """Return whether a request has cookies that a response may depend on."""
    cookies = environ.get("HTTP_COOKIE")
    if cookies is None:
        return False
    names = {pair.partition("=")[0].strip() for pair in cookies.split(";")}
    return not names <= profile.ignored_cookies


def is_authorized(environ: Mapping[str, Any]) -> bool:
    """Return whether a request was made by somebody who said who it is, to the application or its server."""
    return "HTTP_AUTHORIZATION" in environ or bool(environ.get("REMOTE_USER"))


def forbids_storing(environ: Mapping[str, Any]) -> bool:
    """Return whether a request says ``no-store`` (section 5.2.1.5)."""
    value = environ.get("HTTP_CACHE_CONTROL")
    return value is not None and parse_directives([value]).no_store


def why_not_storable(
    environ: Mapping[str, Any],
    status: int,
    fields: Fields,
    received: float,
    profile: Profile,
    personal: bool = False,
) -> str:
    """Return why a response may not be stored, in a few words; "" when it may be.

    Args:
        environ: the request.
        status: of the response.
        fields: of the response.
        received: when, in seconds since 1970.
        profile: of the cache.
        personal: whether the application is known to have looked at session or cookies.
    """
    directives, targeted = directives_of(fields)
    if environ["REQUEST_METHOD"] != "GET":
        return "the method is not GET"
    if status < 200 or status in (206, 304):
        return f"status {status} is never stored"
    if directives.must_understand and status not in _UNDERSTOOD:
        return f"must-understand, and the rules of status {status} are not known"
    if directives.no_store and not directives.must_understand:
        return "no-store"
    if forbids_storing(environ):
        return "no-store in the request"
    if directives.private:
        return "private"
    if parse_vary(fields.get("vary", ())) == ANYTHING:
        return "Vary: *"
    allowed = directives.public or directives.s_maxage is not None
    if is_authorized(environ) and not (allowed or directives.must_revalidate):
        return "Authorization in the request, and neither public, s-maxage nor must-revalidate"
    if profile.careful:
        reason = _why_personal(environ, fields, profile, personal, allowed)
        if reason:
            return reason
    if directives.no_cache and not (fields.get("etag") or fields.get("last-modified")):
        return "no-cache, and no validator"
    if explicit_lifetime(directives, targeted, fields, received) is None:
        # What is validated before every use needs no life.
        default = (profile.ttl or directives.no_cache) and status == 200
        heuristic = profile.heuristic and (status in HEURISTIC_STATUSES or directives.public)
        if not default and not heuristic:
            return "no freshness is stated"
    return ""


def _why_personal(
    environ: Mapping[str, Any], fields: Fields, profile: Profile, personal: bool, allowed: bool
) -> str:
    if personal:
        return "the application looked at the session or at cookies"
    if "set-cookie" in fields:
        return "Set-Cookie"
    names = {name.lower() for name in split_list(fields.get("vary", ()))}
    if names & {"cookie", "authorization"}:
        return "Vary names Cookie or Authorization"
    if not allowed and has_cookies(environ, profile):
        return "cookies in the request, and neither public nor s-maxage"
    return ""


def make_stored(
    environ: Mapping[str, Any],
    spelling: str,
    status: int,
    headers: Headers,
    fields: Fields,
    requested: float,
    received: float,
    profile: Profile,
) -> Stored:
    """Return what is to be stored of a storable response.

    The key and the length of its body are still to be set.
    """
    directives, targeted = directives_of(fields)
    life = lifetime(status, directives, targeted, fields, received, profile)
    allowed = directives.public or directives.s_maxage is not None
    permits = profile.careful and not (
        directives.stale_while_revalidate is None and directives.stale_if_error is None
    )
    never_stale = (
        directives.must_revalidate
        or directives.proxy_revalidate
        or directives.no_cache
        # Section 5.2.2.10: s-maxage means proxy-revalidate too. Beside RFC 5861's directives it is commonly
        # not meant so, and the careful profile takes these at their word.
        or (directives.s_maxage is not None and not permits)
    )
    etag = fields.get("etag", [""])[0]
    last_modified = fields.get("last-modified", [""])[0]
    on_error = profile.stale_if_error if directives.stale_if_error is None else directives.stale_if_error
    groups = parse_groups(fields.get("cache-groups", ()))
    surrogate_keys = (key for value in fields.get("surrogate-key", ()) for key in value.split())
    tags = (*(group_tag(environ, name) for name in groups), *surrogate_keys)
    return Stored(
        status=status,
        headers=_kept(headers, fields, directives),
        date=fields.get("date", [""])[0] or format_date(received),
        etag=etag,
        last_modified=last_modified,
        spelling=spelling,
        selecting=selecting_values(parse_vary(fields.get("vary", ())), environ),
        body="",
        length=0,
        received=received,
        age=initial_age(fields, requested, received),
        lifetime=life,
        stale_while_revalidate=0 if never_stale else directives.stale_while_revalidate or 0,
        stale_if_error=0 if never_stale else on_error,
        keep=profile.keep if etag or last_modified else 0,
        validate=directives.no_cache,
        never_stale=never_stale,
        for_cookies=allowed,
        for_authorized=allowed or directives.must_revalidate,
        tags=tuple(dict.fromkeys(tags)),
    )


def group_tag(environ: Mapping[str, Any], name: str) -> str:
    """Return the tag of a cache group, which belongs to one origin (RFC 9875 section 2.1)."""
    host = environ.get("HTTP_HOST", "").lower()
    return f"group:{environ['wsgi.url_scheme']}:{len(host)}:{host}{name}"


def _kept(headers: Headers, fields: Fields, directives: Directives) -> tuple[tuple[str, str], ...]:
    """Return the fields that are stored (section 3.1), without those of one client or of a validation."""
    unwanted: Iterable[str] = {
        *_NOT_STORED,
        *(name.lower() for name in split_list(fields.get("connection", ()))),
        *directives.private_fields,
        *directives.no_cache_fields,
    }
    return tuple((name, value) for name, value in headers if name.lower() not in unwanted)
