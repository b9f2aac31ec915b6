"""The survey of one demand: the fleet of every topology, and simulated queues of its models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from lab.plugins.capacity.assumptions import Assumptions, Origin
from lab.plugins.capacity.fleet import Demand, Fleet, fleet
from lab.plugins.capacity.tables import (
    assumptions_table,
    breaks_table,
    fleets_table,
    losses_table,
    parts_table,
    sources,
    tails_table,
)
from lab.plugins.capacity.tail_simulation import Loss, Outlook, Tail
from lab.roles import CALLER, ROLES, Placement
from lab.topologies import TOPOLOGIES, compared_as

if TYPE_CHECKING:
    from lab.measure.findings import ResultTable
    from lab.plugins.capacity.costs import Costs
    from models.stub.behaviour import Latency

AT_ENVOYS_COST = "gateway at Envoy's cost"
"""A gateway as cheap as the central Envoy, which parses nothing: what of its cost is due to its being in Python."""


@dataclass(frozen=True, slots=True)
class Survey:
    """The computed fleets, and the simulated tails and losses."""

    demand: Demand
    assumed: Assumptions
    fleets: Sequence[Fleet]
    outlook: Outlook
    tails: Sequence[Tail]
    losses: Sequence[Loss]

    def tables(self) -> list[ResultTable]:
        """To be shown, in this order."""
        computed = [parts_table(self.fleets), fleets_table(self.fleets), breaks_table(self.fleets)]
        of = f"{self.demand.clusters:,} clusters of {self.outlook.replicas} × {self.demand.slots} slots"
        simulated = [tails_table(self.tails, of), losses_table(self.losses)]
        return [assumptions_table(self.demand, self.assumed), *computed, *(simulated if self.tails else [])]

    def notes(self) -> list[str]:
        """Where all is from."""
        simulated = (
            f"simulated: {self.outlook.requests:,} requests at {self.outlook.cluster.replicas} replicas of each of "
            f"{self.outlook.lanes:,} clusters, seed "
            f"{self.outlook.seed}, Poisson arrivals, service times assumed: {self.outlook.latency}"
        )
        return [*sources(self.fleets), *([simulated] if self.tails else [])]

    def to_document(self) -> dict[str, Any]:
        """As JSON has it; every number is marked, those of a simulation all together."""
        return {
            "demand": self.demand.to_document(),
            "assumed": self.assumed.to_document(),
            "topologies": [each.to_document() for each in self.fleets],
            "simulated": {
                "origin": str(Origin.COMPUTED),
                "source": self.notes()[-1] if self.tails else "",
                "replicas": self.outlook.replicas,
                "tails": [asdict(each) for each in self.tails],
                "outage": [asdict(each) for each in self.losses],
            },
        }


def survey(
    demand: Demand,
    latency: Latency,
    costs: Costs,
    assumed: Assumptions,
    *,
    topologies: Sequence[str] = (),
    seed: int = 0,
    simulated: bool = True,
    say: Callable[[str], None] = lambda _: None,
) -> Survey:
    """Computes fleets, and simulates queues.

    Args:
        demand: the load.
        latency: service time of a model.
        costs: measured costs.
        assumed: all other inputs.
        topologies: topologies to compute; all measured ones by default.
        seed: seed of the simulation.
        simulated: whether to simulate queues.
        say: receives progress messages.

    Raises:
        InputError: a topology's costs are not known at this payload.
    """
    chosen = list(topologies) or [each for each in costs.topologies if each in TOPOLOGIES]
    fleets = [fleet(each, demand, costs, assumed) for each in chosen]
    outlook = Outlook(demand, latency, assumed, seed)
    gateway, envoy = compared_as("central"), _central_envoy()
    computed = fleets.copy()
    if gateway in chosen and costs.has(*envoy):
        borrowed = costs.borrowing(gateway, TOPOLOGIES[gateway].balancer, of=envoy)
        cheap = fleet(gateway, demand, borrowed, assumed)
        computed.insert(chosen.index(gateway) + 1, replace(cheap, topology=AT_ENVOYS_COST))
    # Of one unit, and of a caller's own library, nobody can say how many choose among a model's replicas.
    balancers: dict[str, int] = {}
    for each in fleets:
        role = ROLES[TOPOLOGIES[each.topology].balancer]
        if role.name != CALLER and role.placement is not Placement.ALONE:
            balancers.setdefault(f"{role.part}s", round(each.balancers.value))
    if not simulated:
        return Survey(demand, assumed, computed, outlook, [], [])
    say(f"simulating {demand.clusters:,} clusters of {outlook.replicas} replicas: balancing")
    tails = list(outlook.tails(balancers))
    say("simulating a zone's death")
    return Survey(demand, assumed, computed, outlook, tails, list(outlook.losses()))


def _central_envoy() -> tuple[str, str]:
    """The topology with one Envoy that all callers share, and the Envoy's role."""
    shared = {role.name for role in ROLES.values() if role.placement is Placement.ALONE and role.follows.xds}
    return next((each.name, role) for each in TOPOLOGIES.values() for role in each.between if role in shared)
