"""Caller → a third-party router of the model's cluster, at a hard-coded address → a replica."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lab.client.strategies import Direct
from lab.plugins.foreign_pickers.routers import CARRIED, NEUTRAL
from lab.topologies import YES, Topology, no, yes
from lab.topologies.direct import TOPOLOGY as DIRECT

if TYPE_CHECKING:
    from lab.client import Endpoints, StrategyFactory
    from lab.transport import Security


def _strategy_to(role: str) -> StrategyFactory:
    def strategy(caller: str, endpoints: Endpoints, security: Security | None) -> Direct:
        """Sends each use case to the router of its cluster."""
        del caller
        clusters = sorted({target.cluster for target in endpoints.direct.values()})
        routers = dict(zip(clusters, endpoints.addresses_of(role), strict=True))
        targets = {
            name: replace(each, addresses=(routers[each.cluster],), balancing={})
            for name, each in endpoints.direct.items()
        }
        return Direct(targets, security, peer=role)

    return strategy


def _topology(name: str, reason: str, colour: str) -> Topology:
    neutral = name.endswith(NEUTRAL)
    others = no() if neutral else no("the router has others, which no rule sets, and does not report them")
    return Topology(
        name=name,
        reason=reason,
        route=f"caller → front, {name.removesuffix(NEUTRAL)}, a door of each replica → model",
        path=("caller", name, "model"),
        strategy=_strategy_to(name),
        takes_turns=False,
        carries=CARRIED,
        picks_at=name.removesuffix(NEUTRAL),
        capabilities=replace(
            DIRECT.capabilities,
            reads_payload=YES,
            retries=others,
            health_checks=yes("the router's own"),
            draining=no(),
            circuit_breaker=others,
        ),
        colour=colour,
        in_default_lab=False,
        in_scenarios=False,
    )


VLLM = _topology("vllm-router", "vLLM's router as shipped: it retries, and breaks circuits", "#2f9e44")
VLLM_NEUTRAL = _topology("vllm-router-neutral", "vLLM's router that only picks: no retries, no breaker", "#69db7c")
SMG = _topology("smg", "smg, successor of SGLang's router, as shipped: it retries, and breaks circuits", "#c2255c")
SMG_NEUTRAL = _topology("smg-neutral", "smg that only picks: no retries, breaker or overload protection", "#f783ac")
