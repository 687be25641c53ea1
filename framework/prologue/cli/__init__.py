"""The command ``prologue``: run, look into, time and begin applications.

A mistake in the use of the command is one line on stderr, with the remedy, and exit status 2. An error
inside the user's code is shown with its traceback, from where that code begins.
"""

from __future__ import annotations

import sys

from prologue.errors import MissingExtraError

__all__ = ["main"]


def main() -> None:
    """Run the command line of this process, and exit."""
    try:
        import click  # noqa: F401
    except ImportError:
        sys.exit(str(MissingExtraError("the command prologue", "cli")))
    from prologue.cli.commands import prologue

    prologue(prog_name="prologue")
