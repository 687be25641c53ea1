from __future__ import annotations

import sys
from pathlib import Path

import click
import pytest

from prologue.cli.target import load_app
from tests.cli.conftest import Run, write

APP = "from prologue import App, Settings\n"
FILES = {
    "app.py": f"{APP}app = App(Settings(app_name='app'))\nother = App(Settings(app_name='other'))\n",
    "factory.py": f"""\
        {APP}
        class Site:
            app = App(Settings(app_name='nested'))
            @staticmethod
            def create() -> App:
                return App(Settings(app_name='made'))
        def create_app() -> App:
            return Site.create()
        def nothing() -> None: pass
        def create_named(name: str) -> App:
            return App(Settings(app_name=name))
        def create_broken() -> App:
            raise RuntimeError('broken on purpose')
        number = 3
        """,
    "store/__init__.py": "",
    "store/web.py": f"from store.parts import name\n{APP}app = App(Settings(app_name=name))\n",
    "store/parts.py": "name = 'shop'\n",
    "store/deep/__init__.py": "",
    "broken.py": "def divide() -> float:\n    return 1 / 0\ndivide()\n",
    "syntax.py": "x = = 1\n",
    "needy.py": "import a_library_that_is_not_there\n",
    "ending.py": "raise SystemExit('no database is configured')\n",
    "empty.py": "",
    "two words.py": "",
}


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("app:app", "app"),
        ("app", "app"),
        ("app:other", "other"),
        ("app.py", "app"),
        ("./app.py:other", "other"),
        ("factory:Site.app", "nested"),
        ("factory:create_app()", "made"),
        ("factory:Site.create()", "made"),
        ("factory.py:create_app()", "made"),
        ("store.web:app", "shop"),
        ("store.web", "shop"),
        ("store/web.py", "shop"),
        ("store/deep/../web.py", "shop"),
        ("link.py", "nested"),
    ],
)
def test_a_target_names_an_application(workspace: Path, target: str, name: str) -> None:
    write({**FILES, "elsewhere/site.py": f"{APP}app = App(Settings(app_name='nested'))\n"})
    Path("link.py").symlink_to("elsewhere/site.py")
    assert load_app(target).settings.app_name == name
    assert sys.path[0] == str(workspace)
    before = sys.path.copy()
    load_app(target)
    assert sys.path == before


def test_an_application_is_found_in_another_directory(workspace: Path) -> None:
    write({f"site/{name}": text for name, text in FILES.items()})
    assert load_app("app:other", "site").settings.app_name == "other"
    assert load_app("store/web.py", "site").settings.app_name == "shop"
    assert sys.path[0] == str(workspace / "site")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("ap:app", "'ap:app': there is no module 'ap' in {here}; did you mean 'app'?"),
        ("stor", "'stor': there is no module 'stor' in {here}; did you mean 'store'?"),
        (
            "store.nothing",
            "'store.nothing': there is no module 'store.nothing' in {here};"
            " --app-dir names another directory to look in",
        ),
        ("app.web", "'app.web': there is no module 'app.web' in {here}; did you mean 'app'?"),
        ("ap.py", "'ap.py': there is no file {here}/ap.py; did you mean 'app.py'?"),
        ("zzz/app.py", "'zzz/app.py': there is no file {here}/zzz/app.py"),
        ("two words.py", "'two words.py': 'two words' cannot be imported; rename the file"),
        ("a b:app", "'a b:app': 'a b' is no name of a module and no .py file"),
        (":app", "':app': '' is no name of a module and no .py file"),
        ("store/web", "'store/web': 'store/web' is no name of a module and no .py file"),
        ("app:", "'app:': write MODULE:APP, FILE.py:APP or MODULE:FACTORY()"),
        ("app:1", "'app:1': write MODULE:APP, FILE.py:APP or MODULE:FACTORY()"),
        ("app:make(1)", "'app:make(1)': write MODULE:APP, FILE.py:APP or MODULE:FACTORY()"),
        ("app:app:app", "'app:app:app': write MODULE:APP, FILE.py:APP or MODULE:FACTORY()"),
        ("app:ap", "'app:ap': app has no 'ap'; there is app, other"),
        ("app:app.x", "'app:app.x': app has no 'x'; there is app, other"),
        ("factory:create_ap", "'factory:create_ap': factory has no 'create_ap'; did you mean 'create_app'?"),
        ("factory:zzz", "'factory:zzz': factory has no 'zzz'; name the App there"),
        ("empty", "'empty': empty has no 'app'; name the App there"),
        ("factory:number", "'factory:number': number is int, not an App"),
        ("factory:number()", "'factory:number()': number is int; leave out the ()"),
        ("factory:Site", "'factory:Site': Site is type, not an App"),
        ("factory:Site()", "'factory:Site()': Site() returned factory.Site, not an App"),
        (
            "factory:create_app",
            "'factory:create_app': create_app is function, not an App; if it makes one, write create_app()",
        ),
        ("factory:nothing()", "'factory:nothing()': nothing() returned NoneType, not an App"),
        (
            "factory:create_named()",
            "'factory:create_named()' failed: TypeError: "
            "create_named() missing 1 required positional argument: 'name'",
        ),
    ],
)
def test_a_target_that_names_none_is_one_line_on_stderr_and_status_2(
    workspace: Path, command: Run, target: str, message: str
) -> None:
    write(dict(FILES))
    result = command("routes", target)
    assert result.stderr == f"prologue: {message.format(here=workspace)}\n"
    assert (result.exit_code, result.stdout) == (2, "")


@pytest.mark.parametrize(
    ("target", "frames", "last"),
    [
        (
            "broken",
            [("broken.py", "line 3, in <module>"), ("broken.py", "line 2, in divide")],
            "ZeroDivisionError: division by zero",
        ),
        (
            "needy",
            [("needy.py", "line 1, in <module>")],
            "ModuleNotFoundError: No module named 'a_library_that_is_not_there'",
        ),
        (
            "factory:create_broken()",
            [("factory.py", "in create_broken")],
            "RuntimeError: broken on purpose",
        ),
        ("syntax", [("syntax.py", "line 1")], "SyntaxError: invalid syntax"),
    ],
)
def test_an_error_inside_the_users_code_is_shown_from_where_that_code_begins(
    workspace: Path, command: Run, target: str, frames: list[tuple[str, str]], last: str
) -> None:
    write(dict(FILES))
    result = command("run", target)
    kind = last.partition(":")[0]
    *traceback, error, summary = result.stderr.splitlines()
    assert (error, summary) == (last, f"prologue: {target!r} failed with the error above, {kind}")
    places = [line.strip() for line in traceback if line.lstrip().startswith("File ")]
    assert len(places) == len(frames)
    for place, (file, where) in zip(places, frames, strict=True):
        assert place.startswith(f'File "{workspace / file}", line ')
        assert place.endswith(where)
    assert result.exit_code == 2


def test_a_program_that_ends_itself_says_so_itself(workspace: Path, command: Run) -> None:
    write(dict(FILES))
    result = command("run", "ending")
    assert result.exit_code == 1
    assert "no database is configured" in result.output


def test_the_error_keeps_its_cause(workspace: Path) -> None:
    write(dict(FILES))
    with pytest.raises(click.ClickException) as caught:
        load_app("broken")
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
