from __future__ import annotations

import logging
import os
from types import SimpleNamespace
from typing import Any

import pytest
from gunicorn.arbiter import Arbiter
from gunicorn.config import Config
from werkzeug.middleware.proxy_fix import ProxyFix

from prologue import App
from prologue.server import hooks


def make_worker(wsgi: object, *, alive: bool = True) -> Any:
    """What the hooks see of a worker of gunicorn."""
    log = logging.getLogger("tests.worker")
    return SimpleNamespace(wsgi=wsgi, alive=alive, pid=os.getpid(), log=log)


def make_app(called: list[str]) -> App:
    return App(startup=[lambda: called.append("startup")], shutdown=[lambda: called.append("shutdown")])


class Middleware:
    def __init__(self, **wrapped: object) -> None:
        self.__dict__.update(wrapped)


def test_the_hooks_start_and_stop_an_application_once() -> None:
    called: list[str] = []
    worker = make_worker(make_app(called))
    for _ in range(2):
        hooks.post_worker_init(worker)
    assert called == ["startup"]
    for _ in range(2):
        hooks.worker_exit(None, worker)
    assert called == ["startup", "shutdown"]


@pytest.mark.parametrize(
    "wrap",
    [
        ProxyFix,
        lambda app: Middleware(app=app),
        lambda app: Middleware(wsgi_app=app),
        lambda app: Middleware(application=app),
        lambda app: Middleware(app=Middleware(application=ProxyFix(app)), lifecycle="of another kind"),
    ],
)
def test_the_application_is_found_behind_middlewares(wrap: Any) -> None:
    called: list[str] = []
    worker = make_worker(wrap(make_app(called)))
    hooks.post_worker_init(worker)
    hooks.worker_exit(None, worker)
    assert called == ["startup", "shutdown"]


def endless() -> Middleware:
    circle = Middleware()
    circle.app = circle  # type: ignore[attr-defined]
    return circle


@pytest.mark.parametrize("wsgi", [None, lambda environ, start_response: [], endless()])
def test_another_application_is_left_alone(wsgi: object) -> None:
    worker = make_worker(wsgi)
    hooks.post_worker_init(worker)
    hooks.worker_exit(None, worker)


def test_a_worker_that_could_not_load_its_application_exits() -> None:
    worker = make_worker(None)
    del worker.wsgi
    hooks.worker_exit(None, worker)


def test_the_master_does_not_shut_down_for_a_worker() -> None:
    called: list[str] = []
    worker = make_worker(make_app(called))
    hooks.post_worker_init(worker)
    worker.pid += 1
    hooks.worker_exit(None, worker)
    assert called == ["startup"]


def test_a_startup_that_fails_is_logged_and_ends_worker_and_master(caplog: pytest.LogCaptureFixture) -> None:
    worker = make_worker(App(startup=[lambda: 1 / 0]))
    with pytest.raises(SystemExit) as caught:
        hooks.post_worker_init(worker)
    assert caught.value.code == Arbiter.WORKER_BOOT_ERROR
    assert "startup of the application failed" in caplog.text
    assert "ZeroDivisionError" in caplog.text


def leave() -> None:
    raise SystemExit(0)


def test_a_startup_that_exits_ends_worker_and_master(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(SystemExit) as caught:
        hooks.post_worker_init(make_worker(App(startup=[leave])))
    assert caught.value.code == Arbiter.WORKER_BOOT_ERROR
    assert "exit(0)" in caplog.text


def test_a_worker_that_is_told_to_stop_during_startup_stops(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(SystemExit) as caught:
        hooks.post_worker_init(make_worker(App(startup=[leave]), alive=False))
    assert caught.value.code == 0
    assert not caplog.records


def test_gunicorn_takes_two_settings_from_the_module() -> None:
    config = Config()
    assert config.settings.keys() & vars(hooks).keys() == {"post_worker_init", "worker_exit"}
    for name in hooks.__all__:
        config.set(name, getattr(hooks, name))  # checks the number of arguments
