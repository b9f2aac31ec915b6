"""The gateways of a lab in plaintext, see :mod:`lab.plugins.conform.controls._lab_configured`."""

from __future__ import annotations

from typing import Any

from lab.plugins.conform.control import Control, Document
from lab.plugins.conform.controls._lab_configured import Clusters, Published, cluster_of
from lab.plugins.conform.forms import BY_ENVELOPE, CALLER
from lab.plugins.conform.table import CONDITIONS

_CANNOT = {CONDITIONS: "each use case has a default version, so no request of it matches nothing"}


def route_table(table: Document) -> tuple[dict[str, Any], Clusters]:
    """A use case and a model for each key, and a cluster for each set of models."""
    use_cases: dict[str, Any] = {}
    models: dict[str, Any] = {}
    clusters: dict[str, list[str]] = {}
    for route in table["routes"]:
        if "conditions" in route:
            continue
        key, backends = route["key"], route["backends"]
        versions: dict[str, Any] = {}
        models[key] = {"versions": versions}

        def use(*replicas: dict[str, Any], key: str = key, versions: dict[str, Any] = versions) -> str:
            """A new version of the key's model, which runs on these."""
            name, cluster = f"v{len(versions) + 1}", cluster_of(replicas)
            versions[name] = {"cluster": cluster}
            clusters[cluster] = [each["address"] for each in replicas]
            return f"{key}@{name}"

        use_case: dict[str, Any] = {"callers": [CALLER], "api": "ranking.v1", "timeout": "30s"}
        if len({each["weight"] for each in backends}) > 1:
            weights = {use(each): each["weight"] for each in backends if each["weight"]}
            use_case["rules"] = [{"name": "split", "split": {"unit": "user_id", "weights": weights}}]
            use_case["default"] = next(iter(weights))
        else:
            use_case["default"] = use(*backends)
        if "shadow" in route:
            use_case["shadow"] = {"use": use(route["shadow"]), "percent": 100}
        use_cases[key] = use_case
    sizes = {cluster: {"replicas": len(addresses)} for cluster, addresses in clusters.items()}
    return {"use_cases": use_cases, "models": models, "clusters": sizes}, clusters


_GATEWAY = Published(route_table)
GATEWAY = Control(name="gateway", only=BY_ENVELOPE, apply=_GATEWAY.apply, cannot=_CANNOT, close=_GATEWAY.close)
