"""One client's connection: what it has sent, what it is waited for, and how long.

* **Ownership.** Only the thread that holds ``lock`` reads, answers or closes a connection. Who learns that
  there is something to do sets ``signalled`` and tries the lock; who lets go of the lock looks at
  ``signalled`` again. So no news is lost and nobody waits for the lock.
* **Waiting.** The socket never blocks. A thread waits for its client at most ``patience`` seconds in all for
  one request; moved bytes earn a little more. For a client that does not take an answer which is known whole
  no thread waits: what is left of it is the ``rest``, and goes out when there is room.
"""

from __future__ import annotations

import os
import select
import socket
import ssl
import threading
import time
from typing import Any

__all__ = ["ClientError", "ClientTimeout", "Connection"]

BLOCK = 16384  # bytes received at once: a request's head and the small ones behind it
_WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_MINIMUM_RATE = 4096.0  # bytes that earn a second of patience
_SENDFILE = 0x3FFFFFFF  # bytes asked of one call: less than 2 GiB everywhere


class ClientError(ConnectionError):
    """The client has gone, or will not take what is sent."""


class ClientTimeout(ClientError, TimeoutError):
    """The client kept a thread waiting for too long."""


class _Rest:
    """What of an answer has not been sent: bytes, and behind them a part of a file."""

    __slots__ = ("count", "data", "fileno", "offset", "owns")

    def __init__(self, data: memoryview, fileno: int, offset: int, count: int) -> None:
        self.data = data
        self.fileno = fileno
        self.offset = offset
        self.count = count
        self.owns = False  # whether the descriptor is our own duplicate


class Connection:
    """A socket and what is known about its client.

    Args:
        sock: not blocking.
        client: its address.
        environ: what every request of this connection has in its environ.
        scheme_headers: the (environ key, value) pairs that tell this client's scheme; empty when it is not
            trusted with that.
        deadline: of the first bytes, by the monotonic clock.
    """

    __slots__ = (
        "_claim",
        "abandoned",
        "answered",
        "buffer",
        "client",
        "closing",
        "deadline",
        "drained",
        "ending",
        "environ",
        "fileno",
        "known",
        "last",
        "lingering",
        "lock",
        "needed",
        "open",
        "patience",
        "proxied",
        "registered",
        "requests",
        "rest",
        "scanned",
        "scheme_headers",
        "shaken",
        "signalled",
        "sock",
        "started",
        "tls",
        "unread",
        "waited",
        "waiting_since",
        "watches_writing",
    )

    def __init__(
        self,
        sock: socket.socket,
        client: Any,
        environ: dict[str, Any],
        scheme_headers: tuple[tuple[str, str], ...],
        deadline: float,
    ) -> None:
        self.sock = sock
        self.fileno = sock.fileno()
        self.client = client
        self.environ = environ
        self.scheme_headers = scheme_headers
        self.proxied: dict[str, Any] = {}  # what the PROXY protocol says of the client
        self.tls = isinstance(sock, ssl.SSLSocket)
        self.shaken = not self.tls
        self.buffer = b""
        self.scanned = 0  # bytes of the buffer in which there is no end of a head
        self.needed = 0  # bytes of head and body that a thread is worth
        self.requests = 0
        self.last = b""  # the last request, if it was received alone and has no body
        self.known: tuple[tuple[Any, ...], dict[str, Any]] | None = None  # what it means, if it was repeated
        self.deadline = deadline  # while no thread serves it
        self.open = True
        self.lingering = False
        self.unread = False  # whether the client may still be sending a body
        self.drained = 0  # bytes thrown away while lingering
        self.registered = False
        self.watches_writing = False  # whether there is an event when there is room for more
        self.rest: _Rest | None = None
        self.closing = False  # whether the connection ends behind the rest
        self.ending = False  # whether the client has said that it sends nothing more
        self.lock = threading.Lock()
        self.signalled = False
        self.answered = False
        self.abandoned = False
        # Guards the two: a request is answered by its thread or by the watchdog, never by both.
        self._claim = threading.Lock()
        self.started = 0.0
        self.waited = 0.0
        self.waiting_since = 0.0
        self.patience = 0.0

    def begin(self, now: float, patience: float) -> None:
        """Start the account of one request."""
        self.started = now
        self.waited = 0.0
        self.patience = patience
        self.requests += 1
        self.answered = False

    def claim_answer(self) -> None:
        """Say that the thread sends its answer now.

        Raises:
            ClientError: the watchdog has answered in its place.
        """
        with self._claim:
            if self.abandoned:
                raise ClientError("the request took too long, and was answered without the application")
            self.answered = True

    def abandon(self, number: int, answer: bytes) -> bool:
        """Answer in the place of a thread that is stuck, if it has not begun to, and end the connection.

        The socket stays open, for the thread may use its number.

        Args:
            number: of the request that is meant.
            answer: to send.

        Returns:
            Whether that request was still in progress.
        """
        with self._claim:
            if self.requests != number or self.abandoned or not self.open:
                return False
            self.abandoned = True
            try:
                if not self.answered:
                    self.sock.send(answer)
                self.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # the client has gone meanwhile
        return True

    def application_seconds(self, now: float) -> float:
        """Return how long the current request has taken, without the waits for the client."""
        since = self.waiting_since
        return now - self.started - self.waited - (now - since if since else 0.0)

    def shake_hands(self) -> bool:
        """Go on with the handshake of TLS; return whether it is done.

        Raises:
            OSError: it failed.
        """
        assert isinstance(self.sock, ssl.SSLSocket)
        try:
            self.sock.do_handshake()
        except _WOULD_BLOCK:
            return False
        self.shaken = True
        return True

    def has_news(self) -> bool:
        """Whether there is something to be received."""
        poll = select.poll()
        poll.register(self.fileno, select.POLLIN)
        return bool(poll.poll(0))

    def say_goodbye(self) -> None:
        """Tell a client of TLS that nothing follows."""
        if isinstance(self.sock, ssl.SSLSocket):
            try:
                self.sock.unwrap()
            except (OSError, ValueError):
                pass  # it is not waited for

    def receive_now(self) -> bytes | None:
        """Return what is there: b"" at the end, None when it is nothing.

        Raises:
            OSError: the connection is broken.
        """
        try:
            return self.sock.recv(BLOCK)
        except _WOULD_BLOCK:
            return None

    def receive(self) -> bytes:
        """Wait for bytes; b"" at the end.

        Raises:
            ClientTimeout: they came too slowly.
            ClientError: the connection is broken.
        """
        while True:
            try:
                data = self.sock.recv(BLOCK * 4)
            except _WOULD_BLOCK as error:
                self._wait(select.POLLOUT if isinstance(error, ssl.SSLWantWriteError) else select.POLLIN)
            except OSError as error:
                raise ClientError(f"the client has gone: {error}") from error
            else:
                self.patience += len(data) / _MINIMUM_RATE
                return data

    def receive_into(self, target: memoryview) -> int:
        """Wait for bytes and put them into a buffer; return their number, 0 at the end.

        Raises:
            ClientTimeout: they came too slowly.
            ClientError: the connection is broken.
        """
        while True:
            try:
                count = self.sock.recv_into(target)
            except _WOULD_BLOCK as error:
                self._wait(select.POLLOUT if isinstance(error, ssl.SSLWantWriteError) else select.POLLIN)
            except OSError as error:
                raise ClientError(f"the client has gone: {error}") from error
            else:
                self.patience += count / _MINIMUM_RATE
                return count

    def send(self, data: bytes | memoryview) -> None:
        """Send bytes, all of them.

        Raises:
            ClientTimeout: the client reads too slowly.
            ClientError: the connection is broken.
        """
        while True:
            try:
                sent = self.sock.send(data)
            except _WOULD_BLOCK as error:
                self._wait(select.POLLIN if isinstance(error, ssl.SSLWantReadError) else select.POLLOUT)
                continue
            except OSError as error:
                raise ClientError(f"the client has gone: {error}") from error
            if sent == len(data):
                return
            self.patience += sent / _MINIMUM_RATE
            data = memoryview(data)[sent:]

    def send_both(self, head: bytes, body: bytes) -> None:
        """Send a head and what follows it in one call, as far as the system takes it.

        Raises:
            ClientTimeout: the client reads too slowly.
            ClientError: the connection is broken.
        """
        if self.tls:  # it has no sendmsg
            self.send(head + body)
            return
        try:
            sent = self.sock.sendmsg((head, body))
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise ClientError(f"the client has gone: {error}") from error
        if sent < len(head):
            self.send(memoryview(head)[sent:])
            sent = len(head)
        if sent < len(head) + len(body):
            self.send(memoryview(body)[sent - len(head) :])

    def begin_answer(self, data: bytes, more: bytes = b"") -> None:
        """Send an answer, in two parts or in one, as far as there is room for it; the other is the rest.

        Raises:
            ClientError: the connection is broken.
        """
        try:
            # TLS has no sendmsg, and sends no more than a record at a time.
            sent = self.sock.sendmsg((data, more)) if more and not self.tls else self.sock.send(data)
        except _WOULD_BLOCK:
            sent = 0
        except OSError as error:
            raise ClientError(f"the client has gone: {error}") from error
        if sent == len(data) + len(more):
            return
        left = memoryview(more)[sent - len(data) :] if sent >= len(data) else memoryview(data[sent:] + more)
        self.rest = _Rest(left, -1, 0, 0)
        self.flush()

    def begin_file(self, head: bytes, fileno: int, offset: int, count: int) -> None:
        """Send a head and a part of a file, which is not copied, as far as there is room for them.

        Raises:
            ClientError: the connection is broken, or the file is shorter.
            OSError: the file cannot be sent in this way.
        """
        rest = self.rest = _Rest(memoryview(head), fileno, offset, count)
        if not self.flush():
            try:
                rest.fileno = os.dup(fileno)  # the application closes its own
            except OSError:
                self.rest = None
                raise
            rest.owns = True

    def flush(self) -> bool:
        """Send the rest of an answer as far as there is room for it; return whether that was all.

        Raises:
            ClientError: the connection is broken, or the file has become shorter.
            OSError: the file cannot be sent in this way.
        """
        rest = self.rest
        if rest is None:
            return True
        try:
            while rest.data:
                sent = self.sock.send(rest.data)
                rest.data = rest.data[sent:]
                self._earn(sent)
            while rest.count:
                sent = os.sendfile(self.fileno, rest.fileno, rest.offset, min(rest.count, _SENDFILE))
                if not sent:
                    break
                rest.offset += sent
                rest.count -= sent
                self._earn(sent)
        except _WOULD_BLOCK:
            return False
        except OSError as error:
            self.drop_rest()
            if isinstance(error, (ConnectionError, TimeoutError, ssl.SSLError)):
                raise ClientError(f"the client has gone: {error}") from error
            raise
        self.drop_rest()
        if rest.count:
            raise ClientError(f"a file ended {rest.count} bytes too early")
        return True

    def finish(self) -> None:
        """Wait until the rest of an answer is sent.

        Raises:
            ClientTimeout: the client reads too slowly.
            ClientError, OSError: as :meth:`flush` does.
        """
        while not self.flush():
            self._wait(select.POLLOUT)

    def drop_rest(self) -> None:
        """Forget the rest of an answer."""
        if self.rest is not None and self.rest.owns:
            os.close(self.rest.fileno)
        self.rest = None

    def _earn(self, count: int) -> None:
        """Let a client that moves bytes have more time."""
        self.patience += count / _MINIMUM_RATE
        self.deadline += count / _MINIMUM_RATE

    def _wait(self, event: int) -> None:
        """Wait until the socket is ready.

        Raises:
            ClientTimeout: it took longer than the client may.
        """
        poll = select.poll()
        poll.register(self.fileno, event)
        start = self.waiting_since = time.monotonic()
        ready = self.patience > 0 and poll.poll(self.patience * 1000)
        taken = time.monotonic() - start
        self.waited += taken
        self.waiting_since = 0.0
        self.patience -= taken
        if not ready:
            raise ClientTimeout("the client kept a thread waiting for too long")
