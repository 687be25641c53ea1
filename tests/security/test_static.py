"""D11, D13, D14, D16 and D42: what a static file route gives away, and to whom."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from prologue import App, Context
from prologue.files import FileBody, file_response

from .harness import assert_alive, assert_linear, call, make_app

SECRET = b"TOP SECRET"
PUBLIC = b"public"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Plant a directory of static files, and secrets around it."""
    root = tmp_path / "static"
    (root / "sub").mkdir(parents=True)
    (root / "index.html").write_bytes(PUBLIC)
    (root / "sub" / "page.txt").write_bytes(PUBLIC)
    (tmp_path / "secret.txt").write_bytes(SECRET)
    (tmp_path / "static-private").mkdir()
    (tmp_path / "static-private" / "secret.txt").write_bytes(SECRET)
    return root


def static_app(root: Path) -> App:
    app = make_app()

    def static(ctx: Context) -> Any:
        return ctx.static_file_response(ctx.path_params["rest"], str(root))

    app.get("/static/{rest}$", static)
    app.get("/named", lambda ctx: ctx.static_file_response(ctx.get_query_params("f"), str(root)))
    return app


# -- D11: traversal; test_wire.py sends these to a server ---------------------------------------------

# As PATH_INFO, that is decoded once.
TRAVERSALS = [
    "../secret.txt",
    "../../secret.txt",
    "sub/../../secret.txt",
    "sub/../../../../../../../../etc/passwd",
    "./../secret.txt",
    "././../secret.txt",
    "..",
    "../",
    ".",
    "../static-private/secret.txt",
    "..\\secret.txt",
    "sub\\..\\..\\secret.txt",
    "..%2fsecret.txt",
    "%2e%2e/secret.txt",
    "..%5csecret.txt",
    "..;/secret.txt",
    "...//secret.txt",
    "....//secret.txt",
    "..../secret.txt",
    "../secret.txt/",
    "..//secret.txt",
    ".\0./secret.txt",
    "../secret.txt\0.html",
    "index.html\0",
    "..\t/secret.txt",
    " ../secret.txt",
    ".. /secret.txt",
    "\xc0\xae\xc0\xae/secret.txt",
    "\xe2\x80\xa4\xe2\x80\xa4/secret.txt",
    "\xef\xbc\x8e\xef\xbc\x8e/secret.txt",
    "..\xc0\xafsecret.txt",
    "..\xef\xbc\x8fsecret.txt",
    "~/secret.txt",
    "~root/secret.txt",
    "file:///etc/passwd",
    "/etc/passwd",
    "//etc/passwd",
    "C:\\secret.txt",
    "C:/secret.txt",
    "\\\\host\\share",
    "index.html/../../secret.txt",
    "nowhere/../../secret.txt",
    "index.html::$DATA",
    "index.html/.",
    "sub",
    "sub/",
    "",
]


@pytest.mark.parametrize("name", TRAVERSALS)
def test_d11_nothing_outside_of_the_directory_is_served(name: str, root: Path) -> None:
    app = static_app(root)
    encoded = "".join(f"%{byte:02x}" for byte in name.encode("latin-1"))
    for answer in (call(app, f"/static/{name}"), call(app, "/named", query=f"f={encoded}")):
        assert answer.status in (400, 404) or answer.body == PUBLIC
        assert SECRET not in answer.body
        assert b"root:" not in answer.body


def test_d11_an_absolute_name_is_not_served(root: Path) -> None:
    for name in (str(root.parent / "secret.txt"), str(root / "index.html"), "/" + str(root / "index.html")):
        assert file_response({}, name, str(root)) is None


def test_d11_files_inside_are_served(root: Path) -> None:
    app = static_app(root)
    for name in ("index.html", "sub/page.txt", "./index.html", "sub//page.txt"):
        assert call(app, f"/static/{name}").body == PUBLIC


def test_d11_dots_in_a_name_are_no_traversal(root: Path) -> None:
    for name in ("..a", "a..b", "...", "a..", ".a"):
        (root / name).write_bytes(PUBLIC)
        assert call(static_app(root), f"/static/{name}").body == PUBLIC


# -- D13: existence oracle ----------------------------------------------------------------------------


def test_d13_what_lies_outside_is_answered_as_what_is_not_there(root: Path) -> None:
    (root / "out").symlink_to(root.parent / "secret.txt")
    (root / "gone").symlink_to(root.parent / "nothing.txt")
    app = static_app(root)
    missing = call(app, "/static/missing.txt")
    assert missing.status == 404
    for name in (
        "../secret.txt",
        "../nothing.txt",
        "../static/index.html",
        "../static/missing.txt",
        "out",
        "gone",
        "sub",
        "sub/",
        "index.html/below",
        "../../../../../etc/passwd",
        "../../../../../etc/nothing",
    ):
        answer = call(app, f"/static/{name}")
        assert (answer.status, answer.headers, answer.body) == missing


def test_d13_neither_time_tells_what_lies_outside(root: Path) -> None:
    environ: dict[str, Any] = {}

    def cost(name: str) -> float:
        best = float("inf")
        for _ in range(20):
            start = time.thread_time()
            for _ in range(20):
                assert file_response(environ, name, str(root)) is None
            best = min(best, time.thread_time() - start)
        return best

    # Neither touches the file system at all. More measurements where another program disturbed.
    there = not_there = float("inf")
    for _ in range(8):
        there, not_there = min(there, cost("../secret.txt")), min(not_there, cost("../nothing.txt"))
        if max(there, not_there) < 2 * min(there, not_there):
            return
    raise AssertionError((there, not_there))


# -- D14: links, pipes, devices, races ----------------------------------------------------------------


def test_d14_a_link_out_of_the_directory_is_not_followed(root: Path) -> None:
    (root / "file").symlink_to("../secret.txt")
    (root / "dir").symlink_to("..")
    (root / "chain").symlink_to("file")
    (root / "absolute").symlink_to(root.parent / "static-private")
    app = static_app(root)
    for name in ("file", "dir/secret.txt", "chain", "absolute/secret.txt", "dir/static-private/secret.txt"):
        assert call(app, f"/static/{name}").status == 404
    assert_alive(app)


def test_d14_a_link_that_stays_inside_is_followed(root: Path) -> None:
    (root / "link").symlink_to("sub/page.txt")
    (root / "dir").symlink_to("sub")
    app = static_app(root)
    assert call(app, "/static/link").body == PUBLIC
    assert call(app, "/static/dir/page.txt").body == PUBLIC


def test_d14_the_directory_itself_may_be_reached_by_a_link(root: Path) -> None:
    link = root.parent / "current"
    link.symlink_to(root)
    assert call(static_app(link), "/static/sub/page.txt").body == PUBLIC


def test_d14_loops_pipes_devices_sockets_and_directories_are_not_there(root: Path) -> None:
    (root / "loop").symlink_to("loop")
    (root / "loop1").symlink_to("loop2")
    (root / "loop2").symlink_to("loop1")
    (root / "zero").symlink_to("/dev/zero")
    (root / "tty").symlink_to("/dev/tty")
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(root / "socket"))
        app = static_app(root)
        for name in ("loop", "loop1", "loop/x", "zero", "tty", "pipe", "pipe/x", "socket", "sub", "."):
            assert call(app, f"/static/{name}").status == 404
            assert call(app, f"/static/{name}", "HEAD").status == 404
    assert file_response({}, "/dev/zero") is None
    assert file_response({}, str(root / "pipe")) is None
    assert_alive(app)


def test_d14_a_file_without_permission_is_not_there(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = os.open

    def refuse(path: str, flags: int, *, dir_fd: int | None = None) -> int:
        # The tests may run as a user who can read everything.
        if path == "index.html":
            raise PermissionError(13, "Permission denied", path)
        return opened(path, flags, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", refuse)
    assert call(static_app(root), "/static/index.html").status == 404


def descriptors() -> int:
    return len(os.listdir("/dev/fd"))


def test_d14_no_request_leaves_a_descriptor_open(root: Path) -> None:
    os.mkfifo(root / "pipe")
    app = static_app(root)
    names = (
        "sub",
        "pipe",
        "missing",
        "../secret.txt",
        "index.html",
        "sub/page.txt",
        "sub/no",
        "index.html/x",
    )

    def all_requests() -> None:
        for name in names:
            call(app, f"/static/{name}")
            call(app, f"/static/{name}", "HEAD")
            call(app, f"/static/{name}", headers={"Range": "bytes=0-1"})
            call(app, f"/static/{name}", headers={"Range": "bytes=100-"})
            call(app, f"/static/{name}", headers={"If-None-Match": "*"})

    all_requests()
    before = descriptors()
    for _ in range(20):
        all_requests()
    assert descriptors() == before


@pytest.fixture
def swapping(root: Path) -> Iterator[None]:
    """Swap a file and a directory for links out of the root and back, all the time, for 10,000 swaps."""
    (root / "file").write_bytes(PUBLIC)
    (root / "dir").mkdir()
    (root / "dir" / "secret.txt").write_bytes(PUBLIC)
    (root / "file.link").symlink_to(root.parent / "secret.txt")
    (root / "dir.link").symlink_to(root.parent)
    ended = threading.Event()

    def swap() -> None:
        for _ in range(5_000):
            if ended.is_set():
                return
            for name in ("file", "dir"):
                os.rename(root / name, root / f"{name}.real")
                os.rename(root / f"{name}.link", root / name)
                os.rename(root / name, root / f"{name}.link")
                os.rename(root / f"{name}.real", root / name)

    thread = threading.Thread(target=swap)
    thread.start()
    yield
    ended.set()
    thread.join(20)


@pytest.mark.usefixtures("swapping")
def test_d14_a_race_with_somebody_who_swaps_links_leaks_nothing(root: Path) -> None:
    app = static_app(root)
    end = time.thread_time() + 1
    statuses = set()
    for number in range(10_000):
        answer = call(app, "/static/dir/secret.txt" if number % 2 else "/static/file")
        statuses.add(answer.status)
        assert answer.status in (200, 404)
        assert SECRET not in answer.body
        if time.thread_time() > end:
            break
    assert 200 in statuses


def test_d14_a_directory_swapped_for_a_link_at_the_worst_moments_is_refused(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "dir").mkdir()
    (root / "dir" / "secret.txt").write_bytes(PUBLIC)
    opened = os.open

    def swap_and_open(path: str, flags: int, *, dir_fd: int | None = None) -> int:
        # The link is there for this call only: whoever looks before or after sees the directory.
        os.rename(root / "dir", root / "aside")
        os.symlink(root.parent, root / "dir")
        try:
            return opened(path, flags, dir_fd=dir_fd)
        finally:
            os.unlink(root / "dir")
            os.rename(root / "aside", root / "dir")

    monkeypatch.setattr(os, "open", swap_and_open)
    assert file_response({}, "dir/secret.txt", str(root)) is None


# -- D16: ranges --------------------------------------------------------------------------------------

CONTENT = bytes(range(256)) * 4
SIZE = len(CONTENT)


@pytest.mark.parametrize(
    ("field", "status", "sent"),
    [
        ("bytes=0-0", 206, CONTENT[:1]),
        ("bytes=0-", 206, CONTENT),
        ("bytes=-1", 206, CONTENT[-1:]),
        ("bytes=-99999", 206, CONTENT),
        ("bytes=0-99999", 206, CONTENT),
        (f"bytes={SIZE - 1}-", 206, CONTENT[-1:]),
        (f"bytes={SIZE}-", 416, b""),
        ("bytes=-0", 416, b""),
        ("bytes=5-3", 200, CONTENT),
        ("bytes=" + "0-," * 100_000, 200, CONTENT),
        ("bytes=0-1,0-1", 200, CONTENT),
        ("bytes=0-,0-", 200, CONTENT),
        ("bytes=0-1,", 200, CONTENT),
        ("bytes=" + "9" * 5000 + "-", 200, CONTENT),
        ("bytes=0-" + "9" * 5000, 200, CONTENT),
        ("bytes=-" + "9" * 5000, 200, CONTENT),
        ("bytes=999999999999999999-", 416, b""),
        ("bytes=\xd9\xa1-\xd9\xa2", 200, CONTENT),
        ("bytes=١-٢", 200, CONTENT),
        ("bytes=\xb2-", 200, CONTENT),
        ("bytes=+1-2", 200, CONTENT),
        ("bytes=1_0-20", 200, CONTENT),
        ("bytes= 1-2", 200, CONTENT),
        ("bytes=1 - 2", 200, CONTENT),
        ("bytes=--1", 200, CONTENT),
        ("bytes=-", 200, CONTENT),
        ("bytes=", 200, CONTENT),
        ("bytes", 200, CONTENT),
        ("lines=0-1", 200, CONTENT),
        ("", 200, CONTENT),
    ],
    ids=lambda value: str(value)[:25],
)
def test_d16_a_range_is_one_range_or_none(field: str, status: int, sent: bytes, root: Path) -> None:
    (root / "data.bin").write_bytes(CONTENT)
    answer = call(static_app(root), "/static/data.bin", headers={"Range": field})
    assert (answer.status, answer.body[:SIZE] if status != 416 else b"") == (status, sent)
    assert len(answer.body) <= SIZE
    if status == 206:
        assert answer.get("Content-Length") == str(len(sent))
    if status == 416:
        assert answer.get("Content-Range") == f"bytes */{SIZE}"


def test_d16_every_range_of_an_empty_file_is_unsatisfiable(root: Path) -> None:
    (root / "empty").write_bytes(b"")
    for field in ("bytes=0-", "bytes=-1", "bytes=0-0"):
        assert call(static_app(root), "/static/empty", headers={"Range": field}).status == 416


@pytest.mark.parametrize("block", ["0-,", "0-0,", "-1,", ",", "1", " ", "-", "bytes=0-"])
def test_d16_the_cost_of_a_range_field_is_linear(block: str, root: Path) -> None:
    (root / "data.bin").write_bytes(CONTENT)

    def run(count: int) -> None:
        environ = {"REQUEST_METHOD": "GET", "HTTP_RANGE": "bytes=" + block * count}
        response = file_response(environ, "data.bin", str(root))
        assert response is not None
        assert isinstance(response.stream, FileBody)
        response.stream.close()

    assert_linear(run, 1 << 12, repeat=5)


FIELDS = ("If-None-Match", "If-Match", "If-Range", "If-Modified-Since", "If-Unmodified-Since", "Range")
ODD = [
    "*",
    '"',
    '""',
    'W/"',
    '"\0"',
    "W/" * 1000,
    '","' * 1000,
    "Thu, 01 Jan 1970",
    "Thu, 99 Jan 1970 00:00:00 GMT",
    "Thu, 01 Jan 99999 00:00:00 GMT",
    "Thu, 01 Jan 0000 00:00:00 GMT",
    "Thu, 01 Jan 1970 00:00:00 +9999999999",
    "Thu, 01 Jan 1970 " + "9" * 5000 + ":00:00 GMT",
    "Thu, " + "9" * 5000 + " Jan 1970 00:00:00 GMT",
    "Thu, 01 Jan " + "9" * 20 + " 00:00:00 -0000",
    "Thu, 01 Jan 1970 00:00:00 -0000",
    "1 Jan 1 00:00:00 -0000",
    "31 Dec 9999 23:59:59 -9999",
    ",",
    ", , , ,",
    "-",
    "1",
    "١٢ Jan 1970 00:00:00 GMT",
    "\xb2 Jan 1970 00:00:00 GMT",
    "a" * 10_000,
    "Jan " * 5000,
    ":" * 5000,
]


@pytest.mark.parametrize("field", FIELDS)
def test_d16_no_conditional_field_is_an_error(field: str, root: Path) -> None:
    app = static_app(root)
    for value in ODD:
        headers = {field: value, **({"Range": "bytes=0-1"} if field == "If-Range" else {})}
        for method in ("GET", "HEAD"):
            answer = call(app, "/static/index.html", method, headers=headers)
            assert answer.status in (200, 206, 304, 412, 416), (value, answer)
    assert_alive(app)


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("block", ['"a",', '"', "W/", 'W/"', ",", " ", "1 ", "Jan,", ":", "0:", "-"])
def test_d35_the_cost_of_conditional_fields_is_linear(field: str, block: str, root: Path) -> None:
    name = "HTTP_" + field.upper().replace("-", "_")

    def run(count: int) -> None:
        environ = {"REQUEST_METHOD": "HEAD", "HTTP_RANGE": "bytes=0-1", name: block * count}
        assert file_response(environ, "index.html", str(root)) is not None

    assert_linear(run, 1 << 11, repeat=4)
