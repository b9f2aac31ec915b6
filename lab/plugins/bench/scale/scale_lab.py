"""A lab of thousands of clusters that is up: its units, its life cycle, and what the units consume."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

import psutil

from lab import FILES
from lab.client.admin import AdminClient
from lab.errors import UnitError
from lab.lab import Lab
from lab.ops.bringup import BringUp
from lab.plugins.bench.harness.environment import (
    Environment,
    allocated_mb,
    cpu_seconds,
    envoy_counter,
    envoy_page,
    xds_bytes,
)
from lab.plugins.bench.scale.synthetic_deployment import SyntheticDeployment, generate
from lab.roles import Plan, Port, Unit, plan
from lab.roles._envoy import admin_view
from lab.routing.document import RouteTable
from lab.runtime.process import ProcessRuntime, ProcessSite
from lab.runtime.state import STATE_FILE, LabState
from lab.spec import CallerSpec, LabSpec, SecuritySpec
from lab.transport import open_blocking_channel
from lab.transport.security import PLAINTEXT
from models.proto.control.v1 import host_pb2, host_pb2_grpc

if TYPE_CHECKING:
    from models.stub.versions import Identity

MODEL_HOST, HOST_ENVOY = "model-host", "model-host-envoy"
IDLE_AFTER_S = 900.0
"""Default time after which an Envoy drops an unused cluster."""

_ADMIN_S = 5.0
_LONGEST_SOCKET = 107  # bytes of a Unix socket's path
# A stuck node delays one publish by this many seconds; later publishes do not wait for it.
_CONTROL_PLANE = ("--acknowledge-timeout", "1", "--leave-behind")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleLab(Environment):
    """A lab that is up. Publishing a route table is left to its user."""

    deployment: SyntheticDeployment

    def admin(self) -> AdminClient:
        """Returns a client of the control plane's admin API."""
        return AdminClient(self.state.plan.control_plane)

    def sidecars(self) -> list[Unit]:
        """Returns the Envoys beside callers."""
        return self.state.plan.with_role("sidecar")

    def rss_mb(self, unit: str) -> float:
        """Returns a unit's resident memory, MB (10^6 bytes)."""
        return float(psutil.Process(self.state.running[unit].pid).memory_info().rss) / 1e6

    def cpu_s(self, unit: str) -> float:
        """Returns the processor time that a unit has used so far, seconds."""
        return cpu_seconds(self.state.running[unit].pid)

    def xds_bytes(self, sidecar: Unit) -> int:
        """Returns the bytes on the wire that an Envoy has received from the control plane so far."""
        return xds_bytes(_admin_of(sidecar))

    def clusters_of(self, sidecar: Unit) -> int:
        """Returns the number of clusters that an Envoy holds."""
        return envoy_counter(_admin_of(sidecar), "cluster_manager.active_clusters")

    def discovered_by(self, sidecar: Unit) -> list[str]:
        """Returns the routing keys whose clusters an Envoy has discovered on demand, sorted."""
        page = envoy_page(_admin_of(sidecar), "/config_dump?resource=dynamic_active_clusters")
        return sorted(each["cluster"]["name"] for each in page.get("configs", ()))

    def allocated_mb(self, sidecar: Unit) -> float:
        """Returns the memory that an Envoy reports as allocated, MB."""
        return allocated_mb(_admin_of(sidecar))

    @contextmanager
    def host(self) -> Iterator[Callable[[Iterable[str], Iterable[str]], object]]:
        """Yields a function that takes some replicas out of their clusters and puts others back."""
        with open_blocking_channel(f"unix:{self.state.plan.unit(MODEL_HOST).address}") as channel:
            stub = host_pb2_grpc.HostStub(channel)
            yield lambda out, back: stub.Drain(host_pb2.DrainRequest(out=out, back=back), timeout=_ADMIN_S)


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
    """Brings such a lab up, and takes it down afterwards. It is in plaintext, as in other benches.

    For numbers and seed see :func:`.synthetic_deployment.generate`. An Envoy drops a cluster that it has
    not used for ``clusters_idle_after_s`` seconds; 0 for never.

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
            clusters=clusters, callers=callers, use_cases=use_cases, seed=seed, port=_replica_port(site)
        )
        spec = LabSpec(
            topologies=["mesh"],
            callers={caller: CallerSpec() for caller in deployment.popularity},
            resolver="shared",  # thirty, one beside each caller, would take a gigabyte
            clusters_idle_after_s=clusters_idle_after_s,
            clusters_unasked=0,  # it shows what clusters on demand save, also with few of them
            security=SecuritySpec(mode="plaintext"),
        )
        state = LabState("process", "", spec, _lay_out(spec, deployment.replicas, site))
        BringUp(runtime, lab.folder / STATE_FILE, say).start(state)
        yield ScaleLab(lab, say, deployment=deployment)
    finally:
        lab.down()


def _admin_of(sidecar: Unit) -> str:
    assert sidecar.admin is not None  # noqa: S101 (every sidecar has one)
    return sidecar.admin.outside


def _replica_port(site: ProcessSite) -> int:
    return int(site.port(HOST_ENVOY, "grpc").bind.rsplit(":", 1)[1])


def _lay_out(spec: LabSpec, replicas: Iterable[Identity], site: ProcessSite) -> Plan:
    """The units of any lab without its callers, and one model host that answers for all replicas.

    Raises:
        UnitError: the path of the lab's folder is too long for the host's socket.
    """
    socket, file = site.path(MODEL_HOST, "socket"), site.path(MODEL_HOST, "replicas.json")
    if len(socket.encode()) > _LONGEST_SOCKET:
        raise UnitError(f"{socket}: too long for the path of a Unix socket; use a shorter LAB_HOME")
    bare = plan(spec, RouteTable.from_document({}), site)
    control_plane, *others = (unit for unit in bare.units if unit.role != "caller")
    host = Unit(
        MODEL_HOST,
        MODEL_HOST,
        (
            *("python", "-m", "models.host", "--replicas", file, "--listen", f"unix:{socket}"),
            *("--control-plane", control_plane.port.inside),
        ),
        Port(socket, socket, socket),
        files={"replicas.json": json.dumps([list(each) for each in replicas])},
        pod=MODEL_HOST,
    )
    port, admin = site.port(HOST_ENVOY, "grpc"), site.port(HOST_ENVOY, "admin")
    bootstrap = Template((FILES / "envoy" / "model-host.yaml").read_text()).substitute(
        port=_replica_port(site), host_socket=socket, **admin_view(site.socket(HOST_ENVOY, "admin"), admin.bind)
    )
    flags = ("--concurrency", "1", "--disable-hot-restart", "--log-level", "error")
    command = ("envoy", "--config-path", site.path(HOST_ENVOY, "envoy.yaml"), *flags)
    envoy = Unit(HOST_ENVOY, HOST_ENVOY, command, port, admin, {"envoy.yaml": bootstrap}, pod=MODEL_HOST)
    control_plane = replace(control_plane, argv=(*control_plane.argv, *_CONTROL_PLANE))
    return replace(bare, units=(control_plane, host, envoy, *others))
