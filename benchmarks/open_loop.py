"""An open-loop sender: requests go out when they are due, whether or not the earlier ones were answered.

A closed loop, as wrk's, sends less when the server is slow, and so does not see the waiting. Here a request's
time runs from the moment when it was due. ``python open_loop.py PORT RATE SECONDS CONNECTIONS {keep,close}
[PATIENCE]`` prints the result as JSON.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time
from collections import deque
from typing import NamedTuple

__all__ = ["Result", "send"]

_PATIENCE = 10.0


class Result(NamedTuple):
    """What became of the requests.

    Attributes:
        latencies: seconds, one for each answer, sorted.
        lost: requests on a connection that was accepted, without a whole answer.
        again: requests on a kept connection that the server closed in that moment; they were sent again.
        refused: connections that were not accepted; their requests were sent again.
        seconds: from the first request to the last answer.
    """

    latencies: list[float]
    lost: int
    again: int
    refused: int
    seconds: float

    def quantile(self, share: float) -> float:
        """Return the latency that so large a share of the requests did not exceed."""
        return self.latencies[min(len(self.latencies) - 1, int(len(self.latencies) * share))]


class _Client:
    __slots__ = ("answer", "due", "fileno", "sock", "used")

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.fileno = self.sock.fileno()
        self.due = 0.0
        self.answer = b""
        self.used = False


def _whole(answer: bytes) -> bool:
    head, end, body = answer.partition(b"\r\n\r\n")
    if not end:
        return False
    _, found, rest = head.lower().partition(b"\r\ncontent-length: ")
    return not found or len(body) >= int(rest.partition(b"\r\n")[0])


def send(
    port: int,
    rate: float,
    seconds: float,
    connections: int,
    *,
    keep: bool,
    path: str = "/",
    patience: float = _PATIENCE,
) -> Result:
    """Send requests to a server of this machine.

    Args:
        port: of the server.
        rate: requests a second.
        seconds: for how long.
        connections: at most; what is due when none is free waits, and its time runs.
        keep: whether connections are kept.
        path: of the requests.
        patience: seconds for the answers that are missing at the end; default 10.
    """
    close = "" if keep else "Connection: close\r\n"
    request = f"GET {path} HTTP/1.1\r\nHost: a\r\n{close}\r\n".encode()
    poll = select.epoll()
    clock = time.monotonic
    free: deque[_Client] = deque()
    busy: dict[int, _Client] = {}
    waiting: deque[float] = deque()
    latencies: list[float] = []
    lost = again = refused = 0
    kept = -1  # the length of an answer that was whole, and keeps its connection
    total = int(rate * seconds)
    sent = 0
    start = now = clock()
    due = start  # of the next request
    end = start + seconds + patience
    while len(latencies) + lost < total and now < end:
        while due <= now and sent < total:
            waiting.append(due)
            sent += 1
            due = start + sent / rate
        while waiting and len(busy) < connections:
            if free:
                client = free.popleft()
            else:
                try:
                    client = _Client(port)
                except OSError:
                    refused += 1
                    time.sleep(0.001)
                    break
                poll.register(client.fileno, select.EPOLLIN)
            client.due = waiting.popleft()
            busy[client.fileno] = client
            try:
                client.sock.send(request)
            except OSError:
                pass  # the end is read below
        pause = min(0.05, due - clock()) if sent < total else 0.05
        # Requests that are due soon are waited for without sleeping: the system wakes up too late.
        for fileno, _ in poll.poll(pause if pause > 0.001 else 0.0):
            if fileno not in busy:  # the server has closed an idle connection
                idle = next(client for client in free if client.fileno == fileno)
                free.remove(idle)
                poll.unregister(fileno)
                idle.sock.close()
                continue
            client = busy[fileno]
            try:
                data = client.sock.recv(65536)
            except OSError:
                data = b""
            # PERF: an answer as long as another one is looked at no further: the sender must not be slower
            # than the server.
            if len(data) == kept and not client.answer:
                latencies.append(clock() - client.due)
                del busy[fileno]
                client.used = True
                free.append(client)
                continue
            client.answer += data
            if data and not _whole(client.answer):
                continue
            del busy[fileno]
            if data:
                latencies.append(clock() - client.due)
                if keep and b"\r\nConnection: keep-alive" in client.answer:
                    kept = len(client.answer)
                    client.answer = b""
                    client.used = True
                    free.append(client)
                    continue
            elif client.used and not client.answer:
                again += 1
                waiting.appendleft(client.due)
            else:
                lost += 1
            poll.unregister(fileno)
            client.sock.close()
        now = clock()
    taken = now - start
    lost += len(busy)
    for client in (*busy.values(), *free):
        client.sock.close()
    poll.close()
    return Result(sorted(latencies), lost, again, refused, taken)


if __name__ == "__main__":
    port, rate, seconds, connections, kind = sys.argv[1:6]
    patience = float(sys.argv[6]) if len(sys.argv) > 6 else _PATIENCE
    result = send(
        int(port), float(rate), float(seconds), int(connections), keep=kind == "keep", patience=patience
    )
    print(json.dumps(result._asdict()))
