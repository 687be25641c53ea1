"""The proxy of the fault tests: each toxic does what it says."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from .concurrency import until
from .servers.proxy import Proxy


class Echo:
    """A server that says back what it is told."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(1000):
                    connection.sendall(data)
            except OSError:
                pass

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    echo = Echo()
    with Proxy(echo.port) as proxy:
        yield proxy
    echo.close()


def connect(proxy: Proxy) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", proxy.port), 10)
    client.settimeout(10)
    return client


def say(client: socket.socket, text: bytes = b"hello") -> bytes:
    client.sendall(text)
    return hear(client, len(text))


def hear(client: socket.socket, count: int) -> bytes:
    heard = b""
    while len(heard) < count and (piece := client.recv(count)):
        heard += piece
    return heard


def is_silent(client: socket.socket) -> bool:
    """Whether nothing comes for a moment."""
    client.settimeout(0.05)
    try:
        client.recv(1)
    except TimeoutError:
        return True
    finally:
        client.settimeout(10)
    return False


def test_bytes_pass_both_ways(proxy: Proxy) -> None:
    with connect(proxy) as one, connect(proxy) as two:
        assert (say(one), say(two, b"x" * 300_000)) == (b"hello", b"x" * 300_000)
        assert proxy.connections == 2
    until(lambda: proxy.connections == 0)


def test_cut_ends_the_stream(proxy: Proxy) -> None:
    with connect(proxy) as client:
        say(client)
        proxy.cut()
        assert client.recv(1) == b""
    with connect(proxy) as client:
        assert say(client) == b"hello"


def test_reset_resets(proxy: Proxy) -> None:
    with connect(proxy) as client:
        say(client)
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_half_open_leaves_the_client_in_silence_and_lets_new_ones_in(proxy: Proxy) -> None:
    with connect(proxy) as old, connect(proxy) as new:
        say(old)
        say(new)
        proxy.half_open()
        with connect(proxy) as fresh:
            old.sendall(b"hello?")
            assert is_silent(old)
            proxy.repair()
            assert is_silent(old)
            assert say(fresh) == b"hello"
    until(lambda: proxy.connections == 0)


def test_refuse_refuses_new_ones_only_until_the_repair(proxy: Proxy) -> None:
    with connect(proxy) as client:
        say(client)
        proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            connect(proxy)
        assert say(client) == b"hello"
        port = proxy.port
        proxy.repair()
        with connect(proxy) as another:
            assert say(another) == b"hello"
        assert proxy.port == port


def test_deaf_connects_and_never_answers_until_the_repair(proxy: Proxy) -> None:
    proxy.deaf()
    with connect(proxy) as client:
        client.sendall(b"hello")
        assert is_silent(client)
        proxy.repair()
        assert hear(client, 5) == b"hello"


def test_stall_keeps_the_bytes_for_after_the_repair(proxy: Proxy) -> None:
    with connect(proxy) as client:
        say(client)
        proxy.stall()
        client.sendall(b"late")
        assert is_silent(client)
        proxy.repair()
        assert hear(client, 4) == b"late"


def test_blackhole_loses_the_bytes_for_ever(proxy: Proxy) -> None:
    with connect(proxy) as client, connect(proxy) as quiet:
        say(client)
        say(quiet)
        proxy.blackhole()
        client.sendall(b"lost")
        assert is_silent(client)
        proxy.repair()
        client.sendall(b"more")
        assert is_silent(client)
        assert say(quiet) == b"hello"


def test_slow_is_late_both_ways(proxy: Proxy) -> None:
    with connect(proxy) as client:
        say(client)
        proxy.slow(0.1)
        client.sendall(b"late")
        assert is_silent(client)
        assert hear(client, 4) == b"late"


def test_limit_cuts_after_so_many_bytes(proxy: Proxy) -> None:
    proxy.limit(7)
    with connect(proxy) as client:
        assert say(client) == b"hello"
        client.sendall(b"world")
        assert hear(client, 5) == b"wo"


def test_a_server_that_is_gone_is_a_connection_that_ends(proxy: Proxy) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        proxy.server_port = unused.getsockname()[1]
        with connect(proxy) as client:
            assert client.recv(1) == b""
