from __future__ import annotations

import re
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

import prologue
from prologue import Settings
from prologue.environment import load_env
from tests.cli.conftest import Run
from tests.cli.test_commands import python
from tests.integration.servers import Server

FILES = [
    "app.py",
    "tests/test_app.py",
    "README.md",
    "requirements.txt",
    "pyproject.toml",
    ".env.example",
    ".gitignore",
    ".env",
]


def test_a_project_is_made_and_what_to_do_with_it_is_said(workspace: Path, command: Run) -> None:
    result = command("init", "blog")
    assert (result.exit_code, result.stderr) == (0, "")
    *made, now = result.stdout.splitlines()
    assert made == [f"made blog/{name}" for name in FILES]
    assert now == "now: cd blog && pip install -r requirements.txt && python -m pytest && prologue run"
    found = {path.relative_to("blog").as_posix() for path in Path("blog").rglob("*") if path.is_file()}
    assert found == set(FILES)
    for name in FILES:
        assert "$" not in Path("blog", name).read_text(encoding="utf-8")
    assert Path("blog/requirements.txt").read_text().splitlines() == [
        f"prologue-wsgi[cli,server,testing]>={prologue.__version__}",
        "pytest",
    ]


def test_the_secret_key_is_new_hidden_and_out_of_version_control(workspace: Path, command: Run) -> None:
    command("init", "one")
    command("init", "two")
    settings = [Settings.from_dotenv(f"{name}/.env") for name in ("one", "two")]
    keys = [setting.require_secret_keys() for setting in settings]
    assert keys[0] != keys[1]
    assert all(len(key) == 1 and len(key[0]) >= 43 for key in keys)
    assert stat.S_IMODE(Path("one/.env").stat().st_mode) == 0o600
    assert ".env" in Path("one/.gitignore").read_text().splitlines()
    example = load_env("one/.env.example")
    assert example == {**load_env("one/.env"), "PROLOGUE_SECRET_KEYS": ""}
    assert settings[0] == Settings(app_name="one", secret_keys=keys[0])


@pytest.mark.parametrize("name", ["b", "Blog", "my-blog", "my_blog2", "a" * 64])
def test_a_plain_name_is_good(command: Run, name: str) -> None:
    assert command("init", name).exit_code == 0
    assert Path(name, "app.py").is_file()


@pytest.mark.parametrize(
    "name",
    ["", "1st", "-x", "_x", "x-", ".x", "a b", "a/b", "../x", "/x", "блог", "a.b", "x\n", "$x", "a" * 65],
)
def test_any_other_name_is_refused_and_nothing_is_made(workspace: Path, command: Run, name: str) -> None:
    result = command("init", "--", name)
    assert (result.exit_code, result.stdout) == (2, "")
    assert re.fullmatch(r"prologue: '.*' is no name for a project: a letter first, .*\n", result.stderr)
    assert list(workspace.iterdir()) == []


@pytest.mark.parametrize("make", [Path.mkdir, Path.touch, lambda path: path.symlink_to("nowhere")])
def test_what_is_there_already_is_left_alone(
    workspace: Path, command: Run, make: Callable[[Path], object]
) -> None:
    make(Path("blog"))
    result = command("init", "blog")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "prologue: 'blog' is there already: choose another name, or remove it\n"
    assert list(workspace.rglob("*")) == [workspace / "blog"]


def test_a_directory_that_cannot_be_written_is_an_error_of_use(
    workspace: Path, command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = workspace / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    result = command("init", "blog")
    assert result.exit_code == 2
    assert result.stderr == "prologue: cannot write blog: No such file or directory\n"


def test_the_tests_of_a_new_project_pass(command: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    command("init", "blog")
    monkeypatch.chdir("blog")
    result = python("-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert result.returncode == 0, result.stdout
    assert "2 passed" in result.stdout
    checked = python("-m", "prologue", "routes")
    assert re.findall(r"app:[0-9]+", checked.stdout) == ["app:14", "app:19"]


def test_a_new_project_is_served_by_gunicorn_with_its_own_settings(workspace: Path, command: Run) -> None:
    command("init", "blog")
    server = Server(["-m", "prologue", "run"], workspace / "blog", {"PROLOGUE_PORT": "0"})
    try:
        server.wait_until_it_listens()
        assert "gunicorn" in server.log()
        assert server.get("/") == (200, b"<h1>Hello, Prologue!</h1>")
        assert server.get("/hello/world") == (200, b'{"hello":"world"}')
        assert server.get("/nothing")[0] == 404
        assert server.stop() == 0, server.log()
    finally:
        server.kill()


def test_a_new_project_is_served_by_the_development_server_in_debug(workspace: Path, command: Run) -> None:
    command("init", "blog")
    arguments = ["-m", "prologue", "run", "--port", "0", "--debug", "--no-reload"]
    server = Server(arguments, workspace / "blog", {})
    try:
        server.wait_until_it_listens()
        assert server.get("/") == (200, b"<h1>Hello, Prologue!</h1>")
    finally:
        server.kill()


def test_a_new_project_is_a_program_too(workspace: Path, command: Run) -> None:
    command("init", "blog")
    server = Server(["app.py"], workspace / "blog", {"PROLOGUE_PORT": "0"})
    try:
        server.wait_until_it_listens()
        assert server.get("/hello/x") == (200, b'{"hello":"x"}')
    finally:
        server.kill()
