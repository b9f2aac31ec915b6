"""The arithmetic: from what a request costs to cores, instances, hops and money, by topology."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from lab.errors import InputError
from lab.plugins.capacity.assumptions import Assumptions, Origin, Quantity, computed
from lab.roles import ROLES, Placement
from lab.topologies import TOPOLOGIES

if TYPE_CHECKING:
    from lab.plugins.capacity.costs import Costs

_MILLION = 1e6
_HOUR_S = 3_600.0
_GIGA = 1e9
_LEAST_CENTRAL = 2  # one may fail
# Field of a demand → its meaning, its unit, its least and its greatest value.
_GIVEN = {
    "rps": ("requests per second", "rps", 1, 10**9),
    "payload_bytes": ("payload", "B", 0, 10**9),
    "callers": ("callers", "services", 1, 10**6),
    "clusters": ("clusters", "clusters", 1, 10**6),
    "slots": ("slots of a replica", "requests at once", 1, 64),
    "service_s": ("mean service time of a model", "s", 0, math.inf),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """The load that a fleet must carry.

    Attributes:
        rps: requests per second of all callers together.
        payload_bytes: of a request.
        callers: services that call; each sends the same.
        clusters: of models; each gets the same.
        slots: requests that a model's replica serves at once.
        service_s: how long a model takes for one in the mean, seconds.

    Raises:
        InputError: a number is out of range.
    """

    rps: float
    payload_bytes: int
    callers: int
    clusters: int
    slots: int
    service_s: float

    def __post_init__(self) -> None:
        if not 0 < self.service_s < math.inf:
            raise InputError(f"--service: {self.service_s:g} s on average is out of range; write e.g. lognormal:20,0.4")
        for name, (_, _, least, most) in _GIVEN.items():
            value = getattr(self, name)
            if not least <= value <= most:
                option = _option(name)
                raise InputError(f"{option}: {value:g} is out of range; write a number from {least} to {most:,}")

    def to_document(self) -> dict[str, Any]:
        """The fleet as a JSON document."""
        return {
            _option(name).removeprefix("--"): asdict(Quantity(getattr(self, name), unit, Origin.ASSUMED, _option(name)))
            for name, (_, unit, _, _) in _GIVEN.items()
        }

    def rows(self) -> list[tuple[str, str, str, str]]:
        """Table rows: option, value, meaning, source."""
        return [
            (_option(name), f"{getattr(self, name):,.7g} {unit}", meaning, "asked for")
            for name, (meaning, unit, _, _) in _GIVEN.items()
        ]

    def replicas(self, utilisation: float) -> int:
        """Replicas of each cluster that keep its slots no busier than this."""
        return max(1, math.ceil(self.rps / self.clusters * self.service_s / self.slots / utilisation - 1e-9))


@dataclass(frozen=True, slots=True)
class PathComponents:
    """The parts of one topology.

    Attributes:
        beside: parts on the caller's machine, the caller first.
        central: parts that all callers share, in the order of the path; empty if there are none.
        balancer: the part that keeps connections to the models' replicas and chooses one.
    """

    beside: tuple[str, ...]
    central: tuple[str, ...]
    balancer: str

    @property
    def parts(self) -> tuple[str, ...]:
        """All parts, in the order of the path."""
        return (*self.beside, *self.central)

    @property
    def hops(self) -> int:
        """Number of times that a payload goes from one machine to another."""
        return 1 + len(self.central)


def components(topology: str) -> PathComponents:
    """The parts of a topology, from its path and its roles' placement.

    Raises:
        InputError: the topology is not known.
    """
    named = TOPOLOGIES[topology]
    roles = [ROLES[name] for name in (named.path[0], *named.roles)]
    return PathComponents(
        beside=tuple(role.part for role in roles if role.placement is Placement.BESIDE_CALLER),
        central=tuple(role.part for role in roles if role.placement is not Placement.BESIDE_CALLER),
        balancer=ROLES[named.balancer].part,
    )


@dataclass(frozen=True, slots=True)
class PartOfFleet:
    """One part of a topology, all its instances together."""

    part: str
    cpu_s: Quantity
    cores: Quantity
    instances: Quantity


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """What a topology needs, without models, which need the same in each.

    Attributes:
        parts: its parts, in the order of the path.
        cores: cores of all parts.
        instances: processes of all parts.
        hops: hops between machines of a request.
        hop_ms: latency of these hops.
        wire: bandwidth between machines.
        usd_cores: cost of cores per million requests.
        usd_wire: cost of traffic between zones per million requests.
        usd: both together.
        balancers: processes that choose among a model's replicas.
        connections: connections between balancers and replicas, one from each balancer to each replica.
        struck: share of all requests that pass one instance of the part between caller and model.
        reached: callers that its death affects.
        lost: requests that fail until its death is noticed.
    """

    topology: str
    parts: Sequence[PartOfFleet]
    cores: Quantity
    instances: Quantity
    hops: Quantity
    hop_ms: Quantity
    wire: Quantity
    usd_cores: Quantity
    usd_wire: Quantity
    usd: Quantity
    balancers: Quantity
    connections: Quantity
    struck: Quantity
    reached: Quantity
    lost: Quantity

    def to_document(self) -> dict[str, Any]:
        """The fleet as a JSON document."""
        return asdict(self)


def fleet(topology: str, demand: Demand, costs: Costs, assumed: Assumptions) -> Fleet:
    """The fleet that ``topology`` needs for ``demand``.

    Raises:
        InputError: its costs are not known at this payload.
    """
    path = components(topology)
    parts = _parts(topology, path, demand, costs, assumed)
    cpu_s = sum(part.cpu_s.value for part in parts)
    # Each hop carries the payload and its answer.
    hop_bytes = demand.payload_bytes + assumed["answer-bytes"]
    usd_cores = cpu_s / assumed["utilisation"] * _MILLION / _HOUR_S * assumed["core-hour"]
    usd_wire = path.hops * assumed["cross-zone"] * hop_bytes * _MILLION / _GIGA * assumed["gigabyte"]
    instances = {part.part: part.instances.value for part in parts}
    between = min(path.central or path.beside[-1:], key=instances.__getitem__)
    replicas = demand.clusters * demand.replicas(assumed["utilisation"])
    return Fleet(
        topology=topology,
        parts=parts,
        cores=computed(sum(part.cores.value for part in parts), "cores", "sum of its parts"),
        instances=computed(sum(instances.values()), "processes", "sum of its parts"),
        hops=computed(path.hops, "hops", "caller, model and central parts each run on machines of their own"),
        hop_ms=computed(path.hops * assumed["hop-ms"], "ms", "hops × hop-ms"),
        wire=computed(
            demand.rps * path.hops * hop_bytes * 8 / _GIGA, "Gbit/s", "rps × hops × (payload + answer-bytes) × 8"
        ),
        usd_cores=computed(usd_cores, "USD", "CPU seconds / utilisation × core-hour / 3600 × 10^6"),
        usd_wire=computed(usd_wire, "USD", "hops × cross-zone × (payload + answer-bytes) × gigabyte × 10^6"),
        usd=computed(usd_cores + usd_wire, "USD", "cores and wire together"),
        balancers=computed(instances[path.balancer], "processes", f"instances of its {path.balancer}"),
        connections=computed(
            instances[path.balancer] * replicas,
            "connections",
            "balancers × all models' replicas",
        ),
        struck=computed(
            1 / instances[between], "of all requests", "1 / processes of the part between caller and model"
        ),
        reached=computed(demand.callers if path.central else 1, "callers", "all callers of a central part; else one"),
        lost=computed(
            demand.rps / instances[between] * assumed["noticed-s"],
            "requests",
            "rps × share × noticed-s, without retries",
        ),
    )


def _parts(
    topology: str, path: PathComponents, demand: Demand, costs: Costs, assumed: Assumptions
) -> list[PartOfFleet]:
    each = {part: costs.at(topology, part, demand.payload_bytes) for part in path.parts}
    cores = {part: demand.rps * cost.value / assumed["utilisation"] for part, cost in each.items()}
    # Each process has one event loop and fills one core; the busiest part beside a caller decides the number of
    # callers.
    pods = demand.callers * max(_up(cores[part] / demand.callers) for part in path.beside)
    counted = dict.fromkeys(path.beside, (pods, "callers × those of its busiest part"))
    for part in path.central:
        counted[part] = (max(_LEAST_CENTRAL, _up(cores[part])), "one core each, and two at least")
    return [
        PartOfFleet(
            part,
            each[part],
            computed(cores[part], "cores", "rps × CPU seconds / utilisation"),
            computed(counted[part][0], "processes", counted[part][1]),
        )
        for part in path.parts
    ]


def _option(field: str) -> str:
    return f"--{field.removesuffix('_bytes').removesuffix('_s')}"


def _up(value: float) -> int:
    return max(1, math.ceil(value - 1e-9))  # rounding must not add an instance
