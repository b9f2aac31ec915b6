"""The central Envoy of a lab in plaintext, see :mod:`lab.plugins.conform.controls._lab_configured`."""

from __future__ import annotations

from typing import Any

from lab.plugins.conform.control import Control, Document
from lab.plugins.conform.controls._lab_configured import Clusters, Published, cluster_of
from lab.plugins.conform.forms import BY_HEADER, CALLER
from lab.plugins.conform.table import CONDITIONS, METHOD, SHADOW, STICKY, WEIGHTS

_BY_KEY = "it routes on the key alone; a resolver decides before"
_CANNOT = {
    WEIGHTS: _BY_KEY,
    STICKY: _BY_KEY,
    METHOD: _BY_KEY,
    CONDITIONS: _BY_KEY,
    SHADOW: "the caller names the shadow in a header, which these requests lack",
}


def route_table(table: Document) -> tuple[dict[str, Any], Clusters]:
    """A version for each route that needs nothing but the key, and a cluster for each set of models."""
    versions: dict[str, dict[str, Any]] = {}
    clusters, rules = {}, []
    for route in table["routes"]:
        if route.keys() != {"key", "backends"}:
            continue
        model, _, version = route["key"].rpartition(".")
        cluster = cluster_of(route["backends"])
        versions.setdefault(model, {"versions": {}})["versions"][version] = {"cluster": cluster}
        clusters[cluster] = [each["address"] for each in route["backends"]]
        name = f"{model}-{version}"
        rules.append({"name": name, "when": {"segment": [name]}, "use": f"{model}@{version}"})
    use_case = {"callers": [CALLER], "api": "ranking.v1", "timeout": "10s", "default": rules[0]["use"], "rules": rules}
    sizes = {cluster: {"replicas": len(addresses)} for cluster, addresses in clusters.items()}
    return {"use_cases": {"Conform": use_case}, "models": versions, "clusters": sizes}, clusters


_ENVOY = Published(route_table)
CENTRAL_ENVOY = Control(name="central-envoy", only=BY_HEADER, apply=_ENVOY.apply, cannot=_CANNOT, close=_ENVOY.close)
