"""The commands themselves, with click."""

from __future__ import annotations

import code
import functools
import inspect
import json
import re
import sys
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import click

from prologue import __version__
from prologue.app import Mount
from prologue.cli.bench import measure
from prologue.cli.project import create_project
from prologue.cli.target import load_app, user_code
from prologue.errors import MissingExtraError, PrologueError
from prologue.routing import ALL_METHODS, Route

__all__ = ["prologue"]


class _Commands(click.Group):
    """A group whose errors of use are one line and exit status 2."""

    def main(self, *args: Any, **options: Any) -> Any:
        try:
            result = super().main(*args, **options | {"standalone_mode": False})
        except click.ClickException as error:
            # What click itself finds wrong has a context; our own messages name the remedy.
            context = getattr(error, "ctx", None)
            hint = f" (see: {context.command_path} --help)" if context is not None else ""
            click.echo(f"prologue: {error.format_message()}{hint}", err=True)
            sys.exit(2)
        except click.Abort:
            sys.exit(130)  # what a shell reports for a process that SIGINT ended
        sys.exit(result)


@click.group(cls=_Commands, no_args_is_help=False, subcommand_metavar="COMMAND …")
@click.version_option(__version__, message="prologue %(version)s")
def prologue() -> None:
    """Run, look into and begin applications of Prologue for Python."""


_app_dir = click.option(
    "--app-dir",
    type=click.Path(exists=True, file_okay=False),
    default=".",
    help="Directory that the application is imported from; default the current one.",
)
_target = click.argument("target", default="app:app", metavar="[MODULE:APP]")

_positive = click.FloatRange(min=0, min_open=True)

_SETTING = re.compile(r"([a-z][a-z0-9_]*)=(.*)", re.DOTALL)
_NOT_OF_GUNICORN = ("app", "host", "port", "self", "use_reloader")


def _parse_settings(_ctx: object, _option: object, given: tuple[str, ...]) -> dict[str, str]:
    settings = {}
    for text in given:
        found = _SETTING.fullmatch(text)
        if found is None:
            raise click.BadParameter(f"{text!r} is not NAME=VALUE, such as timeout=60.")
        if found[1] in _NOT_OF_GUNICORN:
            raise click.BadParameter(f"{found[1]!r} is no setting of gunicorn.")
        settings[found[1]] = found[2]
    return settings


@prologue.command()
@_target
@_app_dir
@click.option("--host", "--address", help="Address to listen on; default the setting `address`.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port; 0 lets the system choose.")
@click.option("--workers", type=click.IntRange(min=1), help="Number of processes.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads of each process.")
@click.option("--debug/--no-debug", default=None, help="The development server, or gunicorn.")
@click.option("--reload/--no-reload", default=None, help="Restart on changes; the default in debug.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    callback=_parse_settings,
    help="Any other setting of gunicorn; may be repeated.",
)
def run(
    target: str,
    app_dir: str,
    debug: bool | None,
    reload: bool | None,
    settings: dict[str, str],
    **options: str | int | None,
) -> None:
    """Serve an application; app:app, if none is named.

    The application is MODULE:APP, MODULE:FACTORY() or FILE.py. What is not said here is as its settings say.
    """
    app = load_app(target, app_dir)
    if debug is not None:
        app.settings = app.settings.replace(debug=debug)
    if reload and not app.settings.debug:
        raise click.ClickException("--reload restarts the development server only: add --debug")
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    if reload is not None:
        given["use_reloader"] = reload
    try:
        app.run(**settings | given)
    except (PrologueError, OSError) as error:
        raise click.ClickException(str(error)) from error


@prologue.command()
@_target
@_app_dir
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for tools.")
def routes(target: str, app_dir: str, as_json: bool) -> None:
    """List the routes of an application; of app:app, if none is named.

    In order of registration. Of a mounted application the prefix is known, and not what is behind it.
    """
    rows = [_row(route) for route in load_app(target, app_dir).routes]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    table = [("METHODS", "PATTERN", "NAME", "HANDLER", "DEFINED AT"), *(_cells(row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for cells in table:
        click.echo("  ".join(map(str.ljust, cells, widths)).rstrip())


def _row(route: Route) -> dict[str, Any]:
    handler = route.target.chain[-1]
    kind = "pattern" if route.expression is None else "expression"
    if isinstance(handler, Mount):
        handler, kind = handler.application, "mount"
    handler = inspect.unwrap(handler)
    while isinstance(handler, functools.partial):
        handler = handler.func
    named = handler if hasattr(handler, "__qualname__") else type(handler)
    return {
        "methods": list(route.methods),
        "pattern": route.pattern,
        "kind": kind,
        "name": route.name,
        "handler": named.__qualname__,
        "module": named.__module__,
        "line": _line(handler),
    }


def _line(handler: Any) -> int | None:
    """Return the line where a handler is defined; None for what is not written in Python."""
    function = handler if hasattr(handler, "__code__") else type(handler).__call__
    compiled = getattr(function, "__code__", None)
    return None if compiled is None else compiled.co_firstlineno


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    marks = {"pattern": "", "expression": "regex ", "mount": "mount "}
    return (
        "ANY" if {*row["methods"]} >= {*ALL_METHODS} else ",".join(row["methods"]),
        marks[row["kind"]] + row["pattern"],
        row["name"] or "-",
        row["handler"],
        row["module"] if row["line"] is None else f"{row['module']}:{row['line']}",
    )


@prologue.group(cls=click.Group, no_args_is_help=False)
def cache() -> None:
    """Look into the HTTP cache of an application."""


_FIELD = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*)")


@cache.command()
@click.argument("url")
@click.option("--app", "target", default="app:app", metavar="MODULE:APP", help="Default app:app.")
@_app_dir
@click.option("--method", default="GET", help="Of the request; default GET.")
@click.option("--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="A field; may be repeated.")
def explain(url: str, target: str, app_dir: str, method: str, headers: tuple[str, ...]) -> None:
    """Say step by step what the HTTP cache does with a request for URL, a path or a whole address.

    The application is asked where it would be; nothing is stored. A cache in memory is empty in this process:
    look into one that is shared.
    """
    from werkzeug.test import EnvironBuilder

    from prologue.http_cache import CacheMiddleware
    from prologue.http_cache.explain import explain as steps

    app = load_app(target, app_dir)
    caches = [link for link in app.middlewares if isinstance(link, CacheMiddleware)]
    if not caches:
        raise click.ClickException(f"{target!r} has no HTTP cache: app.use(cache_middleware(cache, ttl=60))")
    fields = []
    for header in headers:
        found = _FIELD.fullmatch(header)
        if found is None:
            raise click.ClickException(f"{header!r} is no header field; write 'Accept: text/html'")
        fields.append((found[1], found[2]))
    parts = urlsplit(url)
    base = f"{parts.scheme}://{parts.netloc}" if parts.netloc else None
    path = urlunsplit(("", "", parts.path or "/", parts.query, ""))
    environ = EnvironBuilder(path=path, base_url=base, method=method, headers=fields).get_environ()
    with user_code(target):
        app.lifecycle.startup()
        for line in steps(caches[0].engine, environ, app):
            click.echo(line)


@prologue.command()
@_target
@click.argument("path", default="/")
@_app_dir
@click.option("--method", default="GET", help="Request method; default GET. No body is sent.")
@click.option("--seconds", type=_positive, default=2.0, help="How long it takes; default 2.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for tools.")
def bench(target: str, path: str, app_dir: str, method: str, seconds: float, as_json: bool) -> None:
    """Time a request in process, without a server: GET / of app:app, if nothing else is said.

    Only ratios of figures from one machine at one time mean something: compare before and after a change.
    """
    if not path.startswith("/"):
        raise click.BadParameter(f"{path!r} does not begin with a slash.", param_hint="PATH")
    app = load_app(target, app_dir)
    with user_code(target):
        result = measure(app, method.upper(), path, duration=seconds)
    if as_json:
        click.echo(json.dumps(result._asdict(), indent=2))
        return
    click.echo(f"{method.upper()} {path}: {result.status}, {result.size} bytes")
    click.echo(
        f"{1 / result.seconds:,.0f} requests/s in one thread: {result.seconds * 1e6:.1f} µs each"
        f" ({result.least_seconds * 1e6:.1f} µs in the best round of {result.requests:,} requests in all)"
    )


@prologue.command()
@click.argument("name")
def init(name: str) -> None:
    """Begin a project: a directory NAME with an application, its settings and its tests."""
    for path in create_project(name):
        click.echo(f"made {path}")
    click.echo(f"now: cd {name} && pip install -r requirements.txt && python -m pytest && prologue run")


@prologue.command()
@_target
@_app_dir
def shell(target: str, app_dir: str) -> None:
    """Open a Python console with an application that has started; with app:app, if none is named.

    There are `app`, `client`, which sends it requests, and `run_once`, which returns the Context of one.
    Shutdown runs when the process ends.
    """
    # WebTest, too, is imported by those who test and by nobody who serves.
    from prologue.testing import TestClient, run_once

    app = load_app(target, app_dir)
    names: dict[str, object] = {"app": app, "run_once": run_once}
    missing = ""
    try:
        names["client"] = TestClient(app)
    except MissingExtraError as error:
        missing = f"\n{error}"
    with user_code(target):
        app.lifecycle.startup()
    banner = f"{app!r} has started; there are {', '.join(sorted(names))}{missing}"
    code.interact(banner, local=names, exitmsg="")
