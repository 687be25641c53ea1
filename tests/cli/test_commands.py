from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import prologue
from prologue.errors import MissingExtraError
from tests.cli.conftest import Run, write

RECORDER = """\
    import json

    from prologue import App, Settings


    class Recorder(App):
        def run(self, host=None, port=None, **options):
            print(json.dumps({"host": host, "port": port, "debug": self.settings.debug, **options}))


    app = Recorder()
    debugged = Recorder(Settings(debug=True))
    """
SITE = """\
    import functools
    import re

    from prologue import App, Group

    app = App()


    @app.get("/", name="index")
    def index(ctx):
        return "index"


    def wrapping(handler):
        @functools.wraps(handler)
        def wrapper(ctx):
            return handler(ctx)

        return wrapper


    class Pages:
        def about(self, ctx):
            return "about"

        def __call__(self, ctx):
            return "pages"


    @wrapping
    def wrapped(ctx):
        return "wrapped"


    def legacy(environ, start_response):
        start_response("200 OK", [])
        return []


    class Guest:
        def __call__(self, environ, start_response):
            return legacy(environ, start_response)


    api = Group(app, "/api")
    api.route("/wrapped", wrapped, methods=["PUT", "POST"], name="wrapped")
    app.all("/partial", functools.partial(index))
    app.get("/about", Pages().about)
    app.get("/pages", Pages())
    app.get("/native", str)
    app.get(re.compile("/post(?P<num>[0-9]+)"), index)
    app.mount("/legacy", legacy, "legacy")
    app.mount("/guest", Guest())
    """
TABLE = """\
METHODS   PATTERN                     NAME     HANDLER      DEFINED AT
GET       /                           index    index        site_routes:9
POST,PUT  /api/wrapped                wrapped  wrapped      site_routes:30
ANY       /partial                    -        index        site_routes:9
GET       /about                      -        Pages.about  site_routes:23
GET       /pages                      -        Pages        site_routes:26
GET       /native                     -        str          builtins
GET       regex /post(?P<num>[0-9]+)  -        index        site_routes:9
ANY       mount /legacy               legacy   legacy       site_routes:35
ANY       mount /legacy/*$            -        legacy       site_routes:35
ANY       mount /guest                -        Guest        site_routes:41
ANY       mount /guest/*$             -        Guest        site_routes:41
"""


def python(*arguments: str, text: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
    path = str(Path(prologue.__file__).parents[1])
    return subprocess.run(
        [sys.executable, *arguments],
        input=text,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONPATH": path, **environ},
    )


# -- the command as a whole -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing command. (see: prologue --help)"),
        (["rum"], "No such command 'rum'. Did you mean 'run'? (see: prologue --help)"),
        (["--versoin"], "No such option '--versoin'. Did you mean '--version'? (see: prologue --help)"),
        (["run", "--workres", "1"], "'--workres'. Did you mean '--workers'? (see: prologue run --help)"),
        (["run", "--port", "http"], "'http' is not a valid integer range. (see: prologue run --help)"),
        (["run", "--port", "65536"], "65536 is not in the range 0<=x<=65535. (see: prologue run --help)"),
        (["run", "--workers", "0"], "0 is not in the range x>=1. (see: prologue run --help)"),
        (["run", "--threads", "0"], "0 is not in the range x>=1. (see: prologue run --help)"),
        (["run", "--set", "timeout"], "'timeout' is not NAME=VALUE, such as timeout=60. (see: prologue run"),
        (["run", "--set", "=1"], "'=1' is not NAME=VALUE, such as timeout=60. (see: prologue run --help)"),
        (["run", "--set", "host=x"], "'host' is no setting of gunicorn. (see: prologue run --help)"),
        (["run", "--set", "self=x"], "'self' is no setting of gunicorn. (see: prologue run --help)"),
        (["run", "--app-dir", "nope"], "Directory 'nope' does not exist. (see: prologue run --help)"),
        (["run", "recorder:app", "--reload"], "--reload restarts the development server only: add --debug"),
        (["run", "site_app", "--host", ""], "Settings: address must be str, not empty"),
        (["run", "site_app", "--set", "timout=1"], "unknown option 'timout'; did you mean 'timeout'?"),
        (["run", "site_app", "--set", "timeout=soon"], "app.run(): timeout cannot be 'soon'"),
        (["run", "a", "b"], "Got unexpected extra argument (b) (see: prologue run --help)"),
        (["routes", "--jsn"], "No such option '--jsn'. Did you mean '--json'? (see: prologue routes --help)"),
        (["routes"], "'app:app': there is no module 'app' in "),
        (["shell"], "'app:app': there is no module 'app' in "),
        (["init"], "Missing argument 'NAME'. (see: prologue init --help)"),
        (["init", "1st"], "'1st' is no name for a project"),
    ],
)
def test_an_error_of_use_is_one_line_on_stderr_and_status_2(
    command: Run, arguments: list[str], message: str
) -> None:
    write({"recorder.py": RECORDER, "site_app.py": "from prologue import App\napp = App()\n"})
    result = command(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("prologue: ")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stderr.endswith("\n")


@pytest.mark.parametrize("arguments", [[], ["run"], ["routes"], ["init"], ["shell"]])
def test_every_command_has_help(command: Run, arguments: list[str]) -> None:
    result = command(*arguments, "--help")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith(" ".join(["Usage: prologue", *arguments]))


def test_the_version_is_that_of_the_package(command: Run) -> None:
    result = command("--version")
    assert (result.exit_code, result.stdout) == (0, f"prologue {prologue.__version__}\n")


def test_an_interrupt_ends_the_command_with_the_status_of_the_signal(command: Run) -> None:
    write({"slow.py": "raise KeyboardInterrupt\n"})
    result = command("routes", "slow")
    assert (result.exit_code, result.stdout) == (128 + signal.SIGINT, "")


def test_the_package_is_the_command(workspace: Path) -> None:
    shown = python("-m", "prologue", "--version")
    assert (shown.returncode, shown.stdout, shown.stderr) == (0, f"prologue {prologue.__version__}\n", "")
    wrong = python("-c", "from prologue.cli import main; main()", "rum")
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("prologue: No such command 'rum'.")


def test_without_click_the_command_names_the_extra(workspace: Path) -> None:
    shown = python("-c", "import sys; sys.modules['click'] = None; from prologue.cli import main; main()")
    assert (shown.returncode, shown.stdout) == (1, "")
    assert shown.stderr == f"{MissingExtraError('the command prologue', 'cli')}\n"


# -- run --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["recorder"], {"host": None, "port": None, "debug": False}),
        (
            ["recorder", "--host", "::1", "--port", "0", "--workers", "2", "--threads", "8"],
            {"host": "::1", "port": 0, "debug": False, "workers": 2, "threads": 8},
        ),
        (["recorder", "--address", "0.0.0.0"], {"host": "0.0.0.0", "port": None, "debug": False}),
        (["recorder", "--no-reload"], {"host": None, "port": None, "debug": False, "use_reloader": False}),
        (["recorder", "--debug"], {"host": None, "port": None, "debug": True}),
        (["recorder:debugged"], {"host": None, "port": None, "debug": True}),
        (["recorder:debugged", "--no-debug"], {"host": None, "port": None, "debug": False}),
        (
            ["recorder", "--debug", "--reload"],
            {"host": None, "port": None, "debug": True, "use_reloader": True},
        ),
        (
            ["recorder:debugged", "--no-reload"],
            {"host": None, "port": None, "debug": True, "use_reloader": False},
        ),
        (
            ["recorder", "--set", "timeout=60", "--set", "raw_env=A=1"],
            {"host": None, "port": None, "debug": False, "timeout": "60", "raw_env": "A=1"},
        ),
        (
            ["recorder", "--set", "workers=3", "--workers", "2"],
            {"host": None, "port": None, "debug": False, "workers": 2},
        ),
    ],
)
def test_run_passes_on_what_is_given_and_nothing_else(
    command: Run, arguments: list[str], expected: dict[str, Any]
) -> None:
    write({"recorder.py": RECORDER})
    result = command("run", *arguments)
    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(result.stdout) == expected


def test_run_serves_app_of_app_if_nothing_is_named(command: Run) -> None:
    write({"app.py": RECORDER, "elsewhere/app.py": RECORDER.replace("Settings(debug=True)", "")})
    assert json.loads(command("run", "--port", "1").stdout)["port"] == 1


@pytest.mark.parametrize("options", [[], ["--debug"], ["--debug", "--no-reload"]])
def test_an_address_in_use_is_an_error_of_use(command: Run, options: list[str]) -> None:
    write(
        {
            "taken.py": """\
                import socket
                from prologue import App, Settings
                sock = socket.create_server(("127.0.0.1", 0))
                app = App(Settings(port=sock.getsockname()[1]))
                app.on_startup(sock.close)
                """
        }
    )
    result = command("run", "taken", *options)
    sys.modules["taken"].sock.close()
    assert result.exit_code == 2
    assert "cannot listen on 127.0.0.1:" in result.stderr
    assert result.stderr.count("\n") == 1


# -- routes -----------------------------------------------------------------------------------------------


def test_routes_are_a_table(command: Run) -> None:
    write({"site_routes.py": SITE})
    result = command("routes", "site_routes")
    assert (result.exit_code, result.stderr) == (0, "")
    shown, expected = result.stdout.splitlines(), TABLE.splitlines()
    assert (shown[0], sorted(shown)) == (expected[0], sorted(expected))


def test_routes_are_json_for_tools(command: Run) -> None:
    write({"site_routes.py": SITE})
    rows = json.loads(command("routes", "site_routes", "--json").stdout)
    assert len(rows) == 11
    assert rows[1] == {
        "methods": ["POST", "PUT"],
        "pattern": "/api/wrapped",
        "kind": "pattern",
        "name": "wrapped",
        "handler": "wrapped",
        "module": "site_routes",
        "line": 30,
    }
    assert [row["kind"] for row in rows] == ["pattern"] * 6 + ["expression"] + ["mount"] * 4
    assert (rows[5]["module"], rows[5]["line"]) == ("builtins", None)


def test_an_application_without_routes_has_an_empty_table(command: Run) -> None:
    write({"bare.py": "from prologue import App\napp = App()\n"})
    assert command("routes", "bare").stdout == "METHODS  PATTERN  NAME  HANDLER  DEFINED AT\n"
    assert command("routes", "bare", "--json").stdout == "[]\n"


# -- shell ------------------------------------------------------------------------------------------------

EVENTS = """\
    from prologue import App

    app = App()
    app.on_startup(lambda: print("startup"))
    app.on_shutdown(lambda: print("shutdown"))
    app.get("/", lambda ctx: "found")
    failing = App(startup=[lambda: 1 / 0])
    """


@pytest.mark.parametrize("ending", ["", "exit()\n", "raise SystemExit\n"])
def test_the_shell_has_a_started_application_and_ways_to_ask_it(workspace: Path, ending: str) -> None:
    write({"events.py": EVENTS})
    text = f"print(client.get('/').text, run_once(app).response.body, app.lifecycle.started)\n{ending}"
    result = python("-m", "prologue", "shell", "events", text=text)
    lines = [line.removeprefix(">>> ") for line in result.stdout.splitlines()]
    assert [line for line in lines if line] == ["startup", "found b'found' True", "shutdown"]
    banner = "<App 'prologue' 1 routes, 0 middlewares> has started; there are app, client, run_once\n"
    assert result.stderr.startswith(banner)
    assert result.returncode == 0


def test_the_shell_without_webtest_has_no_client_and_names_the_extra(workspace: Path) -> None:
    write({"events.py": EVENTS})
    script = "import sys; sys.modules['webtest'] = None; from prologue.cli import main; main()"
    result = python("-c", script, "shell", "events", text="print(run_once(app).response.body)\n")
    assert "b'found'" in result.stdout
    assert "there are app, run_once\n" in result.stderr
    assert str(MissingExtraError("prologue.testing.TestClient", "testing")) in result.stderr
    assert result.returncode == 0


def test_a_startup_that_fails_is_shown_from_the_users_code_on(command: Run) -> None:
    write({"events.py": EVENTS})
    result = command("shell", "events:failing")
    assert "ZeroDivisionError: division by zero" in result.stderr
    assert result.stderr.endswith("'events:failing' failed with the error above, ZeroDivisionError\n")
    assert (result.exit_code, result.stdout) == (2, "")
