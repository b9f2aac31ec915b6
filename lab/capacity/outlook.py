"""What the queues of thousands of clusters do, simulated: the tail by way of balancing, and what an outage costs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from lab.capacity.queues import Balancing, Cluster, Outage, Retries, poisson, simulate
from lab.capacity.services import draw_s

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lab.capacity.assumptions import Assumptions
    from lab.capacity.fleet import Demand
    from lab.capacity.queues import Floats, Outcome
    from models.stub.behaviour import Latency

REQUESTS = 1_000_000
"""Of one simulation, all clusters together."""

_LEAST_EACH = 400
_WARM = 0.25  # of the requests of a cluster: queues begin empty
_MOST_LANES = 2_000
ZONES = 3
_ONE = "one for all"
_BEFORE_SERVICES = 20  # before an outage, so many mean service times for the queues to fill


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
        demand: what is asked.
        latency: of a model.
        assumed: ``utilisation`` and ``noticed-s`` are used.
        seed: the same seed gives the same figures.
    """

    demand: Demand
    latency: Latency
    assumed: Assumptions
    seed: int

    @property
    def cluster(self) -> Cluster:
        """One of them."""
        return Cluster(replicas=self.demand.replicas(self.assumed["utilisation"]), slots=self.demand.slots)

    @property
    def lanes(self) -> int:
        """How many clusters are simulated: all, up to 2,000."""
        return min(self.demand.clusters, _MOST_LANES)

    def tails(self, balancers: Mapping[str, int]) -> Iterator[Tail]:
        """By each way of balancing, with one balancer and with as many as there are; each is a simulation."""
        requests = max(_LEAST_EACH, REQUESTS // self.lanes)
        for name, number in {_ONE: 1, **balancers}.items():
            for balancing in Balancing:
                outcome = self._run(replace(self.cluster, balancing=balancing, balancers=number), requests)
                warm = replace(outcome, latency_s=outcome.latency_s[int(_WARM * requests) :])
                shown = name if number == 1 else f"{name}: {number:,}"
                yield Tail(balancing, shown, *(1e3 * warm.quantile_s(share) for share in (0.5, 0.99, 0.999)))

    def losses(self) -> Iterator[Loss]:
        """A zone dies: without retries, with a budget, and with as many as one likes; at two utilisations."""
        replicas = -(-self.cluster.replicas // ZONES) * ZONES  # as many in each zone
        mean_s, noticed_s = self.demand.service_s, self.assumed["noticed-s"]
        for busy in (0.5, self.assumed["utilisation"]):
            rate = busy * replicas * self.demand.slots / mean_s
            at_s = _BEFORE_SERVICES * mean_s
            ends_s = at_s + 2 * noticed_s + _BEFORE_SERVICES * mean_s
            lanes = max(1, min(self.lanes, int(REQUESTS / (rate * ends_s))))
            outage = Outage(replicas=replicas // ZONES, at_s=at_s, noticed_s=noticed_s)
            for words, retries in _RETRIES.items():
                cluster = replace(self.cluster, replicas=replicas, retries=retries, outage=outage)
                arrivals_s, outcome = self._under(cluster, rate, int(rate * ends_s), lanes)
                yield _loss(busy, words, arrivals_s, outcome, outage)

    def _run(self, cluster: Cluster, requests: int) -> Outcome:
        return self._under(cluster, self.demand.rps / self.demand.clusters, requests, self.lanes)[1]

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
    failed = outcome.failed[~before & ~after].mean()
    p99s = (1e3 * float(np.nanquantile(outcome.latency_s[when], 0.99)) for when in (before, after))
    return Loss(busy, words, float(failed), *p99s)
