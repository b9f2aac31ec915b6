"""Queues before a model's replicas, simulated: what balancing and retries do to the tail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lab.plugins.capacity.queues import Balancing, Cluster, poisson, simulate
from lab.plugins.capacity.services import draw_s, mean_s
from lab.plugins.capacity.tables import losses_table
from lab.plugins.capacity.tail_simulation import Loss, Outlook
from lab.plugins.workshop.figures import Figure, show
from lab.plugins.workshop.fleets import as_figure
from lab.report.bars import Bar, BarChart, BarGroup
from lab.report.chart import Chart, Line
from lab.report.palette import style_of
from lab.report.scales import linear

if TYPE_CHECKING:
    from lab.plugins.capacity.assumptions import Assumptions
    from lab.plugins.capacity.fleet import Demand
    from models.stub.behaviour import Latency

BUSY = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Shares of the slots that are taken in the mean."""

MANY = 30
"""Balancers, each of which sees its own requests only."""

POLICIES: Mapping[str, tuple[Balancing, int]] = {
    "round robin": (Balancing.ROUND_ROBIN, 1),
    "least request": (Balancing.LEAST_REQUEST, 1),
    f"least request × {MANY}": (Balancing.LEAST_REQUEST, MANY),
    "at random": (Balancing.RANDOM, 1),
}
"""Name → how replicas are chosen, and by how many balancers."""

_REPLICAS, _CLUSTERS, _REQUESTS, _WARM = 5, 100, 600, 150
_FEW = 60_000


def p99s_ms(latency: Latency, busy: Sequence[float], slots: int, policy: str, *, seed: int = 0) -> list[float]:
    """The p99 of waiting and service, ms, at each utilisation; ``policy`` is one of :data:`POLICIES`."""
    random = np.random.default_rng(seed)
    services_s = draw_s(latency, (_REQUESTS, _CLUSTERS), random)
    rate = _REPLICAS * slots / mean_s(latency)
    arrivals_s = poisson(rate, services_s.shape, random)
    balancing, balancers = POLICIES[policy]
    cluster = Cluster(replicas=_REPLICAS, slots=slots, balancing=balancing, balancers=balancers)
    # All utilisations side by side, as lanes of one simulation: the same arrivals, slower.
    slower = np.hstack([arrivals_s / each for each in busy])
    outcome = simulate(slower, np.tile(services_s, len(busy)), cluster, random)
    by_busy = np.split(outcome.latency_s[_WARM:], len(busy), axis=1)
    return [1e3 * float(np.quantile(each, 0.99)) for each in by_busy]


def tails_picture(latency: Latency, slots: int) -> Figure:
    """The p99 over utilisation, one line for each balancing policy."""
    percents = [100 * each for each in BUSY]
    lines = [
        Line(policy, style_of(number), [*zip(percents, p99s_ms(latency, BUSY, slots, policy), strict=True)], dots=True)
        for number, policy in enumerate(POLICIES, 1)
    ]
    most = max(value for line in lines for _, value in line.points)
    x, y = linear("slots busy, %", percents[-1]), linear("p99 of queue and service, ms", most)
    note = (
        f"Computed by simulation: {_CLUSTERS} clusters of {_REPLICAS} replicas, each serving {slots} at once; "
        f"service takes {1e3 * mean_s(latency):.0f} ms in the mean, assumed."
    )
    return show(Chart(f"The tail as models get busy, {slots} at once", x, y, lines), note)


def losses(demand: Demand, latency: Latency, assumed: Assumptions) -> list[Loss]:
    """A third of each cluster's replicas dies, without retries and with."""
    return list(Outlook(demand, latency, assumed, seed=0, size=_FEW).losses())


def losses_picture(seen: Sequence[Loss]) -> Figure:
    """Requests that fail until the dead are noticed, by what retries there are."""
    groups = [
        BarGroup(
            f"slots {100 * busy:g} % busy",
            [
                Bar(each.retries, style_of(number), 100 * each.failed, text=f"{100 * each.failed:.1f} %")
                for number, each in enumerate((each for each in seen if each.busy == busy), 1)
            ],
        )
        for busy in dict.fromkeys(each.busy for each in seen)
    ]
    chart = BarChart(
        "A zone of three dies: requests that fail until it is noticed",
        linear("% of requests", max(100 * each.failed for each in seen)),
        groups,
        note="Computed by simulation. A budget bounds retries to a share of the requests in flight.",
    )
    return show(chart)


def losses_rows(seen: Sequence[Loss]) -> Figure:
    """The same, with the tail before and after."""
    return as_figure(losses_table(seen))
