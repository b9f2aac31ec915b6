"""Caller → model at a hard-coded address."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.client.strategies import Direct
from lab.errors import SpecError
from lab.pickers import GRPC
from lab.topologies._topology import YES, Capabilities, Topology, no, yes

if TYPE_CHECKING:
    from lab.client import Endpoints
    from lab.transport import Security


def strategy(caller: str, endpoints: Endpoints, security: Security | None) -> Direct:
    """Sends each use case to its hard-coded address."""
    del caller
    if not endpoints.direct:
        raise SpecError("no addresses of models are given")
    return Direct(endpoints.direct, security)


TOPOLOGY = Topology(
    name="direct",
    reason="the latency floor; breaks when a model moves, and follows no rules",
    route="caller → model at a hard-coded address",
    path=("caller", "model"),
    strategy=strategy,
    picks_at=GRPC,
    capabilities=Capabilities(
        follows_rules=no("the address is hard-coded"),
        sticky_splits=no(),
        deadlines=yes("10 s, always"),
        attempts_reported=YES,
        draining=yes("streams finish; new requests go elsewhere by the replica's health service"),
    ),
    colour="#7b858f",
    compared_as="floor",
    in_scenarios=False,  # it follows no rules; scenarios about that name it
)
