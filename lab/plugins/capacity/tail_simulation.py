"""Simulates the queues of thousands of clusters: the tail by balancing policy, and the cost of an outage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from lab.plugins.capacity.queues import Balancing, Cluster, Floats, Outage, Outcome, Retries, poisson, simulate
from lab.plugins.capacity.services import draw_s

if TYPE_CHECKING:
    from lab.plugins.capacity.assumptions import Assumptions
    from lab.plugins.capacity.fleet import Demand
    from models.stub.behaviour import Latency

_REQUESTS = 1_000_000
"""Requests of one simulation over all clusters; fewer where a cluster has more than :data:`_MANY` replicas."""

_MANY = 16
_MOST_REPLICAS = 48
"""Largest simulated cluster; of a larger one a slice is simulated, with its share of the requests."""

_WINDOW_SERVICES = 100
"""Longest simulated time until an outage is noticed, in mean service times; longer ones add nothing."""
_LEAST_EACH = 400
_WARM = 0.25  # of the requests of a cluster: queues begin empty
_MOST_LANES = 2_000
ZONES = 3
_ONE = "one for all"
_BEFORE_SERVICES = 20  # mean service times before an outage, for the queues to fill
_AFTER_SERVICES = 100


@dataclass(frozen=True, slots=True)
class Tail:
    """Latency of the model's queue and service, milliseconds; ``balancers`` as a table has it."""

    balancing: str
    balancers: str
    p50_ms: float
    p99_ms: float
    p999_ms: float


@dataclass(frozen=True, slots=True)
class Loss:
    """A third of each cluster's replicas dies at once.

    Attributes:
        busy: utilisation before.
        retries: as a table has it.
        failed: share of requests between the death and when it was noticed.
        p99_before_ms: latency of those answered before.
        p99_after_ms: the same once the dead are left out.
    """

    busy: float
    retries: str
    failed: float
    p99_before_ms: float
    p99_after_ms: float


@dataclass(frozen=True, slots=True)
class Outlook:
    """Demand, simulated.

    Attributes:
        demand: the load.
        latency: of a model.
        assumed: ``utilisation`` and ``noticed-s`` are used.
        seed: the same seed gives the same figures.
        size: requests of one simulation, all clusters together; a million, if left out.
    """

    demand: Demand
    latency: Latency
    assumed: Assumptions
    seed: int
    size: int = 0

    @property
    def cluster(self) -> Cluster:
        """One of them, or a slice of it."""
        return Cluster(replicas=min(self.replicas, _MOST_REPLICAS), slots=self.demand.slots)

    @property
    def replicas(self) -> int:
        """Of a whole cluster."""
        return self.demand.replicas(self.assumed["utilisation"])

    @property
    def rate(self) -> float:
        """Requests per second of the simulated slice of a cluster."""
        return self.demand.rps / self.demand.clusters * self.cluster.replicas / self.replicas

    @property
    def lanes(self) -> int:
        """How many clusters are simulated: all, up to 2,000."""
        return min(self.demand.clusters, _MOST_LANES)

    @property
    def requests(self) -> int:
        """Of one simulation in each cluster."""
        all_together = (self.size or _REQUESTS) * min(1.0, _MANY / self.cluster.replicas)
        return max(_LEAST_EACH, int(all_together / self.lanes))

    def tails(self, balancers: Mapping[str, int]) -> Iterator[Tail]:
        """The tail by each balancing policy, with one balancer and with all; each is a simulation."""
        for name, number in {_ONE: 1, **balancers}.items():
            for balancing in Balancing:
                outcome = self._run(replace(self.cluster, balancing=balancing, balancers=number))
                warm = replace(outcome, latency_s=outcome.latency_s[int(_WARM * self.requests) :])
                shown = name if number == 1 else f"{name}: {number:,}"
                yield Tail(balancing, shown, *(1e3 * warm.quantile_s(share) for share in (0.5, 0.99, 0.999)))

    def losses(self) -> Iterator[Loss]:
        """A zone dies: without retries, with a budget, and with as many as one likes; at two utilisations."""
        replicas = -(-self.cluster.replicas // ZONES) * ZONES  # as many in each zone
        mean_s = self.demand.service_s
        noticed_s = min(self.assumed["noticed-s"], _WINDOW_SERVICES * mean_s)
        for busy in (0.5, self.assumed["utilisation"]):
            rate = busy * replicas * self.demand.slots / mean_s
            at_s = _BEFORE_SERVICES * mean_s
            ends_s = at_s + noticed_s + _AFTER_SERVICES * mean_s
            lanes = max(1, min(self.lanes, int(self.requests * self.lanes / (rate * ends_s))))
            outage = Outage(replicas=replicas // ZONES, at_s=at_s, noticed_s=noticed_s)
            for words, retries in _RETRIES.items():
                cluster = replace(self.cluster, replicas=replicas, retries=retries, outage=outage)
                arrivals_s, outcome = self._under(cluster, rate, int(rate * ends_s), lanes)
                yield _loss(busy, words, arrivals_s, outcome, outage)

    def _run(self, cluster: Cluster) -> Outcome:
        return self._under(cluster, self.rate, self.requests, self.lanes)[1]

    def _under(self, cluster: Cluster, rate: float, requests: int, lanes: int) -> tuple[Floats, Outcome]:
        random = np.random.default_rng(self.seed)
        services_s = draw_s(self.latency, (requests, lanes), random)
        arrivals_s = poisson(rate, services_s.shape, random)
        return arrivals_s, simulate(arrivals_s, services_s, cluster, random)


_RETRIES: Mapping[str, Retries] = {
    "none": Retries(),
    "2 attempts, budget 20": Retries(attempts=2, budget=20),
    "2 attempts, no budget": Retries(attempts=2, at_least=1_000_000),
}


def _loss(busy: float, words: str, arrivals_s: Floats, outcome: Outcome, outage: Outage) -> Loss:
    noticed = outage.at_s + outage.noticed_s
    before, after = arrivals_s < outage.at_s, arrivals_s >= noticed
    meanwhile = outcome.failed[~before & ~after]
    failed = meanwhile.mean() if meanwhile.size else 0.0
    p99s = (1e3 * float(np.nanquantile(outcome.latency_s[when], 0.99)) for when in (before, after))
    return Loss(busy, words, float(failed), *p99s)
