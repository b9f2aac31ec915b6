"""Linkerd: GRPCRoutes of a Service, which the proxies beside callers follow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.plugins.render._grpc_routes import PORT, Manifest, Routes, routes_of
from lab.plugins.render._target import Rendering, Source, Target, yaml_of
from lab.plugins.render._timeouts import exceeded_timeouts
from lab.plugins.render._unexpressed import CORE, Limitation, Reasons, unexpressed_security, unexpressed_settings
from lab.plugins.render.istio import duration
from lab.routing.compiled import Router

if TYPE_CHECKING:
    from lab.routing.resilience import Policy, Retries

SERVICE = "models"
"""The Service that callers connect to."""
_COMMENT = f"""\
Callers in the mesh connect to Service {SERVICE}; their proxies send requests straight to Services of model clusters."""
_MAX_MATCHES_OF_RULE = 8
"""Of the definition of GRPCRoute that Linkerd installs, which is older than the current one."""
_TLS = Limitation(
    "Linkerd opens TLS only between its own proxies, with its own certificates",
    "its proxies speak plaintext to the models, which must listen so",
)
REASONS: Reasons = {
    **CORE,
    "retries.budget": Limitation("Linkerd limits retries of a request, not those in flight", "no budget"),
    "retries.backoff": Limitation(
        "Linkerd has no setting for the pause before a retry of a route", "it retries at once"
    ),
    "outliers": Limitation(
        "Linkerd ejects replicas by annotations of a Service, which several versions share", "no ejection"
    ),
    "breaker": Limitation("Linkerd's breakers count failures, not requests", "no limit"),
    "health": Limitation(
        "Linkerd leaves active health checks to Kubernetes' probes",
        "a replica that its probe finds not ready gets no requests",
    ),
    "slow_start": Limitation("Linkerd has no slow start", "a new replica has its share at once"),
}


def _render(source: Source) -> Rendering:
    parent = {"group": "", "kind": "Service", "name": SERVICE, "port": PORT}
    routes = routes_of(source, parent, max_matches_of_rule=_MAX_MATCHES_OF_RULE)
    service: Manifest = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": SERVICE},
        "spec": {"ports": [{"name": "grpc", "port": PORT, "appProtocol": "kubernetes.io/h2c"}]},
    }
    _annotate(source, routes)
    files = {"service.yaml": yaml_of([service], _COMMENT), "routes.yaml": yaml_of(routes.routes)}
    unexpressed = (
        *unexpressed_security(source, _TLS),
        *routes.unexpressed,
        *exceeded_timeouts(source.table),
        *unexpressed_settings(source.table.document, REASONS),
    )
    return Rendering(files, unexpressed)


def _annotate(source: Source, routes: Routes) -> None:
    """Adds timeouts and retries, which are annotations of a route."""
    by_name = {route["metadata"]["name"]: route for route in routes.routes}
    for use_case in Router.of_document(source.table.document).use_cases.values():
        annotations = _annotations(use_case.timeout_s, use_case.policy)
        by_name[routes.of_use_case[use_case.name]]["metadata"]["annotations"] = annotations
    for of_keys in routes.of_keys:
        if annotations := _annotations(of_keys.timeout_s, of_keys.policy):
            for name in of_keys.names:
                by_name[name]["metadata"]["annotations"] = annotations


def _annotations(timeout_s: float | None, policy: Policy | None) -> dict[str, str]:
    timeout = {"timeout.linkerd.io/request": duration(timeout_s)} if timeout_s is not None else {}
    return {**timeout, **_retries(policy.retries if policy else None)}


def _retries(retries: Retries | None) -> dict[str, str]:
    if retries is None:
        return {}
    return {
        "retry.linkerd.io/grpc": ",".join(retries.on),
        "retry.linkerd.io/limit": str(retries.attempts - 1),
        **({"retry.linkerd.io/timeout": duration(retries.per_try_s)} if retries.per_try_s else {}),
    }


TARGET = Target("linkerd", "GRPCRoutes of a Service, with annotations for timeouts and retries", _render)
