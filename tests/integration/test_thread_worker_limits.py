"""The thread worker's deadlines, its limits, gunicorn's settings and hooks, and its end."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import open_loop
import pytest

from tests.concurrency import Task
from tests.integration.conftest import Start
from tests.integration.servers import PATIENCE, Server, gunicorn

WORKER = "prologue.server.ThreadWorker"
REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def bare(*options: str, worker: str = WORKER, threads: int = 2) -> list[str]:
    return gunicorn("-k", worker, "--threads", str(threads), *options, app="tests.integration.bare:app")


def connect(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), PATIENCE)


def all_of(client: socket.socket) -> bytes:
    return client.makefile("rb").read()


# -- slow clients --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that waits for nobody for more than half a second."""
    command = bare("--keep-alive", "1", worker="tests.integration.bare.Impatient")
    server = Server(command, tmp_path_factory.mktemp("impatient"), {})
    try:
        server.wait_until_it_listens()
        yield server
    finally:
        server.kill()


def test_clients_that_stop_are_not_waited_for(impatient: Server) -> None:
    chunked = b"Transfer-Encoding: chunked\r\n\r\n5\r\nhel"
    stops = [
        (b"", b""),
        (b"GET / HT", b"HTTP/1.1 408 "),
        (b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello", b"HTTP/1.1 408 "),
        (b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nhello", b"HTTP/1.1 408 "),
        (b"POST /echo HTTP/1.1\r\nHost: a\r\n" + chunked, b"HTTP/1.1 408 "),
    ]
    waiting = [(connect(impatient), *stop) for stop in stops * 2]
    for client, sent, _ in waiting:
        client.sendall(sent)
    assert impatient.get("/")[0] == 200
    for client, sent, answer in waiting:
        received = all_of(client)
        assert received.startswith(answer), sent
        assert bool(received) is bool(answer), sent
        client.close()


def test_clients_that_drip_are_not_waited_for(impatient: Server) -> None:
    with connect(impatient) as client:
        client.sendall(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")
        client.settimeout(0.05)  # between two bytes
        for _ in range(400):
            client.sendall(b"x")
            try:
                answer = client.recv(65536)
            except TimeoutError:
                continue
            break
        assert answer.startswith(b"HTTP/1.1 408 ")


def test_an_idle_connection_ends_after_keepalive(impatient: Server) -> None:
    with connect(impatient) as client:
        start = time.monotonic()
        client.sendall(REQUEST)
        assert all_of(client).endswith(b"index")
        assert time.monotonic() - start > 0.9


def test_clients_that_do_not_read_are_not_waited_for(impatient: Server) -> None:
    server = impatient
    clients = [connect(server) for _ in range(3)]
    for client in clients:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sendall(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n")
    assert server.get("/")[0] == 200
    for client in clients:
        client.close()
    assert "Traceback" not in server.log()


@pytest.mark.parametrize("path", ["/wrapped?length", "/big"])
def test_clients_that_do_not_read_keep_no_thread(start: Start, path: str) -> None:
    server = start(bare(threads=1))
    clients = [connect(server) for _ in range(3)]
    for client in clients:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode() + REQUEST)
        assert client.recv(1)
    assert server.get("/")[0] == 200
    for client in clients:
        client.shutdown(socket.SHUT_WR)
        answer = all_of(client)
        assert len(answer) > 2_000_000
        assert answer.endswith(b"index")
        client.close()
    assert "Traceback" not in server.log()


# -- requests that take too long ------------------------------------------------------------------------


def test_a_request_over_the_timeout_is_answered_and_the_worker_replaced(start: Start) -> None:
    server = start(bare("--timeout", "1", "--graceful-timeout", "1", threads=3))
    (first,) = {server.get("/pid")[1] for _ in range(3)}
    with connect(server) as unanswered, connect(server) as begun:
        unanswered.sendall(b"GET /hold HTTP/1.1\r\nHost: a\r\n\r\n")
        begun.sendall(b"GET /hold_begun HTTP/1.1\r\nHost: a\r\n\r\n")
        answer = all_of(unanswered)
        assert answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        assert all_of(begun).endswith(b"begun\r\n")
    server.until(lambda: "WORKER TIMEOUT" in server.log())
    assert "in hold\n    time.sleep(0.01)" in server.log()
    server.until(lambda: server.log().count("Booting worker") == 2)
    server.until(lambda: server.get("/pid")[1] != first)
    assert "SIGABRT" not in server.log()
    assert "SIGKILL" not in server.log()


def test_a_worker_does_not_wait_for_a_request_that_was_given_up(start: Start) -> None:
    # Shorter than gunicorn lets a worker be silent.
    server = start(bare("--timeout", "1", "--graceful-timeout", "300", threads=1))
    with connect(server) as client:
        client.sendall(b"GET /hold HTTP/1.1\r\nHost: a\r\n\r\n")
        assert all_of(client).startswith(b"HTTP/1.1 503 ")
    server.until(lambda: server.log().count("Booting worker") == 2)
    assert server.pids("answered") == []
    assert server.get("/")[0] == 200
    assert "SIGABRT" not in server.log()


def test_a_worker_that_ends_by_the_application_or_a_signal_is_replaced(start: Start) -> None:
    server = start(bare())
    assert server.get("/leave")[0] == 500
    server.until(lambda: server.log().count("Booting worker") == 2)
    pid = int(server.get("/pid")[1])
    os.kill(pid, signal.SIGKILL)
    server.until(lambda: server.log().count("Booting worker") == 3)
    assert int(server.get("/pid")[1]) != pid


def test_requests_are_refused_while_others_wait_too_long(start: Start) -> None:
    with statsd() as sink:
        address = f"127.0.0.1:{sink.getsockname()[1]}"
        server = start(bare("--statsd-host", address, worker="tests.integration.bare.Shedding", threads=1))
        with connect(server) as holder:
            holder.sendall(b"GET /hold HTTP/1.1\r\nHost: a\r\n\r\n")
            server.until(lambda: server.pids("held"))
            waiting = [connect(server) for _ in range(5)]
            for client in waiting:
                client.sendall(REQUEST)
            time.sleep(1.0)  # the delay that is to be noticed; a longer one is noticed as well
            server.gate.touch()
            answers = [all_of(client) for client in waiting]
            for client in waiting:
                client.close()
        assert answers[0].startswith(b"HTTP/1.1 503 ")
        assert b"\r\nRetry-After: 7\r\n" in answers[0]
        server.until(lambda: server.get("/")[0] == 200)
        seen = b""
        while b"gunicorn.requests_refused:1|c" not in seen:
            seen = sink.recv(4096)


@contextmanager
def statsd() -> Iterator[socket.socket]:
    """A socket that gets what is sent to a statsd."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sink:
        sink.bind(("127.0.0.1", 0))
        sink.settimeout(PATIENCE)
        yield sink


# -- gunicorn's settings and hooks --------------------------------------------------------------------


def test_what_is_not_supported_is_refused_by_name(start: Start) -> None:
    server = start(bare("--protocol", "uwsgi"), listens=False)
    assert server.wait() == 1
    assert "cannot do protocol = 'uwsgi'; remove the setting" in server.log()
    assert "Booting worker" not in server.log()


HOOKS = """
from tests.integration.application import note
def pre_request(worker, req): note(f"pre:{req.method}:{req.path}:{req.query}")
def post_request(worker, req, environ, resp): note(f"post:{resp.status.split()[0]}:{resp.sent}:{worker.nr}")
def worker_int(worker): note("int")
def worker_exit(server, worker): note("exit")
"""


def test_hooks_the_access_log_and_statsd_see_request_and_response(start: Start, tmp_path: Path) -> None:
    hooks = tmp_path / "hooks.py"
    hooks.write_text(HOOKS)
    layout = '%(h)s %(m)s %(U)s %(q)s %(s)s %(B)s "%({x-a}i)s" "%({content-type}o)s" %({server_port}e)s'
    options = ("-c", str(hooks), "--access-logfile", "-", "--access-logformat", layout)
    with statsd() as sink:
        server = start(bare(*options, "--statsd-host", f"127.0.0.1:{sink.getsockname()[1]}"))
        assert server.get("/?a=b", X_A="seen")[0] == 200
        server.until(lambda: len(server.events()) == 2)
        server.get("/crash")
        seen = b""
        while b"gunicorn.request.status.200:1|c" not in seen or b"gunicorn.queueing_delay:" not in seen:
            seen += sink.recv(4096) + b"\n"
    line = f'127.0.0.1 GET / a=b 200 5 "seen" "text/plain" {server.port}\n'
    server.until(lambda: line in server.log())
    server.until(lambda: "127.0.0.1 GET - - 500" in server.log() or "GET /crash" in server.log())
    assert server.stop(signal.SIGQUIT) == 0
    events = [event for event, _ in server.events()]
    assert events[:2] == ["pre:GET:/:a=b", "post:200:5:1"]
    assert events[-2:] == ["int", "exit"]


def test_the_files_of_the_log_can_be_moved_away(start: Start, tmp_path: Path) -> None:
    log = tmp_path / "error.log"
    server = start(bare("--error-logfile", str(log), "--capture-output"), listens=False)
    server.until(lambda: log.exists() and "Booting worker" in log.read_text())
    server.port = int(log.read_text().partition("http://127.0.0.1:")[2].split()[0])
    assert server.get("/complain?before")[0] == 200
    with connect(server) as kept:
        kept.sendall(REQUEST)
        assert kept.recv(65536).endswith(b"index")
        log.rename(tmp_path / "error.log.1")
        server.process.send_signal(signal.SIGUSR1)
        server.until(lambda: "complaint after" in log_after(server, log))
        kept.sendall(b"GET /complain?kept HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert all_of(kept).endswith(b"complained")
    server.until(lambda: "complaint kept" in log.read_text())
    assert "complaint before" in (tmp_path / "error.log.1").read_text()


def log_after(server: Server, log: Path) -> str:
    """Have the application complain, and return what the log says."""
    assert server.get("/complain?after")[0] == 200
    return log.read_text() if log.exists() else ""


def test_new_code_is_loaded(start: Start, tmp_path: Path) -> None:
    module = tmp_path / "changing.py"

    def write(answer: str) -> None:
        body = f"start('200 OK', []) and None or [{answer.encode()!r}]"
        module.write_text(f"def app(environ, start):\n    return {body}\n")

    write("old")
    options = ("-k", WORKER, "--reload", "--reload-engine", "poll", "--pythonpath", str(tmp_path))
    server = start(gunicorn(*options, app="changing:app"), PYTHONDONTWRITEBYTECODE="1")
    with connect(server) as idle:
        assert server.get("/") == (200, b"old")
        write("the new answer")
        server.until(lambda: server.get("/") == (200, b"the new answer"))
        assert idle.fileno() > 0


def test_workers_with_sockets_of_their_own_share_a_port(start: Start) -> None:
    with socket.socket() as holder:  # it takes a free port, and does not listen
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind(("127.0.0.1", 0))
        port = holder.getsockname()[1]
        server = start(bare("--reuse-port", "--workers", "2", "-b", f"127.0.0.1:{port}"), listens=False)
    server.port = port
    seen: set[bytes] = set()

    def both_serve() -> bool:
        try:
            seen.add(server.get("/pid")[1])
        except ConnectionError:
            pass  # none listens yet
        return len(seen) == 2

    server.until(both_serve)
    assert server.stop() == 0
    assert "Traceback" not in server.log()


def test_a_unix_socket_is_served(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    server = start(bare("-b", f"unix:{path}"), listens=False)
    server.until(lambda: "Using worker" in server.log())
    for host, port in (("shop.example", "80"), ("shop.example:8080", "8080")):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(PATIENCE)
            client.connect(str(path))
            request = f"GET /echo HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-Proto: https\r\n"
            client.sendall(f"{request}Connection: close\r\n\r\n".encode())
            answer = all_of(client).decode()
        assert '"SERVER_NAME": "shop.example"' in answer
        assert f'"SERVER_PORT": "{443 if port == "80" else port}"' in answer
        assert '"wsgi.url_scheme": "https"' in answer
        assert '"REMOTE_ADDR": ""' in answer


@pytest.mark.parametrize(
    ("mode", "header"),
    [
        ("v1", b"PROXY TCP4 203.0.113.7 192.0.2.1 5555 443\r\n"),
        ("v2", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\7\xc0\0\2\1\x15\xb3\1\xbb"),
    ],
)
def test_the_proxy_protocol_names_the_client_for_the_whole_connection(
    start: Start, mode: str, header: bytes
) -> None:
    server = start(bare("--proxy-protocol", mode))
    first = b"GET /echo HTTP/1.1\r\nHost: a\r\n\r\n"
    with connect(server) as client:
        for place in range(len(header)):
            client.sendall(header[place : place + 1])
        client.sendall(first + first[:-2] + b"Connection: close\r\n\r\n")
        answer = all_of(client)
    assert answer.count(b'"REMOTE_ADDR": "203.0.113.7"') == 2
    assert answer.count(b'"REMOTE_PORT": "5555"') == 2


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    directory = tmp_path_factory.mktemp("certificate")
    key, certificate = directory / "key.pem", directory / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command += [
        "-nodes",
        "-subj",
        "/CN=localhost",
        "-days",
        "2",
        "-keyout",
        str(key),
        "-out",
        str(certificate),
    ]
    subprocess.run(command, check=True, capture_output=True)
    return key, certificate


def test_tls_is_spoken(start: Start, certificate: tuple[Path, Path]) -> None:
    key, chain = certificate
    server = start(bare("--keyfile", str(key), "--certfile", str(chain)), listens=False)
    server.until(lambda: "Listening at: https://127.0.0.1:" in server.log())
    server.port = int(server.log().partition("https://127.0.0.1:")[2].split()[0])
    context = ssl.create_default_context(cafile=str(chain))
    with connect(server) as silent, connect(server) as plain:  # neither keeps a thread from the others
        assert silent.fileno() > 0
        plain.sendall(REQUEST)
        for path, size in (("/wrapped?length", 2_000_000), ("/big", 20_000_000)):
            with context.wrap_socket(connect(server), server_hostname="localhost") as client:
                client.sendall(REQUEST + REQUEST)
                client.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
                answer = all_of(client)
                assert answer.count(b"index") == 2
                assert len(answer) > size
        body = b"x" * 100_000
        with context.wrap_socket(connect(server), server_hostname="localhost") as client:
            client.sendall(
                b"POST /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 100000\r\n\r\n"
                + body
            )
            answer = all_of(client)
            assert b"x" * 100_000 in answer
            assert b'"wsgi.url_scheme": "https"' in answer


def test_workers_share_a_port_and_connections(start: Start) -> None:
    server = start(bare("--workers", "2"))
    ready: set[bytes] = set()
    server.until(lambda: ready.add(server.get("/pid")[1]) or len(ready) == 2)  # type: ignore[func-returns-value]
    served = [server.get("/pid")[1] for _ in range(40)]
    counts = {pid: served.count(pid) for pid in set(served)}
    assert len(counts) == 2
    assert min(counts.values()) >= 5


def test_worker_connections_bound_the_connections(start: Start) -> None:
    server = start(bare("--worker-connections", "3", "--keep-alive", "1"))
    idle = [connect(server) for _ in range(2)]
    for client in idle:
        client.sendall(REQUEST)
        assert client.recv(65536).endswith(b"index")
    more = [connect(server) for _ in range(5)]
    for client in more:  # the last ones wait in the kernel until others have gone
        client.sendall(REQUEST)
        assert all_of(client).endswith(b"index")
    for client in idle + more:
        client.close()


# -- the end --------------------------------------------------------------------------------------------


def test_idle_connections_do_not_keep_a_worker(start: Start) -> None:
    server = start(bare("--keep-alive", "60"))
    with connect(server) as fresh, connect(server) as used:
        assert fresh.fileno() > 0
        used.sendall(REQUEST)
        assert used.recv(65536).endswith(b"index")
        assert server.stop(signal.SIGINT) == 0
        assert used.recv(1) == b""


def test_a_stopping_worker_answers_what_comes_on_kept_connections_and_closes_them(start: Start) -> None:
    server = start(bare("--keep-alive", "60", threads=2))
    with connect(server) as used, connect(server) as holder:
        used.sendall(REQUEST)
        assert b"Connection: keep-alive" in used.recv(65536)
        holder.sendall(b"GET /hold HTTP/1.1\r\nHost: a\r\n\r\n")
        server.until(lambda: server.pids("held"))
        server.process.send_signal(signal.SIGTERM)
        server.until(lambda: "Handling signal: term" in server.log())
        used.sendall(REQUEST)
        answer = all_of(used)
        assert answer.endswith(b"index")
        server.gate.touch()
        assert all_of(holder).endswith(b"held")
    assert server.wait() == 0


def answered(server: Server, count: int = 300) -> int:
    """Make requests on connections of their own; a connection that is accepted is answered whole."""
    right = 0
    for _ in range(count):
        with connect(server) as client:
            client.sendall(b"GET /pid HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            answer = all_of(client)
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n"), answer
        right += 1
    return right


def steady_load(server: Server, seconds: float, keep: bool = True) -> open_loop.Result:
    """Send 200 requests a second; on a busy machine it takes seconds until a new worker serves."""
    return open_loop.send(
        server.port, rate=200, seconds=seconds, connections=16, keep=keep, patience=PATIENCE
    )


@pytest.mark.parametrize("keep", [True, False], ids=["kept", "closed"])
def test_no_request_of_a_steady_load_is_lost_while_workers_are_replaced(start: Start, keep: bool) -> None:
    server = start(bare("--workers", "2", "--max-requests", "40"))
    server.until(lambda: server.get("/")[0] == 200)
    result = steady_load(server, 1.0, keep)
    assert (len(result.latencies), result.lost) == (200, 0)
    assert server.log().count("Autorestarting worker") >= 2


def test_no_request_is_lost_while_the_configuration_is_reloaded(start: Start) -> None:
    server = start(bare("--workers", "2"))
    server.until(lambda: server.log().count("Booting worker") == 2)
    requests = Task(lambda: answered(server))
    server.process.send_signal(signal.SIGHUP)
    server.until(lambda: server.log().count("Booting worker") == 4)
    assert requests.result() == 300


def test_a_new_master_takes_over(start: Start, tmp_path: Path) -> None:
    pidfile = tmp_path / "pid"
    # gunicorn starts itself anew with the arguments of the program, which `-m gunicorn` are not.
    program = [str(Path(sys.executable).with_name("gunicorn")), *bare("-p", str(pidfile))[2:]]
    server = start(program)
    first = server.get("/pid")[1]
    load = Task(lambda: steady_load(server, seconds=2.0))
    server.process.send_signal(signal.SIGUSR2)
    second = Path(f"{pidfile}.2")
    server.until(lambda: second.exists() and second.read_text().strip())
    new = int(second.read_text())
    try:
        server.until(lambda: server.log().count("Booting worker") == 2)
        assert server.stop() == 0
        server.until(lambda: server.get("/pid")[1] != first)
        result = load.result()
        assert (len(result.latencies), result.lost) == (400, 0)
    finally:
        os.kill(new, signal.SIGTERM)
        server.until(lambda: server.log().count("Worker exiting") == 2)


def test_a_worker_that_is_killed_loses_its_own_requests_only(start: Start) -> None:
    server = start(bare("--workers", "2"))
    server.until(lambda: server.get("/")[0] == 200)
    load = Task(lambda: steady_load(server, seconds=1.5))
    os.kill(int(server.get("/pid")[1]), signal.SIGKILL)
    server.until(lambda: server.log().count("Booting worker") == 3)
    result = load.result()
    assert len(result.latencies) + result.lost == 300
    assert result.lost <= 16  # no more than one on each connection


def test_a_server_that_is_told_to_quit_does_not_wait_for_requests(start: Start) -> None:
    server = start(bare())
    with connect(server) as holder:
        holder.sendall(b"GET /hold HTTP/1.1\r\nHost: a\r\n\r\n")
        server.until(lambda: server.pids("held"))
        assert server.stop(signal.SIGQUIT) == 0
    assert server.pids("answered") == []
    assert "Traceback" not in server.log()
