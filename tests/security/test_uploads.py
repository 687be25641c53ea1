"""D8: the names of uploaded files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from prologue import App, Context
from prologue.request import safe_name

from .harness import assert_alive, call, make_app

NAMES = [
    "../evil.txt",
    "../../../../etc/passwd",
    "..\\evil.txt",
    "/etc/passwd",
    "//etc/passwd",
    "C:\\Windows\\evil.txt",
    "C:evil.txt",
    "\\\\host\\share\\evil.txt",
    "",
    ".",
    "..",
    "...",
    "/",
    "\\",
    " ",
    ".htaccess",
    ".ssh/authorized_keys",
    "~/evil.txt",
    "-rf",
    "--help",
    "CON",
    "con",
    "CON.txt",
    "con.tar.gz",
    "CON .txt",
    "NUL",
    "nul.txt",
    "AUX.c",
    "PRN",
    "COM1",
    "COM9.txt",
    "LPT1",
    "COM\u00b9",
    "CONIN$",
    "a.txt:stream",
    "a.txt::$DATA",
    "a.txt.",
    "a.txt ",
    "a\u202etxt.exe",
    "a\u200b.txt",
    "\ufeffa.txt",
    "a\u2215b\uff0fc\u2044d",
    "\u2024\u2024/evil",
    "\uff0e\uff0e\uff0fevil",
    "снимка.png",
    "🙂",
    "a" * 5000,
    "a" * 5000 + ".txt",
    "." * 5000,
    "\u0301" * 5000,
    "a;b|c&d`e$(f)",
    "<script>.html",
    "a%00.txt",
    "a%2f..%2fb",
    "%2e%2e%2fevil",
    "a'b",
    "*?.txt",
]
# These cannot come from a form, but may be given to the function.
WORSE = ["a\0.txt", "\0", "a\r\nb", "\ud800", "a\ud800b.txt", "\x1b[2J"]


@pytest.mark.parametrize("name", [*NAMES, *WORSE], ids=lambda name: ascii(name)[:30])
def test_d8_a_safe_name_is_one_component_on_every_system(name: str) -> None:
    safe = safe_name(name)
    assert re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", safe)
    assert len(safe) <= 121
    assert not safe.endswith(".")
    assert safe.split(".")[0].upper() not in {"CON", "PRN", "AUX", "NUL", *(f"COM{n}" for n in range(10))}
    assert Path(safe).name == safe
    assert safe_name(safe) == safe


def test_d8_the_extension_survives() -> None:
    assert safe_name("a" * 5000 + ".txt").endswith("a.txt")
    assert safe_name("my photo.JPG") == "my_photo.JPG"


def upload_app(directory: Path, filename: str = "") -> App:
    def upload(ctx: Context) -> str:
        file = ctx.get_upload_file("f")
        return file.save(directory, filename).name

    app = make_app()
    app.post("/", upload)
    return app


def send(app: App, name: str) -> bytes:
    quoted = name.replace("\\", "\\\\").replace('"', '\\"').encode()
    body = (
        b'--b\r\nContent-Disposition: form-data; name="f"; filename="'
        + quoted
        + b'"\r\nContent-Type: text/plain\r\n\r\ncontent\r\n--b--\r\n'
    )
    answer = call(app, "/", "POST", headers={"Content-Type": "multipart/form-data; boundary=b"}, body=body)
    assert answer.status == 200, answer
    return answer.body


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name)[:30])
def test_d8_an_upload_is_saved_inside_the_directory_and_nowhere_else(name: str, tmp_path: Path) -> None:
    directory = tmp_path / "uploads"
    directory.mkdir()
    app = upload_app(directory)
    saved = send(app, name).decode()
    assert [path.name for path in directory.iterdir()] == [saved]
    assert (directory / saved).read_bytes() == b"content"
    assert [path.name for path in tmp_path.iterdir()] == ["uploads"]
    assert_alive(app)


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "..", "a/../../evil", "a\0"])
def test_d8_a_name_that_the_application_gives_is_made_safe_too(name: str, tmp_path: Path) -> None:
    directory = tmp_path / "uploads"
    directory.mkdir()
    send(upload_app(directory, name), "x.txt")
    assert len(list(directory.iterdir())) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["uploads"]


def test_d8_no_upload_replaces_a_file_or_writes_through_a_link(tmp_path: Path) -> None:
    directory = tmp_path / "uploads"
    directory.mkdir()
    (directory / "x.txt").write_bytes(b"old")
    (directory / "link.txt").symlink_to(tmp_path / "target")
    app = make_app()
    failures = []

    def upload(ctx: Context) -> str:
        try:
            ctx.get_upload_file("f").save(directory)
        except FileExistsError as error:
            failures.append(error)
        return ""

    app.post("/", upload)
    send(app, "x.txt")
    send(app, "link.txt")
    assert len(failures) == 2
    assert (directory / "x.txt").read_bytes() == b"old"
    assert not (tmp_path / "target").exists()
