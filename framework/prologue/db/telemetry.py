"""The numbers of a pool under the names that monitoring systems expect."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from prologue.db.histogram import BOUNDS, Histogram
from prologue.db.stats import PoolStats
from prologue.errors import MissingExtraError

if TYPE_CHECKING:
    from prologue.db.pool import ConnectionPool

__all__ = ["Metric", "PrometheusCollector", "metrics"]

POOL_NAME: Final = "db.client.connection.pool.name"
STATE: Final = "db.client.connection.state"


class Metric(NamedTuple):
    """One number of a pool at one moment.

    Attributes:
        name: as OpenTelemetry's semantic conventions for database clients call it.
        kind: ``updowncounter``, ``counter`` or ``histogram``.
        unit: ``{connection}``, ``{request}``, ``{timeout}`` or ``s``.
        value: a number, or a :class:`~prologue.db.histogram.Histogram`.
        attributes: name of the pool, and state where there is one.
    """

    name: str
    kind: str
    unit: str
    value: int | Histogram
    attributes: dict[str, str]


def metrics(stats: PoolStats) -> list[Metric]:
    """Return a snapshot under the names of OpenTelemetry: ``db.client.connection.*``.

    Connections that are being opened, checked or closed are neither idle nor used, and not counted.

    Args:
        stats: what :meth:`~prologue.db.ConnectionPool.stats` returned.
    """
    pool = {POOL_NAME: stats.name}
    gauges: list[tuple[str, str, str, int | Histogram]] = [
        ("idle.max", "updowncounter", "{connection}", stats.max_connections),
        ("idle.min", "updowncounter", "{connection}", stats.min_connections),
        ("max", "updowncounter", "{connection}", stats.max_connections),
        ("pending_requests", "updowncounter", "{request}", stats.waiting),
        ("timeouts", "counter", "{timeout}", stats.timeouts),
        ("create_time", "histogram", "s", stats.create_time),
        ("wait_time", "histogram", "s", stats.wait_time),
        ("use_time", "histogram", "s", stats.use_time),
    ]
    return [
        *(
            Metric(
                "db.client.connection.count", "updowncounter", "{connection}", count, {**pool, STATE: state}
            )
            for state, count in (("idle", stats.idle), ("used", stats.leased))
        ),
        *(
            Metric(f"db.client.connection.{name}", kind, unit, value, pool)
            for name, kind, unit, value in gauges
        ),
    ]


class PrometheusCollector:
    """Lets ``prometheus_client`` collect the numbers of pools: ``REGISTRY.register(collector)``.

    The names are OpenTelemetry's, with underscores for dots. Thread safe.

    Args:
        pools: returns the pools; their names must differ.

    Raises:
        MissingExtraError: ``prometheus_client`` is not installed.
    """

    def __init__(self, pools: Callable[[], Iterable[ConnectionPool]]) -> None:
        try:
            from prometheus_client import core
        except ImportError:
            raise MissingExtraError("PrometheusCollector", "prometheus") from None
        self._kinds: dict[str, Callable[..., Any]] = {
            "counter": core.CounterMetricFamily,
            "histogram": core.HistogramMetricFamily,
            "updowncounter": core.GaugeMetricFamily,
        }
        self._pools = pools

    def describe(self) -> list[Any]:
        """Return nothing: registering asks no pool for anything."""
        return []

    def collect(self) -> Iterator[Any]:
        """Give every number of every pool, in the families of ``prometheus_client``."""
        families: dict[str, Any] = {}
        for pool in self._pools():
            for metric in metrics(pool.stats()):
                if metric.name not in families:
                    families[metric.name] = self._family(metric)
                labels = list(metric.attributes.values())
                if isinstance(metric.value, Histogram):
                    families[metric.name].add_metric(labels, _buckets(metric.value), metric.value.seconds)
                else:
                    families[metric.name].add_metric(labels, metric.value)
        yield from families.values()

    def _family(self, metric: Metric) -> Any:
        name = metric.name.replace(".", "_") + ("_seconds" if metric.unit == "s" else "")
        labels = [label.replace(".", "_") for label in metric.attributes]
        return self._kinds[metric.kind](name, f"{metric.name} of the connection pool", labels=labels)


def _buckets(histogram: Histogram) -> list[tuple[str, int]]:
    """Return how many durations there are up to each bound."""
    bounds = [*(str(bound) for bound in BOUNDS), "+Inf"]
    return list(zip(bounds, accumulate(histogram.counts), strict=True))
