"""D35: every regular expression of the package is linear."""

from __future__ import annotations

import ast
import importlib
import re
import re._constants as opcodes  # type: ignore[import-not-found]
import re._parser as parser  # type: ignore[import-not-found]
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import prologue

from .harness import assert_linear, call, cpu_seconds, make_app

PACKAGE = Path(prologue.__file__).parent
FUNCTIONS = {"compile", "search", "match", "fullmatch", "split", "sub", "subn", "findall", "finditer"}
REPEATS = (opcodes.MAX_REPEAT, opcodes.MIN_REPEAT, opcodes.POSSESSIVE_REPEAT)


class Expression(NamedTuple):
    """A regular expression of the package: where it is made, and the methods that are called on it."""

    where: str
    pattern: str | bytes
    flags: int
    methods: frozenset[str]


def expressions() -> Iterator[Expression]:
    """Yield every expression that the package gives to `re`, with f-strings and constants evaluated."""
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        dotted = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
        used: dict[str, set[str]] = {}
        named: dict[ast.AST, str] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                used.setdefault(node.value.id, set()).add(node.attr)
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                named[node.value] = node.targets[0].id
        for node in ast.walk(tree):
            if not (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in FUNCTIONS
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id == "re"
            ):
                continue
            namespace = vars(importlib.import_module(dotted))
            words = {word.arg: word.value for word in node.keywords}
            flags = words.get("flags") or (
                node.args[1] if node.func.attr == "compile" and node.args[1:] else None
            )
            methods = used.get(named.get(node, ""), set()) & FUNCTIONS or {node.func.attr}
            yield Expression(
                f"{path.name}:{node.lineno}",
                eval(compile(ast.Expression(node.args[0]), str(path), "eval"), namespace),
                int(eval(compile(ast.Expression(flags), str(path), "eval"), namespace)) if flags else 0,
                frozenset(methods),
            )


EXPRESSIONS = list(expressions())
every_expression = pytest.mark.parametrize("expression", EXPRESSIONS, ids=lambda expression: expression.where)


def test_d35_the_walk_finds_the_expressions() -> None:
    assert len(EXPRESSIONS) >= 15
    assert {expression.where.split(":")[0] for expression in EXPRESSIONS} >= {
        "request.py",
        "response.py",
        "files.py",
        "forms.py",
    }


def first_characters(sequence: Any) -> set[int] | None:
    """Return the characters that a parsed expression can begin with; None stands for any."""
    found: set[int] = set()
    for operation, argument in sequence:
        if operation in REPEATS:
            minimum, _, inner = argument
            first = first_characters(inner)
            if first is None:
                return None
            found |= first
            if minimum:
                return found
        elif operation is opcodes.LITERAL:
            return found | {argument}
        elif operation is opcodes.IN:
            return None if characters(argument) is None else found | (characters(argument) or set())
        elif operation is opcodes.SUBPATTERN:
            first = first_characters(argument[3])
            return None if first is None else found | first
        elif operation is opcodes.BRANCH:
            for branch in argument[1]:
                first = first_characters(branch)
                if first is None:
                    return None
                found |= first
            return found
        elif operation is not opcodes.AT:
            return None
    return found


def characters(members: Any) -> set[int] | None:
    """Return the characters below 256 of a class; None where it holds categories."""
    found: set[int] = set()
    negated = False
    for operation, argument in members:
        if operation is opcodes.NEGATE:
            negated = True
        elif operation is opcodes.LITERAL:
            found.add(argument)
        elif operation is opcodes.RANGE:
            found.update(range(argument[0], min(argument[1], 255) + 1))
        else:
            return None
    return set(range(256)) - found if negated else found


def repeats_within(sequence: Any, inside: bool = False) -> Iterator[Any]:
    """Yield the bodies of unbounded repeats that hold an unbounded repeat themselves."""
    for operation, argument in sequence:
        if operation in REPEATS:
            unbounded = argument[1] is opcodes.MAXREPEAT
            if unbounded and any(True for _ in unbounded_repeats(argument[2])):
                yield argument[2]
            yield from repeats_within(argument[2])
        elif operation is opcodes.SUBPATTERN:
            yield from repeats_within(argument[3])
        elif operation is opcodes.BRANCH:
            for branch in argument[1]:
                yield from repeats_within(branch)


def unbounded_repeats(sequence: Any) -> Iterator[Any]:
    for operation, argument in sequence:
        if operation in REPEATS:
            if argument[1] is opcodes.MAXREPEAT:
                yield argument
            yield from unbounded_repeats(argument[2])
        elif operation is opcodes.SUBPATTERN:
            yield from unbounded_repeats(argument[3])
        elif operation is opcodes.BRANCH:
            for branch in argument[1]:
                yield from unbounded_repeats(branch)


@every_expression
def test_d35_no_quantifier_stands_in_a_quantifier(expression: Expression) -> None:
    assert list(repeats_within(parser.parse(expression.pattern, expression.flags))) == []


def test_d35_the_scan_finds_what_it_looks_for() -> None:
    for bad in (r"(a+)+", r"(?:a*b?)*", r"((?:a|b+)c)*", r"(a{2,})+"):
        assert list(repeats_within(parser.parse(bad)))
    for good in (r"a+b+", r"(?:ab)+", r"(a{1,3})+", r'(?:[^"\\]|\\.)*'):
        assert not list(repeats_within(parser.parse(good)))


@every_expression
def test_d35_branches_of_a_repeat_begin_differently(expression: Expression) -> None:
    for _, _, body in unbounded_repeats(parser.parse(expression.pattern, expression.flags)):
        for operation, argument in body:
            if operation is opcodes.BRANCH:
                seen: set[int] = set()
                for branch in argument[1]:
                    first = first_characters(branch)
                    assert first is not None
                    assert not (first & seen)
                    seen |= first


def letters_of(pattern: str) -> list[str]:
    """Return a few characters that a pattern tells apart."""
    return sorted({*'"\\;=, \t\n\0a0-:.*/[', *pattern[:20]} & set(map(chr, range(128))))


@every_expression
def test_d35_the_worst_text_is_searched_in_linear_time(expression: Expression) -> None:
    pattern, is_bytes = expression.pattern, isinstance(expression.pattern, bytes)
    compiled: re.Pattern[Any] = re.compile(pattern, expression.flags)
    letters = letters_of(pattern.decode("latin-1") if isinstance(pattern, bytes) else pattern)
    blocks = [*letters, *(first + second for first in '"\\;[a' for second in letters), 'a="', "W/", '\\"']

    def search(block: str, size: int) -> None:
        text: Any = block * (size // len(block)) + "\0"
        text = text.encode() if is_bytes else text
        if expression.methods <= {"match", "fullmatch"}:
            compiled.fullmatch(text)
            compiled.match(text)
        else:
            for _ in compiled.finditer(text):
                pass

    worst = max(blocks, key=lambda block: cpu_seconds(lambda: search(block, 1024)))
    assert_linear(lambda size: search(worst, size), 1024)


# -- routing ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", ["/a", "/", "a", "-", ".", "/a-b", "/a.b", "//a"])
def test_d35_the_cost_of_a_lookup_is_linear_in_the_path(block: str) -> None:
    app = make_app()
    for number, pattern in enumerate(
        [
            "/a/{x}/a/{y}/a",
            "/{x}/a/{y}/a/b",
            "/{a}-{b}-{c}",
            "/{a}.{b}.{c}",
            "/a-{a}-b-{b}.c",
            "/{x:int}/{y:int}",
            "/*/a/*",
            "/a/{rest}$",
            "/{x}/b/{rest}$",
            "/*/*/*$",
        ]
    ):
        app.get(pattern, lambda _ctx: "", name=f"route{number}" if "*" not in pattern else "")

    def run(size: int) -> None:
        path = "/" + block * (size // len(block))
        assert call(app, path).status in (200, 404)
        assert call(app, path, "POST").status in (200, 404, 405)

    assert_linear(run, 1 << 13, repeat=2)
