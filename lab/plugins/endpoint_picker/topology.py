"""Caller ⇄ resolver beside it, with leases; caller → one Envoy ⇄ endpoint picker → model."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lab.client import Endpoints, ResolverClient, RpcChannel
from lab.client.strategies import Leased, with_tenant_header
from lab.pickers import GATEWAY
from lab.plugins.endpoint_picker.units import CLOSED, OPEN, PICKER, WITH_BODIES
from lab.topologies import Topology, no
from lab.topologies.gateway_header import TOPOLOGY as GATEWAY_HEADER

if TYPE_CHECKING:
    from lab.client import StrategyFactory
    from lab.transport import Security

_ANY_HOST = "Envoy sends where the picker says, and the picker knows endpoints and requests in flight alone"


def _strategy_to(role: str) -> StrategyFactory:
    def strategy(caller: str, endpoints: Endpoints, security: Security | None) -> Leased:
        envoy, resolver = endpoints.address_of(role), endpoints.address_of("resolver")
        return Leased(
            ResolverClient(caller, resolver, security),
            RpcChannel((envoy,), security, peer=role, watches_health=False),
            encode=with_tenant_header,
        )

    return strategy


def _topology(name: str, envoy: str, reason: str, colour: str, reads: str = "headers") -> Topology:
    return Topology(
        name=name,
        reason=reason,
        route=f"caller ⇄ resolver beside it (lease); caller → one central Envoy ⇄ endpoint picker ({reads}) → model",
        path=("caller", envoy, "model"),
        asks=("resolver",),
        aided_by=(PICKER,),
        aide_reads_prompt=envoy == WITH_BODIES,
        strategy=_strategy_to(envoy),
        picks_at=GATEWAY,
        capabilities=replace(
            GATEWAY_HEADER.capabilities,
            shadow_by=envoy,
            outlier_ejection=no(_ANY_HOST),
            ejection_in_a_row=no(_ANY_HOST),
            health_checks=no(_ANY_HOST),
            slow_start=no(_ANY_HOST),
        ),
        colour=colour,
        in_default_lab=False,
        in_scenarios=False,
    )


BY_HEADERS = _topology(
    "picker",
    OPEN,
    "a service picks the replica of each request by its headers, as Kubernetes' endpoint pickers do; FailOpen",
    "#7048e8",
)
FAIL_CLOSED = _topology(
    "picker-closed",
    CLOSED,
    "the same, and FailClose: without the picker, requests are refused",
    "#b197fc",
)
BY_BODIES = _topology(
    "picker-body",
    WITH_BODIES,
    "bodies pass through the picker, too, as Kubernetes' pickers by prompt need it; without it, requests are refused",
    "#9775fa",
    reads="bodies",
)
