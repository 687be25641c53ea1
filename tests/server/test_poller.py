from __future__ import annotations

import errno
import os
import socket
from typing import Any

import pytest

from prologue.server.connection import Connection
from prologue.server.poller import Poller
from prologue.server.queueing import QueueProbe
from tests.server.wire import CLIENT


class Poor(socket.socket):
    """A listener of a process that may open so many sockets only."""

    left = 0

    def accept(self) -> Any:
        if not self.left:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        self.left -= 1
        return super().accept()


def listener_of(kind: type[socket.socket] = socket.socket) -> Any:
    listener = kind(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    listener.setblocking(False)
    return listener


def test_a_listener_rests_while_the_system_gives_no_sockets() -> None:
    with listener_of(Poor) as listener, socket.create_connection(listener.getsockname()):
        with socket.create_connection(listener.getsockname()):
            poller = Poller([listener], 10)
            poller.listen()
            assert poller.wait(20, 1)[0][0] == listener.fileno()
            with pytest.raises(OSError, match="Too many"):
                poller.accept(listener.fileno())
            assert poller.wait(0, 1) == []  # it rests
            listener.left = 1
            poller.listen()
            assert poller.wait(20, 1)[0][0] == listener.fileno()
            ((sock, _, server),) = poller.accept(listener.fileno())
            assert server == listener.getsockname()
            assert not poller.is_empty()
            poller.arrived(1)
            assert poller.is_empty()
            sock.close()


def test_no_more_connections_are_accepted_than_there_may_be() -> None:
    with listener_of() as listener:
        clients = [socket.create_connection(listener.getsockname()) for _ in range(3)]
        poller = Poller([listener], 2)
        poller.listen()
        poller.wait(20, 1)
        accepted = poller.accept(listener.fileno())
        assert len(accepted) == 2
        connections = [Connection(sock, client, {}, (), 0.0) for sock, client, _ in accepted]
        for connection in connections:
            poller.add(connection)
        poller.arrived(2)
        poller.listen()
        assert poller.wait(0, 1) == []
        poller.remove(connections[0])  # now there is room
        assert poller.wait(20, 1)[0][0] == listener.fileno()
        ((sock, _, _),) = poller.accept(listener.fileno())
        for end in (sock, connections[1].sock, *clients):
            end.close()


def test_listeners_that_were_given_back_accept_nothing() -> None:
    with listener_of() as listener, socket.create_connection(listener.getsockname()):
        poller = Poller([listener], 2)
        poller.listen()
        assert poller.stop_listening() == [listener]
        assert poller.accept(listener.fileno()) == []
        assert poller.wait(0, 1) == []


def test_a_connection_that_has_more_to_do_waits_behind_the_others() -> None:
    poller = Poller([], 10)
    ends = [socket.socketpair() for _ in range(2)]
    busy, other = (Connection(server, CLIENT, {}, (), 0.0) for server, _ in ends)
    poller.requeue(busy)
    poller.park(other)
    ends[1][1].send(b"x")
    assert [poller.wait(20, 1)[0][0] for _ in range(2)] == [busy.fileno, other.fileno]
    assert poller.wait(0, 1) == []
    poller.requeue(busy)
    assert poller.wait(20, 1)[0][0] == busy.fileno
    for end in (*ends[0], *ends[1]):
        end.close()


def test_a_probe_tells_how_long_it_has_waited() -> None:
    probe = QueueProbe()
    probe.receive(5.0)  # another thread has taken it out
    assert probe.current(9.0) == 0.0
    probe.send(10.0)
    assert probe.current(13.0) == 3.0
    probe.send(14.0)  # it is in the queue already
    probe.receive(15.0)
    assert (probe.delay, probe.current(20.0)) == (5.0, 5.0)
