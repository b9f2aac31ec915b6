"""AWS: an Application Load Balancer with gRPC target groups, as a CloudFormation template.

API Gateway has no gRPC upstream. A load balancer has, but sets no header, so it routes only requests with a routing
key, which a resolver has decided.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lab.plugins.render._target import REFUSED, Rendering, Source, Target, Unexpressed, yaml_of
from lab.plugins.render._unexpressed import CORE, Limitation, Reasons, unexpressed_security, unexpressed_settings
from lab.routing.compiled import Router
from lab.routing.keys import HEADER
from lab.routing.uses import keys_in, policies_of

if TYPE_CHECKING:
    from lab.routing.document import RouteTable
    from lab.routing.resilience import Policy

PORT = 9000
MOST_VALUES = 5
"""Values in all conditions of one listener rule, by the quotas of load balancers."""
MOST_RULES = 100
"""Rules of a load balancer, unless AWS raises the quota."""
_SLOW_START = range(30, 901)
_EVERY = range(5, 301)
_UNHEALTHY = range(2, 11)
_COMMENT = """\
API Gateway has no gRPC upstream, so this is a load balancer: its listener's rules route on the routing key.
Register the replicas of each model cluster in its target group."""
_TLS = Limitation(
    "a load balancer presents no certificate to its targets and checks none of theirs",
    "it encrypts, and models that ask for a certificate refuse its connections",
)
_CASE = Limitation(
    "a load balancer compares values of headers without regard to case",
    "a routing key in capitals also reaches its cluster",
)
_PICKS = Limitation(
    "a load balancer removes no header of a request", "models get headers of picks that a client has forged"
)
_TOO_MANY = Limitation(
    f"a load balancer has {MOST_RULES} listener rules, each for up to {MOST_VALUES} keys of one cluster",
    "requests with its routing key are refused",
)
_DECIDES = Limitation(
    "a load balancer sets no header, so replicas with several versions cannot tell which is meant; "
    "API Gateway has no gRPC upstream",
    REFUSED,
)
REASONS: Reasons = {
    **CORE,
    "timeout": Limitation("a load balancer limits idle time, not the time of a request", "the caller's deadline"),
    "retries": Limitation("a load balancer sends each request once", "no retry"),
    "outliers": Limitation("a load balancer ejects by its health checks only", "no ejection by failures"),
    "breaker": Limitation("a load balancer has no limit of requests in flight", "no limit"),
}


def _render(source: Source) -> Rendering:
    table = source.table
    policies = _policies(table)
    by_cluster: dict[str, list[str]] = {}
    for key, version in table.versions.items():
        by_cluster.setdefault(version.cluster, []).append(key)
    resources: dict[str, Any] = {"LoadBalancer": _LOAD_BALANCER, "Listener": _LISTENER}
    for cluster in by_cluster:
        resources[f"TargetGroup{_logical(cluster)}"] = _target_group(source, cluster, policies[cluster])
    rules = [
        (cluster, keys[start : start + MOST_VALUES])
        for cluster, keys in by_cluster.items()
        for start in range(0, len(keys), MOST_VALUES)
    ]
    for priority, (cluster, keys) in enumerate(rules[:MOST_RULES], 1):
        resources[f"Rule{priority}"] = _rule(priority, cluster, keys)
    template = {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": "Routes gRPC requests to model clusters by their routing key.",
        "Parameters": _PARAMETERS,
        "Resources": resources,
    }
    unexpressed = (
        *unexpressed_security(source, _TLS),
        Unexpressed(("models",), *_CASE),
        Unexpressed(("models",), *_PICKS),
        *_rules_of(table),
        *unexpressed_settings(table.document, REASONS),
        *_bounds(table, policies),
        *(_without_rule(table, key) for _, keys in rules[MOST_RULES:] for key in keys),
    )
    return Rendering({"load-balancer.yaml": yaml_of([template], _COMMENT)}, unexpressed)


def _rules_of(table: RouteTable) -> Iterator[Unexpressed]:
    for name, use_case in table.document["use_cases"].items():
        yield Unexpressed(("use_cases", name, "default"), *_DECIDES)
        for number, _ in enumerate(use_case.get("rules", ())):
            yield Unexpressed(("use_cases", name, "rules", number), *_DECIDES)


def _bounds(table: RouteTable, policies: Mapping[str, Policy | None]) -> Iterator[Unexpressed]:
    """Settings that a target group has, but not with this value, or not for one of several versions."""
    for name, use_case in Router.of_document(table.document).use_cases.items():
        policy = use_case.policy
        if policy is None:
            continue
        shared = any(policies[table.versions[key].cluster] != policy for key in keys_in(table, use_case.answering))
        alone = Limitation(
            "a target group has one setting for all versions of a cluster", "the load balancer's default"
        )
        if policy.health is not None and (shared or not _checks(policy)):
            bounds = Limitation("a target group is checked every 5 to 300 s, and fails after 2 to 10", "every 30 s")
            yield Unexpressed(("use_cases", name, "health"), *(alone if shared else bounds))
        if policy.slow_start_s and (shared or not _starts_slowly(policy)):
            bounds = Limitation("the slow start of a target group takes 30 to 900 whole seconds", "no slow start")
            yield Unexpressed(("use_cases", name, "slow_start"), *(alone if shared else bounds))


def _without_rule(table: RouteTable, key: str) -> Unexpressed:
    version = table.versions[key]
    return Unexpressed(("models", version.model, "versions", version.version), *_TOO_MANY)


def _policies(table: RouteTable) -> dict[str, Policy | None]:
    """Cluster → the one policy of all versions in it; None if they have none, or several."""
    of_key = policies_of(table)
    found: dict[str, set[Policy | None]] = {}
    for key, version in table.versions.items():
        found.setdefault(version.cluster, set()).add(of_key.get(key))
    return {cluster: next(iter(mine)) if len(mine) == 1 else None for cluster, mine in found.items()}


def _checks(policy: Policy) -> bool:
    health = policy.health
    return health is not None and health.every_s in _EVERY and health.unhealthy in _UNHEALTHY


def _starts_slowly(policy: Policy) -> bool:
    return policy.slow_start_s in _SLOW_START


def _target_group(source: Source, cluster: str, policy: Policy | None) -> dict[str, Any]:
    protocol = "HTTPS" if source.mtls else "HTTP"
    health: dict[str, Any] = {
        "HealthCheckEnabled": True,
        "HealthCheckPath": "/grpc.health.v1.Health/Check",
        "HealthCheckProtocol": protocol,
        "Matcher": {"GrpcCode": "0"},
    }
    attributes = []
    if policy is not None and policy.health is not None and _checks(policy):
        every = round(policy.health.every_s)
        health |= {
            "HealthCheckIntervalSeconds": every,
            "HealthCheckTimeoutSeconds": every - 1,
            "UnhealthyThresholdCount": policy.health.unhealthy,
        }
    if policy is not None and _starts_slowly(policy):
        attributes = [{"Key": "slow_start.duration_seconds", "Value": str(round(policy.slow_start_s))}]
    return {
        "Type": "AWS::ElasticLoadBalancingV2::TargetGroup",
        "Properties": {
            "VpcId": {"Ref": "Vpc"},
            "TargetType": "ip",
            "Port": PORT,
            "Protocol": protocol,
            "ProtocolVersion": "GRPC",
            **health,
            **({"TargetGroupAttributes": attributes} if attributes else {}),
            "Tags": [{"Key": "cluster", "Value": cluster}],
        },
    }


def _rule(priority: int, cluster: str, keys: Sequence[str]) -> dict[str, Any]:
    condition = {"Field": "http-header", "HttpHeaderConfig": {"HttpHeaderName": HEADER, "Values": list(keys)}}
    return {
        "Type": "AWS::ElasticLoadBalancingV2::ListenerRule",
        "Properties": {
            "ListenerArn": {"Ref": "Listener"},
            "Priority": priority,
            "Conditions": [condition],
            "Actions": [{"Type": "forward", "TargetGroupArn": {"Ref": f"TargetGroup{_logical(cluster)}"}}],
        },
    }


def _logical(cluster: str) -> str:
    """A cluster's name in a logical id, which has letters and digits only; ``Z`` stands for a dash."""
    return re.sub("-", "Z", cluster)


_PARAMETERS: Mapping[str, Any] = {
    "Vpc": {"Type": "AWS::EC2::VPC::Id"},
    "Subnets": {"Type": "List<AWS::EC2::Subnet::Id>"},
    "SecurityGroups": {"Type": "List<AWS::EC2::SecurityGroup::Id>"},
    "Certificate": {"Type": "String", "Description": "ARN of the listener's certificate."},
}
_LOAD_BALANCER = {
    "Type": "AWS::ElasticLoadBalancingV2::LoadBalancer",
    "Properties": {
        "Type": "application",
        "Scheme": "internal",
        "Subnets": {"Ref": "Subnets"},
        "SecurityGroups": {"Ref": "SecurityGroups"},
    },
}
_NOT_FOUND = {"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "503", "ContentType": "text/plain"}}
_LISTENER = {
    "Type": "AWS::ElasticLoadBalancingV2::Listener",
    "Properties": {
        "LoadBalancerArn": {"Ref": "LoadBalancer"},
        "Port": 443,
        "Protocol": "HTTPS",
        "Certificates": [{"CertificateArn": {"Ref": "Certificate"}}],
        "DefaultActions": [_NOT_FOUND],
    },
}

TARGET = Target("aws", "a load balancer's listener rules and gRPC target groups, as CloudFormation", _render)
