"""The request: werkzeug's, with limits; hosts, JSON bodies, uploads."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from werkzeug.datastructures import FileStorage

from prologue import App, Context, HTTPError, Limits, Request, UploadFile
from prologue.errors import BodyTooLargeError
from prologue.request import safe_name, valid_host
from tests.calling import call, environ_for


def request(body: bytes = b"", **more: Any) -> Request:
    return Context(App(), environ_for("POST", "/a", body, **more)).request


@pytest.mark.parametrize(
    ("host", "valid"),
    [
        ("x.example", True), ("x.example:80", True), ("127.0.0.1:8080", True), ("[::1]", True),
        ("[::1]:80", True),
        ("a_b.example", True), ("x.example:0", False), ("x.example:65536", False), ("x.example:99999", False),
        ("", False), ("a/b", False), ("a@b", False), ("a,b", False), ("a b", False), ("[::1", False),
        ("a:b", False), ("a:1:2", False), ("ж", False), ("a\n", False), ("a" * 300, False), ("a?b", False),
    ],
)  # fmt: skip
def test_a_host_is_a_name_or_an_address_with_or_without_a_port(host: str, valid: bool) -> None:
    assert valid_host(host) is valid


@pytest.mark.parametrize(
    ("host", "trusted", "valid"),
    [
        ("x.example", ("x.example",), True),
        ("X.Example:80", ("x.example",), True),
        ("x.example", ("X.EXAMPLE",), True),
        ("x.example.", ("x.example",), True),
        ("a.x.example", ("x.example",), False),
        ("a.x.example", (".x.example",), True),
        ("x.example", (".x.example",), True),
        ("evilx.example", (".x.example",), False),
        ("x.example.evil", ("x.example",), False),
        ("[::1]:80", ("[::1]",), True),
        ("y.example", ("x.example", "y.example"), True),
        ("a/b", ("a/b",), False),
    ],
)
def test_trusted_hosts_are_names_or_domains(host: str, trusted: tuple[str, ...], valid: bool) -> None:
    assert valid_host(host, trusted) is valid


def test_the_host_of_a_request_is_checked_when_it_is_asked_for() -> None:
    assert request(HTTP_HOST="x.example:81").host == "x.example:81"
    with pytest.raises(HTTPError, match="Host header") as raised:
        _ = request(HTTP_HOST="a/b").host
    assert raised.value.status == 400
    environ = environ_for(SERVER_NAME="server", SERVER_PORT="82")
    del environ["HTTP_HOST"]
    assert Context(App(), environ).request.host == "server:82"


def test_forwarded_headers_are_not_believed() -> None:
    forged = request(
        HTTP_X_FORWARDED_PROTO="https", HTTP_X_FORWARDED_HOST="evil", HTTP_X_FORWARDED_FOR="1.2.3.4"
    )
    assert (forged.secure, forged.scheme, forged.host, forged.remote_addr) == (
        False,
        "http",
        "127.0.0.1",
        "127.0.0.1",
    )
    more: dict[str, Any] = {"wsgi.url_scheme": "https"}
    assert request(**more).secure


def test_a_request_reads_what_the_client_sent() -> None:
    got = request(b"body", CONTENT_TYPE="text/plain; charset=utf-8", QUERY_STRING="a=1&a=2&b=", HTTP_X_A="1")
    assert (got.method, got.path, got.mimetype, got.get_data()) == ("POST", "/a", "text/plain", b"body")
    assert (got.args.getlist("a"), got.args["b"], got.headers["X-A"]) == (["1", "2"], "", "1")


def test_a_query_has_a_limited_number_of_parameters() -> None:
    assert len(request(QUERY_STRING="&".join(["a=1"] * 1000)).args.getlist("a")) == 1000
    with pytest.raises(HTTPError, match="more than 1000") as raised:
        _ = request(QUERY_STRING="&".join(["a=1"] * 1001)).args
    assert raised.value.status == 400


def test_a_form_has_a_limited_number_of_fields() -> None:
    app = App()
    app.post("/a", lambda ctx: str(len(ctx.form.getlist("a"))), limits=Limits(form_parts=3))
    more: dict[str, Any] = {"CONTENT_TYPE": "application/x-www-form-urlencoded"}
    assert call(app, "POST", "/a", b"a=1&a=2&a=3", **more).text == "3"
    assert call(app, "POST", "/a", b"a=1&a=2&a=3&a=4", **more).status == BodyTooLargeError("").status


@pytest.mark.parametrize("name", ["a.txt", "a-b_c.tar.gz", "A1.TXT"])
def test_a_safe_name_stays(name: str) -> None:
    assert safe_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "../x", "..\\x", "/abs", "C:\\x", "a\0b", "", ".", "..", "CON", "con.txt", "LPT1", "nul.", "x" * 5000,
        "\u202etxt.exe", "\ud800", "a/b/c.txt", "  ", "~root", "-rf", ".htaccess", "a\nb", "COM1.tar.gz",
    ],
)  # fmt: skip
def test_any_other_name_becomes_one_safe_component(name: str, tmp_path: Path) -> None:
    safe = safe_name(name)
    assert 0 < len(safe) <= 121
    assert safe.isascii()
    assert not set("/\\:\0\n ") & set(safe)
    assert safe.strip(".") != ""
    assert not safe.startswith(".")
    assert safe.split(".")[0].upper() not in {"CON", "PRN", "AUX", "NUL", "COM1", "LPT1"}
    (tmp_path / safe).touch()
    assert [path.name for path in tmp_path.iterdir()] == [safe]


def upload(name: str = "a.txt", body: bytes = b"content") -> UploadFile:
    return UploadFile(FileStorage(io.BytesIO(body), filename=name, content_type="text/plain"))


def test_an_upload_shows_what_was_sent() -> None:
    file = upload("../ж a.txt")
    assert file.raw_filename == "../ж a.txt"
    assert file.filename == safe_name("../ж a.txt")
    assert (file.content_type, file.body, file.body, file.stream.tell()) == (
        "text/plain",
        b"content",
        b"content",
        7,
    )
    assert repr(file) == f"<UploadFile {file.filename!r}>"
    assert UploadFile(FileStorage(io.BytesIO())).filename == "upload"


def test_an_upload_is_saved_under_a_safe_name_and_never_over_another_file(tmp_path: Path) -> None:
    file = upload("../../a.txt", b"x" * 200_000)
    assert file.body
    saved = file.save(tmp_path)
    assert (saved, saved.read_bytes()) == (tmp_path / file.filename, b"x" * 200_000)
    with pytest.raises(FileExistsError):
        file.save(tmp_path)
    assert upload(body=b"new").save(tmp_path, saved.name, overwrite=True).read_bytes() == b"new"
    assert upload().save(str(tmp_path), "../b.txt").parent == tmp_path
    with pytest.raises(FileNotFoundError):
        file.save(tmp_path / "missing")
