"""The latency of every topology in interleaved rounds, which the benches ``topologies`` and ``decomposition`` share.

The rounds are measured once for both, so that their figures are of the same minutes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.bench.harness import prebuilt_request, static_envoy
from lab.bench.harness.h2load import H2Load
from lab.bench.harness.interleaved import measure
from lab.bench.harness.paths import one_of_each_path
from lab.bench.harness.static_envoy import through_static_envoy
from lab.bench.harness.variant import CALLER, CLUSTER, USE_CASE, LoadPoint, Variant, fastest_of_each_size
from lab.topologies import TOPOLOGIES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeAlias

    from lab.bench.harness.environment import Environment
    from lab.bench.harness.interleaved import Rounds

    Measured: TypeAlias = tuple[Rounds, H2Load | None]

DIRECT, AGAIN, STATIC = "direct", "direct again", static_envoy.NAME

LOAD_POINTS: tuple[LoadPoint, ...] = (
    LoadPoint(400, rate=100, requests=30),
    LoadPoint(400, rate=500, requests=75),
    LoadPoint(27_000, rate=100, requests=25),
    LoadPoint(27_000, rate=500, requests=75),
    LoadPoint(500_000, rate=100, requests=24),
    LoadPoint(4_000_000, rate=10, requests=4),
)
"""Many short rounds tell more than few long ones: slow drifts of the machine cancel out."""

SECOND_OPINION_EVERY = 2
"""h2load measures once in this many rounds: it is there for comparison, not for precision."""


def measured_topologies(environment: Environment, rounds: int, topologies: Sequence[str] = ()) -> Measured:
    """Returns the rounds, measured at the first call, and h2load's figures if this machine has it.

    Args:
        environment: of the bench.
        rounds: number of rounds.
        topologies: to measure beside ``direct``; by default all of the lab's.
    """
    key = f"topologies: {rounds}, {topologies}"
    if key not in environment.cache:
        environment.cache[key] = _measure(environment, rounds, topologies or environment.topologies)
    measured: Measured = environment.cache[key]
    return measured


def _measure(environment: Environment, rounds: int, topologies: Sequence[str]) -> Measured:
    endpoints = environment.state.plan.clients[CALLER]
    through_static = through_static_envoy(environment, CALLER, USE_CASE, CLUSTER)
    variants = [
        Variant(DIRECT, DIRECT, endpoints),
        Variant(AGAIN, DIRECT, endpoints),
        Variant(STATIC, DIRECT, through_static),
        *(Variant(each, each, endpoints) for each in topologies if each != DIRECT),
    ]
    h2load = None
    if H2Load.is_there():
        paths: dict[str, tuple[str, tuple[tuple[str, str], ...]]] = {
            DIRECT: (environment.replicas(CLUSTER)[0], ()),
            STATIC: (through_static.direct[USE_CASE].addresses[0], ()),
        }
        for name in one_of_each_path(topologies):
            topology = TOPOLOGIES[name]
            if topology.between and (topology.decides_at_caller or topology.capabilities.reads_payload):
                headers = (prebuilt_request.ROUTING_KEY,) if topology.decides_at_caller else ()
                paths[name] = (endpoints.address_of(topology.between[0]), headers)
        h2load = H2Load(environment.lab.folder, paths)
    measured_by_h2load = fastest_of_each_size(LOAD_POINTS)

    def second_opinion(number: int, point: LoadPoint) -> None:
        if h2load is not None and point in measured_by_h2load and number % SECOND_OPINION_EVERY == 1:
            for path in h2load.paths:
                h2load.measure(path, point.payload_bytes, rate=point.rate, requests=point.requests)

    measured = measure(environment, variants, LOAD_POINTS, rounds, measured_twice=(DIRECT, AGAIN), after=second_opinion)
    return measured, h2load
