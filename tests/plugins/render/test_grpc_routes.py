"""What the schemas cannot say of GRPCRoutes: limits over several fields, references, names."""

import re
from typing import Any

import pytest

from lab.plugins.render._decisions import TooManyError, entries_of
from lab.plugins.render._grpc_routes import MAX_MATCHES, kubernetes_names
from lab.plugins.render._target import REFUSED
from lab.routing.compiled import Router
from lab.routing.document import RouteTable
from tests.plugins.render.agreement import EVERYTHING, documents_of, expected, render
from tests.plugins.render.dialects import gateway_api
from tests.plugins.render.dialects.answer import Request

NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
GATEWAY_API = ["envoy-gateway", "gateway-api", "linkerd"]


def table(rules: list[dict[str, Any]]) -> dict[str, Any]:
    use_case = {"callers": ["homepage"], "api": "ranking.v1", "timeout": "1s", "default": "m@v1", "rules": rules}
    return {
        "use_cases": {"Rows": use_case},
        "models": {"m": {"versions": {f"v{number}": {"cluster": "c"} for number in range(1, 30)}}},
        "clusters": {"c": {"replicas": 1}},
    }


@pytest.mark.parametrize("target", GATEWAY_API)
def test_names_and_references_hold(target: str) -> None:
    documents = documents_of(render(target, EVERYTHING))
    names = [(each["kind"], each["metadata"]["name"]) for each in documents]

    assert len(set(names)) == len(names)
    assert all(NAME.fullmatch(name) for _, name in names)
    for route in (each for each in documents if each["kind"] == "GRPCRoute"):
        backends = [to["name"] for rule in route["spec"]["rules"] for to in rule.get("backendRefs", [])]
        assert set(backends) <= set(EVERYTHING["clusters"])


def test_use_cases_that_look_alike_have_names_of_their_own() -> None:
    assert kubernetes_names(["UpNext", "Upnext", "upNext"]) == {
        "UpNext": "up-next",
        "Upnext": "upnext",
        "upNext": "up-next-2",
    }


def test_many_routing_keys_take_several_routes() -> None:
    routes = [each for each in documents_of(render("gateway-api", table([]))) if each["kind"] == "GRPCRoute"]

    assert [route["metadata"]["name"] for route in routes] == ["keys-1", "keys-2", "rows"]
    assert [len(route["spec"]["rules"]) for route in routes] == [16, 13, 1]


def test_rules_that_one_route_cannot_hold_are_refused_and_listed() -> None:
    rules = [{"name": f"r{n}", "when": {"device": [f"d{n}"]}, "use": f"m@v{n}"} for n in range(1, 20)]
    rendering = render("gateway-api", table(rules))

    [cannot] = [each for each in rendering.unexpressed if each.instead == REFUSED]
    assert (cannot.path, cannot.reason) == (
        ("use_cases", "Rows"),
        "its rules need 20 rules, and a GRPCRoute holds 16",
    )
    request = Request("ranking.v1.Ranking", "Rank", {"x-use-case": "Rows", "x-caller": "homepage", "x-device": "d1"})
    assert gateway_api.answer(documents_of(rendering), request) == {}
    assert expected(table(rules), "Rows", {"caller": "homepage", "device": "d1"}, set()) == {("c", "m.v1"): 100}


def test_matches_of_all_rules_of_a_route_have_a_limit() -> None:
    values = [f"v{number}" for number in range(12)]
    rules = [{"name": "r", "when": {"device": values, "country": values}, "use": "m@v2"}]
    rendering = render("gateway-api", table(rules))

    assert f"its rules need 145 matches, and a GRPCRoute holds {MAX_MATCHES}" in {
        each.reason for each in rendering.unexpressed
    }


def test_negations_that_become_too_many_entries_are_refused() -> None:
    others = [[f"x{each}" for each in range(12) if each != number] for number in range(12)]
    rules = [
        {"name": f"r{number}", "when": {"device": values, "not": {"country": values}}, "use": f"m@v{number + 2}"}
        for number, values in enumerate(others)
    ]

    with pytest.raises(TooManyError, match="without 'not' its rules are more than 500 conditions on headers"):
        entries_of(Router.of_document(table(rules)).use_cases["Rows"], RouteTable.of_valid(table(rules)))
