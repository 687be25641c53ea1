"""D24, D36 and D37: content types, integers and JSON that other programs read differently."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import pytest

from prologue import App, Context

from .harness import Stream, assert_alive, assert_linear, assert_refused, call, make_app

JSON = {"Content-Type": "application/json"}


def json_app() -> App:
    app = make_app()
    app.post("/ours", lambda ctx: {"got": ctx.json()})
    app.post("/werkzeug", lambda ctx: {"got": ctx.request.get_json()})
    app.post("/property", lambda ctx: {"got": ctx.request.json})
    return app


# -- D24: content type confusion ----------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/ours", "/werkzeug"])
@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "text/plain",
        "application/jsonX",
        "application/json2",
        "xapplication/json",
        "text/plain;application/json",
        "text/plain; application/json",
        "text/plain, application/json",
        "application/json, text/plain",
        "application/json,application/json",
        "multipart/form-data; boundary=application/json",
        "application/x-www-form-urlencoded; x=application/json",
        "text/json",
        "text/x+json",
        "application /json",
        "application/json\x0b",
    ],
)
def test_d24_a_body_that_is_not_declared_json_is_not_read_as_json(path: str, content_type: str) -> None:
    app = json_app()
    answer = call(app, path, "POST", headers={"Content-Type": content_type}, body=b'{"a": 1}')
    assert_refused(answer, 415)


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "Application/JSON", "application/json; charset=UTF-8", "application/problem+json"],
)
def test_d24_json_is_recognised(content_type: str) -> None:
    answer = call(json_app(), "/ours", "POST", headers={"Content-Type": content_type}, body=b'{"a": 1}')
    assert answer.body == b'{"got":{"a":1}}'


@pytest.mark.parametrize("charset", ["utf-16", "utf-7", "latin-1", "'utf-8", "ebcdic", "idna"])
def test_d24_json_in_another_charset_is_refused(charset: str) -> None:
    headers = {"Content-Type": f"application/json; charset={charset}"}
    assert_refused(call(json_app(), "/ours", "POST", headers=headers, body=b"{}"), 415)


# -- D37: JSON ----------------------------------------------------------------------------------------

HOSTILE: dict[str, bytes] = {
    "nothing": b"",
    "NaN": b"NaN",
    "Infinity": b"[Infinity]",
    "-Infinity": b"[-Infinity]",
    "a number over the range": b"1e400",
    "4,301 digits": b"9" * 4301,
    "400,000 digits": b"9" * 400_000,
    "a byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "UTF-16 without a mark": '{"a": 1}'.encode("utf-16-le"),
    "UTF-32": '{"a": 1}'.encode("utf-32"),
    "a lone surrogate, escaped": b'"\\ud800"',
    "a lone low surrogate, escaped": b'"\\udc00x"',
    "a surrogate pair the wrong way round": b'"\\udc00\\ud800"',
    "a lone surrogate, encoded": b'"\xed\xa0\x80"',
    "overlong UTF-8": b'"\xc0\xaf"',
    "bytes that are no UTF-8": b'"\xff"',
    "a control character": b'"\x01"',
    "a NUL": b'"\0"',
    "a comment": b"{} // {}",
    "a trailing comma": b"[1,]",
    "single quotes": b"{'a': 1}",
    "two values": b"1 2",
    "a hexadecimal number": b"0x10",
    "a leading zero": b"010",
    "a leading plus": b"+1",
    "an open array": b"[",
    "nesting": b"[" * 10**6,
    "closed nesting": b"[" * 10**6 + b"]" * 10**6,
    "nested objects": b'{"a":' * 10**6,
}


@pytest.mark.parametrize("path", ["/ours", "/werkzeug", "/property"])
@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
def test_d37_what_is_not_strict_json_is_refused(path: str, body: bytes) -> None:
    app = json_app()
    assert_refused(call(app, path, "POST", headers=JSON, body=body), 400, 422)
    assert_alive(app)


def test_d37_of_two_equal_keys_the_last_counts_for_every_reader() -> None:
    app = json_app()
    for path in ("/ours", "/werkzeug"):
        answer = call(app, path, "POST", headers=JSON, body=b'{"a": 1, "a": 2, "\\u0061": 3}')
        assert answer.body == b'{"got":{"a":3}}'


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_d37_no_answer_holds_what_json_has_not(value: float) -> None:
    app = make_app()
    app.get("/", lambda _ctx: {"value": [value]})
    assert json.loads(call(app).body) == {"value": [None]}


def test_d37_an_answer_is_valid_utf8_whatever_it_was_made_of() -> None:
    app = make_app()
    app.get("/text", lambda _ctx: "a\ud800b")
    app.get("/json", lambda _ctx: {"a": "\ud800"})
    assert call(app, "/text").body == b"a?b"
    assert call(app, "/json").status == 500
    assert_alive(app)


@pytest.mark.parametrize("block", [b"[", b'{"a":', b'"', b"\\", b'"\\u0061', b"1,", b"1e1", b"[],", b"\xff"])
def test_d37_the_cost_of_json_is_linear(block: bytes) -> None:
    app = json_app()

    def run(size: int) -> None:
        call(app, "/ours", "POST", headers=JSON, body=Stream(b"[", block, size))

    assert_linear(run, 1 << 15)


# -- D36: integers ------------------------------------------------------------------------------------

NO_INTEGERS = [
    *("9" * 26, "9" * 5000, "1_0", "٣", "²", "１", " 1", "1 ", "1\n"),
    *("0x1", "1e3", "", "1.0", "1\0", "--1"),
]


def number_app() -> App:
    def given(ctx: Context) -> dict[str, Any]:
        number = ctx.get_query_params("n", -7)
        assert type(number) is int
        return {"n": number * 10}

    app = make_app()
    app.get("/path/{n:int}", lambda ctx: {"n": ctx.path_params["n"] * 10})
    app.get("/float/{n:float}", lambda ctx: {"n": ctx.path_params["n"] * 10})
    app.get("/query", given)
    return app


@pytest.mark.parametrize("text", [*NO_INTEGERS, "+1", "-1"])
def test_d36_a_path_is_no_integer_but_for_ascii_digits(text: str) -> None:
    app = number_app()
    path = text.encode().decode("latin-1")
    assert call(app, f"/path/{path}").status in (400, 404)
    assert_alive(app)


@pytest.mark.parametrize("text", ["nan", "inf", "1e400", "-0", "1e3", "1.", ".1", "٣.١", "9" * 400, "1_0.0"])
def test_d37_a_path_is_no_float_but_for_ascii_digits(text: str) -> None:
    assert call(number_app(), f"/float/{text.encode().decode('latin-1')}").status == 404


@pytest.mark.parametrize("text", [*NO_INTEGERS, "9" * 4300, "-" + "9" * 4300, "true", "nan"])
def test_d36_a_query_parameter_that_is_no_integer_is_the_default(text: str) -> None:
    assert call(number_app(), "/query", query=urlencode({"n": text})).body == b'{"n":-70}'


def test_d36_integers_of_64_bits_are_read() -> None:
    app = number_app()
    assert call(app, f"/path/{2**64}").body == b'{"n":184467440737095516160}'
    assert call(app, "/query", query=f"n=-{2**63}").body == b'{"n":-92233720368547758080}'


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e400", "infinity", "1_0", "١", "9" * 5000])
def test_d37_a_query_parameter_that_is_no_finite_number_is_the_default(text: str) -> None:
    app = make_app()
    app.get("/", lambda ctx: {"n": ctx.get_query_params("n", 0.5)})
    assert call(app, query=urlencode({"n": text})).body == b'{"n":0.5}'
