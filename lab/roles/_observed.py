"""How the units of a lab log, and where they send the spans of their requests; how an Envoy does both."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from lab import clock
from lab.identity import Identity
from lab.identity.envoy import upstream_socket, upstream_socket_to
from lab.roles._role import Layout, Placement
from lab.roles._unit import COLLECTOR, CONTROL_PLANE, Unit
from lab.spec import HTTPS
from lab.transport import logs
from lab.transport.trace_settings import TraceSettings

_TYPES = "type.googleapis.com/envoy"
_DETECTORS = f"{_TYPES}.extensions.tracers.opentelemetry.resource_detectors.v3"
_CLUSTER = "traces"
_SHOWN = 96
_PATH = f"%REQ(:PATH):{_SHOWN}%"
NOT_OBSERVED = {
    **dict.fromkeys(("tracing", "traces_cluster", "traces_runtime", "trace_id", "application_log"), ""),
    **dict.fromkeys(("local_cluster_name", "local_cluster"), ""),
}
"""What an Envoy's bootstrap has where there are no traces and no zones, and its log is text."""
_LOG_KEYS = {"time": "%Y-%m-%dT%T.%e%z", "level": "%l", "logger": "%n", "message": "%j"}
_TAGS = {"lab.request_id": "X-REQUEST-ID", "lab.routing_key": "X-ROUTING-KEY"}


def with_environment(lab: Layout, unit: Unit) -> Unit:
    """The unit, one of the lab's services with its clock, the form of its log, and where it sends its spans."""
    if unit.argv[0] != "python":
        return unit
    form = {logs.VARIABLE: unit.name} if lab.spec.log_format == "json" else {}
    time = {clock.VARIABLE: lab.spec.clock} if lab.spec.clock else {}
    return replace(unit, environment={**unit.environment, **time, **form, **_traces(lab, unit)})


def _traces(lab: Layout, unit: Unit) -> dict[str, str]:
    if lab.spec.traces is None or unit.role in (COLLECTOR, CONTROL_PLANE):
        return {}
    settings = TraceSettings(
        endpoint=_endpoint(lab),
        peer="" if lab.spec.traces.otlp else COLLECTOR,
        rate=lab.spec.traces.rate,
        service=_service(lab, unit.role, unit.name, unit.cluster),
        unit=unit.name,
        authorities=lab.spec.traces.otlp_ca,
    )
    return settings.to_environment()


def envoy_observed(lab: Layout, name: str, role: str, secrets: str) -> dict[str, str]:
    """The tracer of an Envoy, its cluster and settings, and the form of its log, by their names in the bootstrap.

    Args:
        lab: the layout.
        name: of the unit.
        role: of the unit.
        secrets: folder of its SDS files; empty for plaintext.
    """
    parts = dict(NOT_OBSERVED)
    if lab.spec.log_format == "json":
        form = {"log_format": {"json_format": {**_LOG_KEYS, "unit": name}}}
        parts["application_log"] = f"application_log_config: {json.dumps(form)}\n"
    if lab.spec.traces is None:
        return parts
    percent = {"value": 100 * lab.spec.traces.rate}
    detector = {
        "name": "envoy.tracers.opentelemetry.resource_detectors.static_config",
        "typed_config": {
            "@type": f"{_DETECTORS}.StaticConfigResourceDetectorConfig",
            "attributes": {"service.instance.id": name},
        },
    }
    tracing = {
        # A request with a parent follows its sampled flag instead.
        "random_sampling": percent,
        "client_sampling": {"value": 0},
        "overall_sampling": {"value": 100},
        "spawn_upstream_span": True,
        "operation": _PATH,
        "upstream_operation": _PATH,
        "max_path_tag_length": _SHOWN,
        "custom_tags": [{"tag": tag, "value": f"%REQ({header}):{_SHOWN}%"} for tag, header in _TAGS.items()],
        "provider": {
            "name": "envoy.tracers.opentelemetry",
            "typed_config": {
                "@type": f"{_TYPES}.config.trace.v3.OpenTelemetryConfig",
                "grpc_service": {"envoy_grpc": {"cluster_name": _CLUSTER}, "timeout": "2s"},
                "service_name": _service(lab, role, name),
                "resource_detectors": [detector],
            },
        },
    }
    # A request id is the caller's own, and no place for Envoy's decision.
    extension = {
        "typed_config": {
            "@type": f"{_TYPES}.extensions.request_id.uuid.v3.UuidRequestIdConfig",
            "pack_trace_reason": False,
            "use_request_id_for_trace_sampling": False,
        }
    }
    return {
        **parts,
        "trace_id": '\n                  trace_id: "%TRACE_ID%"',
        "tracing": "".join(
            f"\n          {field}: {json.dumps(value)}"
            for field, value in (("tracing", tracing), ("request_id_extension", extension))
        ),
        "traces_cluster": f"  - {json.dumps(_cluster(lab, secrets))}\n",
        "traces_runtime": ", tracing: {opentelemetry: {flush_interval_ms: 500}}",
    }


def _endpoint(lab: Layout) -> str:
    assert lab.spec.traces is not None  # noqa: S101 (both callers have looked)
    return lab.spec.traces.otlp.removeprefix(HTTPS) or lab.site.port(COLLECTOR, "grpc").inside


def _service(lab: Layout, role: str, name: str, cluster: str = "") -> str:
    """``service.name`` of a unit: its cluster or role, as replicas share it; its own name in a caller's pod."""
    placement = next(each.placement for each in lab.roles if each.name == role)
    return name if placement is Placement.BESIDE_CALLER else cluster or role


def _cluster(lab: Layout, secrets: str) -> dict[str, Any]:
    host, _, port = _endpoint(lab).rpartition(":")
    address = {"socket_address": {"address": host, "port_value": int(port)}}
    cluster: dict[str, Any] = {
        "name": _CLUSTER,
        "type": "STATIC" if host.replace(".", "").isdigit() else "STRICT_DNS",
        "dns_lookup_family": "V4_ONLY",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{_TYPES}.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        },
        "load_assignment": {
            "cluster_name": _CLUSTER,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
    }
    assert lab.spec.traces is not None  # noqa: S101 (see _endpoint)
    if authorities := lab.spec.traces.otlp_ca:
        cluster["transport_socket"] = upstream_socket_to(host, authorities)
    elif secrets and not lab.spec.traces.otlp:
        cluster["transport_socket"] = upstream_socket(secrets, Identity(COLLECTOR, COLLECTOR))
    return cluster
