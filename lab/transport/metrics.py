"""Metrics of this process for Prometheus; nothing is counted or imported until :func:`serve_metrics` is called.

Counts of RPCs come from :mod:`lab.transport.rpc_metrics`. All else is read from a unit's own state during a scrape, so
that it costs requests nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from socket import create_connection
from socketserver import TCPServer
from threading import Thread
from typing import TYPE_CHECKING, Any

from lab.errors import UnitError

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric

PATH = "/metrics"
"""Where metrics are served, over HTTP."""
_TIMEOUT_S = 2.0  # of a connection; one is served at a time, so that many cost no memory
# A page in a browser reaches a loopback port by its own name, which then resolves to 127.0.0.1.
_HOST = re.compile(r"(localhost|[0-9.]+|\[[0-9a-fA-F:.]+\])(:\d+)?")
_RETRIES = 2
_registry: CollectorRegistry | None = None


def registry() -> CollectorRegistry | None:
    """What this process serves; None if it serves no metrics."""
    return _registry


def serve_metrics(address: str) -> None:
    """Begins to serve this process's metrics at ``host:port``, in a thread; does nothing if that is empty.

    Raises:
        UnitError: the address cannot be bound.
    """
    global _registry  # noqa: PLW0603 (a process has one, as in the library)
    if not address:
        return
    from prometheus_client import CollectorRegistry, ProcessCollector, disable_created_metrics  # noqa: PLC0415 (2 MB)

    disable_created_metrics()
    _registry = CollectorRegistry()
    ProcessCollector(registry=_registry)
    MetricsServer(address, _registry)


def expose(name: str, text: str, read: Callable[[], float | Mapping[Any, float]], labels: Sequence[str] = ()) -> None:
    """Adds a metric that is read at each scrape, from another thread; does nothing if no metrics are served.

    Args:
        name: a counter's ends with ``_total``, all others are gauges.
        text: what it counts.
        read: the value; with labels, values by tuples of the labels' values.
        labels: names of the labels; what a request says is not a value of any.
    """
    if _registry is not None:
        _registry.register(Reading(name, text, read, labels))


class Reading:
    """A metric that is read when it is collected; see :func:`expose` for the arguments."""

    def __init__(
        self,
        name: str,
        text: str,
        read: Callable[[], float | Mapping[Any, float]],
        labels: Sequence[str] = (),
    ) -> None:
        self._name, self._text, self._read, self._labels = name, text, read, labels

    def describe(self) -> Iterator[Metric]:
        """The metric without values: there may be none yet."""
        yield self._family()

    def collect(self) -> Iterator[Metric]:
        """The metric with its present values."""
        family, values = self._family(), self._value()
        for labels, value in values.items() if isinstance(values, dict) else (((), values),):
            family.add_metric(labels, value)
        yield family

    def _value(self) -> float | Mapping[Any, float]:
        for _ in range(_RETRIES):
            with suppress(RuntimeError, LookupError):  # it changed while it was read
                return self._read()
        return self._read()

    def _family(self) -> Any:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily  # noqa: PLC0415 (see above)

        kind = CounterMetricFamily if self._name.endswith("_total") else GaugeMetricFamily
        return kind(self._name, self._text, labels=self._labels)


class MetricsServer(TCPServer):
    """Serves a registry until it is closed, or its process ends.

    Args:
        address: ``host:port``.
        served: what it serves.

    Raises:
        UnitError: the address cannot be bound.
    """

    allow_reuse_address = True
    request_queue_size = 16

    def __init__(self, address: str, served: CollectorRegistry) -> None:
        self.served = served
        host, _, port = address.rpartition(":")
        self._address = (host, int(port))
        try:
            super().__init__(self._address, _Handler)
        except OSError as error:
            raise UnitError(f"cannot serve metrics on {address}: is the port taken?") from error
        self._closing = False
        self._thread = Thread(target=self._serve, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stops serving, and frees the port."""
        self._closing = True
        with suppress(OSError):
            create_connection(self._address).close()  # wakes the thread
        self._thread.join()
        self.server_close()

    def _serve(self) -> None:
        """As ``serve_forever``, which would wake an idle process twice a second."""
        while not self._closing:
            self.handle_request()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing of a scraper that has gone."""


class _Handler(BaseHTTPRequestHandler):
    server: MetricsServer
    timeout = _TIMEOUT_S
    server_version, sys_version = "lab", ""

    def do_GET(self) -> None:
        from prometheus_client.exposition import choose_encoder  # noqa: PLC0415 (see above)

        if not _HOST.fullmatch(self.headers.get("Host", "")):
            self.send_error(403, "name this host by its address")
        elif self.path.partition("?")[0] != PATH:
            self.send_error(404, f"GET {PATH}")
        else:
            encode, content_type = choose_encoder(self.headers.get("Accept", ""))
            body = encode(self.server.served)
            self.send_response(200)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Logs nothing: scrapes are frequent."""
