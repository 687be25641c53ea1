"""The worker process: gunicorn's promises, kept by threads that block on nothing but the application.

The main thread never serves. Once a second, or more often, it tells the master that the process lives,
closes connections whose time is over, and looks for requests that take too long. The request threads wait
together in one :class:`prologue.server.poller.Poller`; who gets an event reads, answers, and waits again: no
queue, no future, no hand-over between threads.
"""

from __future__ import annotations

import math
import os
import select
import socket
import ssl
import sys
import threading
import time
import traceback
from typing import Any

from gunicorn import sock as gunicorn_sock
from gunicorn.workers.base import Worker

from prologue.server.connection import BLOCK, Connection
from prologue.server.exchange import Exchanges
from prologue.server.parsing import Parser
from prologue.server.poller import Poller
from prologue.server.queueing import QueueProbe
from prologue.server.turns import Turns

__all__ = ["ThreadWorker"]

_ENDING = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
_TICK = 1.0  # seconds between two looks at the connections and the clock
_BATCH = 16  # requests of one connection, already received, that are answered before others get a turn
_LINGER = 2.0  # seconds, and
_LINGER_BYTES = 65536  # bytes, that a client may still send when nothing is answered any more


class ThreadWorker(Worker):  # type: ignore[misc]  # gunicorn has no types
    """A gunicorn worker of threads: ``gunicorn -k prologue.server.ThreadWorker MODULE:app``.

    For any WSGI application. gunicorn's settings and hooks keep their meaning, and ``timeout`` is a limit for
    each request: the stack of a thread that is stuck is logged, its client gets a 503 where nothing was sent
    yet, and the worker is replaced when its other requests are answered. ``protocol = "uwsgi"``, HTTP/2 and
    ``http2_cleartext`` are refused at the start.

    The attributes below are set in a subclass.

    Attributes:
        head_timeout: seconds for the first bytes of a new connection, and for a head that has begun.
        client_timeout: seconds that a client is waited for in all, while the body of one request is read and
            the answer sent; every 4,096 bytes moved earn one more. A body of up to 65,536 bytes is waited for
            without a thread, and so is the reader of an answer that is known whole: a list, or a file.
        max_unread_bytes: of the answers in memory that wait like that; where there are more, a thread waits.
        max_queueing_delay: seconds that requests may wait for a thread; while they wait longer, requests are
            answered 503 with ``Retry-After``. None: they wait.
        retry_after: seconds that a client is told then.
    """

    head_timeout = 10.0
    client_timeout = 30.0
    max_unread_bytes = 1 << 26
    max_queueing_delay: float | None = None
    retry_after = 1

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        """Refuse what this worker does not do; gunicorn calls it before it forks.

        Raises:
            SystemExit: with status 1; what is refused is logged.
        """
        wrong = []
        if "h2" in getattr(cfg, "http_protocols", ()):
            wrong.append("http_protocols with h2")
        if getattr(cfg, "http2_cleartext", "off") not in ("off", False, None):
            wrong.append("http2_cleartext")
        if getattr(cfg, "protocol", "http") != "http":
            wrong.append(f"protocol = {cfg.protocol!r}")
        if wrong:
            log.error(
                "prologue.server.ThreadWorker speaks HTTP/1 only, and cannot do %s; "
                "remove the setting, or use gunicorn's worker_class 'gthread'",
                " and ".join(wrong),
            )
            sys.exit(1)
        if cfg.keepalive and cfg.worker_connections <= cfg.threads:
            log.warning("no connection can be kept alive: worker_connections is not above threads")

    # -- the main thread ----------------------------------------------------------------------------------

    def run(self) -> None:
        """Serve until told to stop."""
        cfg = self.cfg
        self._parser = Parser(cfg, self.client_timeout)
        self._exchanges = Exchanges(self, self._parser)
        self._tls = gunicorn_sock.ssl_context(cfg) if cfg.is_ssl else None
        self._keepalive = float(cfg.keepalive)
        self._stopping = False
        self.queue = QueueProbe()
        self._poller = poller = Poller(self.sockets, cfg.worker_connections)
        poller.watch(self.queue.fileno)
        self.connections = poller.connections
        self._turns = Turns(poller.epoll)
        for listener in self.sockets:
            listener.setblocking(False)
        # What each thread is serving: itself, by its number.
        self.serving: list[Connection | None] = [None] * cfg.threads
        self._threads = [
            threading.Thread(target=self._serve, args=(number,), name=f"request-{number}", daemon=True)
            for number in range(cfg.threads)
        ]
        for thread in self._threads:
            thread.start()
        poller.listen()
        self._supervise()
        self._drain()

    def _supervise(self) -> None:
        wakeup = select.poll()
        wakeup.register(self.PIPE[0], select.POLLIN)
        pause = self._pause_between_looks()
        while self.alive:
            self.notify()
            if wakeup.poll(pause * 1000):
                os.read(self.PIPE[0], 4096)
            if self.ppid != os.getppid():
                self.log.info("Parent changed, shutting down: %s", self)
                return
            self._look(time.monotonic())

    def _pause_between_looks(self) -> float:
        """Return how long the main thread sleeps: the master must hear of it well within ``timeout``."""
        limits = (self.cfg.timeout or math.inf, self.max_queueing_delay or math.inf)
        return min(_TICK, *(limit / 2 for limit in limits))

    def _look(self, now: float) -> None:
        """Do what is to be done now and then."""
        for connection in self._poller.all_connections():
            if connection.deadline < now and connection.lock.acquire(blocking=False):
                try:
                    if connection.open and connection.deadline < now:
                        self._expire(connection)
                finally:
                    connection.lock.release()
                self._pass_on(connection)
        self._poller.listen()
        delay = self.queue.current(now)
        extra = {"metric": "gunicorn.queueing_delay", "value": delay * 1000, "mtype": "timer"}
        self.log.debug("requests wait %.3f s for a thread", delay, extra=extra)
        self.queue.send(now)
        self._watch(now)

    def _expire(self, connection: Connection) -> None:
        if not connection.lingering and connection.rest is None:
            if connection.has_news():
                return  # no thread has had the time to look
            if connection.buffer:
                self._exchanges.refuse_slow(connection)
        self._poller.remove(connection)

    def _pass_on(self, connection: Connection) -> None:
        """Let a thread come again that came while this one held the lock."""
        while connection.signalled and connection.lock.acquire(blocking=False):
            try:
                connection.signalled = False
                if connection.open:
                    self._poller.requeue(connection)
            finally:
                connection.lock.release()

    def _watch(self, now: float) -> None:
        """Give up requests that take longer than gunicorn's ``timeout``."""
        limit = self.cfg.timeout
        if not limit:
            return
        for number, connection in enumerate(self.serving):
            if connection is None:
                continue
            request = connection.requests
            if connection.application_seconds(now) > limit and self._exchanges.give_up(connection, request):
                frame = sys._current_frames().get(self._threads[number].ident or 0)
                stack = "".join(traceback.format_stack(frame)) if frame else "(it has just ended)\n"
                self.log.critical(
                    "WORKER TIMEOUT (pid:%s): a request takes longer than %s s, in thread %s:\n%s",
                    self.pid,
                    limit,
                    self._threads[number].name,
                    stack,
                )
                self._poller.forget(connection)
                self.cfg.worker_abort(self)
                self.retire()

    def retire(self) -> None:
        """Let the master replace this worker when the requests in progress are answered; from any thread."""
        self.alive = False
        try:
            os.write(self.PIPE[1], b".")
        except BlockingIOError:
            pass  # the pipe is full: the main thread will wake up

    def _drain(self) -> None:
        """Answer what has been accepted, for at most ``graceful_timeout`` seconds, and end the threads."""
        end = time.monotonic() + self.cfg.graceful_timeout
        linger = time.monotonic() + min(_LINGER, self._keepalive or 0.0)
        for listener in self._poller.stop_listening():
            # What is in the kernel's queue has been accepted as far as its clients can tell.
            try:
                while True:
                    connection = self._welcome(*listener.accept(), listener.getsockname())
                    if connection is not None:
                        self._poller.park(connection)
            except OSError:
                listener.close()
        pause = threading.Event()
        while (now := time.monotonic()) < end:
            self.notify()
            for connection in self._poller.all_connections():
                if not connection.buffer and not connection.lingering and connection.rest is None:
                    connection.deadline = min(connection.deadline, linger)
            self._look(now)
            if self._poller.is_empty():
                break
            pause.wait(0.02)
        self._stopping = True
        self._poller.wake_all()
        for thread, connection in zip(self._threads, self.serving, strict=True):
            if connection is None:
                thread.join(1.0)

    # -- the request threads ------------------------------------------------------------------------------

    def _serve(self, number: int) -> None:
        poller, turns = self._poller, self._turns
        wait, connections = poller.wait, poller.connections
        while True:
            if turns.leader != number:
                turns.take_lead(number)
            turns.waiting = True
            events = wait(-1, 1)
            turns.waiting = False
            turns.taken += 1
            for fileno, event in events:
                connection = connections.get(fileno)
                try:
                    if connection is not None:
                        if event & _ENDING:
                            connection.ending = True
                        self._attend(connection, number)
                    elif fileno == self.queue.fileno:
                        self.queue.receive(time.monotonic())
                    elif fileno in poller.listeners:
                        connection = self._accept(fileno)
                        if connection is not None:
                            self._attend(connection, number)
                    elif self._stopping:
                        return
                except Exception:
                    self.log.exception("a request thread goes on after an error of its own")

    def _accept(self, fileno: int) -> Connection | None:
        """Accept what there is; return one connection to be served, the others are for any thread."""
        try:
            accepted = self._poller.accept(fileno)
        except OSError as error:
            self.log.error("no connection can be accepted now: %s", error)
            return None
        try:
            welcome = [connection for each in accepted if (connection := self._welcome(*each)) is not None]
        finally:
            self._poller.arrived(len(accepted))
        for connection in welcome[1:]:
            self._poller.park(connection)
        return welcome[0] if welcome else None

    def _welcome(self, sock: socket.socket, client: Any, server: Any) -> Connection | None:
        """Take a connection in; None when it has gone already."""
        sock.setblocking(False)
        if self._tls is not None:
            try:
                sock = self._tls.wrap_socket(
                    sock,
                    server_side=True,
                    do_handshake_on_connect=False,
                    suppress_ragged_eofs=self.cfg.suppress_ragged_eofs,
                )
            except OSError as error:
                self.log.debug("a client has gone before the handshake: %s", error)
                sock.close()
                return None
        environ = self._parser.connection_environ(sock, client, server)
        scheme_headers = self._parser.scheme_headers_of(client)
        deadline = time.monotonic() + self.head_timeout
        connection = Connection(sock, client, environ, scheme_headers, deadline)
        self._poller.add(connection)
        return connection

    def _attend(self, connection: Connection, number: int) -> None:
        """Do what a connection wants, unless another thread does it."""
        connection.signalled = True
        while connection.lock.acquire(blocking=False):
            try:
                connection.signalled = False
                if connection.open:
                    self._advance(connection, number)
            except (Exception, SystemExit):
                self.log.exception("a request thread goes on after an error of its own")
                self._poller.remove(connection)
            finally:
                connection.lock.release()
            if not connection.signalled:
                return

    def _advance(self, connection: Connection, number: int) -> None:
        """Read and answer until there is nothing to read; then wait for news."""
        if connection.lingering:
            self._throw_away(connection)
            return
        try:
            if not connection.shaken and not connection.shake_hands():
                self._poller.park(connection)
                return
            if connection.rest is not None and not self._resume(connection):
                return
            turns = 0
            dry = ended = False
            while True:
                if connection.buffer and (ended or len(connection.buffer) >= connection.needed):
                    kept = self._exchanges.answer(connection, number, ended=ended)
                    if connection.rest is not None and not self._is_taken(connection, kept=bool(kept)):
                        return
                    if kept is False:
                        self._close(connection)
                        return
                    if kept:
                        self._keep(connection)
                        turns += 1
                        if connection.buffer:
                            if turns >= _BATCH:
                                connection.deadline = math.inf  # it does not wait for its client
                                self._poller.requeue(connection)
                                return
                            continue
                if dry or ended:
                    break
                data = connection.receive_now()
                if data is None:
                    break
                if not data:
                    ended = True
                    if not connection.needed:
                        break
                    continue
                if not connection.buffer:
                    connection.deadline = time.monotonic() + self.head_timeout
                connection.buffer += data
                # After fewer bytes than asked for, what comes later is news (epoll(7), question 9), except an
                # end that was told together with them.
                dry = len(data) < BLOCK and not connection.tls and not connection.ending
        except (OSError, ssl.SSLError) as error:
            self.log.debug("a connection is broken: %s", error)
            ended = True
        if ended:
            self._poller.remove(connection)
        elif connection.buffer and connection.deadline < time.monotonic():
            # While a client drips, the main thread finds news each time that it looks.
            self._exchanges.refuse_slow(connection)
            self._poller.remove(connection)
        else:
            self._poller.park(connection)

    def _keep(self, connection: Connection) -> None:
        patience = self.head_timeout if connection.buffer else self._keepalive
        connection.deadline = time.monotonic() + patience

    def _is_taken(self, connection: Connection, *, kept: bool) -> bool:
        """Let a client read its answer, without a thread if there is memory; return whether it has."""
        rests = [each.rest for each in self._poller.all_connections()]
        if sum(len(rest.data) for rest in rests if rest is not None) > self.max_unread_bytes:
            connection.finish()
            return True
        connection.closing = not kept
        connection.deadline = time.monotonic() + self.client_timeout
        self._poller.park_until_read(connection)
        return False

    def _resume(self, connection: Connection) -> bool:
        """Send on what a client has made room for; return whether it can send the next request."""
        if not connection.flush():
            return False
        if connection.closing:
            self._close(connection)
            return False
        self._keep(connection)
        return True

    def _close(self, connection: Connection) -> None:
        """End a connection; where its client may still be sending, not before it has read the answer."""
        if not connection.unread and not connection.buffer:
            connection.say_goodbye()
            self._poller.remove(connection)
            return
        # Closing with bytes unread would reset the connection, and lose the answer (RFC 9112, section 9.6).
        connection.lingering = True
        connection.buffer = b""
        connection.deadline = time.monotonic() + _LINGER
        try:
            connection.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._poller.remove(connection)
            return
        self._poller.park(connection)
        self._throw_away(connection)

    def _throw_away(self, connection: Connection) -> None:
        while connection.drained < _LINGER_BYTES:
            try:
                data = connection.receive_now()
            except (OSError, ssl.SSLError):
                break
            if data is None:
                return
            if not data:
                break
            connection.drained += len(data)
        self._poller.remove(connection)
