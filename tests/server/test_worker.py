"""What the thread worker refuses at the start."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from prologue.server import ThreadWorker
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
