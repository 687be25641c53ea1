"""Startup, shutdown and what lies between, in the worker processes of a real gunicorn."""

from __future__ import annotations

import http.client
import signal
import socket
from collections.abc import Sequence

import pytest

from tests.concurrency import Task, together
from tests.integration.conftest import Start
from tests.integration.servers import HOOKS, Server, embedded, gunicorn

SYNC = ("-k", "sync")
GTHREAD = ("-k", "gthread", "--threads", "4")
OURS = ("-k", "prologue.server.ThreadWorker", "--threads", "4")

EMBEDDED_SYNC = embedded("app.run(port=0, worker_class='sync')")

EVERY_WAY = [
    pytest.param(gunicorn(*HOOKS, *SYNC), id="hooks-sync"),
    pytest.param(gunicorn(*HOOKS, *GTHREAD, "--preload"), id="hooks-gthread-preload"),
    pytest.param(gunicorn(*SYNC, "--preload"), id="plain-sync-preload"),
    pytest.param(gunicorn(*GTHREAD), id="plain-gthread"),
    pytest.param(gunicorn(*HOOKS, *OURS), id="hooks-ours"),
    pytest.param(gunicorn(*OURS, "--preload"), id="plain-ours-preload"),
    pytest.param(EMBEDDED_SYNC, id="embedded-sync"),
    pytest.param(embedded(), id="embedded"),
]


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(gunicorn(*HOOKS, *SYNC, "--preload"), id="hooks-sync-preload"),
        pytest.param(gunicorn(*HOOKS, *GTHREAD), id="hooks-gthread"),
        pytest.param(gunicorn(*HOOKS, *OURS), id="hooks-ours"),
        pytest.param(embedded(), id="embedded"),
    ],
)
def test_every_worker_starts_before_its_first_request_and_stops_once(
    start: Start, command: Sequence[str]
) -> None:
    server = start(command, WEB_CONCURRENCY="2")
    server.until(lambda: len(server.pids("startup")) == 2)
    workers = set(server.pids("startup"))
    assert len(workers) == 2
    assert server.process.pid not in workers
    for _ in range(3):
        assert server.get("/pid")[0] == 200

    assert server.stop() == 0

    assert sorted(server.pids("startup")) == sorted(workers)
    assert sorted(server.pids("shutdown")) == sorted(workers)


@pytest.mark.parametrize("command", EVERY_WAY)
def test_a_request_in_progress_is_answered_before_a_stopping_worker_shuts_down(
    start: Start, command: Sequence[str]
) -> None:
    server = start(command)
    request = Task(lambda: server.get("/hold"))
    server.until(lambda: server.pids("held"))

    server.process.send_signal(signal.SIGTERM)
    server.until(lambda: "Handling signal: term" in server.log())
    server.gate.touch()

    assert request.result() == (200, b"the whole answer")
    assert server.wait() == 0
    assert [event for event, _ in server.events()] == ["startup", "held", "answered", "shutdown"]
    assert len({pid for _, pid in server.events()}) == 1


@pytest.mark.parametrize("kind", [GTHREAD, OURS], ids=["gthread", "ours"])
def test_a_worker_that_stops_at_once_shuts_down_too(start: Start, kind: Sequence[str]) -> None:
    server = start(gunicorn(*HOOKS, *kind, app="tests.integration.application:proxied"))
    server.until(lambda: server.pids("startup"))
    assert server.stop(signal.SIGQUIT) == 0
    assert [event for event, _ in server.events()] == ["startup", "shutdown"]


def count_on_kept_connections(server: Server, requests: int) -> int:
    """Make requests one after another on connections that are kept; return how many were answered.

    A connection that was used before may be closed by a server that is about to end; what was sent on it then
    was not accepted, and is sent again on a new one. A new connection may not fail.
    """
    answered = 0
    with server.connection() as connection:
        for _ in range(requests):
            used = connection.sock is not None
            try:
                connection.request("GET", "/count")
                response = connection.getresponse()
            except (http.client.RemoteDisconnected, ConnectionError):
                if not used:
                    raise
                connection.close()
                connection.request("GET", "/count")
                response = connection.getresponse()
            assert (response.status, response.read().isdigit()) == (200, True)
            answered += 1
    return answered


@pytest.mark.parametrize(
    ("hooks", "kind"),
    [((), SYNC), (HOOKS, GTHREAD), (HOOKS, OURS)],
    ids=["plain-sync", "hooks-gthread", "hooks-ours"],
)
def test_every_accepted_request_is_answered_while_workers_are_replaced(
    start: Start, hooks: Sequence[str], kind: Sequence[str]
) -> None:
    server = start(gunicorn(*hooks, *kind, "--workers", "2", "--max-requests", "10"))

    answered = together(4, lambda _: count_on_kept_connections(server, 15))

    assert answered == [15] * 4
    server.until(lambda: server.log().count("Booting worker") - server.log().count("Worker exiting") == 2)
    if hooks:
        server.until(lambda: len(server.pids("startup")) - len(server.pids("shutdown")) == 2)
    assert server.stop() == 0
    assert len(server.pids("served")) == 60
    started = server.pids("startup")
    assert len(started) >= 4
    assert len(set(started)) == len(started)
    assert sorted(server.pids("shutdown")) == sorted(started)


@pytest.mark.parametrize(
    ("hooks", "kind"),
    [(HOOKS, SYNC), ((), GTHREAD), ((), OURS)],
    ids=["hooks-sync", "plain-gthread", "plain-ours"],
)
def test_what_the_master_loaded_is_loaded_anew_in_a_worker(
    start: Start, hooks: Sequence[str], kind: Sequence[str]
) -> None:
    server = start(gunicorn(*hooks, *kind, "--preload"), WARM="yes")
    for _ in range(2):
        status, body = server.get("/loaded")
        assert status == 200
    assert server.stop() == 0

    master = server.process.pid
    (worker,) = server.pids("startup")
    assert worker != master
    assert body == b'{"pid":%d,"loaded":%d}' % (worker, worker)
    assert server.pids("warm") == [master]
    assert server.pids("load") == [master, worker]
    assert server.pids("close") == [worker]
    assert [event for event, _ in server.events()][-2:] == ["shutdown", "close"]


@pytest.mark.parametrize(
    ("command", "broken", "message"),
    [
        (gunicorn(*HOOKS), "error", "startup of the application failed"),
        (gunicorn(*HOOKS, "--preload"), "exit", "startup of the application ended with exit(0)"),
        (embedded(), "error", "ValueError: the price list is missing"),
    ],
)
def test_a_startup_that_fails_ends_the_server(
    start: Start, command: Sequence[str], broken: str, message: str
) -> None:
    server = start(command, listens=False, BROKEN=broken)
    assert server.wait() == 3
    assert message in server.log()
    assert server.log().count("Booting worker") == 1


def test_without_hooks_a_startup_that_fails_is_an_error_page_and_is_tried_again(start: Start) -> None:
    server = start(gunicorn(*GTHREAD), BROKEN="error")
    assert server.get("/pid")[0] == 500
    assert server.get("/pid")[0] == 500
    assert server.stop() == 0
    assert [event for event, _ in server.events()] == ["startup"]


def test_hooks_of_the_user_run_between_startup_and_shutdown(start: Start) -> None:
    call = (
        "app.run(port=0,\n"
        "    post_worker_init=lambda worker: note('init'),\n"
        "    worker_exit=lambda server, worker: [note('exit'), 1 / 0])\n"
    )
    server = start(embedded(call))
    server.until(lambda: server.pids("init"))
    assert server.stop() == 0
    assert [event for event, _ in server.events()] == ["startup", "init", "exit", "shutdown"]
    assert "ZeroDivisionError" in server.log()


def test_a_port_in_use_is_told_at_once(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        server = start(embedded(f"app.run(port={port})"), listens=False)
        assert server.wait() == 1
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use; stop the" in server.log()
    assert "Connection in use" not in server.log()  # gunicorn would have tried again for five seconds
