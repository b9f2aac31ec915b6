"""Metrics of the load through a lab: requests and latencies by topology and caller, from drivers' progress.

Drivers report once a second, so this costs their requests nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING

from lab.errors import UnitError
from lab.load.progress import LATENCY_BOUNDS_S
from lab.transport.metrics import MetricsServer

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

    from lab.load.progress import Progress

_LABELS = ("topology", "caller")


@dataclass(slots=True)
class _Counts:
    """Of one topology and caller, over all runs since the metrics are served."""

    sent: int = 0
    ok: int = 0
    failed: int = 0
    in_flight: int = 0
    latency_s: float = 0.0
    latencies: list[int] = field(default_factory=lambda: [0] * (len(LATENCY_BOUNDS_S) + 1))


class LoadMetrics:
    """All counts, as Prometheus collects them."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], _Counts] = {}
        self._lock = Lock()

    def of_run(self, topology: str, caller: str) -> Callable[[Progress], None]:
        """Takes a run's progress, each report once and in order."""
        with self._lock:
            counts = self._counts.setdefault((topology, caller), _Counts())
        sent, ok, failed = counts.sent, counts.ok, counts.failed  # of earlier runs

        def take(progress: Progress) -> None:
            with self._lock:
                counts.sent, counts.ok = sent + progress.sent, ok + progress.ok
                counts.failed, counts.in_flight = failed + progress.failed, progress.in_flight
                counts.latency_s += progress.latency_sum_s
                for place, count in enumerate(progress.latency_counts):
                    counts.latencies[place] += count

        return take

    def describe(self) -> Iterator[Metric]:
        """Nothing: there may be no run yet."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """The metrics with their present values."""
        from prometheus_client.core import (  # noqa: PLC0415 (only where metrics are served)
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
        )

        sent = CounterMetricFamily("lab_load_sent_total", "Requests that drivers have sent.", labels=_LABELS)
        done = CounterMetricFamily("lab_load_requests_total", "Requests done.", labels=(*_LABELS, "result"))
        in_flight = GaugeMetricFamily("lab_load_in_flight", "Requests sent and not yet done.", labels=_LABELS)
        latency = HistogramMetricFamily(
            "lab_load_latency_seconds", "Latency from the intended time of each request answered.", labels=_LABELS
        )
        with self._lock:
            for labels, counts in self._counts.items():
                sent.add_metric(labels, counts.sent)
                done.add_metric((*labels, "ok"), counts.ok)
                done.add_metric((*labels, "failed"), counts.failed)
                in_flight.add_metric(labels, counts.in_flight)
                latency.add_metric(labels, list(_cumulated(counts.latencies)), counts.latency_s)
        yield from (sent, done, in_flight, latency)


def _cumulated(latencies: list[int]) -> Iterator[tuple[str, float]]:
    total = 0
    for bound, count in zip((*map(str, LATENCY_BOUNDS_S), "+Inf"), latencies, strict=True):
        total += count
        yield bound, total


_SERVED: dict[str, LoadMetrics] = {}  # by address, while it is served


@contextmanager
def counting(address: str) -> Iterator[Callable[[str, str], Callable[[Progress], None]]]:
    """Serves the metrics of a lab's load for the block.

    Yields :meth:`LoadMetrics.of_run`.

    Args:
        address: ``host:port``, of the lab's own; empty to serve nothing. If this process serves other load through the
            same lab, its metrics include this load. If another process does, this load has none.
    """
    if not address or address in _SERVED:
        yield _SERVED.get(address, LoadMetrics()).of_run
        return
    from prometheus_client import CollectorRegistry  # noqa: PLC0415 (only where metrics are served)

    metrics, registry = LoadMetrics(), CollectorRegistry()
    registry.register(metrics)
    try:
        server = MetricsServer(address, registry)
    except UnitError:
        yield metrics.of_run
        return
    _SERVED[address] = metrics
    try:
        yield metrics.of_run
    finally:
        del _SERVED[address]
        server.close()
