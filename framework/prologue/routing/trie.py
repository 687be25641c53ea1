"""The trie of routes, and the automaton of states that lookups walk.

Registration grows a trie: one node a pattern segment. A lookup never searches it. It walks *states*;
a state stands for every trie node that the segments read so far can have reached, best first, so that
no choice is ever taken back. A state is made the first time a lookup needs it and depends on the
routes alone, never on what parameters hold: after that, a lookup is a step a segment at the most.

Three things keep a step small:

- States are kept apart by request method and by the number of segments of the path, so that a segment
  which no pattern looks at (a plain parameter in all of them) needs no step at all.
- Literal text is one dictionary look-up, whatever the number of siblings.
- Converters and affixed patterns are asked only where a state has some, each once.

Invariants: a published state is immutable but for its tables of transitions, which only gain entries,
and any thread would compute the same entry. Lookups therefore take no lock and need no GIL. Adding a
route drops all states; lookups under way finish on the old ones, with a route that was right before it
was added or is right after.

Patterns that overlap in every way have exponentially many states; a lookup that finds too many, by
their number and the size of their tables, drops all, and they are made anew as they are needed.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from prologue.errors import DuplicatedRouteError
from prologue.routing.conditions import Conditions
from prologue.routing.pattern import Kind, Segment

if TYPE_CHECKING:
    from prologue.routing.route import Route

__all__ = ["Match", "Trie"]


class Match(msgspec.Struct, gc=False):
    """What a lookup found.

    Attributes:
        params: the path parameters by name, converted.
        route: the route.
    """

    # PERF: a msgspec Struct is made in 46 ns, a class with __slots__ and __init__ in 150 ns.
    params: dict[str, Any]
    route: Route

    @property
    def target(self) -> Any:
        """What was registered with the route."""
        return self.route.target


#: Nodes without children share these: most have neither.
_NO_LITERALS: dict[str, Node] = {}
_NO_CONDITIONAL: dict[tuple[object, ...], Sibling] = {}

_STATIC = Kind.STATIC

#: Paths of fewer segments need no second look, however short the patterns are.
_USUAL_LENGTH = 24

#: What a state that has no route holds in its place; ``plain`` tells.
_NO_ROUTE: Any = None

#: Stands for every method in the states that answer :meth:`Trie.allowed_methods`.
ANY_METHOD = ""


#: What one state counts in the size of all, the entries of its table of literals aside.
_STATE_SIZE = 8


class Node:
    """One segment of the registered patterns, with what may follow it.

    ``literal`` and ``conditional`` only gain entries, and are copied whole or asked for one; the rest is
    replaced: other threads may be reading it.
    """

    __slots__ = ("conditional", "greedy", "literal", "loops", "parameter", "routes", "wildcard")

    def __init__(self, loops: bool = False) -> None:
        self.literal: dict[str, Node] = _NO_LITERALS
        #: The typed and affixed children, by shape: they must be asked whether they accept a segment.
        self.conditional: dict[tuple[object, ...], Sibling] = _NO_CONDITIONAL
        self.parameter: Node | None = None
        self.wildcard: Node | None = None
        self.greedy: Node | None = None
        self.routes: tuple[Route, ...] = ()
        #: A greedy node takes every further segment and stays.
        self.loops = loops


#: A conditional child, with the segment it was made for.
Sibling = tuple[Segment, Node]


class Origin:
    """What a state was made of: needed only to make the states that follow.

    ``length`` is the index of the last segment of the paths that the state is for; where it is for
    ``longer`` paths too, they are longer than every pattern, and only what takes the rest matches.
    """

    __slots__ = ("accepted", "allowed", "conditions", "length", "longer", "method", "nodes")

    def __init__(self, nodes: tuple[Node, ...], method: str, length: int, longer: bool) -> None:
        self.nodes = nodes
        self.method = method
        self.length = length
        self.longer = longer
        #: What must be asked whether it accepts a text that is no literal; None where nothing must.
        self.conditions: Conditions | None = None
        #: The next state by the conditional segments that accept the text.
        self.accepted: dict[tuple[Segment, ...], State] = {}
        #: All methods that have a route, in a final state for :data:`ANY_METHOD`.
        self.allowed: tuple[str, ...] = ()


class State:
    """The nodes that a path of one length can have reached after some of its segments.

    A state either looks at the segment at ``position`` and leads on, by ``literal`` text or by
    ``other``; or it is final, has position 0, and answers.
    """

    # PERF: what a lookup reads is here, copies of the route's included, and the rest is apart: in caches
    # that others have filled too, the memory that is touched decides.
    __slots__ = ("layout", "literal", "origin", "other", "plain", "position", "route")

    def __init__(self, origin: Origin, position: int) -> None:
        self.origin = origin
        self.position = position
        #: The next state by literal text; None where it has not been made yet.
        self.literal: dict[str, State | None] = {}
        #: The next state for every other text; None where it has not been made yet or depends on conditions.
        self.other: State | None = None
        #: The answer of a final state; None where ``plain`` is -2.
        self.route: Route = _NO_ROUTE
        self.plain = -2
        self.layout: tuple[Any, ...] = ()


class Trie:
    """Routes by pattern and method: what :class:`~prologue.routing.TrieRouter` is built on.

    Attributes:
        static: the routes without parameters, by path and then by method: what :meth:`find_route` finds for
            these, read faster. It lacks what is not ASCII, other spellings of a path (``//a`` for ``/a``),
            and HEAD where only GET was asked for.

    Thread safety: ``find_route`` may run in any number of threads, also while routes are added.
    """

    def __init__(self) -> None:
        self.static: dict[str, dict[str, Route]] = {}
        self._root = Node()
        self._nodes = 1
        self._depth = 0
        self._methods: set[str] = {ANY_METHOD}
        # Guards the growth of the trie alone; a lookup never takes it.
        self._lock = threading.Lock()
        self._starts: dict[str, list[State | None]] = {}
        self._made = 0
        self._forget_states()

    def __repr__(self) -> str:
        return f"<Trie {self._nodes} nodes, depth {self._depth}>"

    def _add(self, route: Route) -> None:
        """Add a route under its methods.

        Raises:
            DuplicatedRouteError: a route of the same shape has one of the methods.
        """
        with self._lock:
            node = self._root
            for segment in route.segments:
                # PERF: most segments are text that is known: 0.1 s of 2 when 100,000 routes are added.
                child = node.literal.get(segment.text) if segment.kind is _STATIC else None
                node = child if child is not None else self._child(node, segment)
            for known in node.routes:
                for method in route.methods:
                    if method in known.methods:
                        raise DuplicatedRouteError(
                            f"{method} {route.pattern} ({route.target!r}) has the shape of the route"
                            f" {known.pattern} ({known.target!r})"
                        )
            node.routes = (*node.routes, route)
            if route.plain == 0:
                path = "/" + "/".join([segment.text for segment in route.segments])
                if path.isascii():
                    self.static.setdefault(path, {}).update(dict.fromkeys(route.methods, route))
            if len(route.segments) > self._depth:
                self._depth = len(route.segments)
            if not self._methods.issuperset(route.methods):
                implied = ("HEAD",) if "GET" in route.methods else ()
                self._methods = self._methods.union(route.methods, implied)
            if self._made or len(self._methods) > len(self._starts) or self._depth + 2 > self._size:
                self._forget_states()

    def _child(self, node: Node, segment: Segment) -> Node:
        """Return the child of a node for a segment, made if there is none of its shape."""
        match segment.kind:
            case Kind.STATIC:
                # There is none yet: the caller has looked.
                if node.literal is _NO_LITERALS:
                    node.literal = {}
                child = node.literal[segment.text] = self._new_node()
            case Kind.TYPED | Kind.AFFIXED:
                shape = segment.shape
                sibling = node.conditional.get(shape)
                if sibling is None:
                    if node.conditional is _NO_CONDITIONAL:
                        node.conditional = {}
                    sibling = node.conditional[shape] = (segment, self._new_node())
                child = sibling[1]
            case Kind.PARAMETER:
                child = node.parameter = node.parameter or self._new_node()
            case Kind.WILDCARD:
                child = node.wildcard = node.wildcard or self._new_node()
            case _:
                child = node.greedy = node.greedy or self._new_node(loops=True)
        return child

    def _new_node(self, loops: bool = False) -> Node:
        self._nodes += 1
        return Node(loops)

    def _forget_states(self) -> None:
        # By method and number of segments; longer paths than these are looked up slowly.
        self._size = max(self._depth + 2, _USUAL_LENGTH)
        # Before the tables are there: a lookup that uses them sets it again, and so the next route sees it.
        self._made = 0
        self._starts = {method: [None] * self._size for method in self._methods}

    # -- lookup ---------------------------------------------------------------------------------------

    def find_route(self, method: str, path: str) -> Match | None:
        """Find the best route for a request.

        Args:
            method: the request method, upper case; HEAD finds what GET does where no route is for HEAD.
            path: the decoded path.

        Returns:
            The match, or None when no route has this path and method.
        """
        # PERF: the usual cases are written out: a call costs 5 to 10 % of a lookup, a loop over the captures
        # 10 % (GitHub's route list, CPython 3.11).
        segments = path.split("/")
        try:
            state = self._starts[method][len(segments)] or self._start(method, len(segments) - 1)
        except LookupError:
            return self._find_slowly(method, path)
        while position := state.position:
            text = segments[position]
            state = state.literal.get(text, state.other) or self._next_state(state, text)
        plain = state.plain
        if segments[0]:
            pass  # the path does not begin with a slash
        elif plain == 2:
            name, first, other, second = state.layout
            value, another = segments[first], segments[second]
            if value and another:
                return Match({name: value, other: another}, state.route)
        elif plain == 1:
            name, first = state.layout
            value = segments[first]
            if value:
                return Match({name: value}, state.route)
        elif plain == 3:
            name, first, other, second, last, third = state.layout
            value, another, more = segments[first], segments[second], segments[third]
            if value and another and more:
                return Match({name: value, other: another, last: more}, state.route)
        elif plain == 0:
            return Match({}, state.route)
        elif plain == -1 and (params := state.route.read(segments)) is not None:
            return Match(params, state.route)
        return self._find_slowly(method, path)

    def _find_slowly(self, method: str, path: str) -> Match | None:
        """Look a path of any form up, its empty segments dropped."""
        if method not in self._starts:
            return None
        segments = _segments(path)
        route = self._walk(method, segments).route
        if route is _NO_ROUTE:
            return None
        params = route.read(segments)
        return None if params is None else Match(params, route)

    def allowed_methods(self, path: str) -> tuple[str, ...]:
        """Return the methods, sorted, that some route has for a path: what ``Allow`` says in a 405.

        Empty when no route has the path.
        """
        return self._walk(ANY_METHOD, _segments(path)).origin.allowed

    def _walk(self, method: str, segments: list[str]) -> State:
        starts = self._starts[method]
        state = starts[len(segments)] if len(segments) < len(starts) else None
        state = state or self._start(method, len(segments) - 1)
        while position := state.position:
            text = segments[position]
            state = state.literal.get(text, state.other) or self._next_state(state, text)
        return state

    # -- states ---------------------------------------------------------------------------------------

    def _start(self, method: str, length: int) -> State:
        """Return the state that the paths of one length start from, made anew."""
        starts = self._starts[method]
        longer = length + 1 >= len(starts)
        state = (starts[0] if longer else None) or self._make_state(
            (self._root,), 1, method, len(starts) - 1 if longer else length, longer
        )
        if length == 1 and state.position:
            # The path "/" has one segment, an empty one; it is the only path whose answer needs it.
            state.literal[""] = self._make_state((self._root,), 1, method, 0)
        # No path splits into nothing: the first place is free for the start of all longer paths.
        starts[0 if longer else length + 1] = state
        return state

    def _next_state(self, state: State, text: str) -> State:
        """Make the state that a segment leads to, or find it by what accepts the segment."""
        if not text:
            return _NOWHERE
        origin = state.origin
        conditions = origin.conditions
        accepting = () if conditions is None else conditions.accepting(text)
        if text in state.literal:
            made = state.literal[text] = self._state_after(state, text, accepting)
        elif conditions is None:
            made = state.other = self._state_after(state, None, ())
        elif (known := origin.accepted.get(accepting)) is not None:
            made = known
        else:
            made = origin.accepted[accepting] = self._state_after(state, None, accepting)
        return made

    def _state_after(self, state: State, text: str | None, accepting: tuple[Segment, ...]) -> State:
        origin = state.origin
        nodes = _follow(origin.nodes, text, accepting)
        return self._make_state(nodes, state.position + 1, origin.method, origin.length, origin.longer)

    def _make_state(
        self, nodes: tuple[Node, ...], position: int, method: str, length: int, longer: bool = False
    ) -> State:
        """Make the state of some nodes, on from the first segment that makes a difference."""
        if self._made > (4 * self._nodes + 1000) * _STATE_SIZE * len(self._methods):
            self._start_over()
        self._made += _STATE_SIZE
        while position <= length and nodes and not all(node.loops for node in nodes):
            if any(node.literal or node.conditional for node in nodes):
                state = State(Origin(nodes, method, length, longer), position)
                conditional: list[Sibling] = []
                for node in nodes:
                    state.literal.update(dict.fromkeys(node.literal))
                    conditional.extend(list(node.conditional.values()))
                if conditional:
                    state.origin.conditions = Conditions(segment for segment, _ in conditional)
                self._made += len(state.literal)
                return state
            nodes = _follow(nodes)
            position += 1
        if longer:
            # There are others only while a longer pattern is being added.
            nodes = tuple(node for node in nodes if node.loops)
        return _final_state(nodes, method)

    def _start_over(self) -> None:
        """Drop all states: patterns that overlap in every way have very many."""
        # In place, since tables for more methods may be made at the same time; never 0, since lookups
        # under way go on publishing states.
        self._made = 1
        for starts in self._starts.values():
            for index in range(len(starts)):
                starts[index] = None


def _final_state(nodes: tuple[Node, ...], method: str) -> State:
    """Make a state that answers: the best node that has the method."""
    state = State(Origin(nodes, method, 0, False), 0)
    if method == ANY_METHOD:
        allowed = {known for node in nodes for route in node.routes for known in route.methods}
        state.origin.allowed = tuple(sorted(allowed | {"HEAD"} if "GET" in allowed else allowed))
        return state
    accepted = (method, "GET") if method == "HEAD" else (method,)
    for node in nodes:
        for one in accepted:
            for route in node.routes:
                if one in route.methods:
                    state.route, state.plain, state.layout = route, route.plain, route.layout
                    return state
    return state


def _segments(path: str) -> list[str]:
    """Split a path into its segments that are not empty, behind one that is: indexes start from 1."""
    return ["", *filter(None, path.split("/"))]


def _follow(
    nodes: tuple[Node, ...], text: str | None = None, accepting: Sequence[Segment] = ()
) -> tuple[Node, ...]:
    """Return the nodes that a segment leads to from some nodes, best first.

    Args:
        nodes: where to go on from, best first.
        text: the segment, where literal children count.
        accepting: the conditional segments that accept it, best first.
    """
    shapes = [segment.shape for segment in accepting]
    reached: list[Node] = []
    for node in nodes:
        if node.loops:
            reached.append(node)
            continue
        if text is not None and (literal := node.literal.get(text)) is not None:
            reached.append(literal)
        reached.extend(node.conditional[shape][1] for shape in shapes if shape in node.conditional)
        reached.extend(n for n in (node.parameter, node.wildcard, node.greedy) if n is not None)
    return tuple(reached)


_NOWHERE = _final_state((), "*")
