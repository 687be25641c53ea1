from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

from prologue import App, Settings
from prologue.errors import SettingsError
from prologue.server.embedded import GunicornServer
from tests.concurrency import run_script


@pytest.fixture(autouse=True)
def no_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GUNICORN_CMD_ARGS", raising=False)


def config_of(settings: Settings | None = None, **options: Any) -> Any:
    return GunicornServer(App(settings or Settings()), **options).cfg


def test_the_settings_of_the_application_count() -> None:
    config = config_of(Settings(address="::1", port=9000, workers=3, threads=2, reuse_port=True, debug=True))
    assert config.bind == ["[::1]:9000"]
    assert config.address == [("::1", 9000)]
    assert (config.workers, config.threads, config.reuse_port, config.loglevel) == (3, 2, True, "debug")
    assert config.worker_class_str == "prologue.server.ThreadWorker"


def test_the_defaults_that_are_not_those_of_gunicorn() -> None:
    config = config_of()
    assert config.bind == ["127.0.0.1:8080"]
    assert (config.threads, config.loglevel) == (4, "info")
    assert config.worker_class_str == "prologue.server.ThreadWorker"
    assert config.control_socket_disable is True
    assert config.worker_tmp_dir == ("/dev/shm" if os.path.isdir("/dev/shm") else None)
    assert config.max_requests_jitter == 0


def test_where_there_is_no_epoll_gunicorns_own_worker_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("select.epoll")
    assert config_of().worker_class_str == "gthread"


def test_heartbeats_are_files_where_there_is_no_memory_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as directory:
        monkeypatch.setattr("prologue.server.embedded._SHARED_MEMORY", directory)
        assert config_of().worker_tmp_dir == directory
        monkeypatch.setattr(os, "access", lambda path, mode: (path, mode) != (directory, os.W_OK))
        assert config_of().worker_tmp_dir is None
    monkeypatch.undo()
    monkeypatch.setattr("prologue.server.embedded._SHARED_MEMORY", directory)
    assert config_of().worker_tmp_dir is None


@pytest.mark.parametrize(
    ("options", "bind"),
    [
        ({"host": "0.0.0.0"}, ["0.0.0.0:9000"]),
        ({"port": 0}, ["127.0.0.1:0"]),
        ({"host": "::", "port": 1}, ["[::]:1"]),
        ({"bind": "unix:/run/app.sock"}, ["unix:/run/app.sock"]),
        ({"bind": ["a:1", "b:2"]}, ["a:1", "b:2"]),
    ],
)
def test_where_to_listen(monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], bind: list[str]) -> None:
    monkeypatch.setenv("GUNICORN_CMD_ARGS", "--bind other:1")
    assert config_of(Settings(port=9000), **options).bind == bind


@pytest.mark.parametrize("options", [{"host": "a"}, {"port": 1}])
def test_host_or_port_beside_bind_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="bind, or host and port"):
        config_of(bind="a:1", **options)


def test_options_are_any_settings_of_gunicorn() -> None:
    config = config_of(timeout=60, worker_class="sync", forwarded_allow_ips="10.0.0.1", accesslog="-")
    assert (config.timeout, config.forwarded_allow_ips, config.accesslog) == (60, ["10.0.0.1"], "-")
    assert config.worker_class_str == "sync"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"worker": 2}, "app.run(): unknown option 'worker'; did you mean 'workers'?"),
        ({"xyzzy": 2}, "app.run(): unknown option 'xyzzy'; gunicorn's documentation lists its settings"),
        ({"workers": -1}, "app.run(): workers cannot be -1: Value must be positive: -1"),
        ({"worker_exit": print}, "app.run(): worker_exit cannot be <built-in function print>"),
        ({"reload": True}, "app.run(): reload finds no new code"),
        ({"config": "/nope.py"}, "app.run(): config cannot be '/nope.py': '/nope.py' doesn't exist"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        config_of(**options)
    assert str(caught.value).startswith(message)


def test_the_jitter_is_a_tenth_of_max_requests_unless_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    assert config_of(max_requests=1000).max_requests_jitter == 100
    assert config_of(max_requests=1000, max_requests_jitter=0).max_requests_jitter == 0
    monkeypatch.setenv("GUNICORN_CMD_ARGS", "--max-requests 50")
    assert config_of().max_requests_jitter == 5


def test_each_source_wins_over_those_below_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "conf.py"
    file.write_text("workers = threads = timeout = keepalive = 11\nnotes = 'not a setting'\n")
    monkeypatch.setenv("GUNICORN_CMD_ARGS", f"-c {file} --threads 12 --timeout 12 --keep-alive 12")
    config = config_of(Settings(workers=9, threads=9), timeout=13, keepalive=13)
    assert (config.workers, config.threads, config.timeout, config.keepalive) == (11, 12, 13, 13)


def test_the_file_may_be_named_by_an_option(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, workers in (("option", 5), ("argument", 6)):
        (tmp_path / f"{name}.py").write_text(f"workers = {workers}\n")
    monkeypatch.setenv("GUNICORN_CMD_ARGS", f"-c {tmp_path / 'argument.py'}")
    assert config_of(config=str(tmp_path / "option.py")).workers == 5


def test_the_arguments_of_the_program_are_not_those_of_gunicorn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["program", "--workers", "7", "--unknown"])
    assert config_of().workers == 1


def test_wrong_arguments_in_the_environment_end_the_program(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GUNICORN_CMD_ARGS", "--workesr 2")
    with pytest.raises(SystemExit):
        config_of()
    assert "--workesr" in capfd.readouterr().err


@pytest.mark.parametrize(("given", "workers"), [("1", 6), ("2", 2)])
def test_web_concurrency_counts_where_one_worker_is_set(given: str, workers: int) -> None:
    # gunicorn reads the variable when it is imported.
    script = (
        "import os; os.environ['WEB_CONCURRENCY'] = '6'\n"
        "from prologue import App, Settings\n"
        "from prologue.server.embedded import GunicornServer\n"
        f"print(GunicornServer(App(Settings(workers={given}))).cfg.workers)\n"
        "print(GunicornServer(App(), workers=1).cfg.workers)\n"
    )
    assert run_script(script).split() == [str(workers), "1"]


def test_the_directory_changes_only_when_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    config_of()
    assert Path.cwd() == tmp_path
    (tmp_path / "inner").mkdir()
    monkeypatch.setattr("sys.path", [])
    config_of(chdir="inner")
    assert Path.cwd() == tmp_path / "inner"


def test_the_server_serves_this_application() -> None:
    app = App()
    assert GunicornServer(app).load() is app
    assert GunicornServer(app).wsgi() is app


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("certfile='/nope'", 'certfile "/nope" does not exist'),
        ("worker_class='nope'", "worker_class cannot be 'nope': Entry point ('gunicorn.workers', '"),
        ("worker_class='nope.Worker'", "worker_class cannot be 'nope.Worker': No module named 'nope'"),
        ("worker_class='os.Nope'", "worker_class cannot be 'os.Nope': its module has no such class"),
        ("worker_class='os.path'", "worker_class cannot be 'os.path': its module has no such class"),
    ],
)
def test_what_shows_to_be_wrong_only_at_the_start_is_an_error_too(options: str, message: str) -> None:
    # In a process of its own: gunicorn's master takes the signals over.
    script = f"""
from prologue import App
from prologue.errors import SettingsError
try:
    App().run(port=0, errorlog="/dev/null", {options})
except SettingsError as error:
    print(error)
"""
    assert run_script(script).startswith(f"app.run(): {message}")


def test_a_worker_that_only_gunicorn_can_import_is_left_to_it() -> None:
    server = GunicornServer(App(), worker_class="elsewhere.Worker", pythonpath="/nowhere")
    server._check_worker_class()


def test_hooks_are_composed_anew_when_the_configuration_is_reloaded() -> None:
    called: list[str] = []
    app = App(startup=[lambda: called.append("startup")])
    server = GunicornServer(app, post_worker_init=lambda worker: called.append("init"))
    server.reload()

    class Worker:
        wsgi = app

    server.cfg.post_worker_init(Worker())
    assert called == ["startup", "init"]


def test_shutdown_runs_even_if_the_hook_of_the_user_fails() -> None:
    called: list[str] = []
    app = App(shutdown=[lambda: called.append("shutdown")])
    app.lifecycle.startup()

    class Worker:
        wsgi = app
        pid = os.getpid()

    def fail(server: Any, worker: Any) -> None:
        called.append("exit")
        raise ValueError

    with pytest.raises(ValueError, match=r"^$"):
        GunicornServer(app, worker_exit=fail).cfg.worker_exit(None, Worker())
    assert called == ["exit", "shutdown"]
