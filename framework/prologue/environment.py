"""Text from the environment: ``Env``, the ``.env`` file format and the reading of words and numbers.

Nothing here changes ``os.environ``: an :class:`Env` is a plain mapping that the program passes on.

The ``.env`` format, exactly:

1. The file is UTF-8. Lines end in LF or CRLF. Blank lines, and lines whose first non-blank character
   is ``#``, are ignored. A blank is a space or a tab.
2. Every other line is ``NAME=value`` or ``export NAME=value``; blanks around the name and the value
   do not count. A name is an ASCII letter or ``_``, then ASCII letters, digits and ``_``.
3. A value in double quotes may hold the escapes ``\\n``, ``\\r``, ``\\t``, ``\\"`` and ``\\\\``, and no other
   backslash. A value in single quotes is taken as it stands. Either ends on its own line, and only a
   comment may follow it.
4. Any other value is taken as it stands, up to a ``#`` that has a blank before it.
5. ``$`` is an ordinary character: no variable is expanded. Of two lines with one name the later wins.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, overload

from prologue.errors import EnvError, EnvWrongFormatError

__all__ = ["Env", "load_env", "parse_value", "write_env"]

T = TypeVar("T")

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ASSIGNMENT = re.compile(rf"(?:export[ \t]+)?({_NAME.pattern})[ \t]*=(.*)", re.DOTALL)
_QUOTED = re.compile(r"""(?:"((?:[^"\\]|\\[nrt"\\])*)"|'([^']*)')[ \t]*(?:#.*)?""", re.DOTALL)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\"}
_ESCAPED = str.maketrans({"\n": r"\n", "\r": r"\r", '"': r"\"", "\\": r"\\"})

_BOOL_WORDS = dict.fromkeys(("y", "yes", "true", "1", "on"), True) | dict.fromkeys(
    ("n", "no", "false", "0", "off"), False
)
_INT = re.compile(r"[+-]?[0-9]+")
_FLOAT = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


def _parse_bool(text: str) -> bool:
    return _BOOL_WORDS[text.lower()]


def _parse_int(text: str) -> int:
    if not _INT.fullmatch(text):
        raise ValueError
    return int(text)


def _parse_float(text: str) -> float:
    if not _FLOAT.fullmatch(text) or not math.isfinite(value := float(text)):
        raise ValueError
    return value


_PARSERS: dict[type, Callable[[str], Any]] = {
    str: str,
    bool: _parse_bool,
    int: _parse_int,
    float: _parse_float,
}


def parse_value(text: str, wanted: type[T]) -> T:
    """Read text as a value of a type.

    Args:
        text: the text. A ``bool`` is one of y, yes, true, 1, on, n, no, false, 0, off, in any case. A
            number is written in ASCII digits, without blanks and underscores, and is finite.
        wanted: ``str``, ``bool``, ``int`` or ``float``.

    Returns:
        The value, of exactly the wanted type.

    Raises:
        ValueError: the text is no such value.
        TypeError: the wanted type is another one.

    Source: the original's ``parseValue``, which gives a default back instead of raising.
    """
    if wanted not in _PARSERS:
        raise TypeError(f"text can be read as str, bool, int or float, not as {wanted.__name__}")
    try:
        value: T = _PARSERS[wanted](text)
    except (KeyError, ValueError):
        raise ValueError(f"{text!r:.80} cannot be read as {wanted.__name__}") from None
    return value


class Env(dict[str, str]):
    """Names and their text, as an environment or a ``.env`` file holds them.

    A dictionary whose ``get`` reads the text as the type of the default, and whose ``repr`` shows names
    only, since values are often secrets. A change is made here and never in ``os.environ``. Like any
    dictionary, it is safe to read from many threads.

    Source: the original's ``Env`` with ``initEnv``, ``setPrologueEnv`` and ``getOrDefault``.
    """

    __slots__ = ()

    @overload
    def get(self, key: str, default: None = None, /) -> str | None: ...
    @overload
    def get(self, key: str, default: T, /) -> T: ...
    def get(self, key: str, default: T | None = None, /) -> str | T | None:
        """Return the value of a name, read as the type of the default.

        Args:
            key: the name.
            default: what to return when the name is not there: a ``str``, ``bool``, ``int`` or ``float``,
                whose type the text is read as, or None (the default), which leaves it text.

        Returns:
            The value or the default.

        Raises:
            EnvError: the text cannot be read as the type of the default.
            TypeError: the name is there and the default has a type that text cannot be read as.
        """
        if key not in self:
            return default
        if default is None:
            return self[key]
        try:
            return parse_value(self[key], type(default))
        except ValueError as error:
            raise EnvError(f"{key}: {error}; correct the value") from error

    def __repr__(self) -> str:
        return f"Env({', '.join(self)})"


def load_env(path: str | os.PathLike[str] = ".env") -> Env:
    """Read a ``.env`` file; the rules of the format are in the description of this module.

    Args:
        path: the file.

    Returns:
        Its names and values; an empty ``Env`` when there is no such file.

    Raises:
        EnvWrongFormatError: a line is not ``NAME=value``, or the file is not UTF-8.
        EnvError: the file is there and cannot be read.

    Source: the original's ``loadPrologueEnv``.
    """
    try:
        with open(path, "rb") as file:
            # surrogatepass, here and in write_env: a Python str may hold them, and every str comes back.
            text = file.read().decode("utf-8-sig", "surrogatepass")
    except FileNotFoundError:
        return Env()
    except OSError as error:
        raise EnvError(f"{os.fspath(path)}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise EnvWrongFormatError(
            f"{os.fspath(path)}: not UTF-8 at byte {error.start}; save it as UTF-8"
        ) from error
    env = Env()
    # Not splitlines(): it also splits at characters that a value may hold.
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.removesuffix("\r").strip(" \t")
        if not line or line.startswith("#"):
            continue
        assignment = _ASSIGNMENT.fullmatch(line)
        value = _read_value(assignment[2]) if assignment else None
        if assignment is None or value is None:
            # SECURITY: the line itself is not shown, it may hold a secret.
            raise EnvWrongFormatError(
                f"{os.fspath(path)}, line {number}: not NAME=value; write one assignment per line, close "
                r"what a quote opens, and write a backslash in double quotes as \\"
            )
        env[assignment[1]] = value
    return env


def write_env(path: str | os.PathLike[str], env: Mapping[str, str]) -> None:
    """Write a ``.env`` file that :func:`load_env` reads back to the same names and values.

    Args:
        path: the file; what it held is replaced.
        env: names and values. Every value is written in double quotes.

    Raises:
        EnvError: a name is not as the format wants it, or a value is not text; nothing is written.
        OSError: the file cannot be written.

    Source: the original's ``writePrologueEnv``, which quotes nothing.
    """
    lines = []
    for name, value in env.items():
        if not _NAME.fullmatch(name):
            raise EnvError(f"{name!r} is no name for an environment file; use ASCII letters, digits and _")
        if not isinstance(value, str):
            raise EnvError(f"{name}: the value is {type(value).__name__}, not str; convert it")
        lines.append(f'{name}="{value.translate(_ESCAPED)}"\n')
    with open(path, "wb") as file:
        file.write("".join(lines).encode("utf-8", "surrogatepass"))


def _read_value(text: str) -> str | None:
    """Return the value that stands after ``=``; None when its quotes are wrong."""
    if text.lstrip(" \t").startswith(('"', "'")):
        quoted = _QUOTED.fullmatch(text.lstrip(" \t"))
        if quoted is None:
            return None
        if quoted[1] is None:
            return quoted[2]
        return re.sub(r"\\(.)", lambda escape: _ESCAPES[escape[1]], quoted[1])
    comment = re.search(r"[ \t]#", text)
    return (text[: comment.start()] if comment else text).strip(" \t")
