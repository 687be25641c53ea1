"""One request after the other: parsed, given to the application, answered, logged."""

from __future__ import annotations

import html
import itertools
import time
from datetime import timedelta
from types import MethodType
from typing import Any

from gunicorn.glogging import Logger
from gunicorn.http import errors

from prologue.server.body import Body
from prologue.server.connection import ClientError, ClientTimeout, Connection
from prologue.server.parsing import Parser
from prologue.server.writing import Response

__all__ = ["Exchanges"]

_DRAIN = 5.0  # seconds, and
_DRAIN_BYTES = 65536  # bytes, spent on a body that the application has not read

# What the application may meet in a body that is not what its head says.
_BAD_BODY = (
    errors.ParseException,
    errors.InvalidChunkSize,
    errors.ChunkMissingTerminator,
    errors.InvalidChunkExtension,
)


class Exchanges:
    """Answers requests for the threads of one worker.

    Args:
        worker: whose application, settings, hooks and logs are used.
        parser: of its requests.
    """

    def __init__(self, worker: Any, parser: Parser) -> None:
        cfg, log = worker.cfg, worker.log
        self._worker = worker
        self._application = _function_of(worker.wsgi)
        self._parser = parser
        self._log = log
        self._sendfile = cfg.sendfile is not False and not cfg.is_ssl
        self._keeps = bool(cfg.keepalive)
        self._most = cfg.worker_connections - cfg.threads
        self._counter = itertools.count(1)
        # PERF: gunicorn's own hooks do nothing, or write a line of debugging.
        quiet = cfg.loglevel.lower() != "debug"
        self._pre_request = None if _is_default(cfg.pre_request) and quiet else cfg.pre_request
        self._post_request = None if _is_default(cfg.post_request) else cfg.post_request
        self._logs = type(log).access is not Logger.access or getattr(log, "access_log_enabled", True)

    def answer(self, connection: Connection, number: int, *, ended: bool) -> bool | None:
        """Answer the next request in a connection's buffer.

        Args:
            connection: with a buffer that is not empty, owned by this thread.
            number: of the thread.
            ended: whether the client will send nothing more.

        Returns:
            None when the request is not complete; else whether the connection is kept.
        """
        try:
            parsed = self._parser.parse(connection, ended=ended)
        except Exception as error:
            connection.unread = True
            connection.begin(time.monotonic(), self._worker.client_timeout)
            self._worker.handle_error(None, connection.sock, connection.client, error)
            return False
        if parsed is None:
            return None
        request, environ = parsed
        worker = self._worker
        start = time.monotonic()
        connection.begin(start, worker.client_timeout)
        limit = worker.max_queueing_delay
        if limit is not None and worker.queue.current(start) > limit:
            return self._shed(connection)
        keep = worker.alive and self._keeps and not request.should_close()
        keep = keep and len(worker.connections) <= self._most
        count = worker.nr = next(self._counter)
        if count >= worker.max_requests:
            keep = False
            if worker.alive:
                self._log.info("Autorestarting worker after current request.")
                worker.retire()
        response = Response(
            request, connection, environ["REQUEST_METHOD"], keep=keep, sendfile=self._sendfile
        )
        environ["wsgi.early_hints"] = response.send_early_hints
        environ["prologue.exchange"] = response
        worker.serving[number] = connection
        try:
            if self._pre_request is not None:
                self._pre_request(worker, request)
            body = self._application(environ, response.start_response)
            try:
                response.send_body(body)
            finally:
                if hasattr(body, "close"):
                    body.close()
            kept = not response.must_close
            if request.body is not None:
                kept = _finish_body(connection, request.body, kept)
            if self._logs:
                self._log_access(response, request, environ, start)
        except BaseException as error:
            connection.unread = True
            kept = False
            self._fail(connection, request, environ, response, error, start)
        finally:
            worker.serving[number] = None
            if self._post_request is not None:
                try:
                    self._post_request(worker, request, environ, response)
                except Exception:
                    self._log.exception("Exception in post_request hook")
        return kept and not connection.abandoned

    def _fail(
        self,
        connection: Connection,
        request: Any,
        environ: dict[str, Any],
        response: Response,
        error: BaseException,
        start: float,
    ) -> None:
        """Answer an error of the application or of its client, where nothing was sent."""
        if isinstance(error, (SystemExit, KeyboardInterrupt)):
            self._worker.retire()  # the application ends its process; others' requests are answered first
        if not response.headers_sent and not connection.abandoned:
            connection.claim_answer()
            if isinstance(error, ClientTimeout):
                self._send_page(connection, "408 Request Timeout", "The request came too slowly.")
            elif isinstance(error, _BAD_BODY):
                self._log.warning("Invalid request from ip=%s: %s", environ.get("REMOTE_ADDR"), error)
                self._send_page(connection, "400 Bad Request", str(error))
            elif not isinstance(error, (ClientError, errors.NoMoreData)):
                self._worker.handle_error(request, connection.sock, connection.client, error)
                return  # logged, in the access log too
        if isinstance(error, (ClientError, errors.NoMoreData)):
            self._log.debug("the client is not answered to the end: %s", error)
        elif not isinstance(error, _BAD_BODY):
            self._log.exception("Error handling request %s %s", request.method, request.uri)
        if self._logs and response.status is not None:
            self._log_access(response, request, environ, start)

    def _log_access(self, response: Response, request: Any, environ: dict[str, Any], start: float) -> None:
        self._log.access(response, request, environ, timedelta(seconds=time.monotonic() - start))

    def _shed(self, connection: Connection) -> bool:
        """Refuse a request, for all threads are busy."""
        connection.unread = True
        extra = {"metric": "gunicorn.requests_refused", "value": 1, "mtype": "counter"}
        self._log.debug("a request is refused: others wait for a thread", extra=extra)
        field = f"Retry-After: {self._worker.retry_after}\r\n"
        self._send_page(connection, "503 Service Unavailable", "The server is busy.", field)
        return False

    def refuse_slow(self, connection: Connection) -> None:
        """Answer a request of which the rest has not come in time."""
        self._send_page(connection, "408 Request Timeout", "The request came too slowly.")

    def give_up(self, connection: Connection, number: int) -> bool:
        """Answer in the place of a thread that is stuck; return whether it still was."""
        return connection.abandon(number, _page("503 Service Unavailable", "The request took too long."))

    def _send_page(self, connection: Connection, status: str, text: str, field: str = "") -> None:
        try:
            connection.sock.send(_page(status, text, field))
        except OSError:
            pass  # it has gone, or does not read


def _page(status: str, text: str, field: str = "") -> bytes:
    """Return a whole response of gunicorn's look."""
    title = f"<head><title>{status[4:]}</title></head>"
    body = f"<html>{title}<body><h1>{status[4:]}</h1>{html.escape(text)}</body></html>\n"
    head = f"HTTP/1.1 {status}\r\nConnection: close\r\nContent-Type: text/html\r\n{field}"
    return f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode("latin-1", "replace")


def _finish_body(connection: Connection, body: Body, kept: bool) -> bool:
    """Throw away what the application has left of a body; return whether the connection can be kept."""
    if kept and not body.complete:
        connection.patience = min(connection.patience, _DRAIN)
        rest = bytearray(8192)
        thrown = 0
        while thrown < _DRAIN_BYTES and (count := body.readinto(rest)):
            thrown += count
    connection.unread = not body.complete
    return kept and body.complete


def _function_of(application: Any) -> Any:
    """Return the method that a call of an application runs, if it is one; else the application.

    PERF: to call an object through its class takes 0.1 µs more.
    """
    method = application.__call__
    bound = isinstance(method, MethodType) and method.__self__ is application
    return method if bound and method.__func__ is type(application).__call__ else application


def _is_default(hook: Any) -> bool:
    return getattr(hook, "__module__", "") == "gunicorn.config"
