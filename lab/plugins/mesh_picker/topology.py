"""Caller ⇄ resolver and replica signals beside it; the caller picks; caller → Envoy beside it → model."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lab.pickers import GATEWAY
from lab.plugins.mesh_picker.units import SIDECAR, SIGNALS
from lab.topologies import Topology, no
from lab.topologies.mesh import TOPOLOGY as MESH

if TYPE_CHECKING:
    from lab.client import Endpoints
    from lab.client.strategies import Strategy
    from lab.transport import Security

_ANY_HOST = "Envoy sends where the client says, and the client knows the signals alone"


def strategy(caller: str, endpoints: Endpoints, security: Security | None) -> Strategy:
    """Leases decisions, picks a replica for each request, and sends to the Envoy beside the caller."""
    from lab.plugins.mesh_picker.strategy import picking  # noqa: PLC0415 (what picks is not needed to list topologies)

    return picking(caller, endpoints, security)


TOPOLOGY = Topology(
    name="mesh-picker",
    reason="the caller's client picks the replica of each request, and the Envoy beside it obeys",
    route="caller ⇄ resolver beside it (lease), and replica signals; caller picks; caller → Envoy beside it → model",
    path=("caller", SIDECAR, "model"),
    asks=("resolver",),
    aided_by=(SIGNALS,),
    aide_reads_prompt=True,  # the caller itself, which has the request
    strategy=strategy,
    picks_at=GATEWAY,
    capabilities=replace(
        MESH.capabilities,
        shadow_by=SIDECAR,
        outlier_ejection=no(_ANY_HOST),
        ejection_in_a_row=no(_ANY_HOST),
        health_checks=no(_ANY_HOST),
        slow_start=no(_ANY_HOST),
    ),
    colour="#0b7285",
    in_default_lab=False,
    in_scenarios=False,
)
