"""Files as responses: types, validators, conditions, ranges."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from prologue import App, Response
from prologue.errors import HeaderError
from prologue.files import FileBody, file_response
from tests.calling import Answer, call

MODIFIED = 1_700_000_000
DATE = formatdate(MODIFIED, usegmt=True)
EARLIER, LATER = formatdate(MODIFIED - 1, usegmt=True), formatdate(MODIFIED + 1, usegmt=True)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.txt"
    path.write_bytes(b"0123456789")
    os.utime(path, (MODIFIED, MODIFIED))
    return path


def get(file: Path, method: str = "GET", headers: Mapping[str, str] | None = None) -> Answer:
    app = App()
    app.all("/", lambda ctx: ctx.static_file_response(file.name, str(file.parent)))
    app.head("/", lambda ctx: ctx.static_file_response(file.name, str(file.parent)))
    more: dict[str, Any] = {
        f"HTTP_{name.upper().replace('-', '_')}": value for name, value in (headers or {}).items()
    }
    return call(app, method, **more)


def etag(file: Path) -> str:
    value = get(file).header("ETag")
    assert value is not None
    return value


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_file_is_sent_with_type_length_and_validators(file: Path, method: str) -> None:
    answer = get(file, method)
    assert (answer.status, answer.body) == (200, b"0123456789" if method == "GET" else b"")
    assert dict(answer.headers) == {
        "Content-Type": "text/plain; charset=utf-8",
        "Content-Length": "10",
        "ETag": etag(file),
        "Last-Modified": DATE,
        "Accept-Ranges": "bytes",
    }


@pytest.mark.parametrize(
    ("name", "options", "content_type"),
    [
        ("a.html", {}, "text/html; charset=utf-8"),
        ("a.png", {}, "image/png"),
        ("a.unknown", {}, "application/octet-stream"),
        ("a", {}, "application/octet-stream"),
        ("a.tar.gz", {}, "application/octet-stream"),
        ("a.txt", {"charset": "windows-1251"}, "text/plain; charset=windows-1251"),
        ("a.txt", {"mimetype": "a/b"}, "a/b"),
        ("a.txt", {"mimetype": "text/x"}, "text/x; charset=utf-8"),
        ("a.txt", {"mimetype": "text/x; charset=ascii"}, "text/x; charset=ascii"),
    ],
)
def test_the_type_comes_from_the_extension_unless_it_is_given(
    tmp_path: Path, name: str, options: Any, content_type: str
) -> None:
    (tmp_path / name).touch()
    response = file_response({}, name, tmp_path, **options)
    assert response is not None
    assert response.content_type == content_type
    close(response)


def close(response: Response) -> None:
    if isinstance(response.stream, FileBody):
        response.stream.close()


def test_names_and_headers_can_be_added(file: Path) -> None:
    response = file_response({}, str(file), download_name="ж.txt", headers={"Cache-Control": "no-store"})
    assert response is not None
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["Content-Disposition"].endswith("filename*=UTF-8''%D0%B6.txt")
    close(response)
    with pytest.raises(HeaderError):
        file_response({}, str(file), headers={"X-A": "a\nb"})


@pytest.mark.parametrize(
    "name", ["missing", "../a.txt", "/etc/passwd", ".", "", "a.txt/b", "a.txt\0", "d", "..", "d/../../x"]
)
def test_what_is_no_file_inside_the_directory_is_none(file: Path, name: str) -> None:
    (file.parent / "d").mkdir()
    assert file_response({}, name, file.parent / "d" if name == "../a.txt" else file.parent) is None


def test_a_link_out_of_the_directory_is_none_and_one_inside_is_followed(file: Path, tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "out").symlink_to(file)
    (inside / "b.txt").write_bytes(b"b")
    (inside / "in").symlink_to("b.txt")
    (inside / "loop").symlink_to("loop")
    assert file_response({}, "out", inside) is None
    assert file_response({}, "loop", inside) is None
    response = file_response({}, "in", inside)
    assert response is not None
    close(response)


def test_a_fifo_does_not_hold_the_thread(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert file_response({}, "fifo", tmp_path) is None
    assert file_response({}, str(tmp_path / "fifo")) is None


def test_an_empty_file_is_sent(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    answer = get(tmp_path / "empty")
    assert (answer.status, answer.header("Content-Length"), answer.body) == (200, "0", b"")
    assert get(tmp_path / "empty", headers={"Range": "bytes=0-"}).status == 416


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"If-None-Match": "TAG"}, 304),
        ({"If-None-Match": "W/TAG"}, 304),
        ({"If-None-Match": '"x", TAG'}, 304),
        ({"If-None-Match": "*"}, 304),
        ({"If-None-Match": '"x"'}, 200),
        ({"If-None-Match": "nonsense"}, 200),
        ({"If-None-Match": '"x"', "If-Modified-Since": LATER}, 200),
        ({"If-Modified-Since": DATE}, 304),
        ({"If-Modified-Since": LATER}, 304),
        ({"If-Modified-Since": EARLIER}, 200),
        ({"If-Modified-Since": "nonsense"}, 200),
        ({"If-Modified-Since": ""}, 200),
        ({"If-Match": "TAG"}, 200),
        ({"If-Match": "*"}, 200),
        ({"If-Match": '"x"'}, 412),
        ({"If-Match": "W/TAG"}, 412),
        ({"If-Match": "TAG", "If-Unmodified-Since": EARLIER}, 200),
        ({"If-Unmodified-Since": EARLIER}, 412),
        ({"If-Unmodified-Since": DATE}, 200),
        ({"If-Unmodified-Since": "nonsense"}, 200),
        ({"If-Match": "TAG", "If-None-Match": "TAG"}, 304),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_conditions_are_decided_in_their_order(
    file: Path, headers: dict[str, str], status: int, method: str
) -> None:
    tag = etag(file)
    answer = get(file, method, {name: value.replace("TAG", tag) for name, value in headers.items()})
    assert answer.status == status
    if status == 304:
        assert (answer.header("ETag"), answer.header("Last-Modified"), answer.body) == (tag, DATE, b"")
        assert answer.header("Content-Type") is None


@pytest.mark.parametrize(
    ("headers", "status", "body", "content_range"),
    [
        ({"Range": "bytes=0-3"}, 206, b"0123", "bytes 0-3/10"),
        ({"Range": "bytes=4-"}, 206, b"456789", "bytes 4-9/10"),
        ({"Range": "bytes=-3"}, 206, b"789", "bytes 7-9/10"),
        ({"Range": "bytes=-99"}, 206, b"0123456789", "bytes 0-9/10"),
        ({"Range": "bytes=8-99"}, 206, b"89", "bytes 8-9/10"),
        ({"Range": " bytes=9-9 "}, 206, b"9", "bytes 9-9/10"),
        ({"Range": "bytes=10-"}, 416, None, "bytes */10"),
        ({"Range": "bytes=-0"}, 416, None, "bytes */10"),
        ({"Range": "bytes=5-3"}, 200, b"0123456789", None),
        ({"Range": "bytes=0-1,3-4"}, 200, b"0123456789", None),
        ({"Range": "lines=1-2"}, 200, b"0123456789", None),
        ({"Range": "bytes=-"}, 200, b"0123456789", None),
        ({"Range": "bytes=١-٢"}, 200, b"0123456789", None),
        ({"Range": "bytes=0-" + "9" * 5000}, 200, b"0123456789", None),
        ({"Range": "bytes=0-3", "If-Range": "TAG"}, 206, b"0123", "bytes 0-3/10"),
        ({"Range": "bytes=0-3", "If-Range": '"x"'}, 200, b"0123456789", None),
        ({"Range": "bytes=0-3", "If-Range": DATE}, 206, b"0123", "bytes 0-3/10"),
        ({"Range": "bytes=0-3", "If-Range": LATER}, 200, b"0123456789", None),
        ({"Range": "bytes=0-3", "If-None-Match": "TAG"}, 304, b"", None),
    ],
)
def test_one_range_is_answered_with_its_part(
    file: Path, headers: dict[str, str], status: int, body: bytes | None, content_range: str | None
) -> None:
    tag = etag(file)
    answer = get(file, headers={name: value.replace("TAG", tag) for name, value in headers.items()})
    assert (answer.status, answer.header("Content-Range")) == (status, content_range)
    assert body is None or answer.body == body
    if status in (200, 206):
        assert answer.header("Content-Length") == str(len(answer.body))


def test_head_and_other_methods_ignore_ranges(file: Path) -> None:
    head = get(file, "HEAD", {"Range": "bytes=0-3"})
    assert (head.status, head.header("Content-Length")) == (200, "10")
    assert get(file, "POST", {"Range": "bytes=0-3"}).body == b"0123456789"


def test_a_file_body_reads_its_part_only_and_closes_once(file: Path) -> None:
    closed: list[str] = []
    body = FileBody(io.FileIO(file), 2, 5)
    body.on_close = lambda: closed.append("closed")
    assert (body.read(2), body.read(), body.read(1)) == (b"23", b"456", b"")
    assert body.fileno() > 2
    body.close()
    body.close()
    assert closed == ["closed"]
    with pytest.raises(ValueError, match="closed"):
        body.fileno()


def test_a_large_file_is_read_in_blocks(tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(b"x" * 150_000)
    body = FileBody(io.FileIO(path), 0, 150_000)
    assert [len(block) for block in body] == [65536, 65536, 18928]
    body.close()
