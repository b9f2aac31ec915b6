"""A lab with more clusters than the machine could run, on one model host, and what its sidecars hold."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from lab.lab import Lab
from lab.ops.reaper import Reaper
from lab.plugins.bench.scale.scale_lab import ScaleLab, open_scale_lab
from lab.plugins.workshop.figures import Figure, show
from lab.report.bars import Bar, BarChart, BarGroup
from lab.report.scales import linear
from lab.topologies import open_client
from lab.waiting import eventually
from models.apis import APIS

_IDLE_WITHIN = timedelta(seconds=60)
_CONTEXT = {"user_id": "u1", "device": "web", "country": "DE", "segment": "adults"}


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: its use case, where it went, and its milliseconds."""

    use_case: str
    routing_key: str
    cluster: str
    ms: float


@dataclass(frozen=True, slots=True)
class Known:
    """What a sidecar has.

    Attributes:
        clusters: routing keys that it has a cluster for.
        received_kb: from the control plane since it started, KB on the wire.
        allocated_mb: by its own word.
    """

    clusters: Sequence[str]
    received_kb: float
    allocated_mb: float


class HostedLab:
    """A lab with a model host, which ends with the notebook's kernel at the latest."""

    def __init__(self, home: Path | None = None) -> None:
        self._lab = Lab(f"hosted-{secrets.token_hex(3)}", home)
        self._stack = ExitStack()
        self._standing: ScaleLab | None = None

    def up(self, *, clusters: int, callers: int, use_cases: int, seed: int = 1, idle_after_s: float = 0.0) -> None:
        """Brings it up and publishes a generated route table with ``clusters`` clusters.

        A cluster leaves a sidecar that has not used it for ``idle_after_s`` seconds; it stays for ever if that is 0.

        Raises:
            InputError: a number is out of range.
            LabError: a unit did not come up.
        """
        home = self._lab.folder.parent.parent
        self._stack.callback(Reaper(self._lab.name, home).dismiss)
        self._standing = self._stack.enter_context(
            open_scale_lab(
                clusters=clusters,
                callers=callers,
                use_cases=use_cases,
                seed=seed,
                say=lambda _: None,
                home=home,
                name=self._lab.name,
                clusters_idle_after_s=idle_after_s,
            )
        )
        with self._up.admin() as admin:
            admin.publish([("hosted.json", json.dumps(self._up.deployment.document))], author="notebook", comment="all")

    def down(self) -> None:
        """Takes it down; does nothing to one that is not up."""
        self._standing = None
        self._stack.close()

    @property
    def clusters(self) -> int:
        """How many model clusters there are."""
        return len(self._up.deployment.document["clusters"])

    def use_cases(self, caller: str) -> list[str]:
        """Use cases of a caller, most popular first."""
        return list(dict.fromkeys(self._up.deployment.popularity[caller]))

    async def ask(self, caller: str, use_cases: Iterable[str]) -> list[Asked]:
        """Calls models by the mesh, one request after the other.

        Raises:
            CallError: one was not answered.
        """
        client = open_client("mesh", caller, self._up.state.plan.callers[caller])
        asked = []
        try:
            await client.ready()
            for use_case in use_cases:
                api = APIS[self._up.deployment.document["use_cases"][use_case]["api"]]
                began = time.perf_counter()
                answer = await client.call(use_case, api.build_request(400), _CONTEXT)
                took_ms = 1e3 * (time.perf_counter() - began)
                asked.append(Asked(use_case, answer.routing_key, answer.response.answered_by.cluster, took_ms))
        finally:
            await client.close()
        return asked

    def known_to(self, caller: str) -> Known:
        """Clusters and memory of the sidecar beside a caller."""
        sidecar = self._up.state.plan.unit(f"{caller}-sidecar")
        up = self._up
        return Known(up.discovered_by(sidecar), up.xds_bytes(sidecar) / 1e3, up.allocated_mb(sidecar))

    async def idle(self, caller: str) -> None:
        """Returns when the sidecar beside a caller holds no clusters.

        Raises:
            DeadlineError: some did not.
        """
        sidecar = self._up.state.plan.unit(f"{caller}-sidecar")
        await asyncio.to_thread(
            eventually,
            f"clusters have left {sidecar.name}",
            lambda: self._up.discovered_by(sidecar),
            within=_IDLE_WITHIN,
            until=lambda held: not held,
        )

    @property
    def _up(self) -> ScaleLab:
        assert self._standing is not None, "bring it up first"  # noqa: S101 (a cell that was left out)
        return self._standing


def sidecars_picture(measured: Mapping[tuple[str, int], Mapping[str, float]], figure: str, unit: str) -> Figure:
    """One figure of the bench ``on-demand``, for each kind of sidecar at each number of clusters.

    Args:
        measured: kind of sidecar and number of clusters → its figures.
        figure: which of them.
        unit: the quantity in words, with its unit.
    """
    styles = {kind: f"run-{number}" for number, kind in enumerate(dict.fromkeys(kind for kind, _ in measured), 1)}
    sizes = sorted({size for _, size in measured})
    groups = [
        BarGroup(
            f"{size:,} clusters, of which ten are used",
            [
                Bar(kind, styles[kind], seen[figure], text=f"{seen[figure]:,.1f}")
                for (kind, number), seen in measured.items()
                if number == size
            ],
        )
        for size in sizes
    ]
    most = max(seen[figure] for seen in measured.values())
    note = "Measured: one Envoy each, on this machine."
    return show(BarChart("A sidecar on demand, and one that gets every cluster", linear(unit, most), groups, note=note))
