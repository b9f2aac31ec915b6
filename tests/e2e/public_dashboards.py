"""What the panels of two public dashboards ask of an Envoy, as data: which series, and what is made of them.

The dashboards are Envoy Gateway's *Envoy Clusters* and *Envoy Global*, see :data:`SOURCE`. Variables of Grafana, which
choose a namespace, a cluster or a rule of Kubernetes, are left out, and the window of a rate is that of a test.
"""

from __future__ import annotations

from typing import NamedTuple

SOURCE = {
    "repository": "https://github.com/envoyproxy/gateway",
    "commit": "d32f28294245e454d20f81d323d626a90e660c1e",
    "folder": "charts/gateway-addons-helm/dashboards",
}
WINDOW = "30s"
_KUBE = "kube-state-metrics counts it, from pods of Kubernetes"
_STATUS = "models refuse by a gRPC status in trailers, which Envoy counts as class 2"
_REDIRECT = "no model redirects, and no gRPC status counts as class 3"
_TCP = "only a TCP proxy counts it; the lab's listeners speak HTTP"


class Ask(NamedTuple):
    """One query of a panel.

    Attributes:
        panel: its title.
        how: ``sum``, ``avg``, ``rate``, a quantile of a histogram such as ``0.99``, ``difference`` or ``ratio`` of two
            series, ``days`` until a time.
        series: its name, or two.
        where: selector of labels.
        cannot: why an Envoy of the lab cannot fill it; empty if it can.
    """

    panel: str
    how: str
    series: str
    where: str = ""
    cannot: str = ""

    @property
    def query(self) -> str:
        """The query for Prometheus."""
        one, _, other = self.series.partition(" ")
        if self.how in ("sum", "avg"):
            return f"{self.how}({one}{self.where})"
        if self.how == "rate":
            return f"sum(rate({one}{self.where}[{WINDOW}]))"
        if self.how == "difference":
            return f"sum({one}) - sum({other})"
        if self.how == "ratio":
            return f"avg({one}) / avg({other})"
        if self.how == "days":
            return f"min by (envoy_tls_certificate) (({one} - time()) / 86400)"
        return f"histogram_quantile({self.how}, sum(rate({one}[{WINDOW}])) by (le))"


_HEALTHY, _TOTAL = "envoy_cluster_membership_healthy", "envoy_cluster_membership_total"
_UPSTREAM_MS, _DOWNSTREAM_MS = "envoy_cluster_upstream_rq_time_bucket", "envoy_http_downstream_rq_time_bucket"
_LIMITS = "kube_pod_container_resource_limits"


def _of_class(digit: int) -> str:
    return f'{{envoy_response_code_class="{digit}"}}'


CLUSTERS = (
    Ask("Live servers", "sum", "envoy_server_live"),
    Ask("Avg uptime per node", "avg", "envoy_server_uptime"),
    Ask("Allocated Memory", "sum", "envoy_server_memory_allocated"),
    Ask("Allocated Memory, limit", "sum", _LIMITS, cannot=_KUBE),
    Ask("Heap Size", "sum", "envoy_server_memory_heap_size"),
    Ask("Heap Size, limit", "sum", _LIMITS, cannot=_KUBE),
    Ask("Unhealthy Clusters", "difference", f"{_TOTAL} {_HEALTHY}"),
    Ask("Cluster State", "difference", f"{_TOTAL} {_HEALTHY}"),
    Ask("Total active connections", "sum", "envoy_cluster_upstream_cx_active"),
    Ask("Total requests", "rate", "envoy_cluster_upstream_rq_total"),
    Ask("Upstream Network Traffic, received", "rate", "envoy_cluster_upstream_cx_rx_bytes_total"),
    Ask("Upstream Network Traffic, sent", "rate", "envoy_cluster_upstream_cx_tx_bytes_total"),
    Ask("Downstream Network Traffic, received", "rate", "envoy_http_downstream_cx_rx_bytes_total"),
    Ask("Downstream Network Traffic, sent", "rate", "envoy_http_downstream_cx_tx_bytes_total"),
    *(Ask("Upstream Latency", share, _UPSTREAM_MS) for share in ("0.99", "0.9", "0.5")),
    Ask("Upstream 2xx Responses", "rate", "envoy_cluster_upstream_rq_xx", _of_class(2)),
    Ask("Upstream 4xx Responses", "rate", "envoy_cluster_upstream_rq_xx", _of_class(4), cannot=_STATUS),
    Ask("Downstream members, sum", "sum", _HEALTHY),
    Ask("Downstream members, average", "avg", _HEALTHY),
    Ask("Upstream 5xx Responses", "rate", "envoy_cluster_upstream_rq_xx", _of_class(5)),
    Ask("Upstream 3xx Responses", "rate", "envoy_cluster_upstream_rq_xx", _of_class(3), cannot=_REDIRECT),
    Ask("Downstream members, healthy", "sum", _HEALTHY),
    Ask("Downstream members, unhealthy", "difference", f"{_TOTAL} {_HEALTHY}"),
    Ask("Outlier ejected", "avg", "envoy_cluster_outlier_detection_ejections_active"),
    Ask("Degraded", "avg", "envoy_cluster_membership_degraded"),
    Ask("Excluded", "avg", "envoy_cluster_membership_excluded"),
)
"""Of ``envoy-clusters.json``."""

GLOBAL = (
    Ask("Live servers", "sum", "envoy_server_live"),
    Ask("Avg uptime per node", "avg", "envoy_server_uptime"),
    Ask("Heap Size", "sum", "envoy_server_memory_heap_size"),
    Ask("Allocated Memory", "sum", "envoy_server_memory_allocated"),
    Ask("Downstream RPS", "rate", "envoy_http_downstream_rq_total"),
    Ask("Downstream CPS", "rate", "envoy_http_downstream_cx_total"),
    *(Ask("Downstream Latency", share, _DOWNSTREAM_MS) for share in ("0.9", "0.5", "0.99")),
    Ask("Downstream Total Connections", "sum", "envoy_listener_downstream_cx_active"),
    Ask("TCP Downstream CPS", "rate", "envoy_tcp_downstream_cx_total", cannot=_TCP),
    Ask("TCP Downstream Bytes Rx/second", "rate", "envoy_tcp_downstream_cx_rx_bytes_total", cannot=_TCP),
    Ask("TCP Downstream Bytes Tx/Second", "rate", "envoy_tcp_downstream_cx_tx_bytes_total", cannot=_TCP),
    Ask("Upstream RPS", "rate", "envoy_cluster_upstream_rq_total"),
    Ask("Upstream CPS", "rate", "envoy_cluster_upstream_cx_total"),
    *(Ask("Upstream Latency", share, _UPSTREAM_MS) for share in ("0.99", "0.9", "0.5")),
    Ask("Upstream Total Connections", "sum", "envoy_cluster_upstream_cx_active"),
    Ask("Upstream Bytes Rx/Second", "rate", "envoy_cluster_upstream_cx_rx_bytes_total"),
    Ask("Upstream Bytes Tx/Second", "rate", "envoy_cluster_upstream_cx_tx_bytes_total"),
    Ask("Upstream 2xx Responses", "rate", "envoy_cluster_upstream_rq_xx", _of_class(2)),
    Ask("Upstream 4xx Responses", "rate", "envoy_cluster_upstream_rq_xx", _of_class(4), cannot=_STATUS),
    Ask("Upstream 5xx Responses", "rate", "envoy_cluster_upstream_rq_xx", _of_class(5)),
    Ask("Upstream 3xx Responses", "rate", "envoy_cluster_upstream_rq_xx", _of_class(3), cannot=_REDIRECT),
    Ask("Endpoint Percentage Health", "ratio", f"{_HEALTHY} {_TOTAL}"),
    Ask("Total Endpoints", "sum", _TOTAL),
    Ask("Healthy Endpoints", "sum", _HEALTHY),
    Ask("Unhealthy Endpoints", "difference", f"{_TOTAL} {_HEALTHY}"),
    Ask("TLS Certificate Expiry", "days", "envoy_listener_ssl_certificate_expiration_unix_time_seconds"),
)
"""Of ``envoy-proxy-global.json``."""

DASHBOARDS = {"envoy-clusters.json": CLUSTERS, "envoy-proxy-global.json": GLOBAL}
