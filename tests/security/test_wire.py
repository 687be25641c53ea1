"""D11, D30 and D1 to D4 over a socket: raw requests to a real gunicorn worker with threads."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import NamedTuple

import pytest

SECRET = b"TOP SECRET"
PUBLIC = b"public"

APPLICATION = """
import os
from prologue import App, Settings

app = App(Settings(max_body_size=1_000_000, trusted_hosts=["shop.example"]))
root = os.environ["STATIC_ROOT"]
app.get("/alive", lambda ctx: "yes")
app.get("/static/{rest}$", lambda ctx: ctx.static_file_response(ctx.path_params["rest"], root))
app.get("/host", lambda ctx: ctx.request.host)
app.get("/users/{id}", lambda ctx: ctx.url_for("user", id=7), name="user")
app.get("/crash", lambda ctx: 1 / 0)
app.post("/form", lambda ctx: str(len(ctx.form)))
app.post("/raw", lambda ctx: str(len(ctx.request.get_data())))
"""


class Server(NamedTuple):
    address: tuple[str, int]
    process: subprocess.Popen[bytes]


@pytest.fixture(scope="module", params=["gthread", "prologue.server.ThreadWorker"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("wire")
    (directory / "attacked.py").write_text(APPLICATION, encoding="utf-8")
    (directory / "secret.txt").write_bytes(SECRET)
    (directory / "static-private").mkdir()
    (directory / "static-private" / "secret.txt").write_bytes(SECRET)
    root = directory / "static"
    (root / "sub").mkdir(parents=True)
    (root / "index.html").write_bytes(PUBLIC)
    (root / "link.txt").symlink_to("../secret.txt")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        command = [sys.executable, "-m", "gunicorn", "--worker-class", request.param, "--threads", "4"]
        command += ["--bind", f"fd://{listener.fileno()}", "--no-control-socket", "--chdir", str(directory)]
        process = subprocess.Popen(
            [*command, "attacked:app"],
            pass_fds=[listener.fileno()],
            env={**os.environ, "STATIC_ROOT": str(root)},
            stderr=subprocess.DEVNULL,
        )
        try:
            yield Server(listener.getsockname(), process)
        finally:
            process.terminate()
            process.wait(20)


def send(server: Server, request: bytes) -> bytes:
    """Send bytes and return all that comes back until the server closes the connection."""
    with socket.create_connection(server.address, timeout=20) as connection:
        try:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the server has had enough, which is an answer too
        answer = bytearray()
        try:
            while block := connection.recv(65536):
                answer += block
        except ConnectionResetError:
            pass
        return bytes(answer)


def get(server: Server, target: bytes, host: bytes = b"shop.example", headers: bytes = b"") -> bytes:
    return send(server, b"GET " + target + b" HTTP/1.1\r\nHost: " + host + b"\r\n" + headers + CLOSE)


CLOSE = b"Connection: close\r\n\r\n"


def status_of(answer: bytes) -> int:
    found = re.match(rb"HTTP/1\.[01] ([0-9]{3}) ", answer)
    assert found, answer[:200]
    return int(found[1])


@pytest.fixture(autouse=True)
def _the_next_request_is_right(server: Server) -> Iterator[None]:
    yield
    answer = get(server, b"/alive")
    assert status_of(answer) == 200
    assert answer.endswith(b"\r\n\r\nyes")
    assert server.process.poll() is None


TARGETS = [
    b"/static/../secret.txt",
    b"/static/../../secret.txt",
    b"/static/sub/../../secret.txt",
    b"/static/%2e%2e/secret.txt",
    b"/static/%2E%2E/secret.txt",
    b"/static/.%2e/secret.txt",
    b"/static/%2e./secret.txt",
    b"/static/..%2fsecret.txt",
    b"/static/..%2Fsecret.txt",
    b"/static/%2e%2e%2fsecret.txt",
    b"/static/sub/%2e%2e/%2e%2e/secret.txt",
    b"/static/..%5csecret.txt",
    b"/static/..\\secret.txt",
    b"/static/%2e%2e%5csecret.txt",
    b"/static/%252e%252e/secret.txt",
    b"/static/%252e%252e%252fsecret.txt",
    b"/static/..%252fsecret.txt",
    b"/static/%c0%ae%c0%ae/secret.txt",
    b"/static/..%c0%afsecret.txt",
    b"/static/%e0%80%ae%e0%80%ae/secret.txt",
    b"/static/%uff0e%uff0e/secret.txt",
    b"/static/%u002e%u002e/secret.txt",
    b"/static/%ef%bc%8e%ef%bc%8e/secret.txt",
    b"/static/..%ef%bc%8fsecret.txt",
    b"/static/..;/secret.txt",
    b"/static/..;x=y/secret.txt",
    b"/static/....//secret.txt",
    b"/static/.../secret.txt",
    b"/static//../secret.txt",
    b"/static/./../secret.txt",
    b"/static/%2f../secret.txt",
    b"/static/..%00/secret.txt",
    b"/static/../secret.txt%00.html",
    b"/static/%00",
    b"/static/index.html%00",
    b"/static/..%0a/secret.txt",
    b"/static/..%0d%0a/secret.txt",
    b"/static/..%09/secret.txt",
    b"/static/..%20/secret.txt",
    b"/static/%20../secret.txt",
    b"/static//etc/passwd",
    b"/static/%2fetc/passwd",
    b"/static/%2f%2fetc/passwd",
    b"/static///etc/passwd",
    b"/static/file:///etc/passwd",
    b"/static/~root/.profile",
    b"/static/C:/secret.txt",
    b"/static/C:%5csecret.txt",
    b"/static/%5c%5chost%5cshare",
    b"/static/link.txt",
    b"/static/./link.txt",
    b"/static/sub",
    b"/static/sub/",
    b"/static/",
    b"/static",
    b"/static/.",
    b"/static/..",
    b"/static/%2e%2e",
    b"/static/../static-private/secret.txt",
    b"/static-private/secret.txt",
    b"/static/../../../../../../../../../../etc/passwd",
    b"/static/" + b"../" * 500 + b"etc/passwd",
    b"/static/" + b"%2e%2e%2f" * 300 + b"etc/passwd",
    b"/../secret.txt",
    b"/../../etc/passwd",
    b"../secret.txt",
    b"..",
    b"static/../secret.txt",
    b"//static/../secret.txt",
    b"//shop.example/static/../secret.txt",
    b"http://shop.example/static/../secret.txt",
    b"http://evil.example/static/..%2fsecret.txt",
    b"file:///etc/passwd",
    b"*",
    b"/static/%",
    b"/static/%zz",
    b"/static/%2",
    b"/static/\xff\xfe",
    b"/static/\x00",
    b"/static/index.html?/../../secret.txt",
    b"/static/index.html#/../../secret.txt",
    b"/static/?../secret.txt",
    b"/?/static/../secret.txt",
]


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: ascii(target)[2:40])
def test_d11_no_raw_target_leads_out_of_the_directory(server: Server, target: bytes) -> None:
    answer = get(server, target)
    assert SECRET not in answer
    assert b"root:" not in answer
    assert b"Traceback" not in answer
    status = status_of(answer)
    assert 400 <= status < 500 or (status == 200 and answer.endswith(PUBLIC))


@pytest.mark.parametrize(
    "host",
    [
        *(
            b"a/b",
            b"a@b",
            b"shop.example@evil.example",
            b"a,b",
            b"a b",
            b"",
            b"[::1",
            b"::1",
            b"a:99999",
            b"a:0",
        ),
        *(
            b"a:-1",
            b"a:80:80",
            b"a\\b",
            b"a#b",
            b"a?b",
            b"a\tb",
            b"a\x00b",
            b"\xc3\xa9",
            b"evil.example",
            b"a;b",
        ),
        *(
            b"shop.example.evil.example",
            b"xshop.example",
            b"shop.example, evil.example",
            b"http://shop.example",
        ),
    ],
)
@pytest.mark.parametrize("path", [b"/host", b"/users/1"])
def test_d30_no_other_host_is_answered(server: Server, host: bytes, path: bytes) -> None:
    answer = get(server, path, host)
    assert status_of(answer) == 400
    assert b"Traceback" not in answer


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /host HTTP/1.1\r\nHost: shop.example\r\nHost: evil.example\r\n",
        b"GET /host HTTP/1.1\r\nHost: evil.example\r\nHost: shop.example\r\n",
        b"GET /host HTTP/1.1\r\n",
        b"GET /host HTTP/1.0\r\n",
        b"GET /host HTTP/1.1\r\nHost : shop.example\r\n",
        b"GET http://shop.example/host HTTP/1.1\r\nHost: evil.example\r\n",
    ],
)
def test_d30_two_hosts_or_none_are_refused(server: Server, request_: bytes) -> None:
    answer = send(server, request_ + CLOSE)
    assert status_of(answer) == 400
    assert b"evil" not in answer.partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize(
    "headers",
    [
        b"X-Forwarded-Host: evil.example\r\n",
        b"X-Forwarded-For: 127.0.0.1\r\n",
        b"X_Forwarded_For: 127.0.0.1\r\n",
        b"X-Original-URL: /crash\r\n",
        b"X-Rewrite-URL: /crash\r\n",
        b"X-Forwarded-Prefix: //evil.example\r\n",
        b'Forwarded: for=127.0.0.1;host="evil.example;x"\r\n',
        b"X-HTTP-Method-Override: DELETE\r\n",
    ],
)
def test_d30_forwarded_fields_change_nothing(server: Server, headers: bytes) -> None:
    assert get(server, b"/host", headers=headers).endswith(b"\r\n\r\nshop.example")
    assert get(server, b"/users/1", headers=headers).endswith(b"\r\n\r\n/users/7")


def test_d30_a_folded_host_is_no_other_host(server: Server) -> None:
    answer = get(server, b"/host", headers=b" evil.example\r\n")
    assert status_of(answer) in (200, 400)
    assert b"evil" not in answer


def test_d30_an_absolute_target_does_not_change_the_host(server: Server) -> None:
    answer = get(server, b"http://evil.example/host")
    assert status_of(answer) in (200, 400)
    assert b"evil" not in answer


POST = b"POST %s HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n"
MULTIPART = b"Content-Type: multipart/form-data; boundary=b\r\n"


def chunked(body: bytes) -> bytes:
    blocks = [body[start : start + 50_000] for start in range(0, len(body), 50_000)]
    return b"".join(b"%x\r\n%s\r\n" % (len(block), block) for block in blocks) + b"0\r\n\r\n"


def test_d2_a_chunked_body_over_the_limit_is_refused(server: Server) -> None:
    head = POST % b"/raw" + b"Transfer-Encoding: chunked\r\n\r\n"
    assert send(server, head + chunked(b"a" * 1_000_000)).endswith(b"\r\n\r\n1000000")
    # A server may close before all was read: then the answer is lost, and that is one too.
    assert status_of(send(server, head + chunked(b"a" * 1_000_001)) or b"HTTP/1.1 413 ") == 413


def test_d2_a_length_over_the_limit_is_refused_at_once(server: Server) -> None:
    head = POST % b"/raw" + b"Content-Length: 999999999999\r\n\r\n"
    assert status_of(send(server, head)) == 413


@pytest.mark.parametrize(
    "request_",
    [
        POST % b"/raw" + b"Content-Length: 100\r\n\r\nshort",
        POST % b"/raw" + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n",
        POST % b"/raw" + b"Transfer-Encoding: chunked\r\n\r\n5\r\nabc",
        POST % b"/raw" + b"Transfer-Encoding: chunked\r\n\r\n5\r\nabcdefgh\r\n0\r\n\r\n",
        POST % b"/form" + MULTIPART + b"Content-Length: 3\r\n\r\n--b",
        POST % b"/form" + MULTIPART + b"Transfer-Encoding: chunked\r\n\r\n3\r\n--b\r\n0\r\n\r\n",
    ],
    ids=["short", "no chunk", "cut", "too long a chunk", "form", "chunked form"],
)
def test_d2_a_broken_body_is_the_clients_error(server: Server, request_: bytes) -> None:
    answer = send(server, request_)
    assert answer == b"" or status_of(answer) == 400


def test_d1_a_form_of_too_many_parts_is_refused(server: Server) -> None:
    body = b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n' * 1001 + b"--b--\r\n"
    head = POST % b"/form" + MULTIPART + b"Content-Length: %d\r\n\r\n" % len(body)
    assert status_of(send(server, head + body)) == 413


def test_d39_no_traceback_is_sent(server: Server) -> None:
    answer = get(server, b"/crash")
    assert status_of(answer) == 500
    assert b"Traceback" not in answer
    assert b"ZeroDivisionError" not in answer


def test_d11_what_is_public_is_served(server: Server) -> None:
    assert get(server, b"/static/index.html").endswith(PUBLIC)
    assert status_of(get(server, b"/static/missing")) == 404
