"""A connection whose client is a socket of this process."""

from __future__ import annotations

import os
import socket
import struct
import tempfile
from collections.abc import Callable, Iterator

import pytest

from prologue.server.connection import ClientError, ClientTimeout, Connection
from prologue.server.poller import Poller
from tests.concurrency import Task, until
from tests.server.wire import CLIENT

BIG = b"x" * 2_000_000  # more than the system takes at once


@pytest.fixture
def ends() -> Iterator[tuple[Connection, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        sock, _ = listener.accept()
    sock.setblocking(False)
    connection = Connection(sock, CLIENT, {}, (), 0.0)
    connection.begin(0.0, 0.01)
    yield connection, client
    client.close()
    sock.close()


def reset(client: socket.socket) -> None:
    """Close a connection so that the other end learns of it as an error."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def received(client: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        data += client.recv(65536)
    return bytes(data)


def finish(connection: Connection) -> None:
    connection.begin_answer(b"head", BIG)
    connection.finish()


USES: dict[str, Callable[[Connection], object]] = {
    "receive": lambda connection: connection.receive(),
    "receive_into": lambda connection: connection.receive_into(memoryview(bytearray(10))),
    "send": lambda connection: connection.send(BIG),
    "send_both": lambda connection: connection.send_both(b"head", BIG),
    "finish": finish,
}


@pytest.mark.parametrize("use", USES.values(), ids=USES.keys())
def test_a_client_that_does_nothing_is_not_waited_for(
    ends: tuple[Connection, socket.socket], use: Callable[[Connection], object]
) -> None:
    connection, _ = ends
    try:
        while True:
            connection.sock.send(BIG)  # until the client's buffer is full too
    except BlockingIOError:
        pass
    with pytest.raises(ClientTimeout):
        use(connection)
    assert connection.waited > 0


@pytest.mark.parametrize("use", USES.values(), ids=USES.keys())
def test_a_client_that_has_gone_is_an_error_of_its_own(
    ends: tuple[Connection, socket.socket], use: Callable[[Connection], object]
) -> None:
    connection, client = ends
    reset(client)
    connection.patience = 10.0
    with pytest.raises(ClientError, match="has gone"):
        use(connection)


def test_a_file_is_not_sent_to_a_client_that_has_gone(ends: tuple[Connection, socket.socket]) -> None:
    connection, client = ends
    reset(client)
    with tempfile.TemporaryFile() as file:
        file.write(BIG)
        file.flush()
        with pytest.raises(ClientError, match="has gone"):
            connection.begin_file(b"head", file.fileno(), 0, len(BIG))
    assert connection.rest is None


@pytest.mark.parametrize("parts", [(b"head" + BIG * 4, b""), (b"head", BIG * 4), (BIG * 4, b"tail")])
def test_an_answer_waits_for_its_client_without_a_thread(
    ends: tuple[Connection, socket.socket], parts: tuple[bytes, bytes]
) -> None:
    connection, client = ends
    connection.patience = 0.0
    connection.begin_answer(*parts)
    assert connection.rest is not None
    assert not connection.flush()
    assert connection.rest is not None
    whole = parts[0] + parts[1]
    answer = Task(lambda: received(client, len(whole)))
    until(connection.flush)
    assert answer.result() == whole
    assert connection.rest is None


def test_a_file_waits_for_its_client_and_is_ours_meanwhile(ends: tuple[Connection, socket.socket]) -> None:
    connection, client = ends
    with tempfile.TemporaryFile() as file:
        file.write(BIG * 4)
        file.flush()
        connection.begin_file(b"head", file.fileno(), 1, len(BIG) * 4 - 1)
    assert connection.rest is not None
    fileno = connection.rest.fileno
    assert not connection.flush()
    answer = Task(lambda: received(client, len(BIG) * 4 + 3))
    connection.patience = 20.0
    connection.finish()
    assert answer.result() == b"head" + (BIG * 4)[1:]
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(fileno)


def test_the_rest_of_a_file_is_closed_with_its_connection(ends: tuple[Connection, socket.socket]) -> None:
    connection, _ = ends
    with tempfile.TemporaryFile() as file:
        file.write(BIG * 4)
        file.flush()
        connection.begin_file(b"", file.fileno(), 0, len(BIG) * 4)
    assert connection.rest is not None
    fileno = connection.rest.fileno
    Poller([], 1).remove(connection)
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(fileno)


def test_what_the_system_does_not_take_at_once_is_sent_later(
    ends: tuple[Connection, socket.socket],
) -> None:
    connection, client = ends
    connection.patience = 20.0
    head = b"h" * 4_000_000
    answer = Task(lambda: received(client, len(head) + len(BIG) + 3))
    connection.send_both(head, BIG)
    connection.send_both(b"h", b"")
    connection.send(b"ab")
    assert answer.result() == head + BIG + b"hab"


def test_a_file_that_ends_early_breaks_the_answer_off(ends: tuple[Connection, socket.socket]) -> None:
    connection, client = ends
    with tempfile.TemporaryFile() as file:
        file.write(b"0123456789")
        file.flush()
        with pytest.raises(ClientError, match=r"^a file ended 94 bytes too early"):
            connection.begin_file(b"head", file.fileno(), 4, 100)
    assert connection.rest is None
    assert received(client, 10) == b"head456789"


def test_the_watchdog_does_not_mind_a_client_that_has_gone(ends: tuple[Connection, socket.socket]) -> None:
    connection, client = ends
    reset(client)
    with pytest.raises(ClientError):
        connection.receive()
    assert connection.abandon(1, b"in its place")


def test_the_time_of_the_application_is_without_the_waits(ends: tuple[Connection, socket.socket]) -> None:
    connection, _ = ends
    connection.begin(100.0, 1.0)
    assert connection.application_seconds(107.0) == 7.0
    connection.waited = 2.0
    assert connection.application_seconds(107.0) == 5.0
    connection.waiting_since = 106.0  # it waits now
    assert connection.application_seconds(107.0) == 4.0
