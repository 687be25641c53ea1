"""Another application below a prefix: it gets what no route of ours takes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pytest
from webtest import TestApp

from prologue import App
from prologue.errors import DuplicatedRouteError

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


def other(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    body = f"other {environ['REQUEST_METHOD']} {environ['SCRIPT_NAME']}|{environ['PATH_INFO']}".encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("X-Other", "yes")])
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]


@pytest.mark.parametrize("prefix", ["/", "/old"])
def test_a_route_at_the_prefix_itself_keeps_its_methods(prefix: str) -> None:
    app = App()
    app.get(prefix, lambda ctx: "ours")
    app.mount(prefix, other)
    client = TestApp(app, lint=True)
    script_name = prefix.rstrip("/")
    assert client.get(prefix).text == "ours"
    assert "X-Other" not in client.head(prefix).headers
    assert client.post(prefix).text.startswith(f"other POST {script_name}|")
    assert client.get(f"{script_name}/deep/path").text == f"other GET {script_name}|/deep/path"


def test_a_route_for_every_method_leaves_only_what_is_below_the_prefix() -> None:
    app = App()
    app.all("/old", lambda ctx: "ours")
    app.mount("/old", other)
    client = TestApp(app, lint=True)
    assert client.options("/old").text == client.post("/old").text == "ours"
    assert client.post("/old/a").text == "other POST /old|/a"


def test_two_applications_at_one_prefix_are_an_error_that_names_it() -> None:
    app = App()
    app.mount("/old", other)
    with pytest.raises(DuplicatedRouteError, match="/old"):
        app.mount("/old/", other)
