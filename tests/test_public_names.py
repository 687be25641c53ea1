"""The public contract: every name can be imported, and takes and gives what the documentation shows."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import prologue
from prologue import App, Context, Group, Response, Settings, html_response, redirect
from prologue.routing import TrieRouter
from tests.calling import call, environ_for

NAMES = """
    App Context Settings Request Response Group LazyResource lazy_property html_response
    plain_text_response json_response redirect abort error404 error_page switch HTTPError AbortError
    PrologueError Limits UploadFile TrieRouter
"""

MEMBERS = {
    "App": """
        get post put patch delete head options trace connect all route add_route use
        register_error_handler register_converter on_startup on_shutdown lazy mount routes run
        url_for __call__
    """,
    "Group": """
        get post add_route use register_error_handler
    """,
    "Context": """
        request response path_params query form files session state route deadline get_path_params
        get_query_params get_post_params get_form_params get_cookie json resp url_for set_cookie
        delete_cookie attachment static_file_response after_response next get_path_params_option
        get_query_params_option get_post_params_option get_form_params_option get_upload_file
        set_response abort_exit time_left request_id settings method connection with_connection
    """,
    "Response": """
        status code body headers content_type set_cookie delete_cookie has_header get_header
        get_header_or_default set_header add_header
    """,
    "LazyResource": """
        get initialized reset close
    """,
}


@pytest.mark.parametrize("name", NAMES.split())
def test_a_name_of_the_contract_can_be_imported_and_is_documented(name: str) -> None:
    value = getattr(prologue, name)
    assert name in prologue.__all__
    assert inspect.getdoc(value)


def test_the_list_of_names_is_sorted_and_true() -> None:
    assert prologue.__all__ == sorted(prologue.__all__)
    assert all(hasattr(prologue, name) for name in prologue.__all__)
    assert isinstance(prologue.__version__, str)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = prologue.Nothing


@pytest.mark.parametrize("owner", MEMBERS)
def test_a_class_of_the_contract_has_its_members_documented(owner: str) -> None:
    cls = getattr(prologue, owner)
    for name in MEMBERS[owner].split():
        assert hasattr(cls, name), name
        member = inspect.getattr_static(cls, name)
        assert not inspect.isfunction(member) or inspect.getdoc(member), name


SIGNATURES: list[tuple[Any, list[str]]] = [
    (App, ["settings", "middlewares", "startup", "shutdown", "error_handlers"]),
    (App.add_route, ["self", "pattern", "handler", "methods", "name", "middlewares", "limits"]),
    (App.mount, ["self", "prefix", "application"]),
    (App.lazy, ["self", "name", "loader"]),
    (App.run, ["self", "host", "port"]),
    (App.register_error_handler, ["self", "error", "handler"]),
    (App.__call__, ["self", "environ", "start_response"]),
    (Group, ["app", "prefix", "middlewares", "parent"]),
    (Response, ["body", "status", "headers", "content_type"]),
    (Context.resp, ["self", "body", "status"]),
    (Context.json, ["self", "type"]),
    (Context.get_path_params, ["self", "key", "default"]),
    (Context.abort_exit, ["self", "status", "body", "headers"]),
    (Context.set_response, ["self", "status", "body", "headers"]),
    (
        Context.static_file_response,
        ["self", "file_name", "directory", "mimetype", "download_name", "charset", "headers"],
    ),
    (Context.connection, ["self", "timeout", "readonly", "name"]),
    (Context.with_connection, ["self", "function", "timeout", "readonly", "name"]),
    (Context.attachment, ["self", "download_name", "charset"]),
    (redirect, ["url", "status", "body", "delay"]),
    (html_response, ["body", "status", "headers"]),
    (prologue.abort, ["status", "body", "headers"]),
    (prologue.error_page, ["message"]),
    (TrieRouter.add_route, ["self", "pattern", "target", "methods", "name"]),
    (TrieRouter.find_route, ["self", "method", "path"]),
]


@pytest.mark.parametrize(("function", "names"), SIGNATURES, ids=[str(pair[0]) for pair in SIGNATURES])
def test_arguments_have_the_names_and_order_of_the_contract(function: Any, names: list[str]) -> None:
    assert list(inspect.signature(function).parameters)[: len(names)] == names


def test_the_first_example_of_the_contract_works(tmp_path: Path) -> None:
    app = App(Settings(app_name="hello"))

    @app.get("/")
    def hello(ctx: Context) -> str:
        return "<h1>Hello, Prologue!</h1>"

    def get_user(ctx: Context) -> str:
        return f"user {ctx.get_path_params('id', 0)}"

    def log(ctx: Context) -> None:
        ctx.next()
        ctx.response.headers["X-Log"] = "1"

    app.get("/users/{id}", get_user, name="user", middlewares=[log])
    app.add_route("/hello", hello, methods=["GET", "POST"])
    app.use(log)
    api = Group(app, "/api", middlewares=[log])
    v1 = Group(app, "/v1", parent=api)
    v1.get("/x", hello)
    api.register_error_handler(404, lambda ctx: {"error": "not found"})
    app.register_error_handler({404, 410}, lambda ctx: "page")

    assert call(app).text == "<h1>Hello, Prologue!</h1>"
    assert call(app, path="/users/7").text == "user 7"
    assert call(app, path="/users/x").text == "user 0"
    assert call(app, "POST", "/hello").header("X-Log") == "1"
    assert call(app, path="/api/v1/x").status == 200
    assert call(app, path="/api/v1/y").text == '{"error":"not found"}'
    assert call(app, path="/y").text == "page"
    assert app.url_for("user", {"id": 1}) == "/users/1"


def test_the_router_of_the_contract_works_alone() -> None:
    router = TrieRouter()
    router.add_route("/users/{id}", "target", methods=("GET",))
    match = router.find_route("GET", "/users/42")
    assert match is not None
    assert (match.target, match.params) == ("target", {"id": "42"})
    assert router.find_route("GET", "/nothing") is None


def test_importing_the_package_starts_nothing_and_loads_no_werkzeug_request() -> None:
    code = (
        "import sys, threading, prologue;"
        "print(threading.active_count(), sys.modules.keys() & {'werkzeug.wrappers', 'prologue.request'});"
        "print(prologue.Request.__name__, prologue.Limits.__name__, prologue.UploadFile.__name__)"
    )
    command = [sys.executable, "-W", "error", "-c", code]
    printed = subprocess.check_output(command, text=True, timeout=60)
    assert printed.splitlines() == ["1 set()", "Request Limits UploadFile"]


def test_an_app_is_a_wsgi_application() -> None:
    app = App()
    app.get("/", lambda ctx: "text")
    started: list[Any] = []
    assert app(environ_for(), lambda *arguments: started.append(arguments)) == [b"text"]  # type: ignore[arg-type]
    ((status, headers),) = started
    assert status == "200 OK"
    assert dict(headers) == {"Content-Type": "text/html; charset=utf-8", "Content-Length": "4"}
