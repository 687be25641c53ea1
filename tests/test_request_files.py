"""What a request opens for uploaded files is closed when the request ends, however it ends."""

from __future__ import annotations

import gc
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from webtest import TestApp

from prologue import App, Context, Limits, Request
from prologue.request import safe_name

FILES = [("first", "a.txt", b"a" * 10), ("second", "b.txt", b"b" * 600_000)]


def take_files(ctx: Context) -> list[Any]:
    return [file.stream for file in ctx.files.values()]


def take_form_only(ctx: Context) -> list[Any]:
    assert ctx.get_form_params("kind") == "letters"
    return [storage.stream for storage in ctx.request.files.values()]


def take_and_fail(ctx: Context) -> list[Any]:
    ctx.state.streams.extend(take_files(ctx))
    raise RuntimeError("on purpose")


@pytest.mark.parametrize(("take", "status"), [(take_files, 200), (take_form_only, 200), (take_and_fail, 500)])
def test_the_streams_of_uploads_are_open_in_the_handler_and_closed_after_it(
    take: Callable[[Context], list[Any]], status: int
) -> None:
    app = App()
    streams: list[Any] = []

    @app.post("/")
    def upload(ctx: Context) -> str:
        ctx.state.streams = streams
        streams.extend(take(ctx))
        assert not any(stream.closed for stream in streams)
        return "taken"

    TestApp(app, lint=True).post("/", {"kind": "letters"}, upload_files=FILES, status=status)
    assert [stream.closed for stream in streams] == [True, True]


def test_an_upload_that_breaks_a_limit_leaves_no_file_open() -> None:
    app = App()

    @app.post("/", limits=Limits(form_parts=1))
    def upload(ctx: Context) -> str:
        return f"{len(ctx.files)} files"

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        TestApp(app, lint=True).post("/", upload_files=FILES, status=413)
        gc.collect()
    assert [str(warning.message) for warning in caught] == []


def test_a_request_is_freed_without_the_collector() -> None:
    app = App()
    requests: list[weakref.ref[Request]] = []

    @app.post("/")
    def upload(ctx: Context) -> str:
        requests.append(weakref.ref(ctx.request))
        return "taken"

    gc.disable()
    try:
        TestApp(app, lint=True).post("/", {"kind": "letters"})
        assert requests[0]() is None
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("sent", "safe"),
    [
        ("tea.txt", "tea.txt"),
        ("two cups.txt", "two_cups.txt"),
        ("../../etc/passwd", "passwd"),
        ("C:\\papers\\tea.txt", "tea.txt"),
        ("r\xe9sum\xe9.tar.gz", "resume.tar.gz"),
        ("Таблица 1.csv", "1.csv"),
        ("Таблица.csv", "upload.csv"),
        ("Таблица", "upload"),
        ("чай.Таблица", "upload"),
        (".htaccess", "htaccess"),
        ("...", "upload"),
        ("..", "upload"),
        ("", "upload"),
        ("/", "upload"),
        ("con.txt", "_con.txt"),
        ("\ud800.txt", "upload.txt"),
        ("a" * 200 + ".txt", "a" * 116 + ".txt"),
    ],
)
def test_a_safe_name_is_one_component_and_keeps_the_extension(sent: str, safe: str) -> None:
    assert safe_name(sent) == safe
