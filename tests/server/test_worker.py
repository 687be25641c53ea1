"""What the thread worker refuses at the start, and how its threads and the main thread share connections."""

from __future__ import annotations

import logging
import math
import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from gunicorn.glogging import Logger

from prologue.server import ThreadWorker
from prologue.server.connection import Connection
from prologue.server.exchange import Exchanges
from prologue.server.parsing import Parser
from prologue.server.poller import Poller
from prologue.server.queueing import QueueProbe
from tests.concurrency import Task
from tests.server import wire


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"http_protocols": ("h2", "h1")}, "cannot do http_protocols with h2;"),
        ({"http2_cleartext": "on"}, "cannot do http2_cleartext;"),
        ({"protocol": "uwsgi"}, "cannot do protocol = 'uwsgi';"),
        ({"http2_cleartext": "on", "protocol": "uwsgi"}, "http2_cleartext and protocol = 'uwsgi';"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(
    settings: dict[str, Any], named: str, caplog: pytest.LogCaptureFixture
) -> None:
    cfg = SimpleNamespace(keepalive=2, worker_connections=1000, threads=4, **settings)
    with pytest.raises(SystemExit) as exit:
        ThreadWorker.check_config(cfg, logging.getLogger("test"))
    assert exit.value.code == 1
    assert named in caplog.text


@pytest.mark.parametrize(("connections", "keepalive", "warned"), [(4, 2, True), (4, 0, False), (5, 2, False)])
def test_settings_that_keep_no_connection_are_warned_of(
    connections: int, keepalive: int, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    cfg = wire.config(worker_connections=connections, keepalive=keepalive, threads=4)
    ThreadWorker.check_config(cfg, logging.getLogger("test"))
    assert ("no connection can be kept alive" in caplog.text) is warned


class Interrupted(Connection):
    """A connection of which a thread hears in the moment in which the main thread looks at it."""

    worker: ThreadWorker

    def has_news(self) -> bool:
        self.worker._attend(self, 0)
        return True


WHOLE = b"x" * 3_000_000


@pytest.fixture
def served() -> Iterator[tuple[ThreadWorker, Interrupted, socket.socket]]:
    """A worker that runs no thread, one of its connections, and its client."""
    worker = ThreadWorker.__new__(ThreadWorker)
    cfg = wire.config()
    worker.cfg, worker.log, worker.alive = cfg, Logger(cfg), True
    worker._poller = Poller([], 10)
    worker.queue, worker.serving, worker._keepalive = QueueProbe(), [], 2.0
    worker.wsgi = lambda environ, start: [start("200 OK", []) and WHOLE]
    parser = Parser(cfg, 30.0)
    worker._exchanges = Exchanges(worker, parser)
    client, sock = socket.socketpair()
    sock.setblocking(False)
    environ = parser.connection_environ(sock, wire.CLIENT, wire.SERVER)
    connection = Interrupted(sock, wire.CLIENT, environ, (), 0.0)
    connection.worker = worker
    worker._poller.add(connection)
    yield worker, connection, client
    client.close()
    sock.close()


def test_news_that_come_while_the_main_thread_looks_are_not_lost(
    served: tuple[ThreadWorker, Interrupted, socket.socket],
) -> None:
    worker, connection, client = served
    worker._poller.park(connection)
    client.send(b"GET / HTTP/1.1\r\n")
    assert worker._poller.wait(20, 1)[0][0] == connection.fileno  # the only event
    worker._look(1.0)
    assert connection.buffer == b""  # the thread could not have it
    assert worker._poller.wait(20, 1)[0][0] == connection.fileno


def test_a_client_that_always_has_news_is_not_waited_for(
    served: tuple[ThreadWorker, Interrupted, socket.socket],
) -> None:
    worker, connection, client = served
    client.send(b"GET / HT")
    connection.deadline = math.inf
    worker.head_timeout = math.inf
    worker._attend(connection, 0)
    assert connection.open
    connection.deadline = 0.0
    client.send(b"TP/1.1\r\n")
    worker._attend(connection, 0)
    assert not connection.open
    assert client.recv(65536).startswith(b"HTTP/1.1 408 ")


def test_a_client_that_does_not_read_is_not_waited_for(
    served: tuple[ThreadWorker, Interrupted, socket.socket],
) -> None:
    worker, connection, client = served
    worker.max_requests, worker.connections = 10, {}
    worker.serving = [None]
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 2 + b"GET / HT")
    worker._attend(connection, 0)
    assert connection.rest is not None
    unsent = len(connection.rest.data)
    assert 0 < unsent < len(WHOLE)
    assert connection.requests == 1  # the next one waits until this one is read
    worker._attend(connection, 0)  # news, but no room
    assert len(connection.rest.data) == unsent
    connection.deadline = 0.0
    worker._look(1.0)
    assert not connection.open
    received = client.makefile("rb").read()
    assert received.count(b"HTTP/1.1 ") == 1  # and no 408 in the middle of the answer
    assert len(received) < len(WHOLE)


def test_a_client_that_reads_again_is_answered_on(
    served: tuple[ThreadWorker, Interrupted, socket.socket],
) -> None:
    worker, connection, client = served
    worker.max_requests, worker.connections = 10, {}
    worker.serving = [None]
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" + b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")
    answers = Task(client.makefile("rb").read)
    worker._attend(connection, 0)
    while connection.open:
        assert worker._poller.wait(20, 1)[0][0] == connection.fileno
        worker._attend(connection, 0)
    assert answers.result().count(b"x") == 2 * len(WHOLE)


def test_a_thread_waits_where_answers_take_too_much_memory(
    served: tuple[ThreadWorker, Interrupted, socket.socket],
) -> None:
    worker, connection, _ = served
    worker.max_requests, worker.connections = 10, {}
    worker.serving = [None]
    worker.max_unread_bytes = 1_000_000
    worker.client_timeout = 0.05
    connection.buffer = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    worker._attend(connection, 0)
    assert connection.waited > 0.0
    assert not connection.open


def test_a_connection_that_was_given_up_is_counted_no_more(
    served: tuple[ThreadWorker, Interrupted, socket.socket],
) -> None:
    worker, connection, _ = served
    worker._poller.forget(connection)
    assert worker._poller.is_empty()
    assert connection.open
    other = Connection(connection.sock, wire.CLIENT, {}, (), 0.0)
    worker._poller.add(other)
    worker._poller.forget(connection)  # its number is another's now
    assert worker._poller.all_connections() == [other]


@pytest.mark.parametrize(
    ("timeout", "delay", "pause"),
    [(30, None, 1.0), (0, None, 1.0), (1, None, 0.5), (30, 0.2, 0.1), (1, 4.0, 0.5)],
)
def test_the_master_hears_of_a_worker_well_within_the_timeout(
    timeout: int, delay: float | None, pause: float
) -> None:
    worker = ThreadWorker.__new__(ThreadWorker)
    worker.cfg = wire.config(timeout=timeout)
    worker.max_queueing_delay = delay
    assert worker._pause_between_looks() == pause
