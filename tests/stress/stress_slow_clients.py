"""slowhttptest against the thread worker: ``python -m pytest -s tests/stress/stress_slow_clients.py``.

Needs slowhttptest. 400 slow clients meet 4 threads; others are answered all the time.
"""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from tests.integration.servers import Server, gunicorn

ATTACKS = {
    "slow heads": ["-H", "-i", "1"],
    "slow bodies": ["-B", "-i", "1", "-s", "1000000"],
    "slow small bodies": ["-B", "-i", "1", "-s", "8192"],
    "ranges": ["-R", "-a", "5", "-b", "3000", "-t", "HEAD"],
    "slow reading": ["-X", "-w", "512", "-y", "1024", "-n", "1", "-z", "32", "-k", "3"],
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())
def test_slow_clients_keep_nobody_waiting(tmp_path: Path, attack: list[str]) -> None:
    kind = ("-k", "prologue.server.ThreadWorker", "--threads", "4")
    server = Server(gunicorn(*kind, app="tests.integration.bare:app"), tmp_path, {})
    try:
        server.wait_until_it_listens()
        attacked(server, attack)
    finally:
        server.kill()


def attacked(server: Server, attack: list[str]) -> None:
    url = f"http://127.0.0.1:{server.port}/{'wrapped?length' if '-X' in attack else ''}"
    command = ["slowhttptest", *attack, "-c", "400", "-r", "200", "-l", "20", "-p", "3", "-u", url]
    slowest = answered = 0.0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as attacker:
        while attacker.poll() is None:
            start = time.monotonic()
            assert server.get("/")[0] == 200
            slowest = max(slowest, time.monotonic() - start)
            answered += 1
            time.sleep(0.05)
    print(f"{attack[0]}: {answered:.0f} others were answered, the slowest after {slowest:.2f} s")
    assert answered > 20
    assert slowest < 2.0
    assert "Traceback" not in server.log()
