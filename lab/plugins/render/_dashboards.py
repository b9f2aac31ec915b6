"""The dashboards of a lab: panels and their queries, in any tool's terms."""

from __future__ import annotations

from dataclasses import dataclass

from lab.plugins.render._queries import BURN_WINDOWS, burn, failures, quantile, rate

LAB = "$lab"
"""In queries: the variable with the name of the lab."""
_OF_LAB = f'lab="{LAB}"'
_SECONDS, _MS, _PER_SECOND, _SHARE, _BYTES, _COUNT = "s", "ms", "reqps", "percentunit", "bytes", "short"
_LATENCY, _REQUESTS = "lab_load_latency_seconds", "lab_load_requests_total"


@dataclass(frozen=True, slots=True)
class Panel:
    """A chart of one query.

    Attributes:
        title: what it shows.
        query: in PromQL; each of its series is a line.
        unit: as Grafana names it.
        legend: name of a line, with labels in double braces.
    """

    title: str
    query: str
    unit: str
    legend: str


@dataclass(frozen=True, slots=True)
class Dashboard:
    """A page of panels; ``name`` is that of its file."""

    name: str
    title: str
    panels: tuple[Panel, ...]


def _rate(metric: str, by: str, *selectors: str) -> str:
    return rate(metric, by, selector=", ".join((_OF_LAB, *selectors)))


def _now(metric: str, by: str, *selectors: str, take: str = "sum") -> str:
    return f"{take} by ({by}) ({metric}{{{', '.join((_OF_LAB, *selectors))}}})"


def _failing(metric: str, by: str) -> str:
    """Share of RPCs that do not end with OK."""
    return f"1 - {_rate(metric, by, _OK)} / {_rate(metric, by)}"


_OK = 'grpc_code="OK"'
_REQUEST = 'kind="request"'
_CLUSTER = "envoy_cluster_name"
_OF_MODELS = f'{_CLUSTER}=~".+[.]v[0-9].*"'  # not the Envoy's own
_HANDLED = "grpc_server_handled_total"

_RATE = Panel("Requests", _rate(_REQUESTS, "topology"), _PER_SECOND, "{{topology}}")
_FAILURES = Panel("Share of requests that fail", failures(by="topology", selector=_OF_LAB), _SHARE, "{{topology}}")
_P50, _P99 = (
    Panel(
        f"Latency, p{share * 100:g}",
        quantile(share, _LATENCY, "topology", selector=_OF_LAB),
        _SECONDS,
        "{{topology}}",
    )
    for share in (0.5, 0.99)
)
_UP = Panel("Units that answer", _now("up", "role"), _COUNT, "{{role}}")
_REVISION = Panel("Revision in force", _now("lab_revision", "unit", take="max"), _COUNT, "{{unit}}")
_BEHIND = Panel("Nodes behind", _now("lab_nodes", "role", 'state="behind"'), _COUNT, "{{role}}")
_CPU = Panel("Processors used", _rate("process_cpu_seconds_total", "role"), _COUNT, "{{role}}")
_MODEL_REQUESTS = "lab_model_requests_total"

DASHBOARDS = (
    Dashboard(
        "glance",
        "Lab at a glance",
        (
            _RATE,
            _FAILURES,
            _P50,
            _P99,
            _UP,
            _REVISION,
            Panel(
                f"Error budget burn over {BURN_WINDOWS[0]}; 1 spends it in its time",
                _now(burn(BURN_WINDOWS[0]), "topology"),
                _COUNT,
                "{{topology}}",
            ),
            _BEHIND,
            _CPU,
            Panel("Resident memory", _now("process_resident_memory_bytes", "role"), _BYTES, "{{role}}"),
        ),
    ),
    Dashboard(
        "topologies",
        "Topology comparison",
        (
            _P50,
            _P99,
            Panel(
                "Latency, mean",
                f"{_rate(f'{_LATENCY}_sum', 'topology')} / {_rate(f'{_LATENCY}_count', 'topology')}",
                _SECONDS,
                "{{topology}}",
            ),
            _FAILURES,
            _RATE,
            Panel("Requests in flight", _now("lab_load_in_flight", "topology"), _COUNT, "{{topology}}"),
            _CPU,
            Panel(
                "Time in handlers, p99, by role",
                quantile(0.99, "grpc_server_handling_seconds", "role", selector=f'{_OF_LAB}, grpc_type="unary"'),
                _SECONDS,
                "{{role}}",
            ),
        ),
    ),
    Dashboard(
        "roll",
        "Roll in progress",
        (
            Panel(
                "Requests by model version",
                _rate(_MODEL_REQUESTS, "model, version", _REQUEST),
                _PER_SECOND,
                "{{model}}@{{version}}",
            ),
            Panel(
                "Share of each version of a model",
                f"{_rate(_MODEL_REQUESTS, 'model, version', _REQUEST)} / on (model) group_left "
                f"{_rate(_MODEL_REQUESTS, 'model', _REQUEST)}",
                _SHARE,
                "{{model}}@{{version}}",
            ),
            _FAILURES,
            _P99,
            _REVISION,
            _BEHIND,
            Panel("Phases reached", _now("lab_publish_phases_total", "phase"), _COUNT, "{{phase}}"),
            Panel(
                "Time from publish to phase, mean",
                f"{_now('lab_publish_phase_seconds_total', 'phase')} / {_now('lab_publish_phases_total', 'phase')}",
                _SECONDS,
                "{{phase}}",
            ),
            Panel("Versions loaded", _now("lab_model_versions_loaded", "model_cluster"), _COUNT, "{{model_cluster}}"),
            Panel("Lease holders", _now("lab_lease_holders", "unit"), _COUNT, "{{unit}}"),
        ),
    ),
    Dashboard(
        "blast-radius",
        "Blast radius",
        (
            Panel(
                "Share of requests that fail, by caller",
                failures(by="caller, topology", selector=_OF_LAB),
                _SHARE,
                "{{caller}} by {{topology}}",
            ),
            Panel(
                "Latency, p99, by caller",
                quantile(0.99, _LATENCY, "caller, topology", selector=_OF_LAB),
                _SECONDS,
                "{{caller}} by {{topology}}",
            ),
            Panel("Units that answer, by unit", _now("up", "unit"), _COUNT, "{{unit}}"),
            Panel("Share of RPCs that fail, by unit", _failing(_HANDLED, "unit"), _SHARE, "{{unit}}"),
            Panel("Registered replicas", _now("lab_replicas", "model_cluster"), _COUNT, "{{model_cluster}}"),
            Panel("Requests being served, by replica", _now("lab_model_in_flight", "unit"), _COUNT, "{{unit}}"),
            Panel("Requests by replica", _rate(_MODEL_REQUESTS, "unit", _REQUEST), _PER_SECOND, "{{unit}}"),
            _BEHIND,
        ),
    ),
    Dashboard(
        "envoy",
        "Envoy",
        (
            Panel(
                "Requests, by Envoy",
                _rate("envoy_http_downstream_rq_total", "unit", 'envoy_http_conn_manager_prefix="requests"'),
                _PER_SECOND,
                "{{unit}}",
            ),
            Panel(
                "Requests, by cluster",
                _rate("envoy_cluster_upstream_rq_total", _CLUSTER, _OF_MODELS),
                _PER_SECOND,
                "{{envoy_cluster_name}}",
            ),
            Panel(
                "Time of requests, p99, by cluster",
                quantile(0.99, "envoy_cluster_upstream_rq_time", _CLUSTER, selector=f"{_OF_LAB}, {_OF_MODELS}"),
                _MS,
                "{{envoy_cluster_name}}",
            ),
            Panel(
                "Retries, by cluster",
                _rate("envoy_cluster_upstream_rq_retry", _CLUSTER, _OF_MODELS),
                _PER_SECOND,
                "{{envoy_cluster_name}}",
            ),
            Panel(
                "Timeouts, by cluster",
                _rate("envoy_cluster_upstream_rq_timeout", _CLUSTER, _OF_MODELS),
                _PER_SECOND,
                "{{envoy_cluster_name}}",
            ),
            Panel(
                "Healthy replicas, by cluster",
                _now("envoy_cluster_membership_healthy", _CLUSTER, _OF_MODELS, take="min"),
                _COUNT,
                "{{envoy_cluster_name}}",
            ),
            Panel("Connections of clients", _now("envoy_http_downstream_cx_active", "unit"), _COUNT, "{{unit}}"),
            Panel("Memory allocated", _now("envoy_server_memory_allocated", "unit"), _BYTES, "{{unit}}"),
            Panel("Clusters held", _now("envoy_cluster_manager_active_clusters", "unit"), _COUNT, "{{unit}}"),
            Panel("Control plane connected", _now("envoy_control_plane_connected_state", "unit"), _COUNT, "{{unit}}"),
        ),
    ),
)
