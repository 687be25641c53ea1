"""The thread worker for longer.

``python -m pytest -s -o faulthandler_timeout=0 tests/stress/stress_thread_worker.py``.
STRESS_SECONDS (600) is the length of the run under load.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import open_loop

from tests.concurrency import Task
from tests.integration.servers import Server, gunicorn
from tests.server import wire

SECONDS = float(os.environ.get("STRESS_SECONDS", "600"))
PAUSE = min(10.0, SECONDS / 4)  # between two signals
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


def test_no_accepted_request_is_lost(tmp_path: Path) -> None:
    options = ("--workers", "2", "--max-requests", "2000", "--max-requests-jitter", "500")
    with serving(tmp_path, *options) as server:
        disturbed(server)


def disturbed(server: Server) -> None:
    """Half of the requests come on kept connections, half on new ones; workers end for three reasons."""
    command = [sys.executable, open_loop.__file__, str(server.port), str(RATE / 2), str(SECONDS), "32"]
    senders = {kind: subprocess.Popen([*command, kind], stdout=subprocess.PIPE) for kind in ("keep", "close")}
    output = {kind: Task(sender.communicate) for kind, sender in senders.items()}
    told = {"HUP": 0, "TERM": 0}
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        time.sleep(PAUSE)
        if told["HUP"] <= told["TERM"]:
            server.process.send_signal(signal.SIGHUP)
            told["HUP"] += 1
        else:
            try:
                os.kill(int(server.get("/pid")[1]), signal.SIGTERM)
            except OSError:
                continue  # the one that answered has ended already
            told["TERM"] += 1
    for kind, sender in senders.items():
        sender.wait(60)
        result = open_loop.Result(**json.loads(output[kind].result()[0]))
        print(
            f"{kind}: {len(result.latencies)} answered, {result.lost} lost, {result.again} sent again, "
            f"{result.refused} refused, p99 {1e3 * result.quantile(0.99):.1f} ms, "
            f"slowest {1e3 * result.latencies[-1]:.0f} ms"
        )
        assert len(result.latencies) == int(RATE / 2 * SECONDS)
        assert result.lost == 0
    log = server.log()
    booted, spent = log.count("Booting worker"), log.count("Autorestarting worker")
    print(f"{booted} workers; {told['HUP']} HUP, {told['TERM']} TERM, {spent} after max_requests")
    assert spent > 0


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
