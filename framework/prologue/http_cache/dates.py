"""HTTP dates: the three forms that are legal, and nothing else (RFC 9110 section 5.6.7)."""

from __future__ import annotations

import re
import time
from calendar import timegm
from datetime import date

__all__ = ["format_date", "parse_date"]

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_LONG_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

_MONTH = f"(?P<month>{'|'.join(_MONTHS)})"
_TIME = "(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
_FORMS = (
    re.compile(f"(?P<name>{'|'.join(_DAYS)}), (?P<day>[0-9]{{2}}) {_MONTH} (?P<year>[0-9]{{4}}) {_TIME} GMT"),
    re.compile(
        f"(?P<name>{'|'.join(_LONG_DAYS)}), (?P<day>[0-9]{{2}})-{_MONTH}-(?P<year>[0-9]{{2}}) {_TIME} GMT"
    ),
    re.compile(
        f"(?P<name>{'|'.join(_DAYS)}) {_MONTH} (?P<day>[0-9]{{2}}| [0-9]) {_TIME} (?P<year>[0-9]{{4}})"
    ),
)


def parse_date(text: str, now: float | None = None) -> int | None:
    """Return the seconds since 1970 of an HTTP date; None when it is none.

    Args:
        text: IMF-fixdate, or the obsolete forms of RFC 850 and asctime. The day of the week must be right,
            but for a year of two digits, which can mean another century.
        now: seconds since 1970, for a year of two digits: it is at most 50 years ahead. Default the present.
    """
    for form in _FORMS:
        found = form.fullmatch(text)
        if found is not None:
            break
    else:
        return None
    year, month = int(found["year"]), _MONTHS.index(found["month"]) + 1
    hour, minute, second = int(found["hour"]), int(found["minute"]), int(found["second"])
    if hour > 23 or minute > 59 or second > 60:
        return None
    if len(found["year"]) == 2:
        this_year, *rest = time.gmtime(now)[:6]
        year += this_year - this_year % 100
        if (year, month, int(found["day"]), hour, minute, second) > (this_year + 50, *rest):
            year -= 100
    try:
        day = date(year, month, int(found["day"]))
    except ValueError:
        return None
    if len(found["year"]) == 4 and _DAYS[day.weekday()] != found["name"]:
        return None
    return timegm((day.year, day.month, day.day, hour, minute, second))


def format_date(seconds: float) -> str:
    """Return the IMF-fixdate of seconds since 1970."""
    year, month, day, hour, minute, second, weekday, _, _ = time.gmtime(seconds)
    return f"{_DAYS[weekday]}, {day:02} {_MONTHS[month - 1]} {year:04} {hour:02}:{minute:02}:{second:02} GMT"
