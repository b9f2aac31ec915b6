"""Lays out a lab of thousands of clusters: the units of any lab without its callers, and one model host."""

from __future__ import annotations

import json
from dataclasses import replace
from string import Template
from typing import TYPE_CHECKING

from lab import CHECKOUT
from lab.errors import UnitError
from lab.roles import CONTROL_PLANE, Plan, Port, Unit, plan
from lab.routing.document import RouteTable
from lab.spec import CallerSpec, LabSpec, SecuritySpec

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lab.runtime.process import ProcessSite
    from models.host.hosted import HostedReplica

MODEL_HOST, HOST_ENVOY = "model-host", "model-host-envoy"
IDLE_AFTER_S = 900.0
"""Default time after which an Envoy drops an unused cluster."""

_LONGEST_SOCKET = 107  # bytes of a Unix socket's path
_TEMPLATE = CHECKOUT / "envoy" / "model-host.yaml"


def spec_of(callers: Iterable[str], clusters_idle_after_s: float = IDLE_AFTER_S) -> LabSpec:
    """Returns the spec: a sidecar beside each caller, and a shared resolver, because thirty would take a gigabyte.

    It is in plaintext, as in benches.
    """
    return LabSpec(
        topologies=["mesh"],
        callers={name: CallerSpec() for name in callers},
        resolver="shared",
        clusters_idle_after_s=clusters_idle_after_s,
        security=SecuritySpec(mode="plaintext"),
    )


def replica_port(site: ProcessSite) -> int:
    """Returns the port that all replicas have."""
    return int(site.port(HOST_ENVOY, "grpc").bind.rsplit(":", 1)[1])


def lay_out(
    spec: LabSpec, replicas: Iterable[HostedReplica], site: ProcessSite, control_plane_flags: Iterable[str] = ()
) -> Plan:
    """Returns the plan of all units.

    Args:
        spec: see :func:`spec_of`.
        replicas: that the host answers for.
        site: gives out ports and paths.
        control_plane_flags: added to the control plane's command line.

    Raises:
        UnitError: the path of the lab's folder is too long for the host's socket.
    """
    bare = plan(spec, RouteTable.from_document({}), site)
    units = [
        replace(unit, argv=(*unit.argv, *control_plane_flags)) if unit.name == CONTROL_PLANE else unit
        for unit in bare.units
        if unit.role != "caller"
    ]
    control_plane, *others = units
    return replace(bare, units=(control_plane, *_host(replicas, site, control_plane.port.inside), *others))


def _host(replicas: Iterable[HostedReplica], site: ProcessSite, control_plane: str) -> tuple[Unit, Unit]:
    socket, file = site.path(MODEL_HOST, "socket"), site.path(MODEL_HOST, "replicas.json")
    if len(socket.encode()) > _LONGEST_SOCKET:
        raise UnitError(f"{socket}: too long for the path of a Unix socket; use a shorter LAB_HOME")
    argv = ("python", "-m", "models.host", "--replicas", file, "--listen", f"unix:{socket}")
    address = Port(socket, socket, socket)
    host = Unit(
        MODEL_HOST,
        MODEL_HOST,
        (*argv, "--control-plane", control_plane),
        address,
        files={"replicas.json": json.dumps([list(each) for each in replicas])},
        pod=MODEL_HOST,
    )
    port, admin = site.port(HOST_ENVOY, "grpc"), site.port(HOST_ENVOY, "admin")
    admin_host, admin_port = admin.bind.rsplit(":", 1)
    bootstrap = Template(_TEMPLATE.read_text()).substitute(
        port=replica_port(site), admin_host=admin_host, admin_port=admin_port, host_socket=socket
    )
    flags = ("--concurrency", "1", "--disable-hot-restart", "--log-level", "error")
    command = ("envoy", "--config-path", site.path(HOST_ENVOY, "envoy.yaml"), *flags)
    return host, Unit(HOST_ENVOY, HOST_ENVOY, command, port, admin, {"envoy.yaml": bootstrap}, pod=MODEL_HOST)
