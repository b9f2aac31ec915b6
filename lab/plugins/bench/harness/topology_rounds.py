"""The latency of every topology in interleaved rounds, which the benches ``topologies`` and ``decomposition`` share.

The rounds are measured once for both, so that their figures are of the same minutes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from string import Template

from lab import FILES
from lab.client import Endpoints
from lab.plugins.bench.harness.environment import Environment, open_small_environment
from lab.plugins.bench.harness.interleaved import Rounds, measure
from lab.plugins.bench.harness.variant import (
    CALLER,
    CLUSTER,
    ROUTES,
    USE_CASE,
    LoadPoint,
    Variant,
    fastest_of_each_size,
)
from lab.roles._envoy import envoy_address, xds_endpoints
from lab.routing.headers import FORGEABLE
from lab.runtime.identities import Identities
from lab.transport.security import MTLS, PLAINTEXT

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


def measured_topologies(environment: Environment, rounds: int, topologies: Sequence[str] = ()) -> Rounds:
    """Returns the rounds of ``direct`` and ``topologies``, measured at the first call."""
    chosen = [each for each in topologies if each != STATIC]  # which is always measured
    key = f"topologies: {rounds}, {chosen}"
    if key not in environment.cache:
        environment.cache[key] = _measure(environment, rounds, chosen or environment.topologies)
    measured: Rounds = environment.cache[key]
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


def _measure(environment: Environment, rounds: int, topologies: Sequence[str]) -> Rounds:
    variants = variants_of(environment, topologies)
    return measure(environment, variants, LOAD_POINTS, rounds, measured_twice=(DIRECT, AGAIN))


def variants_of(environment: Environment, topologies: Sequence[str]) -> list[Variant]:
    """Returns ``direct`` twice, a bare static Envoy, which it starts, and these topologies."""
    endpoints = environment.state.plan.clients[CALLER]
    through_static = through_static_envoy(environment, STATIC, environment.address(STATIC))
    return [
        Variant(DIRECT, DIRECT, endpoints),
        Variant(AGAIN, DIRECT, endpoints),
        Variant(STATIC, DIRECT, through_static),
        *(Variant(each, each, endpoints) for each in topologies if each != DIRECT),
    ]


def through_static_envoy(environment: Environment, name: str, address: str) -> Endpoints:
    """Starts a bare Envoy with one static cluster: the yardstick for what the mesh's sidecar does besides forwarding.

    The endpoints through it differ from those of the caller's ``direct`` client in the address alone.
    """
    endpoints = xds_endpoints(",".join(environment.replicas(CLUSTER))).strip("[]")
    environment.start_envoy(name, address, static_envoy(address, endpoints))
    target = environment.state.plan.clients[CALLER].direct[USE_CASE]
    return Endpoints(direct={USE_CASE: replace(target, addresses=(address,))})


def static_envoy(address: str, endpoints: str = "") -> str:
    """Returns the configuration of an Envoy that listens at an address, with one static cluster."""
    template = Template((FILES / "envoy" / "static.yaml").read_text())
    listen = json.dumps(envoy_address(address))
    return template.substitute(address=listen, endpoints=endpoints, forgeable=json.dumps(FORGEABLE))
