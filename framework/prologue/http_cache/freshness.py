"""How long a response is fresh, and how old it is (RFC 9111 section 4.2)."""

from __future__ import annotations

from prologue.http_cache.dates import parse_date
from prologue.http_cache.directives import Directives
from prologue.http_cache.fields import Fields, parse_seconds, split_list
from prologue.http_cache.profile import Profile

__all__ = ["HEURISTIC_STATUSES", "explicit_lifetime", "initial_age", "lifetime"]

#: The statuses that a cache may give a life of its own (RFC 9110 section 15.1), but for 206.
HEURISTIC_STATUSES = frozenset((200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501))

_HEURISTIC_FRACTION = 0.1
_HEURISTIC_LIMIT = 86_400.0


def explicit_lifetime(
    directives: Directives, targeted: bool, fields: Fields, received: float
) -> float | None:
    """Return the freshness lifetime that a response states for a shared cache; None without (section 4.2.1).

    Args:
        directives: what counts of the response.
        targeted: whether they come from a targeted field: ``Expires`` does not count then.
        fields: of the response.
        received: when it was received, in seconds since 1970: its date where it has none.
    """
    if directives.s_maxage is not None:
        return directives.s_maxage
    if directives.max_age is not None:
        return directives.max_age
    expires = fields.get("expires")
    if expires is None or targeted:
        return None
    # Two lines, or what is no date, is a time in the past (section 5.3).
    end = parse_date(expires[0], received) if len(expires) == 1 else None
    return 0 if end is None else max(0.0, end - _date(fields, received))


def lifetime(
    status: int, directives: Directives, targeted: bool, fields: Fields, received: float, profile: Profile
) -> float:
    """Return how long a response is fresh, in seconds: as it states, else as the profile has it."""
    explicit = explicit_lifetime(directives, targeted, fields, received)
    if explicit is not None:
        return explicit
    if profile.ttl and status == 200:
        return profile.ttl
    if profile.heuristic and (status in HEURISTIC_STATUSES or directives.public):
        modified = parse_date(fields.get("last-modified", [""])[0], received)
        if modified is not None:
            return min(_HEURISTIC_LIMIT, max(0.0, _date(fields, received) - modified) * _HEURISTIC_FRACTION)
    return 0


def initial_age(fields: Fields, requested: float, received: float) -> float:
    """Return the age that a response has when it is received (section 4.2.3).

    A response without ``Date`` and ``Age`` was made by the application, just now: the time that it took does
    not count as age.

    Args:
        fields: of the response.
        requested: when the application was asked, in seconds since 1970.
        received: when it answered.
    """
    if "date" not in fields and "age" not in fields:
        return 0
    apparent = max(0.0, received - _date(fields, received))
    ages = split_list(fields.get("age", ()))
    stated = parse_seconds(ages[0]) or 0 if ages else 0
    return max(apparent, stated + max(0.0, received - requested))


def _date(fields: Fields, received: float) -> float:
    date = parse_date(fields.get("date", [""])[0], received)
    return received if date is None else date
