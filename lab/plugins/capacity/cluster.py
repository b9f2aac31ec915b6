"""What a cluster of a given number of nodes carries, by topology, and what its pods should request."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from lab.measure.findings import ResultTable
from lab.plugins.capacity.assumptions import Assumptions, Origin, Quantity, computed
from lab.plugins.capacity.fleet import Demand, Fleet, fleet
from lab.roles import ROLES
from lab.topologies import TOPOLOGIES

if TYPE_CHECKING:
    from lab.plugins.capacity.costs import Costs

_MIB_A_GIB = 1_024
_HIGHEST_RPS = 10**9
_HALVINGS = 60
_STEP_MILLICORES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class PodRequests:
    """Requests and limits of the containers of one part.

    Attributes:
        containers: of this part, in the whole cluster.
        cpu: request: at the target utilisation it uses that share of it.
        cpu_limit: of its role; one process fills no more than a core.
        memory: request and limit of its role, as memory cannot be taken back.
    """

    part: str
    containers: Quantity
    cpu: Quantity
    cpu_limit: Quantity
    memory: Quantity


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterCapacity:
    """What the nodes carry with one topology, without models, which need the same in each.

    Attributes:
        rps: the highest rate whose requests fit the nodes; 0 if not even one request a second does.
        rps_after_loss: the same with one node less.
        struck: share of the requests of callers on other nodes that a lost node fails until its loss is noticed.
        bound: what is used up first: ``cpu`` or ``memory``.
        parts: in the order of the path.
    """

    topology: str
    rps: Quantity
    rps_after_loss: Quantity
    struck: Quantity
    bound: str
    parts: Sequence[PodRequests]

    def to_document(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


def cluster_capacity(topology: str, nodes: int, demand: Demand, costs: Costs, assumed: Assumptions) -> ClusterCapacity:
    """The highest rate that fits the nodes, all other numbers of the demand kept.

    Sums are compared, so what is left over on each node because no pod fits there is not counted.

    Raises:
        InputError: the topology's costs are not known at this payload.
    """
    rps, bound, its = _highest(topology, nodes, demand, costs, assumed)
    after_loss = _highest(topology, nodes - 1, demand, costs, assumed)[0] if nodes > 1 else 0
    struck = 1 - (1 - 1 / nodes) ** its.hops.value
    return ClusterCapacity(
        topology=topology,
        rps=computed(rps, "rps", "the highest whose cores and memory fit the nodes"),
        rps_after_loss=computed(after_loss, "rps", "the same with one node less"),
        struck=computed(struck, "share", "1 - (1 - 1 / nodes) ^ hops: each hop ends on any node"),
        bound=bound,
        parts=_requests(topology, its),
    )


def _highest(topology: str, nodes: int, demand: Demand, costs: Costs, assumed: Assumptions) -> tuple[int, str, Fleet]:
    """The highest rate that fits, what is used up first, and the fleet for it."""
    left = 1 - assumed["node-reserved"]
    cores, mib = nodes * assumed["node-cores"] * left, nodes * assumed["node-gigabytes"] * left * _MIB_A_GIB

    def used(rps: float) -> tuple[float, float, Fleet]:
        its = fleet(topology, replace(demand, rps=rps), costs, assumed)
        memory = sum(part.instances.value * _memory_mb(topology, part.part) for part in its.parts)
        return its.cores.value / cores, memory / mib, its

    low, high = 0.0, float(_HIGHEST_RPS)
    for _ in range(_HALVINGS):
        middle = math.sqrt(max(low, 1.0) * high)
        cpu, memory, _ = used(middle)
        low, high = (middle, high) if max(cpu, memory) <= 1 else (low, middle)
    _, _, its = used(max(low, 1.0))
    cpu, memory, _ = used(high)
    return math.floor(low * (1 + 1e-9)), "memory" if memory > max(1.0, cpu) else "cpu", its


def _requests(topology: str, its: Fleet) -> list[PodRequests]:
    return [
        PodRequests(
            part=part.part,
            containers=part.instances,
            cpu=computed(
                1_000 * _up_to(part.cores.value / part.instances.value), "millicores", "cores / containers, rounded up"
            ),
            cpu_limit=computed(1_000 * _role(topology, part.part).cpus, "millicores", "of its role"),
            memory=computed(_memory_mb(topology, part.part), "MiB", "of its role"),
        )
        for part in its.parts
    ]


def _up_to(cores: float) -> float:
    return max(1, math.ceil(1_000 * cores / _STEP_MILLICORES - 1e-9)) * _STEP_MILLICORES / 1_000


def _role(topology: str, part: str) -> Any:
    named = TOPOLOGIES[topology]
    return next(role for name in (named.path[0], *named.roles) if (role := ROLES[name]).part == part)


def _memory_mb(topology: str, part: str) -> int:
    return int(_role(topology, part).memory_mb)


def node_loss_table(found: Iterable[ClusterCapacity], nodes: int) -> ResultTable:
    """What the loss of one node costs each topology."""
    columns = ("topology", "requests failed until noticed", "rps with a node less", "of the rps before")
    rows: list[list[float | str]] = [
        [
            each.topology,
            f"{each.struck.value:.1%}",
            f"{each.rps_after_loss.value:,.0f}",
            f"{each.rps_after_loss.value / each.rps.value:.0%}" if each.rps.value else "",
        ]
        for each in found
    ]
    title = f"one of {nodes:,} nodes is lost; requests are those of callers on the others ({Origin.COMPUTED})"
    return ResultTable(title=title, columns=columns, rows=rows, numbers=columns[1:])


def cluster_table(found: Iterable[ClusterCapacity], nodes: int) -> ResultTable:
    """The rate of each topology, and the requests and limits of its parts."""
    rows: list[list[float | str]] = [
        [
            each.topology if not number else "",
            f"{each.rps.value:,.0f}" if not number else "",
            each.bound if not number else "",
            part.part,
            f"{part.containers.value:,.0f}",
            f"{part.cpu.value:.0f}m / {part.cpu_limit.value:.0f}m",
            f"{part.memory.value:.0f}Mi",
        ]
        for each in found
        for number, part in enumerate(each.parts)
    ]
    columns = ("topology", "rps", "used up first", "part", "containers", "cpu: request / limit", "memory: both")
    title = f"what {nodes:,} nodes carry, models not counted ({Origin.COMPUTED})"
    return ResultTable(title=title, columns=columns, rows=rows, numbers=("rps", *columns[4:]))
