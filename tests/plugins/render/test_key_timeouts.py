"""Timeouts of requests with a routing key, which does not say for which use case it was decided."""

from typing import Any

import pytest

from tests.plugins.render.agreement import documents_of, render


def use_case(timeout: str, default: str, **fields: Any) -> dict[str, Any]:
    return {"callers": ["homepage"], "api": "ranking.v1", "timeout": timeout, "default": default, **fields}


SHARED = {
    "use_cases": {
        "Rows": use_case("250ms", "m@v1"),
        "Slow": use_case("2s", "m@v1"),
        "Search": use_case("500ms", "m@v2"),
        "Pins": use_case("300ms", "m@v3", override=["homepage"]),
        "Fraud": use_case("5s", "fraud@v1") | {"api": "fraud.v1"},
    },
    "models": {
        "m": {"versions": {f"v{number}": {"cluster": "c"} for number in range(1, 4)}},
        "fraud": {"versions": {"v1": {"cluster": "c"}}},
        "unused": {"versions": {"v1": {"cluster": "c"}}},
    },
    "clusters": {"c": {"replicas": 1}},
}
"""Use cases with other timeouts, some of which share a routing key; *Pins* may use all of its API."""
TIMEOUTS = {"m.v1": "2000ms", "m.v2": "500ms", "m.v3": "300ms", "fraud.v1": "5000ms", "unused.v1": None}


def timeouts_of_keys(target: str) -> dict[str, Any]:
    """Routing key → the timeout of its requests, as the documents say."""
    documents = documents_of(render(target, SHARED))
    if target == "istio":
        [service] = [each for each in documents if each["kind"] == "VirtualService"]
        routes = service["spec"]["http"]
        return {route["name"]: route.get("timeout") for route in routes if "/" not in route["name"]}
    of_route = {
        to["name"]: each["spec"]["timeout"]["http"]["requestTimeout"]
        for each in documents
        if each["kind"] == "BackendTrafficPolicy"
        for to in each["spec"]["targetRefs"]
    }
    found = {}
    for each in documents:
        if each["kind"] == "GRPCRoute":
            name, annotations = each["metadata"]["name"], each["metadata"].get("annotations", {})
            for header in (header for rule in each["spec"]["rules"] for header in rule["matches"][0]["headers"]):
                if header["name"] == "x-routing-key":
                    found[header["value"]] = of_route.get(name, annotations.get("timeout.linkerd.io/request"))
    return found


@pytest.mark.parametrize("target", ["envoy-gateway", "istio", "linkerd"])
def test_a_routing_key_has_the_longest_timeout_of_its_use_cases(target: str) -> None:
    assert timeouts_of_keys(target) == TIMEOUTS


@pytest.mark.parametrize("target", ["envoy-gateway", "istio", "linkerd"])
def test_a_timeout_that_a_shared_key_exceeds_is_listed(target: str) -> None:
    listed = {each.path[1]: each.reason for each in render(target, SHARED).unexpressed if each.path[-1] == "timeout"}

    shared = "a request with a routing key names no use case, and m.v1 also answers one with 2 s"
    assert listed == {"Rows": shared, "Pins": shared}
