"""A lab of thousands of clusters that is up: its life cycle, and what its units consume."""

from __future__ import annotations

import json
import secrets
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psutil

from lab.bench.scale.layout import IDLE_AFTER_S, MODEL_HOST, lay_out, replica_port, spec_of
from lab.bench.scale.synthetic_deployment import generate
from lab.client.admin import AdminClient
from lab.faults import Journal
from lab.lab import Lab
from lab.ops.bringup import BringUp
from lab.runtime.process import ProcessRuntime
from lab.runtime.state import STATE_FILE, LabState
from lab.transport import open_blocking_channel
from lab.transport.security import PLAINTEXT
from models.proto.control.v1 import host_pb2, host_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from lab.bench.scale.synthetic_deployment import SyntheticDeployment
    from lab.roles import Unit

_ADMIN_S = 5.0
# A stuck node delays one publish by this many seconds; later publishes do not wait for it.
_CONTROL_PLANE = ("--acknowledge-timeout", "1", "--leave-behind")


@dataclass(slots=True)
class ScaleLab:
    """A lab that is up. Publishing a route table is left to its user.

    Attributes:
        lab: its name and folders.
        deployment: that its host serves.
    """

    lab: Lab
    deployment: SyntheticDeployment
    state: LabState
    runtime: ProcessRuntime
    say: Callable[[str], None]

    def admin(self) -> AdminClient:
        """Returns a client of the control plane's admin API."""
        return AdminClient(self.state.plan.control_plane)

    def sidecars(self) -> list[Unit]:
        """Returns the Envoys beside callers."""
        return self.state.plan.with_role("sidecar")

    def process(self, unit: str) -> psutil.Process:
        """Returns a unit's process."""
        return psutil.Process(self.state.running[unit].pid)

    def rss_mb(self, unit: str) -> float:
        """Returns a unit's resident memory, MB (10^6 bytes)."""
        return float(self.process(unit).memory_info().rss) / 1e6

    def cpu_s(self, unit: str) -> float:
        """Returns the processor time that a unit has used so far, seconds."""
        times = self.process(unit).cpu_times()
        return float(times.user + times.system)

    def stats(self, sidecar: Unit, prefix: str) -> dict[str, int]:
        """Returns an Envoy's counters and gauges whose names start with a prefix."""
        found = self._ask(sidecar, f"/stats?format=json&filter=^{prefix}")["stats"]
        return {each["name"]: each["value"] for each in found if "value" in each}

    def xds_bytes(self, sidecar: Unit) -> int:
        """Returns the bytes on the wire that an Envoy has received from the control plane so far."""
        return self.stats(sidecar, "cluster.xds.upstream_cx_rx_bytes_total")["cluster.xds.upstream_cx_rx_bytes_total"]

    def clusters_of(self, sidecar: Unit) -> int:
        """Returns the number of clusters that an Envoy holds."""
        return self.stats(sidecar, "cluster_manager.active_clusters")["cluster_manager.active_clusters"]

    def discovered_by(self, sidecar: Unit) -> list[str]:
        """Returns the routing keys whose clusters an Envoy has discovered on demand, sorted."""
        found = self._ask(sidecar, "/config_dump?resource=dynamic_active_clusters").get("configs", ())
        return sorted(each["cluster"]["name"] for each in found)

    def allocated_mb(self, sidecar: Unit) -> float:
        """Returns the memory that an Envoy reports as allocated, MB."""
        return int(self._ask(sidecar, "/memory")["allocated"]) / 1e6

    @staticmethod
    def _ask(sidecar: Unit, path: str) -> Any:
        assert sidecar.admin is not None  # noqa: S101 (every sidecar has one)
        with urllib.request.urlopen(f"http://{sidecar.admin.outside}{path}", timeout=_ADMIN_S) as answer:
            return json.load(answer)

    @contextmanager
    def host(self) -> Iterator[Callable[[Iterable[str], Iterable[str]], None]]:
        """Yields a function that takes some replicas out of their clusters and puts others back."""
        with open_blocking_channel(f"unix:{self.state.plan.unit(MODEL_HOST).address}") as channel:
            stub = host_pb2_grpc.HostStub(channel)

            def drain(out: Iterable[str], back: Iterable[str]) -> None:
                stub.Drain(host_pb2.DrainRequest(out=out, back=back), timeout=_ADMIN_S)

            yield drain

    def restart(self, unit: str) -> None:
        """Kills a unit and starts it again; returns at once."""
        with self._audited("restart", unit):
            self.runtime.kill(self.state.running[unit])
            self.start(self.state.plan.unit(unit))

    @contextmanager
    def frozen(self, unit: str) -> Iterator[None]:
        """Pauses a unit for as long as the body runs."""
        running = self.state.running[unit]
        with self._audited("pause", unit):
            self.runtime.pause(running)
        try:
            yield
        finally:
            with self._audited("resume", unit):
                self.runtime.resume(running)

    def _audited(self, act: str, unit: str) -> AbstractContextManager[None]:
        return Journal(self.lab.folder).doing(f"unit {act}", unit)

    def start(self, unit: Unit) -> None:
        """Starts a unit, the lab's or another one; it ends with the lab."""
        for name, running in self.runtime.start([unit]):
            self.state = self.state.with_running(name, running)

    def stand_up(self) -> None:
        """Starts all units."""
        self.state = self._stand_up().start(self.state)

    def _stand_up(self) -> BringUp:
        return BringUp(self.runtime, self.lab.folder / STATE_FILE, self.say)


@contextmanager
def open_scale_lab(
    *,
    clusters: int,
    callers: int,
    use_cases: int,
    seed: int,
    say: Callable[[str], None],
    home: Path | None = None,
    name: str = "",
    clusters_idle_after_s: float = IDLE_AFTER_S,
) -> Iterator[ScaleLab]:
    """Brings such a lab up, and takes it down afterwards.

    Args:
        clusters: see :func:`lab.bench.scale.synthetic_deployment.generate`, as are the next three.
        callers: likewise.
        use_cases: likewise.
        seed: likewise.
        say: reports progress, one line a call.
        home: as for :class:`lab.lab.Lab`.
        name: of the lab; random by default.
        clusters_idle_after_s: an Envoy drops a cluster that it has not used for so long, seconds; 0 for never.

    Raises:
        InputError: a number is out of range.
        UnitError: a unit did not come up.
    """
    lab = Lab(name or f"scale-{secrets.token_hex(3)}", home)
    try:
        generate(clusters=clusters, callers=callers, use_cases=use_cases)  # reports bad numbers before all else
        lab.folder.mkdir(parents=True)
        runtime = ProcessRuntime(lab.folder, PLAINTEXT)
        site = runtime.site()
        deployment = generate(
            clusters=clusters, callers=callers, use_cases=use_cases, seed=seed, port=replica_port(site)
        )
        spec = spec_of(deployment.popularity, clusters_idle_after_s)
        plan = lay_out(spec, deployment.replicas, site, _CONTROL_PLANE)
        up = ScaleLab(lab, deployment, LabState("process", "", spec, plan), runtime, say)
        up.stand_up()
        yield up
    finally:
        lab.down()
