"""What mTLS costs a mesh: two small labs beside each other that differ in nothing but that."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from lab.bench.harness import topology_rounds
from lab.bench.harness.environment import setting
from lab.bench.harness.interleaved import measure
from lab.bench.harness.topology_rounds import Ways
from lab.bench.harness.variant import API, CALLER, CLUSTER, MODEL, USE_CASE, VERSION, Arm
from lab.measure.control import control
from lab.runtime.identities import Identities
from lab.transport.security import MTLS, PLAINTEXT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lab.bench.harness.environment import Setting
    from lab.bench.harness.variant import Cell

IN_PLAINTEXT, SECURED, AGAIN = "small mesh", "small mesh with mTLS", "small mesh again"

_SPEC = f'topologies = ["mesh"]\nroutes = "routes.yaml"\n[callers.{CALLER}]\n'
_ROUTES = {
    "use_cases": {USE_CASE: {"callers": [CALLER], "api": API, "timeout": "10s", "default": f"{MODEL}@{VERSION}"}},
    "models": {MODEL: {"versions": {VERSION: {"cluster": CLUSTER}}}},
    "clusters": {CLUSTER: {"replicas": 2}},
}


def measured_pair(outer: Setting, rounds: int) -> Ways:
    """Stands both up beside the bench's own lab, which has nothing to do meanwhile, and measures them in turns.

    Each size is sent at the highest rate that it has in :mod:`lab.bench.harness.topology_rounds`. It is not the bench's
    own mesh that is measured, because that has more clusters, callers and rules.
    """
    cells = tuple(_fastest())
    with tempfile.TemporaryDirectory() as folder:
        spec = Path(folder) / "pair.toml"
        spec.write_text(_SPEC)
        (Path(folder) / "routes.yaml").write_text(yaml.safe_dump(_ROUTES))
        with (
            setting(outer.say, spec, security=PLAINTEXT) as plaintext,
            setting(outer.say, spec, security=MTLS) as secured,
        ):
            endpoints = plaintext.state.plan.clients[CALLER]
            arms = [
                Arm(IN_PLAINTEXT, "mesh", endpoints),
                Arm(AGAIN, "mesh", endpoints),
                Arm(
                    SECURED,
                    "mesh",
                    secured.state.plan.clients[CALLER],
                    identity=str(Identities(secured.lab.folder).of(CALLER)),
                ),
            ]
            result = measure(plaintext, arms, cells, rounds)
    controls = [
        control(
            f"{AGAIN} − {IN_PLAINTEXT}, p50, {cell}, ms",
            result.p50_ms[IN_PLAINTEXT, cell],
            result.p50_ms[AGAIN, cell],
            among=len(cells),
        )
        for cell in cells
    ]
    return Ways(tuple(arm.name for arm in arms), cells, result, None, controls)


def _fastest() -> Iterable[Cell]:
    """Of each size the cell with the highest rate."""
    by_rate = sorted(topology_rounds.CELLS, key=lambda cell: cell.rate)
    return {cell.payload_bytes: cell for cell in by_rate}.values()
