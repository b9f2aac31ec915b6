"""Envoy Gateway: GRPCRoutes at a Gateway, with its own policies for timeouts and resilience."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from lab.plugins.render._grpc_routes import AUTHORITY, Manifest, Routes, backend_tls, routes_of
from lab.plugins.render._target import Rendering, Source, Target, yaml_of
from lab.plugins.render._timeouts import exceeded_timeouts
from lab.plugins.render._unexpressed import CORE, Limitation, Reasons, unexpressed_settings
from lab.plugins.render.gateway_api import GATEWAY, gateway
from lab.plugins.render.istio import budget, duration, retry_on
from lab.routing.compiled import Router

if TYPE_CHECKING:
    from lab.routing.resilience import Policy, Retries

API = "gateway.envoyproxy.io/v1alpha1"
_CLASS = "envoy-gateway"
REASONS: Reasons = {
    **CORE,
    "tenants": Limitation("a local limit counts in each Envoy, a global one needs a rate limit service", "no limit"),
    "clusters.failover": Limitation(
        "only a Backend can stand in for another, not a Service", CORE["clusters.failover"].instead
    ),
}


def _render(source: Source) -> Rendering:
    routes = routes_of(source, {"name": GATEWAY})
    files = {
        "gateway.yaml": yaml_of(_gateway(source), "Model clusters are Services of their names, port 9000."),
        "routes.yaml": yaml_of(routes.routes),
        "policies.yaml": yaml_of(_policies(source, routes)),
    }
    if source.mtls:
        files["backend-tls.yaml"] = yaml_of(
            backend_tls(source.table.clusters), f"ca.crt of ConfigMap {AUTHORITY}: the authority of the models."
        )
    unexpressed = (
        *routes.unexpressed,
        *exceeded_timeouts(source.table),
        *unexpressed_settings(source.table.document, REASONS),
    )
    return Rendering(files, unexpressed)


def _gateway(source: Source) -> Iterator[Manifest]:
    """The class and the Gateway; the certificates of both sides are in Envoy Gateway's own objects."""
    yield {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "GatewayClass",
        "metadata": {"name": _CLASS},
        "spec": {"controllerName": "gateway.envoyproxy.io/gatewayclass-controller"},
    }
    it = gateway(source, _CLASS)
    if source.mtls:
        del it["spec"]["tls"]
        parameters = {"group": "gateway.envoyproxy.io", "kind": "EnvoyProxy", "name": GATEWAY}
        it["spec"]["infrastructure"] = {"parametersRef": parameters}
    yield it
    if source.mtls:
        yield {
            "apiVersion": API,
            "kind": "EnvoyProxy",
            "metadata": {"name": GATEWAY},
            "spec": {"backendTLS": {"clientCertificateRef": {"kind": "Secret", "name": GATEWAY}}},
        }
        validation = {"caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": AUTHORITY}]}
        yield {
            "apiVersion": API,
            "kind": "ClientTrafficPolicy",
            "metadata": {"name": GATEWAY},
            "spec": {
                "targetRefs": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": GATEWAY}],
                "tls": {"clientValidation": validation},
            },
        }


def _policies(source: Source, routes: Routes) -> Iterator[Manifest]:
    """The policies of use cases' routes, then those of keys' routes."""
    for use_case in Router.of_document(source.table.document).use_cases.values():
        yield from _policy([routes.of_use_case[use_case.name]], use_case.timeout_s, use_case.policy)
    for of_keys in routes.of_keys:
        yield from _policy(of_keys.names, of_keys.timeout_s, of_keys.policy)


def _policy(routes: Sequence[str], timeout_s: float | None, policy: Policy | None) -> Iterator[Manifest]:
    timeout = {"timeout": {"http": {"requestTimeout": duration(timeout_s)}}} if timeout_s is not None else {}
    if settings := {**timeout, **(_resilience(policy) if policy is not None else {})}:
        targets = [{"group": "gateway.networking.k8s.io", "kind": "GRPCRoute", "name": route} for route in routes]
        yield {
            "apiVersion": API,
            "kind": "BackendTrafficPolicy",
            "metadata": {"name": routes[0]},
            "spec": {"targetRefs": targets, **settings},
        }


def _resilience(policy: Policy) -> Manifest:
    found: Manifest = {}
    breaker: Manifest = {}
    health: Manifest = {}
    if policy.retries is not None:
        found["retry"] = _retry(policy.retries)
        breaker["retryBudget"] = {
            "percent": {"numerator": round(10 * budget(policy.retries)), "denominator": 1000},
            "minRetryConcurrency": policy.retries.at_least,
        }
    if policy.breaker is not None:
        limits = {
            "maxParallelRequests": policy.breaker.requests,
            "maxConnections": policy.breaker.connections,
            "maxPendingRequests": policy.breaker.pending,
        }
        breaker |= {name: limit for name, limit in limits.items() if limit}
    if policy.health is not None:
        health["active"] = {
            "type": "GRPC",
            "interval": duration(policy.health.every_s),
            "timeout": duration(policy.health.every_s),
            "unhealthyThreshold": policy.health.unhealthy,
            "healthyThreshold": 1,
        }
    if policy.outliers is not None:
        health["passive"] = {
            "consecutive5XxErrors": policy.outliers.errors,
            "baseEjectionTime": duration(policy.outliers.eject_s),
            "maxEjectionPercent": policy.outliers.at_most,
        }
    if policy.slow_start_s:
        found["loadBalancer"] = {"type": "LeastRequest", "slowStart": {"window": duration(policy.slow_start_s)}}
    return found | {name: part for name, part in (("circuitBreaker", breaker), ("healthCheck", health)) if part}


def _retry(retries: Retries) -> Manifest:
    per_retry: Manifest = {"backOff": {"baseInterval": duration(retries.backoff_s)}}
    if retries.per_try_s:
        per_retry["timeout"] = duration(retries.per_try_s)
    return {
        "numRetries": retries.attempts - 1,
        "retryOn": {"triggers": retry_on(retries)},
        "perRetry": per_retry,
    }


TARGET = Target("envoy-gateway", "GRPCRoutes with BackendTrafficPolicies for timeouts and resilience", _render)
