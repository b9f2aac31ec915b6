"""How `lab up` sees that units are ready."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from lab.client.admin import AdminClient
from lab.errors import LabNotRunningError
from lab.transport import open_blocking_channel

if TYPE_CHECKING:
    from lab.roles._unit import Unit

_TIMEOUT_S = 1.0


@dataclass(frozen=True, slots=True)
class StartingLab:
    """A lab whose units start, as a probe sees it.

    Attributes:
        admin: of its control plane, of several the first.
        control_planes: addresses of all of them.
        paused: units that are paused.
    """

    admin: AdminClient
    control_planes: Sequence[str]
    paused: Collection[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """How `lab up` sees that the units of a role are ready. A role may define another one than those below.

    Attributes:
        missing: returns the names of the units, of those given, that are not ready; called until there are none.
        container: what the health check of their container does: call the health service by ``grpc``, get ``/ready``
            of the admin page by ``http``, or only ``open`` a connection.
    """

    missing: Callable[[Sequence[Unit], StartingLab], Iterable[str]]
    container: Literal["grpc", "http", "open"] = "grpc"

    ADMIN_API: ClassVar[Probe]
    """The control plane's admin API answers."""
    REGISTERED: ClassVar[Probe]
    """Every control plane lists the replica."""
    CONNECTED: ClassVar[Probe]
    """The control plane lists it among its nodes."""
    HTTP_READY: ClassVar[Probe]
    """Its admin page answers GET /ready with 200."""
    GRPC_HEALTH: ClassVar[Probe]
    """Its gRPC health service says SERVING."""


def _without_admin_api(units: Sequence[Unit], lab: StartingLab) -> Iterable[str]:
    del lab
    return [unit.name for unit in units if not _administers(unit.address)]


def _unregistered(units: Sequence[Unit], lab: StartingLab) -> Iterable[str]:
    lists = []
    for address in lab.control_planes:
        with AdminClient(address) as admin:
            lists.append({replica.replica for replica in admin.status().replicas})
    registered = set.intersection(*lists)
    return [unit.name for unit in units if unit.name not in registered]


def _unconnected(units: Sequence[Unit], lab: StartingLab) -> Iterable[str]:
    connected = {node.node for node in lab.admin.status(replicas=False).nodes}
    return [unit.name for unit in units if unit.name not in connected]


def _not_live(units: Sequence[Unit], lab: StartingLab) -> Iterable[str]:
    # The control plane lists an Envoy before it listens; its admin page says when it does.
    del lab
    return [unit.name for unit in units if unit.admin and not _is_live(unit.admin.outside)]


def _not_serving(units: Sequence[Unit], lab: StartingLab) -> Iterable[str]:
    # A paused unit stays paused: do not wait for it.
    return [unit.name for unit in units if unit.name not in lab.paused and not _serves(unit.address)]


Probe.ADMIN_API = Probe(missing=_without_admin_api)
Probe.REGISTERED = Probe(missing=_unregistered)
Probe.CONNECTED = Probe(missing=_unconnected)
Probe.HTTP_READY = Probe(missing=_not_live, container="http")
Probe.GRPC_HEALTH = Probe(missing=_not_serving)


def _administers(address: str) -> bool:
    with AdminClient(address) as admin:
        try:
            admin.status(replicas=False)
        except LabNotRunningError:
            return False
    return True


def _serves(address: str) -> bool:
    with open_blocking_channel(address) as channel:
        try:
            health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=_TIMEOUT_S)
        except grpc.RpcError:
            return False
    return True


def _is_live(admin: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{admin}/ready", timeout=_TIMEOUT_S) as answer:
            return bool(answer.status == 200)  # noqa: PLR2004 (HTTP's OK)
    except OSError:
        return False
