"""Rendered documents, broken in one place each, and why no schema may accept them."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any, NamedTuple

DELETE = object()


class Broken(NamedTuple):
    """One change of a rendered document.

    Attributes:
        why: the document is wrong.
        kind: of the document, the first of a rendering that has the path.
        path: keys and indices of what is changed; the last key may be new.
        value: what is there instead, or ``DELETE``, or a function of what was there.
    """

    why: str
    kind: str
    path: Sequence[str | int]
    value: Any


def broken(documents: Sequence[dict[str, Any]], change: Broken) -> dict[str, Any]:
    """The document, changed."""
    for document in documents:
        copy = deepcopy(document)
        if kind_of(document) == change.kind and _set(copy, change.path, change.value):
            assert copy != document
            return copy
    raise AssertionError(f"no {change.kind} has {change.path}")


def kind_of(document: dict[str, Any]) -> str:
    return str(document.get("kind", ""))


def _set(part: Any, path: Sequence[str | int], value: Any) -> bool:
    *way, last = path
    for step in way:
        try:
            part = part[step]
        except (KeyError, IndexError):
            return False
    if value is DELETE:
        if last not in part:
            return False
        del part[last]
    else:
        part[last] = value(part[last]) if isinstance(value, Callable) else value  # type: ignore[arg-type] # no type
    return True


_RULE = ("spec", "rules", 0)
_MATCH = (*_RULE, "matches", 0)
_HEADER = (*_MATCH, "headers", 0)
GATEWAY_API = [
    Broken("an unknown field of a route", "GRPCRoute", ("spec", "rulez"), []),
    Broken("an unknown field of a match", "GRPCRoute", (*_MATCH, "path"), "/"),
    Broken("a header without a value", "GRPCRoute", (*_HEADER, "value"), DELETE),
    Broken("an empty value of a header", "GRPCRoute", (*_HEADER, "value"), ""),
    Broken("a header with a blank in its name", "GRPCRoute", (*_HEADER, "name"), "x routing key"),
    Broken("an unknown kind of comparison", "GRPCRoute", (*_HEADER, "type"), "Prefix"),
    Broken("an unknown kind of method match", "GRPCRoute", (*_MATCH, "method", "type"), "Prefix"),
    Broken("a port as text", "GRPCRoute", (*_RULE, "backendRefs", 0, "port"), "9000"),
    Broken("a port that there is not", "GRPCRoute", (*_RULE, "backendRefs", 0, "port"), 70_000),
    Broken("a backend without a name", "GRPCRoute", (*_RULE, "backendRefs", 0, "name"), DELETE),
    Broken("a weight below 0", "GRPCRoute", (*_RULE, "backendRefs", 0, "weight"), -1),
    Broken("17 rules", "GRPCRoute", ("spec", "rules"), lambda rules: rules[:1] * 17),
    Broken("65 matches in a rule", "GRPCRoute", (*_RULE, "matches"), lambda matches: matches[:1] * 65),
    Broken("a filter of no type", "GRPCRoute", (*_RULE, "filters"), [{"requestHeaderModifier": {}}]),
    Broken("another API's kind", "GRPCRoute", ("kind",), "VirtualService"),
    Broken("a Gateway without listeners", "Gateway", ("spec", "listeners"), DELETE),
    Broken("a listener without a protocol", "Gateway", ("spec", "listeners", 0, "protocol"), DELETE),
    Broken("an unknown field of a listener", "Gateway", ("spec", "listeners", 0, "timeout"), "1s"),
    Broken("a policy without a host name", "BackendTLSPolicy", ("spec", "validation", "hostname"), DELETE),
    Broken("a policy for nothing", "BackendTLSPolicy", ("spec", "targetRefs"), DELETE),
]

_HTTP = ("spec", "http", 0)
_POLICY = ("spec", "trafficPolicy")
ISTIO = [
    Broken("an unknown field of a VirtualService", "VirtualService", ("spec", "routes"), []),
    Broken("an unknown field of a route", "VirtualService", (*_HTTP, "timeouts"), "1s"),
    Broken(
        "a header compared by two kinds",
        "VirtualService",
        (*_HTTP, "match", 0, "headers", "x-a"),
        {"exact": "a", "regex": "a"},
    ),
    Broken(
        "a header compared by an unknown kind",
        "VirtualService",
        (*_HTTP, "match", 0, "headers", "x-a"),
        {"equals": "a"},
    ),
    Broken("a destination without a host", "VirtualService", (*_HTTP, "route", 0, "destination", "host"), DELETE),
    Broken("a weight as text", "VirtualService", (*_HTTP, "route", 0, "weight"), "half"),
    Broken("a port as its own number", "VirtualService", (*_HTTP, "route", 0, "destination", "port"), 9000),
    Broken("an unknown field of retries", "VirtualService", (*_HTTP, "retries", "budget"), 20),
    Broken("headers to set as a list", "VirtualService", (*_HTTP, "headers"), {"request": {"set": ["x-routing-key"]}}),
    Broken("an unknown protocol's mode of TLS", "DestinationRule", (*_POLICY, "tls", "mode"), "MTLS"),
    Broken("an unknown field of a pool", "DestinationRule", (*_POLICY, "connectionPool", "grpc"), {}),
    Broken("a limit as text", "DestinationRule", (*_POLICY, "outlierDetection", "maxEjectionPercent"), "thirty"),
    Broken("a rule for no host", "DestinationRule", ("spec", "host"), DELETE),
    Broken("an unknown location", "ServiceEntry", ("spec", "location"), "INSIDE"),
    Broken("an unknown resolution", "ServiceEntry", ("spec", "resolution"), "HOSTS"),
    Broken("no hosts", "ServiceEntry", ("spec", "hosts"), DELETE),
    Broken("a port without a number", "ServiceEntry", ("spec", "ports", 0, "number"), DELETE),
    Broken("another API's kind", "ServiceEntry", ("kind",), "GRPCRoute"),
]
_CLASS = [Broken("a class without a controller", "GatewayClass", ("spec", "controllerName"), DELETE)]
ENVOY_GATEWAY = [
    *GATEWAY_API,
    *_CLASS,
    Broken("an unknown field of a policy", "BackendTrafficPolicy", ("spec", "hedge"), {}),
    Broken("a policy of no route", "BackendTrafficPolicy", ("spec", "targetRefs"), DELETE),
    Broken("an unknown trigger", "BackendTrafficPolicy", ("spec", "retry", "retryOn", "triggers"), ["sometimes"]),
    Broken("a duration without a unit", "BackendTrafficPolicy", ("spec", "timeout", "http", "requestTimeout"), "250"),
    Broken(
        "a budget without percents",
        "BackendTrafficPolicy",
        ("spec", "circuitBreaker", "retryBudget", "percent"),
        DELETE,
    ),
    Broken(
        "more than all replicas", "BackendTrafficPolicy", ("spec", "healthCheck", "passive", "maxEjectionPercent"), 130
    ),
    Broken("an unknown kind of check", "BackendTrafficPolicy", ("spec", "healthCheck", "active", "type"), "gRPC"),
    Broken("an unknown balancer", "BackendTrafficPolicy", ("spec", "loadBalancer", "type"), "Best"),
    Broken("an unknown field of a proxy", "EnvoyProxy", ("spec", "clientCertificateRef"), {}),
    Broken(
        "callers checked by nothing",
        "ClientTrafficPolicy",
        ("spec", "tls", "clientValidation", "caCertificateRefs"),
        [],
    ),
]
LINKERD = [
    *(each for each in GATEWAY_API if each.kind == "GRPCRoute"),
    Broken("9 matches in a rule", "GRPCRoute", (*_RULE, "matches"), lambda matches: matches[:1] * 9),
    Broken("a Service without ports", "Service", ("spec", "ports"), []),
    Broken("an unknown field of a Service", "Service", ("spec", "backends"), []),
    Broken("a port name that is too long", "Service", ("spec", "ports", 0, "name"), "grpc-of-the-models"),
    Broken("an annotation that is not text", "GRPCRoute", ("metadata", "annotations"), {"retry.linkerd.io/limit": 2}),
]
_SERVICE = ("services", 0)
_ROUTE = (*_SERVICE, "routes", 0)
KONG = [
    Broken("another version of the format", "", ("_format_version",), "1.1"),
    Broken("a format without quotes", "", ("_format_version",), 3.0),
    Broken("an unknown section", "", ("upstream",), []),
    Broken("a service without a host", "", (*_SERVICE, "host"), DELETE),
    Broken("an unknown field of a service", "", (*_SERVICE, "timeout"), 250),
    Broken("a protocol that carries no gRPC", "", (*_SERVICE, "protocol"), "tcp"),
    Broken("a client certificate for gRPC", "", (*_SERVICE, "client_certificate"), {"id": "5d0a4a0e"}),
    Broken("verification of a gRPC service", "", (*_SERVICE, "tls_verify"), value=True),
    Broken("a path of a gRPC service", "", (*_SERVICE, "path"), "/"),
    Broken("a route without an expression", "", (*_ROUTE, "expression"), DELETE),
    Broken("headers beside an expression", "", (*_ROUTE, "headers"), {"x-routing-key": ["a"]}),
    Broken("a priority below 0", "", (*_ROUTE, "priority"), -1),
    Broken("a name with a slash", "", (*_ROUTE, "name"), "a/b"),
    Broken("an unknown plugin", "", (*_ROUTE, "plugins"), [{"name": "rename", "config": {}}]),
    Broken(
        "a header without a value",
        "",
        (*_ROUTE, "plugins"),
        [{"name": "request-transformer", "config": {"add": {"headers": ["x"]}}}],
    ),
    Broken(
        "a header to remove, with a value",
        "",
        (*_ROUTE, "plugins"),
        [{"name": "request-transformer", "config": {"remove": {"headers": ["x:y"]}}}],
    ),
]
_GROUP = ("Resources", "TargetGroupmlZclusterZ1", "Properties")
_LISTENER_RULE = ("Resources", "Rule1", "Properties")
_HEADER_CONFIG = (*_LISTENER_RULE, "Conditions", 0, "HttpHeaderConfig")
AWS = [
    Broken("an unknown property of a target group", "", (*_GROUP, "Stickiness"), "yes"),
    Broken("several versions of the protocol", "", (*_GROUP, "ProtocolVersion"), ["GRPC", "HTTP2"]),
    Broken("a port that there is not", "", (*_GROUP, "Port"), 70_000),
    Broken("a kind of target that there is not", "", (*_GROUP, "TargetType"), "pod"),
    Broken("a check more often than allowed", "", (*_GROUP, "HealthCheckIntervalSeconds"), 1),
    Broken("a rule without a priority", "", (*_LISTENER_RULE, "Priority"), DELETE),
    Broken("a rule without actions", "", (*_LISTENER_RULE, "Actions"), DELETE),
    Broken("an action of no type", "", (*_LISTENER_RULE, "Actions", 0, "Type"), DELETE),
    Broken("a header's values as text", "", (*_HEADER_CONFIG, "Values"), {"a": "b"}),
    Broken("an unknown property of a condition", "", (*_HEADER_CONFIG, "Regex"), "a"),
    Broken("a group that there is not", "", (*_LISTENER_RULE, "Actions", 0, "TargetGroupArn"), {"Ref": "Nowhere"}),
    Broken("an unknown resource", "", ("Resources", "Listener", "Type"), "AWS::ElasticLoadBalancingV2::Ear"),
    Broken("a listener without an action", "", ("Resources", "Listener", "Properties", "DefaultActions"), DELETE),
]

CORPUS = {
    "aws": AWS,
    "envoy-gateway": ENVOY_GATEWAY,
    "gateway-api": GATEWAY_API,
    "istio": ISTIO,
    "kong": KONG,
    "linkerd": LINKERD,
}
"""Target → its broken documents."""
