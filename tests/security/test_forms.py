"""D1 to D4, D10: forms with too many parts, too much memory, slow scans, hostile part headers."""

from __future__ import annotations

import os
import tracemalloc
import unicodedata
from collections.abc import Callable
from typing import Any

import pytest

from prologue import App, Context, Settings
from prologue.request import Limits, safe_name

from .harness import Stream, assert_alive, assert_linear, assert_refused, call, make_app

MIB = 1024 * 1024
MULTIPART = {"Content-Type": "multipart/form-data; boundary=b"}
URLENCODED = {"Content-Type": "application/x-www-form-urlencoded"}
FIELD = b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n'
FILE = b'--b\r\nContent-Disposition: form-data; name="f"; filename="f.bin"\r\n\r\n'
END = b"\r\n--b--\r\n"


def form_app(**settings: Any) -> App:
    app = make_app(settings=Settings(**settings))

    def form(ctx: Context) -> dict[str, Any]:
        return {
            "fields": [[name, value] for name, value in ctx.form.items(multi=True)],
            "files": [[name, len(file.body)] for name, file in ctx.files.items(multi=True)],
        }

    app.post("/form", form)
    return app


def post(app: App, body: bytes | Stream, headers: dict[str, str] = MULTIPART, **more: Any) -> Any:
    return call(app, "/form", "POST", headers=headers, body=body, **more)


# -- D1: part count -----------------------------------------------------------------------------------


def test_d1_one_part_over_the_limit_is_refused() -> None:
    app = form_app(max_form_parts=20)
    part = FIELD + b"\r\n"
    assert post(app, part * 20 + b"--b--\r\n").status == 200
    assert_refused(post(app, part * 21 + b"--b--\r\n"), 413)
    assert_alive(app)


def test_d1_files_and_fields_count_together() -> None:
    app = form_app(max_form_parts=3)
    assert_refused(post(app, (FIELD + b"x\r\n") * 2 + (FILE + b"x\r\n") * 2 + b"--b--\r\n"), 413)


def test_d1_a_mebibyte_of_empty_parts_is_refused_before_it_is_read() -> None:
    app = form_app()
    body = Stream(b"", b"--b\r\nContent-Disposition: form-data; name=a\r\n\r\n\r\n", MIB, b"--b--\r\n")
    assert_refused(post(app, body), 413)
    assert body.consumed <= 128 * 1024
    assert_alive(app)


def test_d1_the_cost_of_parts_is_linear() -> None:
    app = form_app(max_form_parts=10**6, max_form_memory_size=64 * MIB)
    block = b"--b\r\nContent-Disposition: form-data; name=a\r\n\r\n\r\n"

    def run(count: int) -> None:
        assert post(app, Stream(b"", block, len(block) * count, b"--b--\r\n")).status == 200

    assert_linear(run, 500, repeat=2)


# -- D2: memory ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", [FIELD, FILE, b""], ids=["field", "file", "raw"])
@pytest.mark.parametrize("sent", ["with its length", "chunked"])
def test_d2_a_gibibyte_is_refused_after_the_limit(head: bytes, sent: str) -> None:
    app = form_app(max_body_size=MIB)
    app.post("/raw", lambda ctx: str(len(ctx.request.get_data())))
    body = Stream(head, b"a" * 1000, 1024 * MIB, END)
    path = "/form" if head else "/raw"
    more: dict[str, Any] = {"terminated": True} if sent == "chunked" else {}
    tracemalloc.start()
    try:
        answer = call(app, path, "POST", headers=MULTIPART if head else {}, body=body, **more)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert_refused(answer, 413)
    assert body.consumed <= MIB + 64 * 1024
    assert peak < 5 * MIB
    assert_alive(app)


def test_d2_a_body_without_length_that_nobody_ends_is_not_read() -> None:
    app = form_app()
    body = Stream(FIELD, b"a", 1024 * MIB, END)
    assert post(app, body, environ={"CONTENT_LENGTH": ""}).status in (200, 400)
    assert body.consumed == 0


def test_d2_no_more_is_read_than_an_understated_length_says() -> None:
    app = form_app()
    body = Stream(FIELD, b"a", 1024 * MIB, END)
    assert_refused(post(app, body, length=1000), 400)
    assert body.consumed == 1000


def test_d2_a_body_shorter_than_its_length_is_refused_also_where_the_server_ends_it() -> None:
    app = form_app()
    app.post("/raw", lambda ctx: str(len(ctx.request.get_data())))
    ended = {"wsgi.input_terminated": True}
    assert_refused(call(app, "/raw", "POST", body=b"short", length=1000), 400)
    assert_refused(call(app, "/raw", "POST", body=b"short", length=1000, environ=ended), 400)
    assert call(app, "/raw", "POST", body=b"short", length=5, environ=ended).body == b"5"


@pytest.mark.parametrize("size", [999, 1000, 1001, 1002, 70_000])
def test_d2_a_chunked_body_is_whole_or_refused_never_cut(size: int) -> None:
    app = make_app(settings=Settings(max_body_size=1000))
    app.post("/raw", lambda ctx: str(len(ctx.request.get_data())))
    answer = call(app, "/raw", "POST", body=b"x" * size, terminated=True)
    assert answer.status == (200 if size <= 1000 else 413)
    if size <= 1000:
        assert answer.body == str(size).encode()


def test_d2_a_chunked_form_of_exactly_the_limit_is_accepted() -> None:
    body = FIELD + b"value" + END
    assert post(form_app(max_body_size=len(body)), body, terminated=True).status == 200
    assert_refused(post(form_app(max_body_size=len(body) - 1), body, terminated=True), 413)


def test_d2_the_memory_of_all_fields_counts_together() -> None:
    app = form_app(max_form_memory_size=10_000)
    assert post(app, (FIELD + b"x" * 4000 + b"\r\n") * 2 + b"--b--\r\n").status == 200
    assert_refused(post(app, (FIELD + b"x" * 4000 + b"\r\n") * 3 + b"--b--\r\n"), 413)


def test_d2_the_memory_of_fields_does_not_bound_files() -> None:
    app = form_app(max_form_memory_size=1000)
    answer = post(app, FILE + b"x" * 200_000 + END)
    assert answer.body == b'{"fields":[],"files":[["f",200000]]}'


def test_d2_a_urlencoded_form_is_bounded_like_the_fields_of_a_multipart_one() -> None:
    app = form_app(max_form_memory_size=10_000)
    assert post(app, b"a=" + b"x" * 9_998, URLENCODED).status == 200
    assert_refused(post(app, b"a=" + b"x" * 9_999, URLENCODED), 413)
    body = Stream(b"a=", b"x", 1024 * MIB)
    assert_refused(post(app, body, URLENCODED, terminated=True, environ={"CONTENT_LENGTH": ""}), 413)
    assert body.consumed <= 128 * 1024
    assert_alive(app)


def test_d2_uploads_leave_no_file_open() -> None:
    app = form_app()
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for body in (FILE + b"x" * MIB + END, FILE + b"x" * MIB + b"\r\n" + FIELD + b"y" * MIB + END):
        assert post(app, body).status in (200, 413)
    # An unclosed file is a ResourceWarning, and warnings are errors here.
    after = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    assert after == before


# -- D3: slow scans -----------------------------------------------------------------------------------

SCANS: dict[str, Callable[[int], Stream]] = {
    "a file that starts with a line break": lambda n: Stream(FILE + b"\r\n", b"a", n, END),
    "a file of CR": lambda n: Stream(FILE, b"\r", n, END),
    "a file of LF": lambda n: Stream(FILE, b"\n", n, END),
    "a file of CRLF": lambda n: Stream(FILE, b"\r\n", n, END),
    "a file of half boundaries": lambda n: Stream(FILE, b"\r\n--", n, END),
    "a file of boundaries with blanks": lambda n: Stream(FILE, b"\r\n--b" + b" " * 1000, n, END),
    "a file of boundaries inside lines": lambda n: Stream(FILE, b"x--b", n, END),
    "a preamble of CRLF": lambda n: Stream(b"", b"\r\n", n, b"\r\n" + FIELD + END),
    "an epilogue": lambda n: Stream(FIELD + END, b"a", n),
    "an epilogue of boundaries": lambda n: Stream(FIELD + END, b"\r\n--b", n),
}


@pytest.mark.parametrize("make", SCANS.values(), ids=SCANS)
def test_d3_no_body_is_slow_to_scan(make: Callable[[int], Stream], caplog: pytest.LogCaptureFixture) -> None:
    app = make_app(settings=Settings(max_body_size=64 * MIB))
    app.post("/form", lambda ctx: str(len(ctx.files)))

    def run(size: int) -> None:
        assert post(app, make(size)).status in (200, 400, 413)

    assert_linear(run, MIB, repeat=2)
    assert caplog.records == []
    assert_alive(app)


# -- D4: part headers ---------------------------------------------------------------------------------

DISPOSITION = b'Content-Disposition: form-data; name="a"\r\n'
HEADERS = {
    "no disposition": b"Content-Type: text/plain\r\n",
    "no header at all": b"",
    "no name": b"Content-Disposition: form-data\r\n",
    "two names": b'Content-Disposition: form-data; name="a"; name="b"\r\n',
    "two file names": b'Content-Disposition: form-data; name="a"; filename="x"; filename="y"\r\n',
    "two dispositions": DISPOSITION * 2,
    "not form data": b'Content-Disposition: attachment; name="a"\r\n',
    "a quote that is not closed": b'Content-Disposition: form-data; name="a\r\n',
    "text behind a quote": b'Content-Disposition: form-data; name="a"b\r\n',
    "NUL in the name": b'Content-Disposition: form-data; name="a\0"\r\n',
    "NUL in another header": DISPOSITION + b"X: \0\r\n",
    "ESC in another header": DISPOSITION + b"X: \x1b[31m\r\n",
    "bytes that are no UTF-8": b'Content-Disposition: form-data; name="\xff"\r\n',
    "a header name with a blank": DISPOSITION + b"X Y: 1\r\n",
    "100,000 headers": DISPOSITION + b"x:\r\n" * 100_000,
    "a header line of 10 MiB": DISPOSITION + b"X: " + b"a" * 10 * MIB + b"\r\n",
    "a header line of 20 KiB": DISPOSITION + b"X: " + b"a" * 20 * 1024 + b"\r\n",
}


@pytest.mark.parametrize("headers", HEADERS.values(), ids=HEADERS)
def test_d4_hostile_part_headers_are_refused(headers: bytes) -> None:
    app = form_app()
    assert_refused(post(app, b"--b\r\n" + headers + b"\r\nvalue" + END), 400, 413)
    assert_alive(app)


@pytest.mark.parametrize(
    "head", [b"", b"--b\r\nX: ", FIELD[:-4] + b"\r\nX: "], ids=["preamble", "first", "later"]
)
def test_d4_endless_headers_and_preambles_are_not_read_to_the_end(head: bytes) -> None:
    app = form_app(max_body_size=2048 * MIB)
    body = Stream(head, b"a", 1024 * MIB, END)
    assert_refused(post(app, body), 400)
    assert body.consumed <= 128 * 1024


@pytest.mark.parametrize(
    "headers",
    [
        b'Content-Disposition: form-data;\r\n name="a"\r\n',
        b'Content-Disposition: form-data; name="a"\rX: y\r\n',
        b"content-disposition:form-data;name=a\r\n",
        b'Content-Disposition: form-data; name="a"; \r\nContent-Type: text/plain; charset=utf-16\r\n',
        DISPOSITION + b"nonsense\r\n",
    ],
    ids=["folded", "bare CR", "terse", "charset", "no colon"],
)
def test_d4_odd_but_harmless_headers_make_no_other_field(headers: bytes) -> None:
    answer = post(form_app(), b"--b\r\n" + headers + b"\r\nvalue" + END)
    assert answer.status == 400 or answer.body == b'{"fields":[["a","value"]],"files":[]}'


def test_d4_what_browsers_send_is_understood() -> None:
    parts = (
        b'--b\r\nContent-Disposition: form-data; name="a[0]"\r\n\r\nx\r\ny\r\n'
        b'--b\r\nContent-Disposition: form-data; name="\xd0\xb8\xd0\xbc\xd0\xb5 %22"\r\n\r\n'
        b"\xd1\x87\xd0\xb0\xd0\xb9\r\n"
        b'--b\r\nContent-Disposition: form-data; name="f"; filename="a;b\\"c.txt"\r\n'
        b"Content-Type: text/plain\r\n\r\n12345" + END
    )
    answer = post(form_app(), parts)
    assert answer.body == '{"fields":[["a[0]","x\\r\\ny"],["име \\"","чай"]],"files":[["f",5]]}'.encode()


@pytest.mark.parametrize(
    "kind",
    ["", "; boundary=", "; boundary=\xff", "; boundary=" + "b" * 71, '; boundary="b'],
    ids=["none", "empty", "no ASCII", "too long", "not closed"],
)
def test_d4_a_form_without_a_proper_boundary_is_refused(kind: str) -> None:
    assert_refused(post(form_app(), FIELD + END, {"Content-Type": f"multipart/form-data{kind}"}), 400)


@pytest.mark.parametrize(
    "body",
    [b"", b"nothing", FIELD, FIELD + b"value", FIELD + b"value\r\n--b", FIELD[:20], b"--b\r\n"],
    ids=["empty", "no boundary", "no value", "no end", "half an end", "half a header", "no header"],
)
def test_d4_a_truncated_form_is_refused(body: bytes) -> None:
    assert_refused(post(form_app(), body), 400)


# -- D8: see test_uploads.py; D10: parameter floods ---------------------------------------------------


def test_d10_too_many_query_parameters_are_refused() -> None:
    app = make_app()
    app.get("/", lambda ctx: str(len(ctx.query)))
    assert call(app, query="&".join(f"a{n}" for n in range(1000))).body == b"1000"
    assert_refused(call(app, query="a&" * 1000), 400)
    assert_refused(call(app, query="a&" * 10**6), 400)
    assert_alive(app)


def test_d10_too_many_form_fields_are_refused_unparsed() -> None:
    app = form_app(max_form_parts=1000, max_form_memory_size=64 * MIB)
    assert post(app, b"&".join([b"a"] * 1000), URLENCODED).status == 200
    tracemalloc.start()
    try:
        answer = post(app, Stream(b"", b"a&", 2 * 10**6), URLENCODED)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert_refused(answer, 413)
    assert peak < 10 * MIB
    assert_alive(app)


def test_d10_the_limit_of_fields_holds_when_only_files_are_asked_for() -> None:
    app = make_app(settings=Settings(max_form_parts=10))
    app.post("/form", lambda ctx: str(len(ctx.files)))
    assert_refused(post(app, b"a&" * 100, URLENCODED), 413)


@pytest.mark.parametrize("text", ["[", "[b]", "][", "=", ";"])
def test_d10_brackets_and_separators_mean_nothing(text: str) -> None:
    app = make_app()
    app.get("/", lambda ctx: str(len(ctx.query)))
    assert call(app, query="a" + text * 10**5).body == b"1"


def test_d10_a_route_may_have_limits_of_its_own() -> None:
    app = make_app()
    app.add_route("/form", lambda ctx: str(len(ctx.form)), ["POST"], limits=Limits(form_parts=2))
    assert post(app, b"a&b", URLENCODED).status == 200
    assert_refused(post(app, b"a&b&c", URLENCODED), 413)


# -- names of files that are slow to normalise --------------------------------------------------------


def test_d8_a_name_of_combining_characters_is_cut_before_it_is_normalised() -> None:
    name = "\u0301\u0316" * 4000
    assert unicodedata.combining(name[0]) > unicodedata.combining(name[1]) > 0
    assert_linear(lambda size: safe_name("a" + "\u0301\u0316" * size), 500)
