"""Parts of route tables and specs that proxies cannot express, with the reasons that targets share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from lab.plugins.render._target import REFUSED, Source, Unexpressed

if TYPE_CHECKING:
    from lab.routing.checks import Path
    from lab.routing.rules import Target as RuleTarget
    from lab.routing.rules import UseCase


class Limitation(NamedTuple):
    """Why a target cannot express a field of the route table, and what its rendering does instead."""

    reason: str
    instead: str


Reasons = Mapping[str, Limitation]
"""Field of a use case, ``retries`` or ``retries.budget``, or of a cluster or tenant → why it is not expressed."""

_SHARDS = Limitation("the proxy cannot choose a shard of the version, as the resolver does", REFUSED)
_EXTENSIONS = "the core of Gateway API has no such setting"
CORE: Reasons = {
    "shadow": Limitation(
        "a copy has the routing key of the version that answers, which the shadow refuses", "no copies"
    ),
    "fallback": Limitation("a proxy tries another replica, but no other model version", "the error reaches the caller"),
    "hedge": Limitation("the proxy sends no second attempt beside a slow first one", "one attempt at a time"),
    "clusters.failover": Limitation(
        "the proxy has no second cluster for a version", "UNAVAILABLE while the cluster is down"
    ),
    "slo": Limitation("the proxy does not predict how long a replica takes", "its own choice of a replica"),
    "tenants": Limitation("the proxy has no limit for each tenant", "no limit"),
}
"""What no target expresses."""
GATEWAY_API: Reasons = {
    **CORE,
    **{
        field: Limitation(_EXTENSIONS, "the proxy's own default")
        for field in ("retries", "outliers", "breaker", "health", "slow_start")
    },
    "timeout": Limitation("GRPCRoute has no timeout", "the caller's deadline ends the request"),
}


def unexpressed_settings(document: Mapping[str, Any], reasons: Reasons) -> Iterator[Unexpressed]:
    """The settings of a route table that have one of these reasons, and parameters of versions."""
    for name, use_case in document["use_cases"].items():
        for field, why in reasons.items():
            section, *inner = field.split(".")
            if section in use_case:
                yield Unexpressed(("use_cases", name, section, *inner), *why)
    for model, entry in document["models"].items():
        configured = (version for version, runs in entry["versions"].items() if runs.get("config"))
        yield from (_config(("models", model, "versions", version, "config")) for version in configured)
    if failover := reasons.get("clusters.failover"):
        standing_in = (name for name, cluster in document["clusters"].items() if "failover" in cluster)
        yield from (Unexpressed(("clusters", name, "failover"), *failover) for name in standing_in)
    if limits := reasons.get("tenants"):
        yield from (Unexpressed(("tenants", tenant), *limits) for tenant in document.get("tenants", {}))


def unexpressed_security(source: Source, why: Limitation) -> Iterator[Unexpressed]:
    """Mutual TLS between the proxy and the models, where the lab has it and the target does not."""
    if source.mtls:
        yield Unexpressed(("security", "mode"), *why, in_spec=True)


def expressed_otherwise(use_case: UseCase, document: Mapping[str, Any]) -> Iterator[Unexpressed]:
    """What the rules of a use case mean beyond headers and weights: units of draws, and parameters."""
    if _has_shards(use_case.default, document):
        yield Unexpressed(("use_cases", use_case.name, "default"), *_SHARDS)
    for number, rule in enumerate(use_case.rules):
        path: Path = ("use_cases", use_case.name, "rules", number)
        if any(_has_shards(target, document) for target in rule.targets):
            yield Unexpressed(path, *_SHARDS)
        written = document["use_cases"][use_case.name]["rules"][number]
        if rule.draw is not None and len(rule.draw.shares) > 1:
            yield Unexpressed(
                path,
                f"the proxy draws for each request, not by {rule.draw.unit}",
                f"the shares hold, but the same {rule.draw.unit} may get another version with each request",
            )
        if written.get("config"):
            yield _config((*path, "config"))
        for cell, arm in written.get("experiment", {}).get("cells", {}).items():
            if arm.get("config"):
                yield _config((*path, "experiment", "cells", cell, "config"))


def _has_shards(target: RuleTarget, document: Mapping[str, Any]) -> bool:
    model, version = target.key.split(".")
    return not isinstance(document["models"][model]["versions"][version]["cluster"], str)


def _config(path: Path) -> Unexpressed:
    return Unexpressed(
        path,
        "parameters travel in the body, which a proxy does not write",
        "a request that no resolver has decided must have them in its body",
    )
