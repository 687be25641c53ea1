"""Smoke test of an installation without extras; `tox run -e minimal` runs it as a script.

It uses the standard library alone: pytest and WebTest would bring dependencies that the core has not.
"""

from __future__ import annotations

import importlib.metadata
import io
import subprocess
import sys
from wsgiref.handlers import SimpleHandler
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

from prologue import App, Context
from prologue.db import ConnectionPool
from prologue.errors import MissingExtraError


def check_only_core_is_installed() -> None:
    for distribution in ("gunicorn", "click", "redis", "psycopg", "pymysql", "pymemcache"):
        try:
            importlib.metadata.distribution(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
        raise AssertionError(f"{distribution} is installed: this is not a core installation")


def check_dispatch() -> None:
    app = App()

    @app.get("/hello/{name}")
    def hello(ctx: Context) -> str:
        return f"Hello, {ctx.get_path_params('name', '')}!"

    environ = {"SCRIPT_NAME": "", "PATH_INFO": "/hello/core", "QUERY_STRING": ""}
    setup_testing_defaults(environ)
    output = io.BytesIO()
    SimpleHandler(io.BytesIO(), output, sys.stderr, environ).run(validator(app))
    assert output.getvalue().startswith(b"HTTP/1.0 200 OK\r\n"), output.getvalue()
    assert output.getvalue().endswith(b"\r\n\r\nHello, core!"), output.getvalue()


def check_run_names_the_extra() -> None:
    extra = None
    try:
        App().run(port=0)
    except MissingExtraError as error:
        extra = error.extra
    assert extra == "server", extra


def check_databases_name_their_extras() -> None:
    ConnectionPool.from_url("sqlite:///:memory:").close()
    named = []
    for url in ("postgresql://localhost/shop", "mysql://localhost/shop"):
        try:
            ConnectionPool.from_url(url)
        except MissingExtraError as error:
            named.append(error.extra)
    assert named == ["postgres", "mysql"], named


def check_command_line_names_the_extra() -> None:
    command = [sys.executable, "-c", "from prologue.cli import main; main()"]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert outcome.returncode != 0
    assert "prologue-wsgi[cli]" in outcome.stderr, outcome.stderr


if __name__ == "__main__":
    for check in (
        check_only_core_is_installed,
        check_dispatch,
        check_run_names_the_extra,
        check_databases_name_their_extras,
        check_command_line_names_the_extra,
    ):
        check()
        print(f"{check.__name__}: ok")
