"""A lab of thousands of clusters that is up: bringing it there, and looking at what it takes."""

from __future__ import annotations

import json
import secrets
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psutil

from lab.admin import AdminClient
from lab.faults import Journal
from lab.lab import Lab
from lab.ops.bringup import BringUp
from lab.runtime.process import ProcessRuntime
from lab.runtime.state import STATE_FILE, LabState
from lab.scale.layout import IDLE_AFTER_S, MODEL_HOST, lay_out, replica_port, spec_of
from lab.scale.topology import generate
from lab.transport import open_blocking_channel
from lab.transport.security import PLAINTEXT
from models.proto.control.v1 import host_pb2, host_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from lab.roles import Unit
    from lab.scale.topology import Topology

_ADMIN_S = 5.0
# A node that is stuck keeps a publish waiting so long, once; the next do not wait for it.
_CONTROL_PLANE = ("--acknowledge-timeout", "1", "--leave-behind")


@dataclass(slots=True)
class ScaleLab:
    """A lab that is up, with nothing published yet.

    Attributes:
        lab: its name and folders.
        topology: what its host serves.
    """

    lab: Lab
    topology: Topology
    state: LabState
    runtime: ProcessRuntime
    say: Callable[[str], None]

    def admin(self) -> AdminClient:
        """The operator's way to the control plane."""
        return AdminClient(self.state.plan.control_plane)

    def sidecars(self) -> list[Unit]:
        """The Envoys beside callers."""
        return self.state.plan.with_role("sidecar")

    def process(self, unit: str) -> psutil.Process:
        """A unit's process."""
        return psutil.Process(self.state.running[unit].pid)

    def rss_mb(self, unit: str) -> float:
        """Memory that a unit has resident, MB (10^6 bytes)."""
        return float(self.process(unit).memory_info().rss) / 1e6

    def cpu_s(self, unit: str) -> float:
        """Processor time that a unit has taken so far, seconds."""
        times = self.process(unit).cpu_times()
        return float(times.user + times.system)

    def stats(self, sidecar: Unit, prefix: str) -> dict[str, int]:
        """Counters and gauges of an Envoy whose names begin so."""
        found = self._ask(sidecar, f"/stats?format=json&filter=^{prefix}")["stats"]
        return {each["name"]: each["value"] for each in found if "value" in each}

    def xds_bytes(self, sidecar: Unit) -> int:
        """What an Envoy has received from the control plane so far, bytes on the wire."""
        return self.stats(sidecar, "cluster.xds.upstream_cx_rx_bytes_total")["cluster.xds.upstream_cx_rx_bytes_total"]

    def clusters_of(self, sidecar: Unit) -> int:
        """How many clusters an Envoy holds."""
        return self.stats(sidecar, "cluster_manager.active_clusters")["cluster_manager.active_clusters"]

    def discovered_by(self, sidecar: Unit) -> list[str]:
        """Routing keys whose clusters an Envoy holds because it has asked for them, in order."""
        found = self._ask(sidecar, "/config_dump?resource=dynamic_active_clusters").get("configs", ())
        return sorted(each["cluster"]["name"] for each in found)

    def allocated_mb(self, sidecar: Unit) -> float:
        """Memory that an Envoy has allocated, by its own word, MB."""
        return int(self._ask(sidecar, "/memory")["allocated"]) / 1e6

    @staticmethod
    def _ask(sidecar: Unit, path: str) -> Any:
        assert sidecar.admin is not None  # noqa: S101 (every sidecar has one)
        with urllib.request.urlopen(f"http://{sidecar.admin.outside}{path}", timeout=_ADMIN_S) as answer:
            return json.load(answer)

    @contextmanager
    def host(self) -> Iterator[Callable[[Iterable[str], Iterable[str]], None]]:
        """A way to take replicas out of their clusters, and others back in."""
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
        """A unit that says nothing for as long as the body runs."""
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
        """Starts a unit, or what ends with the lab as units do."""
        for name, running in self.runtime.start([unit]):
            self.state = self.state.with_running(name, running)

    def stand_up(self) -> None:
        """Starts all units."""
        self.state = self._stand_up().start(self.state)

    def _stand_up(self) -> BringUp:
        return BringUp(self.runtime, self.lab.folder / STATE_FILE, self.say)


@contextmanager
def standing(
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
    """Brings such a lab up, and takes it down again; arguments as for :func:`lab.scale.topology.generate`.

    Its name is one of its own, unless it is given one. A cluster leaves an Envoy that has not used it for so long.

    Raises:
        InputError: a number is out of range.
        UnitError: a unit did not come up.
    """
    lab = Lab(name or f"scale-{secrets.token_hex(3)}", home)
    try:
        generate(clusters=clusters, callers=callers, use_cases=use_cases)  # bad numbers are said before all else
        lab.folder.mkdir(parents=True)
        runtime = ProcessRuntime(lab.folder, PLAINTEXT)
        site = runtime.site()
        topology = generate(clusters=clusters, callers=callers, use_cases=use_cases, seed=seed, port=replica_port(site))
        spec = spec_of(topology.popularity, clusters_idle_after_s)
        plan = lay_out(spec, topology.replicas, site, _CONTROL_PLANE)
        up = ScaleLab(lab, topology, LabState("process", "", spec, plan), runtime, say)
        up.stand_up()
        yield up
    finally:
        lab.down()
