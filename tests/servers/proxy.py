"""A TCP proxy that breaks on demand: what networks, firewalls and servers do to connections.

One thread moves the bytes; a test's thread tells it what to do, and goes on when it is done.

    with Proxy(server.port) as proxy:
        client = connect(proxy.port)
        proxy.stall()     # from now on
        proxy.repair()

=================  =======================================================================================
toxic              what the client sees
=================  =======================================================================================
``cut()``          once: the end of the stream (FIN) on every connection
``reset()``        once: a reset (RST) on every connection
``half_open()``    once: nothing; the server's ends are gone, and nobody answers any more
``refuse()``       new connections are refused; those there are live on
``deaf()``         new connections are made by the kernel, and nobody ever looks at them
``stall()``        bytes stay in the proxy, both ways, and arrive after the repair
``blackhole()``    bytes are lost, both ways; a connection that lost some stays silent for ever
``slow(seconds)``  every piece of bytes is late, both ways
``limit(count)``   a connection is cut after so many bytes from the server
=================  =======================================================================================
"""

from __future__ import annotations

import selectors
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Self

PIECE = 65536
PATIENCE = 30.0


class Stream:
    """One direction of a connection: what was read from `source` and is not sent to `target` yet."""

    def __init__(self, source: socket.socket, target: socket.socket) -> None:
        self.source = source
        self.target = target
        self.pieces: deque[tuple[float, bytes]] = deque()  # when each may go on, and its bytes
        self.ended = False


class Link:
    """A client's connection and the one to the server that belongs to it."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client = client
        self.server: socket.socket | None = server
        self.up = Stream(client, server)
        self.down = Stream(server, client)
        self.silent = False
        self.received = 0


class Proxy:
    """Pass connections to a port of loopback on, or not.

    Args:
        server_port: where the server listens.

    Attributes:
        port: where the proxy listens; the same after every toxic.
    """

    def __init__(self, server_port: int) -> None:
        self.server_port = server_port
        self._listener: socket.socket | None = None
        self.port = 0
        self._accepts = True
        self._holds = False
        self._loses = False
        self._delay = 0.0
        self._limit: int | None = None
        self._links: list[Link] = []
        self._orders: deque[tuple[Callable[[], None], threading.Event]] = deque()
        self._waker, self._woken = socket.socketpair()
        self._woken.setblocking(False)
        self._ends = False
        self._listen()
        self._thread = threading.Thread(target=self._run, name=f"proxy {self.port}", daemon=True)

    # What tests call

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._order(self._end)
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        self._waker.close()
        self._woken.close()

    @property
    def connections(self) -> int:
        """How many clients are connected, as far as the proxy has noticed."""
        return len(self._links)

    def cut(self) -> None:
        self._order(lambda: self._drop_all(reset=False))

    def reset(self) -> None:
        self._order(lambda: self._drop_all(reset=True))

    def half_open(self) -> None:
        self._order(self._forget)

    def refuse(self) -> None:
        self._order(self._stop_listening)

    def deaf(self) -> None:
        self._set(_accepts=False)

    def stall(self) -> None:
        self._set(_holds=True)

    def blackhole(self) -> None:
        self._set(_loses=True)

    def slow(self, seconds: float) -> None:
        self._set(_delay=seconds)

    def limit(self, count: int) -> None:
        self._set(_limit=count)

    def repair(self) -> None:
        """End every toxic; connections that were cut, or lost bytes, stay so."""
        self._order(self._listen)
        self._set(_accepts=True, _holds=False, _loses=False, _delay=0.0, _limit=None)

    # Orders, done by the proxy's thread

    def _order(self, work: Callable[[], None]) -> None:
        done = threading.Event()
        self._orders.append((work, done))
        self._waker.send(b"!")
        assert done.wait(PATIENCE), "the proxy is stuck"

    def _set(self, **toxics: bool | float | None) -> None:
        self._order(lambda: self.__dict__.update(toxics))

    def _listen(self) -> None:
        if self._listener is None:
            listener = socket.socket()
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", self.port))
            listener.listen(128)
            listener.setblocking(False)
            self.port = listener.getsockname()[1]
            self._listener = listener

    def _stop_listening(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _drop_all(self, reset: bool) -> None:
        for link in list(self._links):
            self._drop(link, reset)

    def _drop(self, link: Link, reset: bool = False) -> None:
        if link in self._links:
            self._links.remove(link)
        for end in (link.client, link.server):
            if end is not None:
                if reset:
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                end.close()

    def _forget(self) -> None:
        for link in self._links:
            link.silent = True
            if link.server is not None:
                link.server.close()
                link.server = None

    def _end(self) -> None:
        self._ends = True
        self._stop_listening()
        self._drop_all(reset=False)

    # The thread

    def _run(self) -> None:
        while not self._ends:
            # Made anew each time: which sockets matter depends on every toxic, and there are few of them.
            with selectors.DefaultSelector() as selector:
                selector.register(self._woken, selectors.EVENT_READ)
                if self._listener is not None and self._accepts:
                    selector.register(self._listener, selectors.EVENT_READ)
                due = self._register_links(selector)
                ready = {key.fd: events for key, events in selector.select(due)}
            self._accept(ready)
            for link in list(self._links):
                self._serve(link, ready)
            if self._woken.fileno() in ready:
                self._woken.recv(PIECE)
            while self._orders:
                work, done = self._orders.popleft()
                work()
                done.set()

    def _register_links(self, selector: selectors.BaseSelector) -> float | None:
        now = time.monotonic()
        pause: float | None = None
        for link in self._links:
            wanted: dict[socket.socket, int] = {link.client: selectors.EVENT_READ}
            if link.server is not None:
                wanted[link.server] = selectors.EVENT_READ
            for stream in (link.up, link.down):
                if stream.ended or (len(stream.pieces) > 64 and not link.silent):
                    wanted.pop(stream.source, None)
            for stream in (link.up, link.down):
                if link.silent or self._holds or not stream.pieces:
                    continue
                wait = stream.pieces[0][0] - now
                if wait <= 0:
                    wanted[stream.target] = wanted.get(stream.target, 0) | selectors.EVENT_WRITE
                else:
                    pause = wait if pause is None else min(pause, wait)
            for end, events in wanted.items():
                selector.register(end, events)
        return pause

    def _accept(self, ready: dict[int, int]) -> None:
        if self._listener is None or self._listener.fileno() not in ready:
            return
        try:
            client, _ = self._listener.accept()
        except BlockingIOError:  # the client gave up
            return
        try:
            server = socket.create_connection(("127.0.0.1", self.server_port), 5)
        except OSError:
            client.close()
            return
        for end in (client, server):
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._links.append(Link(client, server))

    def _serve(self, link: Link, ready: dict[int, int]) -> None:
        try:
            for stream in (link.up, link.down):
                if (
                    stream.source.fileno() >= 0
                    and ready.get(stream.source.fileno(), 0) & selectors.EVENT_READ
                ):
                    self._read(link, stream)
            for stream in (link.up, link.down):
                self._write(link, stream)
        except OSError:  # reset by one end
            self._drop(link, reset=True)
            return
        finished = [stream.ended and not stream.pieces for stream in (link.up, link.down)]
        if link.up.ended if link.silent else any(finished) and not self._holds:
            self._drop(link)

    def _read(self, link: Link, stream: Stream) -> None:
        piece = stream.source.recv(PIECE)
        if not piece:
            stream.ended = True
            return
        if self._loses:
            link.silent = True
        if link.silent:
            stream.pieces.clear()
            return
        if stream is link.down and self._limit is not None:
            piece = piece[: max(0, self._limit - link.received)]
            link.received += len(piece)
            stream.ended = link.received >= self._limit
        stream.pieces.append((time.monotonic() + self._delay, piece))

    def _write(self, link: Link, stream: Stream) -> None:
        while stream.pieces and not (link.silent or self._holds) and stream.pieces[0][0] <= time.monotonic():
            due, piece = stream.pieces.popleft()
            try:
                sent = stream.target.send(piece)
            except BlockingIOError:
                sent = 0
            if sent < len(piece):
                stream.pieces.appendleft((due, piece[sent:]))
                return
