"""The thread worker for longer: ``python -m pytest tests/stress/stress_thread_worker.py``.

STRESS_SECONDS (600) is the length of each run under load.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import open_loop
import pytest

from tests.integration.servers import Server, gunicorn
from tests.server import wire

SECONDS = float(os.environ.get("STRESS_SECONDS", "600"))
RATE = 500.0
REQUESTS = 100_000


@contextmanager
def serving(directory: Path, *options: str) -> Iterator[Server]:
    kind = ("-k", "prologue.server.ThreadWorker", "--threads", "4")
    server = Server(gunicorn(*kind, *options, app="tests.integration.bare:app"), directory, {})
    try:
        server.wait_until_it_listens()
        server.until(lambda: server.get("/")[0] == 200)
        yield server
    finally:
        server.kill()


def memory(server: Server) -> int:
    """Return the resident bytes of the only worker."""
    pages = Path(f"/proc/{int(server.get('/pid')[1])}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def test_pipelined_requests_need_no_memory(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        pipeline(server)


def pipeline(server: Server) -> None:
    request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    before = memory(server)
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        sender = threading.Thread(target=client.sendall, args=(request * REQUESTS,))
        sender.start()
        answered = 0
        rest = b""
        while answered < REQUESTS:
            rest += client.recv(1 << 20)
            answered += rest.count(b"\r\n\r\nindex")
            rest = rest[rest.rfind(b"index") + 5 :]
        sender.join()
    grown = memory(server) - before
    print(f"{REQUESTS} pipelined requests: {grown / 1e6:.1f} MB more")
    assert grown < 10_000_000


@pytest.mark.parametrize("keep", [True, False], ids=["kept", "closed"])
@pytest.mark.parametrize("how", ["max_requests", "HUP", "TERM of a worker"])
def test_no_accepted_request_is_lost(tmp_path: Path, how: str, keep: bool) -> None:
    options = ["--max-requests", "2000", "--max-requests-jitter", "500"] if how == "max_requests" else []
    with serving(tmp_path, "--workers", "2", *options) as server:
        disturbed(server, how, keep)


def disturbed(server: Server, how: str, keep: bool) -> None:
    done = threading.Event()

    def disturb() -> None:
        while not done.wait(5.0):
            if how == "HUP":
                server.process.send_signal(signal.SIGHUP)
            elif how != "max_requests":
                try:
                    os.kill(int(server.get("/pid")[1]), signal.SIGTERM)
                except OSError:
                    pass

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        result = open_loop.send(server.port, RATE, SECONDS, 64, keep=keep)
    finally:
        done.set()
        thread.join()
    workers = server.log().count("Booting worker")
    print(
        f"{how}, keep={keep}: {len(result.latencies)} answered by {workers} workers, {result.lost} lost, "
        f"{result.again} sent again, {result.refused} refused, p99 {1e3 * result.quantile(0.99):.1f} ms"
    )
    assert len(result.latencies) == int(RATE * SECONDS)
    assert result.lost == 0


def test_memory_is_flat_under_hostile_requests(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        attack(server)


def attack(server: Server) -> None:
    levels = []
    for seed in range(4):
        for data in wire.generated(seed, 3000):
            with socket.create_connection(("127.0.0.1", server.port)) as client:
                client.sendall(data)
                if seed % 2:
                    client.shutdown(socket.SHUT_WR)
                    client.recv(65536)
        time.sleep(3)  # until the last of them have lingered
        levels.append(memory(server))
    print("MB after each 3000 hostile requests:", [round(level / 1e6, 1) for level in levels])
    assert levels[-1] - levels[0] < 5_000_000
    assert "goes on after an error" not in server.log()
