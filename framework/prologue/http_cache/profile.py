"""The two profiles: what a cache may do beyond, or short of, what the RFC lets it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from prologue.errors import SettingsError

__all__ = ["Profile", "make_profile"]


@dataclass(frozen=True, slots=True)
class Profile:
    """How a cache judges.

    Attributes:
        name: ``safe`` or ``rfc9111``.
        ttl: seconds that a GET response with status 200 lives that states no life; 0: not at all.
        careful: nothing that could belong to somebody is stored or reused, and inputs that responses do not
            name in Vary are told apart.
        heuristic: a response without a life gets a tenth of its age (RFC 9111 section 4.2.2).
        obeys_requests: a request may ask for a younger or an older response (section 5.2.1). Otherwise
            reloading a page does not reach the application.
        stale_if_error: seconds after its life that a response that does not say it itself is served when the
            application fails.
        keep: seconds after its life that a response with a validator is kept, to be validated.
        ignored_cookies: names of cookies that no response depends on.
    """

    name: str
    ttl: float = 0.0
    careful: bool = True
    heuristic: bool = False
    obeys_requests: bool = False
    stale_if_error: float = 0.0
    keep: float = 600.0
    ignored_cookies: frozenset[str] = frozenset()


def make_profile(
    name: str,
    *,
    ttl: float = 0.0,
    stale_if_error: float = 0.0,
    keep: float = 600.0,
    ignored_cookies: Iterable[str] = (),
) -> Profile:
    """Return a profile by its name.

    Raises:
        SettingsError: there is no such profile; a duration is negative; ``rfc9111`` is given a ``ttl``.
    """
    for setting, value in (("ttl", ttl), ("stale_if_error", stale_if_error), ("keep", keep)):
        if not 0 <= value < float("inf"):
            raise SettingsError(f"{setting} is seconds, 0 or more, not {value!r}")
    cookies = frozenset(ignored_cookies)
    if name == "safe":
        return Profile(name, ttl, stale_if_error=stale_if_error, keep=keep, ignored_cookies=cookies)
    if name != "rfc9111":
        raise SettingsError(f"profile {name!r}: there are 'safe' and 'rfc9111'")
    if ttl:
        raise SettingsError(f"ttl={ttl!r}: the profile 'rfc9111' gives no life; leave it out, or take 'safe'")
    return Profile(
        name,
        careful=False,
        heuristic=True,
        obeys_requests=True,
        stale_if_error=stale_if_error,
        keep=keep,
        ignored_cookies=cookies,
    )
