"""What mTLS costs a mesh: two small labs side by side that differ in nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.bench.harness import topology_rounds
from lab.bench.harness.environment import open_small_environment
from lab.bench.harness.interleaved import measure
from lab.bench.harness.variant import CALLER, ROUTES, Variant, fastest_of_each_size
from lab.runtime.identities import Identities
from lab.transport.security import MTLS, PLAINTEXT

if TYPE_CHECKING:
    from lab.bench.harness.environment import Environment
    from lab.bench.harness.interleaved import Rounds

IN_PLAINTEXT, SECURED, AGAIN = "small mesh", "small mesh with mTLS", "small mesh again"

_SPEC = f'topologies = ["mesh"]\n[callers.{CALLER}]\n'


def measured_pair(outer: Environment, rounds: int) -> Rounds:
    """Brings both up beside the bench's own lab, which is idle meanwhile, and measures them in interleaved rounds.

    Each payload size is sent at the highest rate that it has in :mod:`lab.bench.harness.topology_rounds`. The bench's
    own mesh is not measured, because it has more clusters, callers and rules.
    """
    points = fastest_of_each_size(topology_rounds.LOAD_POINTS)
    with (
        open_small_environment(outer.say, _SPEC, ROUTES, security=PLAINTEXT) as plaintext,
        open_small_environment(outer.say, _SPEC, ROUTES, security=MTLS) as secured,
    ):
        endpoints = plaintext.state.plan.clients[CALLER]
        identity = str(Identities(secured.lab.folder).of(CALLER))
        variants = [
            Variant(IN_PLAINTEXT, "mesh", endpoints),
            Variant(AGAIN, "mesh", endpoints),
            Variant(SECURED, "mesh", secured.state.plan.clients[CALLER], identity),
        ]
        return measure(plaintext, variants, points, rounds, measured_twice=(IN_PLAINTEXT, AGAIN))
