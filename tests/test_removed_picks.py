"""Each proxy that the lab runs or renders removes headers of picks that a client may have forged, or need not."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
import yaml

from lab import FILES
from lab.plugins.bench.harness.topology_rounds import static_envoy
from lab.plugins.conform.controls._envoy import routes
from lab.plugins.render import TARGETS
from lab.routing.headers import FORGEABLE
from lab.topologies import TOPOLOGIES
from tests.e2e.test_forged_picks import ROLES
from tests.plugins.endpoint_picker.test_topology import CLOSED, OPEN, WITH_BODIES
from tests.plugins.render.agreement import EVERYTHING, documents_of, render

NEED_NOT = {
    "direct": "nothing stands before the model: who calls it may as well pick its replica",
    "direct-vip": "the VIP passes bytes on (L4), and reads no header",
    "proxyless": "the caller's own gRPC library sends to the model: nothing stands between",
    "mesh-unleased": "its sidecar is that of mesh",
    "gateway-passthrough": "its gateway is that of gateway",
    **dict.fromkeys(
        (each.name for each in TOPOLOGIES.values() if each.carries),
        "its doors make each request to a model anew, and take no header of a client along",
    ),
}
"""Topologies in which no test sends forged picks, and why."""
FILES_NEED_NOT = {
    "vip-l4.yaml": "it passes bytes on (L4), and reads no header",
    "model-host.yaml": "it stands before the model alone, behind whoever picks, whose headers the model reads",
}
TARGETS_NEED_NOT = {
    "grafana": "no proxy",
    "prometheus": "no proxy",
    "kubernetes": "its Envoys and gateways are those of the lab",
    "aws": "a load balancer removes no header; the rendering says so",
}


def test_forged_picks_are_sent_in_every_topology_or_need_not_be() -> None:
    sent = {*ROLES, OPEN, CLOSED, WITH_BODIES}

    assert sent | NEED_NOT.keys() == TOPOLOGIES.keys()
    assert not sent & NEED_NOT.keys()


@pytest.mark.parametrize("file", sorted(each.name for each in (FILES / "envoy").glob("*.yaml")))
def test_every_envoy_of_a_file_removes_them_or_need_not(file: str) -> None:
    removed = re.findall(
        r"request_headers_to_remove: .*\$\{(?:forgeable|picks|not_obeyed)\}", (FILES / "envoy" / file).read_text()
    )

    assert bool(removed) != (file in FILES_NEED_NOT)


def test_the_envoys_of_benches_and_controls_remove_them() -> None:
    [listener] = yaml.safe_load(static_envoy("127.0.0.1:1"))["static_resources"]["listeners"]
    [static] = listener["filter_chains"][0]["filters"][0]["typed_config"]["route_config"]["virtual_hosts"]
    [control] = routes({"header": "x-routing-key", "routes": []})["virtual_hosts"]

    assert [set(each["request_headers_to_remove"]) for each in (static, control)] == 2 * [set(FORGEABLE)]


@pytest.mark.parametrize("target", TARGETS)
def test_every_rendered_proxy_removes_them_on_each_way_to_a_model_or_need_not(target: str) -> None:
    if target in TARGETS_NEED_NOT:
        reasons = " ".join(each.reason for each in render(target, EVERYTHING).unexpressed)
        assert ("removes no header" in reasons) == (target == "aws")
        return
    removed = [set(each) for each in _removed(documents_of(render(target, EVERYTHING)))]

    assert len(removed) > len(EVERYTHING["use_cases"])
    assert removed == len(removed) * [set(FORGEABLE)]


def _removed(documents: Iterable[dict[str, Any]]) -> Iterator[list[str]]:
    """The headers that each rule, of any language, removes before it sends to models."""
    for document in documents:
        if document.get("kind") == "GRPCRoute":
            for rule in document["spec"]["rules"]:
                for backend in rule.get("backendRefs", ()):
                    filters = [*rule.get("filters", ()), *backend.get("filters", ())]
                    yield [name for each in filters for name in each["requestHeaderModifier"].get("remove", ())]
        if document.get("kind") == "VirtualService":
            for route in document["spec"]["http"]:
                if "route" in route:
                    yield route["headers"]["request"]["remove"]
        for service in document.get("services", ()):
            for route in service["routes"]:
                [plugin] = route["plugins"]
                yield plugin["config"]["remove"]["headers"]
