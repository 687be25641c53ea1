"""No-Vary-Search: query parameters that make no difference (draft-ietf-httpbis-no-vary-search).

The rule that a path's responses state is kept beside them. What states one is stored under the query that
the rule makes of it, together with the rule: a response is found by the rule that it states itself, and by
no other. It has a tag of its path, so that whatever clears one URL of the path clears it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl, unquote_plus, urlencode

from prologue.errors import PrologueError
from prologue.http_cache.fields import Fields
from prologue.http_cache.key import Target, target_of
from prologue.http_cache.structured import parse_field

if TYPE_CHECKING:
    from prologue.cache import CacheBackend

__all__ = ["FIELD", "Queries", "Rule", "parse_rule", "query_tag"]

logger = logging.getLogger("prologue.http_cache")

#: Seconds that the rule of a path is remembered after it was stated.
RULE_LIFE = 86_400.0

FIELD = "no-vary-search"

_ALIKE = "http-alike:"


class Rule(NamedTuple):
    """Which parameters make no difference.

    Attributes:
        ignores_order: whether the order of names makes none; values with one name keep theirs.
        inverted: whether ``names`` are those that make one, and no others do.
        names: decoded, their bytes as Latin-1.
    """

    ignores_order: bool
    inverted: bool
    names: frozenset[str]

    def normal(self, query: str) -> str:
        """Return what all queries have in common that the rule takes for alike."""
        pairs = [
            pair
            for pair in parse_qsl(query, keep_blank_values=True, encoding="latin-1")
            if (pair[0] in self.names) is self.inverted
        ]
        if self.ignores_order:
            pairs.sort(key=lambda pair: pair[0])
        return urlencode(pairs, encoding="latin-1")


def parse_rule(values: Iterable[str]) -> Rule | None:
    """Return the rule of ``No-Vary-Search``; None where every difference counts, or it says nothing clear.

    Raises:
        MissingExtraError: there is such a field, and http-sf is not installed.
    """
    members = parse_field(values, "dictionary") or {}
    order = members.get("key-order", (False, None))[0]
    params = members.get("params", (False, None))[0]
    if not isinstance(order, bool):
        return None
    inverted = params is True
    if "except" in members and not inverted:
        return None
    listed = members.get("except", ([], None))[0] if inverted else params
    names = _names([] if listed is False else listed)
    if names is None or not (order or inverted or names):
        return None
    return Rule(order, inverted, names)


def _names(members: Any) -> frozenset[str] | None:
    """Return the decoded names of an inner list; None where it is none, or has other members than strings."""
    if not isinstance(members, list):
        return None
    names = [member[0] if isinstance(member, tuple) else member for member in members]
    if not all(type(name) is str for name in names):
        return None
    return frozenset(unquote_plus(name, encoding="latin-1") for name in names)


def query_tag(key: str) -> str:
    """Return the tag of all responses that one response of the URL's path may stand for."""
    return f"queries:{_path(key)}"


def _path(key: str) -> str:
    """Return the key of a URL without its query."""
    _, host, path, rest = key.split(":", 3)
    return f"{host}:{path}:{rest[: int(host) + int(path)]}"


class Queries:
    """The rules that paths have stated, in the cache that keeps their responses.

    Args:
        cache: any cache; one that does not answer knows no rule.

    Thread safety: any thread may call any method.
    """

    __slots__ = ("_cache",)

    def __init__(self, cache: CacheBackend) -> None:
        self._cache = cache

    def find(self, environ: Mapping[str, Any], careful: bool) -> Target | None:
        """Return what a request asks for by the rule that its path has stated; None where there is none."""
        exact = target_of(environ, careful)
        value = self._cache.get(f"http-queries:{_path(exact.key)}")
        rule = parse_rule([value]) if isinstance(value, str) else None
        return None if rule is None else _alike(environ, careful, rule)

    def target(self, environ: Mapping[str, Any], careful: bool, fields: Fields) -> Target:
        """Return what a response is stored under: its URL, or what the rule makes of it that it states."""
        rule = parse_rule(fields.get(FIELD, ()))
        return target_of(environ, careful) if rule is None else _alike(environ, careful, rule)

    def remember(self, target: Target, fields: Fields) -> None:
        """Remember the rule of a response that is stored now.

        Not sooner: who knows the rule looks, and waits, for nothing else than what is stored by it.
        """
        if not target.key.startswith(_ALIKE):
            return
        value = ", ".join(fields[FIELD])
        try:
            self._cache.set(f"http-queries:{_path(target.key)}", value, ttl=RULE_LIFE)
        except PrologueError as error:
            logger.warning("the rule %r cannot be kept: %s", value, error)


def _alike(environ: Mapping[str, Any], careful: bool, rule: Rule) -> Target:
    bare = dict(environ, QUERY_STRING="")
    for name in ("RAW_URI", "REQUEST_URI"):
        if name in bare:
            bare[name] = bare[name].partition("?")[0]
    target = target_of(bare, careful)
    said = f"{rule.ignores_order:d}{rule.inverted:d}{sorted(rule.names)!r}"
    # A kind of key of its own: no query, however it is spelled, can look like what a rule made.
    key = target.key.removeprefix("http")
    return Target(f"http-alike{key}{rule.normal(environ.get('QUERY_STRING', ''))} {said}", target.spelling)
