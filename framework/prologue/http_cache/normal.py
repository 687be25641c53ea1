"""Making requests alike that the application treats alike: by declared offers, and by what the query is known
for.

The application gets the request as it was made: what the key leaves out it does not see, so no answer can
depend on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from prologue.errors import SettingsError
from prologue.http_cache.fields import is_token, split_list

__all__ = ["Normal", "best_encoding", "best_language", "normal_query"]


class Normal:
    """What is made alike.

    Args:
        encodings: content codings that the application offers, the best first: ``Accept-Encoding`` becomes
            the one that is chosen, or is taken away.
        languages: languages that it offers, the best first: ``Accept-Language`` likewise.
        ignored_parameters: names of query parameters that are taken away; one that ends in ``*`` stands for
            all that begin so.
        sort_query: whether query parameters are sorted by their names.

    Raises:
        SettingsError: an offer is no token.
    """

    __slots__ = ("_encodings", "_languages", "_names", "_prefixes", "_sort")

    def __init__(
        self,
        encodings: Sequence[str] = (),
        languages: Sequence[str] = (),
        ignored_parameters: Iterable[str] = (),
        sort_query: bool = False,
    ) -> None:
        for offer in (*encodings, *languages):
            if not is_token(offer):
                raise SettingsError(f"{offer!r} is no content coding and no language; write 'gzip' or 'bg'")
        self._encodings = tuple(encodings)
        self._languages = tuple(languages)
        parameters = list(ignored_parameters)
        self._names = frozenset(name for name in parameters if not name.endswith("*"))
        self._prefixes = tuple(name[:-1] for name in parameters if name.endswith("*"))
        self._sort = sort_query

    def __bool__(self) -> bool:
        return bool(self._encodings or self._languages or self._names or self._prefixes or self._sort)

    def changes(self, environ: Mapping[str, Any]) -> dict[str, str | None]:
        """Return what is changed in a request: values by WSGI name, None for what is taken away."""
        changes: dict[str, str | None] = {}
        encodings, languages = environ.get("HTTP_ACCEPT_ENCODING"), environ.get("HTTP_ACCEPT_LANGUAGE")
        if self._encodings and encodings is not None:
            changes["HTTP_ACCEPT_ENCODING"] = best_encoding(encodings, self._encodings)
        if self._languages and languages is not None:
            changes["HTTP_ACCEPT_LANGUAGE"] = best_language(languages, self._languages)
        query = environ.get("QUERY_STRING", "")
        normal = self._query(query)
        if normal != query:
            changes["QUERY_STRING"] = normal
            for name in ("RAW_URI", "REQUEST_URI"):
                if name in environ:
                    path = environ[name].partition("?")[0]
                    changes[name] = f"{path}?{normal}" if normal else path
        return changes

    def url(self, url: str) -> str:
        """Return an absolute URL with its query changed as those of requests are."""
        parts = urlsplit(url)
        return parts._replace(query=self._query(parts.query)).geturl()

    def _query(self, query: str) -> str:
        if query and (self._names or self._prefixes or self._sort):
            return normal_query(query, self._names, self._prefixes, self._sort)
        return query


def best_encoding(value: str, offers: Sequence[str]) -> str | None:
    """Return the offered coding that ``Accept-Encoding`` likes most, the first of equals; None for none.

    Source: RFC 9110 section 12.5.3.
    """
    wanted = dict(reversed(_weights(value)))
    rated = [(wanted.get(offer.lower(), wanted.get("*", 0.0)), offer) for offer in offers]
    return _best(rated)


def best_language(value: str, offers: Sequence[str]) -> str | None:
    """Return the offered language that ``Accept-Language`` likes most, the first of equals; None for none.

    A range stands for every language that begins with it; the longest range that does decides (RFC 4647
    section 3.3.1, RFC 9110 section 12.5.4).
    """
    wanted = dict(reversed(_weights(value)))

    def weight(offer: str) -> float:
        parts = offer.lower().split("-")
        for length in range(len(parts), 0, -1):
            found = wanted.get("-".join(parts[:length]))
            if found is not None:
                return found
        return wanted.get("*", 0.0)

    return _best([(weight(offer), offer) for offer in offers])


def normal_query(query: str, names: frozenset[str], prefixes: tuple[str, ...], sort: bool) -> str:
    """Return a query without some parameters, in the order of their names if that is wanted.

    Names are compared as they were sent; values with one name keep their order.
    """
    pairs = [pair for pair in query.split("&") if pair]
    kept = [pair for pair in pairs if not _is_ignored(pair.partition("=")[0], names, prefixes)]
    if sort:
        kept.sort(key=lambda pair: pair.partition("=")[0])
    return "&".join(kept)


def _is_ignored(name: str, names: frozenset[str], prefixes: tuple[str, ...]) -> bool:
    return name in names or name.startswith(prefixes)


def _best(rated: Sequence[tuple[float, str]]) -> str | None:
    weight, offer = max(rated, key=lambda pair: pair[0])
    return offer if weight > 0 else None


def _weights(value: str) -> list[tuple[str, float]]:
    """Return the members of a field with their weights (RFC 9110 section 12.4.2); a wrong weight is 0."""
    found = []
    for element in split_list([value]):
        name, *parameters = (part.strip(" \t").lower() for part in element.split(";"))
        weight = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                digits = parameter[2:]
                plain = digits.isascii() and digits.replace(".", "", 1).isdigit() and len(digits) <= 5
                weight = min(1.0, float(digits)) if plain else 0.0
        found.append((name, weight))
    return found
