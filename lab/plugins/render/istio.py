"""Istio: one VirtualService, and for each model version a ServiceEntry and a DestinationRule."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from lab.identity.names import TRUST_DOMAIN, host_name
from lab.plugins.render._decisions import USE_CASE_HEADER, Cube, Entry, TooManyError, entries_of, header_of, in_header
from lab.plugins.render._target import REFUSED, Rendering, Source, Target, Unexpressed, yaml_of
from lab.plugins.render._timeouts import exceeded_timeouts, timeouts_of_keys
from lab.plugins.render._unexpressed import CORE, Limitation, Reasons, expressed_otherwise, unexpressed_settings
from lab.routing.compiled import Router
from lab.routing.headers import FORGEABLE
from lab.routing.keys import HEADER
from lab.routing.uses import policies_of

if TYPE_CHECKING:
    from lab.routing.document import RouteTable
    from lab.routing.resilience import Policy, Retries
    from lab.routing.rules import UseCase

Manifest = dict[str, Any]

HOST = f"models.{TRUST_DOMAIN}"
"""The host that callers connect to."""
PORT = 9000
API = "networking.istio.io/v1"
_ALL = 100
_IDENTITY = "/etc/lab-identity"
_COMMENT = f"""\
Callers connect to {HOST}:{PORT}, in plaintext to their own sidecar; Istio's DNS proxy resolves the name.
A request with a routing key goes to its model version; any other is decided by its headers.
An endpoint's address is the name of a model cluster: write its address where it runs elsewhere."""
_TLS_COMMENT = f"""\
Models check certificates of the lab's authority: mount them into sidecars at {_IDENTITY}
by the annotations sidecar.istio.io/userVolume and userVolumeMount."""

REASONS: Reasons = {
    **CORE,
    "health": Limitation(
        "Istio leaves active health checks to Kubernetes' probes",
        "a replica that its probe finds not ready gets no requests",
    ),
}


_REFUSAL: Manifest = {"directResponse": {"status": 503}}
_WITHOUT_PICKS: Manifest = {"headers": {"request": {"remove": [*FORGEABLE]}}}


def _render(source: Source) -> Rendering:
    table = source.table
    policies, timeouts = policies_of(table), timeouts_of_keys(table)
    routes = [_route_of_key(key, timeouts.get(key), policies.get(key)) for key in table.versions]
    unexpressed = [*exceeded_timeouts(table)]
    for use_case in Router.of_document(table.document).use_cases.values():
        unexpressed += expressed_otherwise(use_case, table.document)
        try:
            routes += [_route(use_case, entry) for entry in entries_of(use_case, table)]
        except TooManyError as error:
            unexpressed.append(Unexpressed(("use_cases", use_case.name), str(error), REFUSED))
            match = [{"headers": {USE_CASE_HEADER: {"exact": use_case.name}}}]
            routes.append({"name": use_case.name, "match": match, **_REFUSAL})
    service = {
        "apiVersion": API,
        "kind": "VirtualService",
        "metadata": {"name": "models"},
        "spec": {"hosts": [HOST], "http": routes},
    }
    files = {
        "virtual-service.yaml": yaml_of([service], _COMMENT),
        "service-entries.yaml": yaml_of([_entry("models", HOST), *_entries(table)]),
        "destination-rules.yaml": yaml_of(_destinations(source), _TLS_COMMENT if source.mtls else ""),
    }
    return Rendering(files, (*unexpressed, *unexpressed_settings(table.document, REASONS)))


def _route_of_key(key: str, timeout_s: float | None, policy: Policy | None) -> Manifest:
    return {
        "name": key,
        "match": [{"headers": {HEADER: {"exact": key}}}],
        **_WITHOUT_PICKS,
        "route": [{"destination": _destination(key)}],
        **({"timeout": duration(timeout_s)} if timeout_s is not None else {}),
        "retries": _retries(policy),
    }


def _route(use_case: UseCase, entry: Entry) -> Manifest:
    requests = {
        "name": f"{use_case.name}/{entry.rule}",
        "match": [{"headers": {USE_CASE_HEADER: {"exact": use_case.name}, **_headers(entry.where)}}],
    }
    if not entry.shares:
        return {**requests, **_REFUSAL}
    to: list[Manifest] = [
        {
            "destination": _destination(key),
            "headers": {"request": {"set": {HEADER: key}}},
            **({"weight": share} if len(entry.shares) > 1 else {}),
        }
        for key, share in entry.shares.items()
    ]
    return {
        **requests,
        **_WITHOUT_PICKS,
        "route": to,
        "timeout": duration(use_case.timeout_s),
        "retries": _retries(use_case.policy),
    }


def _headers(where: Cube) -> Manifest:
    found: Manifest = {}
    for field, values in where.items():
        options = sorted(map(in_header, values or ()))
        if len(options) == 1:
            found[header_of(field)] = {"exact": options[0]}
        else:
            found[header_of(field)] = {"regex": "|".join(map(re.escape, options)) or ".+"}
    return found


def _retries(policy: Policy | None) -> Manifest:
    """Retries of a route; without a policy none, as Istio's own default is two."""
    retries = policy.retries if policy is not None else None
    if retries is None:
        return {"attempts": 0}
    return {
        "attempts": retries.attempts - 1,
        "retryOn": ",".join(retry_on(retries)),
        "backoff": duration(retries.backoff_s),
        **({"perTryTimeout": duration(retries.per_try_s)} if retries.per_try_s else {}),
    }


def retry_on(retries: Retries) -> list[str]:
    """Envoy's names for what is retried: unavailable includes replicas that cannot be reached or reset."""
    own = ["connect-failure", "refused-stream", "reset"] if "unavailable" in retries.on else []
    return [*retries.on, *own]


def _destination(key: str) -> Manifest:
    return {"host": _host(key), "port": {"number": PORT}}


def _host(key: str) -> str:
    return f"{key}.{HOST}"


def _entries(table: RouteTable) -> Iterator[Manifest]:
    for key, version in table.versions.items():
        yield _entry(key, _host(key), version.cluster)


def _entry(name: str, host: str, address: str = "") -> Manifest:
    return {
        "apiVersion": API,
        "kind": "ServiceEntry",
        "metadata": {"name": name},
        "spec": {
            "hosts": [host],
            "location": "MESH_EXTERNAL",
            "ports": [{"number": PORT, "name": "grpc", "protocol": "GRPC"}],
            "resolution": "DNS",
            **({"endpoints": [{"address": address}]} if address else {}),
        },
    }


def _destinations(source: Source) -> Iterator[Manifest]:
    policies = policies_of(source.table)
    for key, version in source.table.versions.items():
        name = host_name(f"model/{version.cluster}")
        tls: Manifest = {
            "mode": "MUTUAL",
            "clientCertificate": f"{_IDENTITY}/tls.crt",
            "privateKey": f"{_IDENTITY}/tls.key",
            "caCertificates": f"{_IDENTITY}/ca.crt",
            "sni": name,
            "subjectAltNames": [name],
        }
        policy = {"tls": tls if source.mtls else {"mode": "DISABLE"}, **_traffic_policy(policies.get(key))}
        yield {
            "apiVersion": API,
            "kind": "DestinationRule",
            "metadata": {"name": key},
            "spec": {"host": _host(key), "trafficPolicy": policy},
        }


def _traffic_policy(policy: Policy | None) -> Manifest:
    found: Manifest = {}
    if policy is None:
        return found
    if (breaker := policy.breaker) is not None:
        http = {"http2MaxRequests": breaker.requests, "http1MaxPendingRequests": breaker.pending}
        tcp = {"maxConnections": breaker.connections}
        found["connectionPool"] = {name: some for name, part in (("tcp", tcp), ("http", http)) if (some := _set(part))}
    if (outliers := policy.outliers) is not None:
        found["outlierDetection"] = {
            "consecutive5xxErrors": outliers.errors,
            "baseEjectionTime": duration(outliers.eject_s),
            "maxEjectionPercent": outliers.at_most,
        }
    if policy.slow_start_s:
        found["loadBalancer"] = {"simple": "LEAST_REQUEST", "warmup": {"duration": duration(policy.slow_start_s)}}
    if policy.retries is not None:
        share, least = budget(policy.retries), policy.retries.at_least
        found["retryBudget"] = {"percent": share, "minRetryConcurrency": least}
    return found


def budget(retries: Retries) -> float:
    """Envoy's budget in percent: of all active requests including retries, while the table's is of first attempts."""
    return round(_ALL * retries.budget / (_ALL + retries.budget), 1)


def _set(part: Mapping[str, int]) -> dict[str, int]:
    return {name: value for name, value in part.items() if value}


def duration(seconds: float) -> str:
    """A duration in whole milliseconds, ``250ms``."""
    return f"{round(seconds * 1000)}ms"


TARGET = Target("istio", "VirtualService, DestinationRule and ServiceEntry", _render)
