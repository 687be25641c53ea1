from __future__ import annotations

import sys

import pytest

from prologue import App
from prologue.errors import MissingExtraError, SettingsError
from tests.concurrency import run_script


def test_the_room_imports_no_server() -> None:
    script = (
        "import sys, prologue.server\nprint(sorted(sys.modules.keys() & {'gunicorn', 'werkzeug.serving'}))"
    )
    assert run_script(script).strip() == "[]"


def test_a_missing_gunicorn_is_an_error_that_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("prologue.server.embedded")]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("gunicorn", "gunicorn.app", "gunicorn.app.base", "gunicorn.config"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=r"'prologue-wsgi\[server\]'") as caught:
        App().run(port=0)
    assert caught.value.extra == "server"


def test_a_wrong_option_of_run_is_an_error() -> None:
    with pytest.raises(SettingsError, match="did you mean 'workers'"):
        App().run(worker=2)
