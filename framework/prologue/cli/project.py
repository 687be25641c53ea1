"""What ``prologue init`` writes: a project that runs, and whose tests pass."""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path
from string import Template

import click

from prologue import __version__

__all__ = ["create_project"]

# A name of a directory, of an application, and of a distribution.
_NAME = re.compile(r"[A-Za-z](?:[A-Za-z0-9_-]{0,62}[A-Za-z0-9])?")

_APP = '''\
"""The application $name."""

import os
from pathlib import Path

from prologue import App, Context, Settings
from prologue.environment import load_env

# Variables of the process, such as PROLOGUE_PORT, win over the file.
settings = Settings.from_env(environ={**load_env(Path(__file__).with_name(".env")), **os.environ})
app = App(settings)


@app.get("/", name="index")
def index(ctx: Context) -> str:
    return "<h1>Hello, Prologue!</h1>"


@app.get("/hello/{name}", name="hello")
def hello(ctx: Context) -> dict[str, str]:
    return {"hello": ctx.get_path_params("name", "")}


if __name__ == "__main__":
    app.run()
'''

_TESTS = """\
from prologue.testing import TestClient

from app import app


def test_the_index_greets() -> None:
    assert TestClient(app).get("/").text == "<h1>Hello, Prologue!</h1>"


def test_hello_answers_by_name() -> None:
    client = TestClient(app)
    path = app.url_for("hello", {"name": "world"})
    assert client.get(path).json == {"hello": "world"}
    client.get("/hello", status=404)
"""

_SETTINGS = """\
PROLOGUE_APP_NAME=$name
PROLOGUE_ADDRESS=127.0.0.1
PROLOGUE_PORT=8080
# Never on where strangers can reach the application.
PROLOGUE_DEBUG=off
# The first key signs, all verify; separated by commas. A new one:
# python -c 'import secrets; print(secrets.token_urlsafe())'
PROLOGUE_SECRET_KEYS=$secret_key
"""

_README = """\
# $name

An application on Prologue for Python.

    python -m venv .venv && . .venv/bin/activate
    pip install -r requirements.txt
    python -m pytest
    prologue run

It answers on http://127.0.0.1:8080/. `prologue run --debug` restarts when the code changes, and shows
errors in the browser. `prologue routes` lists the routes.

The settings are in `.env`, which holds the secret key and stays out of version control: in another
checkout, copy `.env.example` to `.env` and put a key of its own into it.
"""

_FILES = {
    "app.py": _APP,
    "tests/test_app.py": _TESTS,
    "README.md": _README,
    "requirements.txt": "prologue-wsgi[cli,server,testing]>=$version\npytest\n",
    "pyproject.toml": '[tool.pytest.ini_options]\npythonpath = ["."]\ntestpaths = ["tests"]\n',
    ".env.example": "# Copy this file to .env.\n" + _SETTINGS,
    ".gitignore": ".env\n.venv/\n.pytest_cache/\n__pycache__/\n",
}


def create_project(name: str) -> list[Path]:
    """Make a directory with a new project in it.

    Args:
        name: of the directory, below the current one, and of the application.

    Returns:
        The files, relative to the current directory. ``.env`` has a new secret key and is readable by its
        owner alone.

    Raises:
        click.ClickException: the name is no plain name; there is something of this name; or a file cannot be
            written.
    """
    if not _NAME.fullmatch(name):
        raise click.ClickException(
            f"{name!r:.80} is no name for a project: a letter first, up to 64 ASCII letters, digits, - and _"
        )
    directory = Path(name)
    paths = []
    try:
        directory.mkdir()
        (directory / "tests").mkdir()
        for file, text in _FILES.items():
            path = directory / file
            path.write_text(Template(text).substitute(name=name, version=__version__, secret_key=""), "utf-8")
            paths.append(path)
        paths.append(_write_secret(directory / ".env", name))
    except FileExistsError:
        raise click.ClickException(f"{name!r} is there already: choose another name, or remove it") from None
    except OSError as error:
        raise click.ClickException(f"cannot write {error.filename}: {error.strerror}") from error
    return paths


def _write_secret(path: Path, name: str) -> Path:
    # SECURITY: created with its mode; changing it afterwards would leave a moment to read the key.
    number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(number, "w", encoding="utf-8") as file:
        file.write(Template(_SETTINGS).substitute(name=name, secret_key=secrets.token_urlsafe()))
    return path
