"""The numbers of a pool under the names of OpenTelemetry, and in Prometheus."""

from __future__ import annotations

import sys

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from prologue.db import PrometheusCollector, metrics
from prologue.db.histogram import BOUNDS, Counts
from prologue.errors import MissingExtraError
from tests.db.driver import Setup


def used_pool(name: str = "main") -> Setup:
    """A pool with one connection that is used, and two that are idle; one use took 0.2 s, another 20 s."""
    setup = Setup(min_connections=3, max_connections=4, name=name, validation_interval=1000)
    for seconds in (0.25, 20.0, 0.0):
        with setup.pool.connection():
            setup.clock.now += seconds
    held = setup.pool.connection()
    held.__enter__()
    setup.held = held  # type: ignore[attr-defined]
    return setup


@pytest.mark.parametrize(
    ("seconds", "bucket"), [(0.0, 0), (0.001, 0), (0.0011, 1), (0.05, 3), (10.0, 8), (10.1, 9)]
)
def test_a_duration_counts_in_the_bucket_of_the_next_bound(seconds: float, bucket: int) -> None:
    counts = Counts()
    counts.add(seconds)
    frozen = counts.freeze()
    assert [number for number, count in enumerate(frozen.counts) if count] == [bucket]
    assert (frozen.count, frozen.seconds, len(frozen.counts)) == (1, seconds, len(BOUNDS) + 1)


def test_the_names_are_those_of_the_semantic_conventions() -> None:
    found = metrics(used_pool().pool.stats())
    prefix = "db.client.connection."
    plain = {
        (metric.name.removeprefix(prefix), metric.attributes.get("db.client.connection.state")): metric.value
        for metric in found
        if isinstance(metric.value, int)
    }
    assert plain == {
        ("count", "idle"): 2,
        ("count", "used"): 1,
        ("idle.max", None): 4,
        ("idle.min", None): 3,
        ("max", None): 4,
        ("pending_requests", None): 0,
        ("timeouts", None): 0,
    }
    assert all(metric.attributes["db.client.connection.pool.name"] == "main" for metric in found)
    assert {(metric.name, metric.kind, metric.unit) for metric in found} >= {
        (f"{prefix}count", "updowncounter", "{connection}"),
        (f"{prefix}timeouts", "counter", "{timeout}"),
        (f"{prefix}pending_requests", "updowncounter", "{request}"),
    }


def test_the_histograms_count_each_lease_once() -> None:
    setup = used_pool()
    stats = setup.pool.stats()
    assert stats.use_time.counts == (1, 0, 0, 0, 0, 1, 0, 0, 0, 1)
    assert stats.use_time.seconds == pytest.approx(20.25)
    assert stats.wait_time.count == stats.acquires == 4
    assert stats.wait_time.counts[0] == 4
    assert stats.create_time.count == stats.opened == 3
    setup.held.__exit__(None, None, None)  # type: ignore[attr-defined]
    assert setup.pool.stats().use_time.counts == (2, 0, 0, 0, 0, 1, 0, 0, 0, 1)


def test_the_histograms_outlive_the_connections() -> None:
    setup = used_pool()
    setup.held.__exit__(None, None, None)  # type: ignore[attr-defined]
    before = setup.pool.stats()
    setup.pool.drain()
    after = setup.pool.stats()
    assert (after.opened, after.acquires) == (6, 4)
    assert (after.use_time, after.acquires) == (before.use_time, before.acquires)


def test_prometheus_collects_every_pool() -> None:
    one, two = used_pool("one"), used_pool("two")
    registry = CollectorRegistry()
    registry.register(PrometheusCollector(lambda: [one.pool, two.pool]))
    text = generate_latest(registry).decode()
    pool = "db_client_connection_pool_name"
    for line in (
        f'db_client_connection_count{{{pool}="one",db_client_connection_state="used"}} 1.0',
        f'db_client_connection_max{{{pool}="two"}} 4.0',
        f'db_client_connection_timeouts_total{{{pool}="one"}} 0.0',
        f'db_client_connection_use_time_seconds_bucket{{{pool}="one",le="0.5"}} 2.0',
        f'db_client_connection_use_time_seconds_bucket{{{pool}="one",le="+Inf"}} 3.0',
        f'db_client_connection_use_time_seconds_sum{{{pool}="two"}} 20.25',
    ):
        assert line in text, line


def test_without_the_library_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(MissingExtraError, match=r"prologue-wsgi\[prometheus\]"):
        PrometheusCollector(list)
