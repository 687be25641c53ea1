from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.integration.servers import HOOKS, Server, gunicorn

Start = Callable[..., Server]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start servers that end with the test: ``start(command, NAME="value of the variable")``."""
    servers: list[Server] = []

    def start(command: Sequence[str], *, listens: bool = True, **environ: str) -> Server:
        directory = tmp_path / f"server{len(servers)}"
        directory.mkdir()
        server = Server(command, directory, environ)
        servers.append(server)
        if listens:
            server.wait_until_it_listens()
        return server

    yield start
    for server in servers:
        server.kill()


@pytest.fixture(scope="module", params=["sync", "gthread", "prologue.server.ThreadWorker"])
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of each kind that the tests of a module share."""
    threads = "1" if request.param == "sync" else "4"
    command = gunicorn(*HOOKS, "-k", request.param, "--threads", threads)
    server = Server(command, tmp_path_factory.mktemp(request.param), {})
    try:
        server.wait_until_it_listens()
        yield server
    finally:
        server.kill()
