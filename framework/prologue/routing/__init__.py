"""Routing: which handler a request gets, and the URL that leads there.

The rules:

1. A pattern is a sequence of segments. Empty segments are skipped in patterns and in paths:
   ``/a``, ``/a/`` and ``//a`` are one route.
2. In one segment static text beats a typed parameter (``{id:int}``), which beats a parameter with text
   around it (``img-{n}.png``), which beats a parameter (``{name}``), which beats ``*``, which beats what
   takes the rest of the path (``{rest}$``, ``{rest:path}``, ``*$``).
3. The first segment in which two matching routes differ decides between them.
4. Among typed parameters of one segment the order is uuid, date, int, float, then registered converters
   by name. Among parameters with text around them the one that fixes more text is first, then the one
   with the longer prefix, then the typed one, then the one whose text sorts first.
5. Every possibility is considered: a route is found whenever one matches, method included. The order of
   registration never changes an answer.
6. Two routes of one method whose segments are of the same kinds and accept the same (whatever the
   parameters are called) are a ``DuplicatedRouteError`` that names both. Each route keeps its own
   parameter names.
7. A parameter takes one character at least; a rest takes one segment at least. Where a segment has
   several parameters, each takes as much as it can, from left to right.
8. Typed parameters read ASCII only: ``int`` 1 to 20 digits, ``float`` the same with an optional
   fraction, ``uuid`` 36 characters, ``date`` as ``YYYY-MM-DD``. A text that is not of the type is no match.
9. Regular expressions are tried after all patterns, in order of registration, against the whole path as
   it was received. None is better than another: one for HEAD answers HEAD before any for GET.
10. A route for GET answers HEAD where no route for HEAD is as good. A path that has routes, but none
    for the method, has *allowed methods*: the application answers OPTIONS with them, and 405.
11. A lookup takes a step a segment at the most, and a step asks each converter and each parameter with
    text around it that fits once, whatever the number of routes. Nothing recurses.
"""

from prologue.routing.converters import Converter
from prologue.routing.group import ALL_METHODS, Group, Verbs
from prologue.routing.route import Route
from prologue.routing.router import TrieRouter
from prologue.routing.trie import Match

__all__ = ["ALL_METHODS", "Converter", "Group", "Match", "Route", "TrieRouter", "Verbs"]
