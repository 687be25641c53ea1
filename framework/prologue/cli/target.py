"""The application that a command is given: ``module:app``, ``app.py``, ``module:create_app()``."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

import click

from prologue.app import App

__all__ = ["load_app", "user_code"]

_ATTRIBUTE = re.compile(r"([\w.]+)(\(\))?")


def load_app(target: str, directory: str | Path = ".") -> App:
    """Import the application that a target names.

    Args:
        target: ``module:attribute``, where the attribute is ``app`` when it is left out, may have dots, and
            is called when ``()`` follows it. In place of the module, the path of a ``.py`` file.
        directory: put in front of ``sys.path``; paths of files are relative to it.

    Returns:
        The application.

    Raises:
        click.ClickException: the target is malformed or names no App; or the user's code failed, and its
            traceback stands on stderr.
    """
    module_part, colon, attribute = target.partition(":")
    found = _ATTRIBUTE.fullmatch(attribute if colon else "app")
    if found is None or not _is_dotted_name(found[1]):
        raise click.ClickException(f"{target!r}: write MODULE:APP, FILE.py:APP or MODULE:FACTORY()")
    module = _import(module_part, Path(directory).resolve(), target)
    value: Any = module
    for name in found[1].split("."):
        value = _attribute(value, name, target, module)
    if found[2]:
        if not callable(value):
            raise click.ClickException(f"{target!r}: {found[1]} is {_kind(value)}; leave out the ()")
        with user_code(target):
            value = value()
    if not isinstance(value, App):
        made = f"{found[0]} returned" if found[2] else f"{found[1]} is"
        hint = f"; if it makes one, write {found[1]}()" if inspect.isroutine(value) else ""
        raise click.ClickException(f"{target!r}: {made} {_kind(value)}, not an App{hint}")
    return value


@contextmanager
def user_code(what: str) -> Iterator[None]:
    """Run code of the user; an error of it is printed with its traceback, without our part of it.

    Raises:
        click.ClickException: an exception came out of the block.
    """
    try:
        yield
    except Exception as error:
        own = _user_part(error.__traceback__)
        if own is None and not isinstance(error, SyntaxError):
            raise click.ClickException(f"{what!r} failed: {type(error).__name__}: {error}") from error
        click.echo("".join(traceback.format_exception(type(error), error, own)), nl=False, err=True)
        raise click.ClickException(f"{what!r} failed with the error above, {type(error).__name__}") from error


def _user_part(trace: TracebackType | None) -> TracebackType | None:
    """Return a traceback from its first frame that is neither ours nor of the import system."""
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if file not in _OUR_FILES and not file.startswith("<frozen importlib"):
            return trace
        trace = trace.tb_next
    return None


_OUR_FILES = (__file__, importlib.__file__)


def _import(module_part: str, directory: Path, target: str) -> ModuleType:
    if module_part.endswith(".py"):
        name, directory = _of_file(directory / module_part, target)
    elif _is_dotted_name(module_part):
        name = module_part
    else:
        raise click.ClickException(f"{target!r}: {module_part!r} is no name of a module and no .py file")
    if sys.path[0] != str(directory):
        sys.path.insert(0, str(directory))
    with user_code(target):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if _user_part(error.__traceback__) is not None:
                raise
    known = [path.stem for path in directory.glob("*.py")]
    known += [path.parent.name for path in directory.glob("*/__init__.py")]
    hint = _nearest(name, known) or "; --app-dir names another directory to look in"
    raise click.ClickException(f"{target!r}: there is no module {name!r} in {directory}{hint}")


def _of_file(path: Path, target: str) -> tuple[str, Path]:
    """Return the name of the module in a file, and the directory to import it from."""
    if not path.is_file():
        known = [other.name for other in path.parent.glob("*.py")]
        raise click.ClickException(f"{target!r}: there is no file {path}{_nearest(path.name, known)}")
    names, directory = [path.stem], path.parent.resolve()
    while (directory / "__init__.py").is_file():
        names.insert(0, directory.name)
        directory = directory.parent
    name = ".".join(names)
    if not _is_dotted_name(name):
        raise click.ClickException(f"{target!r}: {name!r} cannot be imported; rename the file")
    return name, directory


def _is_dotted_name(text: str) -> bool:
    return all(part.isidentifier() for part in text.split("."))


def _attribute(value: Any, name: str, target: str, module: ModuleType) -> Any:
    try:
        return getattr(value, name)
    except AttributeError:
        apps = [key for key, other in vars(module).items() if isinstance(other, App)]
        known = [key for key in vars(module) if not key.startswith("_")]
        hint = f"; there is {', '.join(apps)}" if apps else _nearest(name, known) or "; name the App there"
        raise click.ClickException(f"{target!r}: {module.__name__} has no {name!r}{hint}") from None


def _nearest(name: str, known: list[str]) -> str:
    close = get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _kind(value: Any) -> str:
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
