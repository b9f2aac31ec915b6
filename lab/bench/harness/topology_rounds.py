"""The latency of every topology in interleaved rounds, which the benches ``topologies`` and ``decomposition`` share.

The rounds are measured once for both, so that their figures are of the same minutes.
"""

from __future__ import annotations

from dataclasses import replace
from string import Template
from typing import TYPE_CHECKING

from lab import CHECKOUT
from lab.bench.harness import prebuilt_request
from lab.bench.harness.environment import open_small_environment
from lab.bench.harness.h2load import H2Load
from lab.bench.harness.interleaved import measure
from lab.bench.harness.variant import (
    CALLER,
    CLUSTER,
    ROUTES,
    USE_CASE,
    LoadPoint,
    Variant,
    fastest_of_each_size,
    one_of_each_path,
)
from lab.client import Endpoints
from lab.roles._envoy import xds_endpoints
from lab.runtime.identities import Identities
from lab.topologies import TOPOLOGIES
from lab.transport.security import MTLS, PLAINTEXT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeAlias

    from lab.bench.harness.environment import Environment
    from lab.bench.harness.interleaved import Rounds

    Measured: TypeAlias = tuple[Rounds, H2Load | None]

DIRECT, AGAIN, STATIC = "direct", "direct again", "static-envoy"

IN_PLAINTEXT, SECURED, PLAINTEXT_AGAIN = "small mesh", "small mesh with mTLS", "small mesh again"

_SMALL_MESH = f'topologies = ["mesh"]\n[callers.{CALLER}]\n'

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
    """Returns the rounds of ``direct`` and ``topologies``, measured at the first call, and h2load's figures if any."""
    key = f"topologies: {rounds}, {topologies}"
    if key not in environment.cache:
        environment.cache[key] = _measure(environment, rounds, topologies or environment.topologies)
    measured: Measured = environment.cache[key]
    return measured


def measured_pair(outer: Environment, rounds: int) -> Rounds:
    """Returns what mTLS costs a mesh: interleaved rounds of two small labs that differ in nothing else.

    Each payload size is sent at the highest rate of :data:`LOAD_POINTS`. The bench's own mesh is idle meanwhile and is
    not measured, because it has more clusters, callers and rules.
    """
    points = fastest_of_each_size(LOAD_POINTS)
    with (
        open_small_environment(outer.say, _SMALL_MESH, ROUTES, security=PLAINTEXT) as plaintext,
        open_small_environment(outer.say, _SMALL_MESH, ROUTES, security=MTLS) as secured,
    ):
        endpoints = plaintext.state.plan.clients[CALLER]
        identity = str(Identities(secured.lab.folder).of(CALLER))
        variants = [
            Variant(IN_PLAINTEXT, "mesh", endpoints),
            Variant(PLAINTEXT_AGAIN, "mesh", endpoints),
            Variant(SECURED, "mesh", secured.state.plan.clients[CALLER], identity, secured),
        ]
        return measure(
            plaintext.within(outer), variants, points, rounds, measured_twice=(IN_PLAINTEXT, PLAINTEXT_AGAIN)
        )


def _measure(environment: Environment, rounds: int, topologies: Sequence[str]) -> Measured:
    endpoints = environment.state.plan.clients[CALLER]
    through_static = _through_static_envoy(environment)
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
                h2load.measure(path, point.payload_bytes, rate=point.rate, requests=point.requests, number=number)

    measured = measure(environment, variants, LOAD_POINTS, rounds, measured_twice=(DIRECT, AGAIN), after=second_opinion)
    return measured, h2load


def _through_static_envoy(environment: Environment) -> Endpoints:
    """Starts a bare Envoy with one static cluster: the yardstick for what the mesh's sidecar does besides forwarding.

    The endpoints through it differ from those of the caller's ``direct`` client in the address alone.
    """
    address = environment.address(STATIC)
    host, port = address.rsplit(":", 1)
    endpoints = xds_endpoints(",".join(environment.replicas(CLUSTER))).strip("[]")
    template = Template((CHECKOUT / "envoy" / "static.yaml").read_text())
    environment.start_envoy(STATIC, address, template.substitute(host=host, port=port, endpoints=endpoints))
    target = environment.state.plan.clients[CALLER].direct[USE_CASE]
    return Endpoints(direct={USE_CASE: replace(target, addresses=(address,))})
