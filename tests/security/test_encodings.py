"""D20 and D38: cookies, NUL, invalid UTF-8 and surrogates in whatever a client sends."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest

from prologue import App

from .harness import assert_alive, assert_linear, assert_refused, call, make_app

URLENCODED = {"Content-Type": "application/x-www-form-urlencoded"}

# -- D20: cookies -------------------------------------------------------------------------------------


def cookie_app() -> App:
    app = make_app()
    app.get("/", lambda ctx: {"cookies": [[k, v] for k, v in ctx.request.cookies.items(multi=True)]})
    app.get("/one", lambda ctx: {"a": ctx.get_cookie("a", "none")})
    return app


@pytest.mark.parametrize(
    "field",
    [
        "=x=y",
        "=__Host-a=bad",
        "==__Host-a=bad",
        "__Host-a",
        "__%48ost-a=b",
        "%5f%5fHost-a=b",
        "\xa0__Host-a=b",
        "\x85__Host-a=b",
        "\xe2\x80\x80__Host-a=b",
        "\x1f__Host-a=b",
        "a=1;\x0b__Host-a=2",
        "a=1;\x0c__Host-a=2",
        "a=1,__Host-a=2",
        "a=1, __Host-a=2",
        '"__Host-a"=b',
        "__Host-a\xa0=b",
        "__Host-a\t\t\x1f=b",
        "__Host\x00-a=b",
        "__H\xd0\xbest-a=b",
        "a=1\r\n__Host-a=2",
    ],
)
def test_d20_no_name_with_a_prefix_comes_from_what_is_not_one(field: str) -> None:
    app = cookie_app()
    answer = call(app, headers={"Cookie": field})
    assert answer.status == 200
    assert b'["__Host-a"' not in answer.body
    assert b'["__Secure-a"' not in answer.body


@pytest.mark.parametrize(
    ("field", "cookies"),
    [
        ("a=1; b=2", '[["a","1"],["b","2"]]'),
        ("a=1;b=2;", '[["a","1"],["b","2"]]'),
        (" a = 1 ;\tb=2", '[["a","1"],["b","2"]]'),
        ('a="1 2"; b=2', '[["a","1 2"],["b","2"]]'),
        ("a=1=2", '[["a","1=2"]]'),
        ("a=1; a=2", '[["a","1"],["a","2"]]'),
        ("a=; b=2", '[["a",""],["b","2"]]'),
        ("a; b=2", '[["b","2"]]'),
        ("=1; b=2", '[["b","2"]]'),
        ("a b=1; b=2", '[["b","2"]]'),
        ('a="', '[["a","\\""]]'),
        ("a=\xd1\x87\xd0\xb0\xd0\xb9", '[["a","чай"]]'),
        ("a=\xff", '[["a","\ufffd"]]'),
        ("", "[]"),
        (";;;", "[]"),
    ],
)
def test_d20_cookies_are_what_stands_between_semicolons(field: str, cookies: str) -> None:
    assert call(cookie_app(), headers={"Cookie": field}).body.decode() == f'{{"cookies":{cookies}}}'


def test_d20_a_quote_does_not_swallow_the_cookies_after_it() -> None:
    answer = call(cookie_app(), headers={"Cookie": '$Version=1; a="x; session=secret; b=y"'})
    assert b'["session","secret"]' in answer.body
    assert (
        call(cookie_app(), "/one", headers={"Cookie": 'a="x; session=secret; b=y"'}).body == b'{"a":"\\"x"}'
    )


@pytest.mark.parametrize("block", ['\\"', "\\", '"', "a=b;", ";", "=", ' a="\\"', "a ", "\t"])
def test_d20_the_cost_of_cookies_is_linear(block: str, caplog: pytest.LogCaptureFixture) -> None:
    app = cookie_app()

    def run(count: int) -> None:
        assert call(app, "/one", headers={"Cookie": 'b="' + block * count}).status == 200

    assert_linear(run, 128)
    assert caplog.records == []


# -- D38: NUL and encodings ---------------------------------------------------------------------------

BYTES = {
    "NUL": "\0",
    "an encoded slash, overlong": "\xc0\xaf",
    "a surrogate": "\xed\xa0\x80",
    "a truncated sequence": "\xe2\x82",
    "a stray byte": "\xff",
    "beyond Unicode": "\xf4\x90\x80\x80",
    "an old escape": "%u0041",
}


def echo_app(directory: Path) -> App:
    app = make_app()
    app.get("/echo/{text}", lambda ctx: {"text": ctx.path_params["text"]})
    app.get("/query", lambda ctx: {"text": ctx.query.get("a")})
    app.post("/form", lambda ctx: {"text": ctx.form.get("a")})
    app.get("/cookie", lambda ctx: {"text": ctx.get_cookie("a")})
    root = str(directory)
    app.get("/file/{rest}$", lambda ctx: ctx.static_file_response(ctx.path_params["rest"], root))
    app.get("/file", lambda ctx: ctx.static_file_response(ctx.query.get("a", ""), root))
    return app


@pytest.mark.parametrize("text", BYTES.values(), ids=BYTES)
def test_d38_bytes_that_are_no_text_are_refused_or_literal(text: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("x")
    app = echo_app(tmp_path)
    sent = quote(text.encode("latin-1"))
    assert call(app, f"/echo/x{text}").status in (200, 400)
    assert call(app, f"/file/x{text}").status in (400, 404)
    assert call(app, "/query", query=f"a={sent}").status == 200
    assert call(app, "/query", query=f"a={text}").status == 200
    assert call(app, "/query", query=f"{sent}={sent}").status == 200
    assert call(app, "/file", query=f"a=x{sent}").status == 404
    assert call(app, "/form", "POST", headers=URLENCODED, body=f"a={sent}".encode()).status == 200
    raw = b"a=" + text.encode("latin-1")
    assert call(app, "/form", "POST", headers=URLENCODED, body=raw).status in (200, 400)
    assert call(app, "/cookie", headers={"Cookie": f"a={text}"}).status == 200
    assert_alive(app)


@pytest.mark.parametrize(
    "path", ["/\0", "/alive\0", "/echo/a\0b", "/nowhere\0", "/file/x\0.txt", "/\xd1\x87\0"]
)
def test_d38_a_path_with_nul_is_refused(path: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("x")
    assert_refused(call(echo_app(tmp_path), path), 400)


@pytest.mark.parametrize(
    "name", ["x\0", "\0", "x\0.txt", "\ud800", "x\udcff", "x" * 5000, "x/" * 5000, "ч" * 200, ""]
)
def test_d38_a_name_that_no_file_can_have_is_no_file(name: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("x")
    app = make_app()
    app.get("/", lambda ctx: ctx.static_file_response(name, str(tmp_path)))
    app.get("/trusted", lambda ctx: ctx.static_file_response(f"{tmp_path}/{name}"))
    assert call(app).status == 404
    assert call(app, "/trusted").status == 404
    assert_alive(app)


def test_d38_invalid_bytes_are_decoded_in_linear_time(tmp_path: Path) -> None:
    app = echo_app(tmp_path)
    assert_linear(lambda size: call(app, "/echo/" + "\xff" * size), 1 << 16)
    assert_linear(lambda size: call(app, "/query", query="a=" + "%ff" * size), 1 << 12)
    assert_linear(lambda size: call(app, "/query", query="a=" + "\xff" * size), 1 << 12)
    assert_linear(
        lambda size: call(app, "/form", "POST", headers=URLENCODED, body=b"a=" + b"%ff" * size),
        1 << 12,
    )
