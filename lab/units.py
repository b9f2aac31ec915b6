"""From spec to plan: which units stand up, with which command each, and at which addresses they meet.

A plan is the same for every runtime; only where things are differs, and that a :class:`Site` says.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from string import Template, ascii_lowercase
from typing import TYPE_CHECKING, Any, Protocol

from lab.client import DirectTarget, Endpoints

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lab.routing.document import RouteTable
    from lab.spec import LabSpec

CONTROL_PLANE = "control-plane"
_SIDECAR_TEMPLATE = Path(__file__).parent.parent / "envoy" / "sidecar.yaml"


class Site(Protocol):
    """Where a runtime puts things."""

    def address(self, unit: str, port: str) -> str:
        """``host:port`` at which a unit's port is reached by the other units, and bound by itself."""

    def path(self, unit: str, file: str) -> str:
        """Where a unit finds a file of its own."""


@dataclass(frozen=True, slots=True)
class Unit:
    """One process.

    Attributes:
        name: unique within the lab.
        role: ``control-plane``, ``model``, ``resolver``, ``sidecar``, ``gateway`` or ``caller``.
        argv: the command; ``python`` and ``envoy`` stand for whatever the runtime has of them.
        address: ``host:port`` at which it serves.
        admin: ``host:port`` of its admin page, if it has one.
        files: name → content of what it needs to find at :meth:`Site.path`.
        pod: the caller that it stands beside, its own name for a unit that stands alone.
    """

    name: str
    role: str
    argv: tuple[str, ...]
    address: str
    admin: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    pod: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """All units of a lab.

    Attributes:
        units: in the order of starting.
        callers: each caller's name → where its clients find what they need.
    """

    units: tuple[Unit, ...]
    callers: Mapping[str, Endpoints]

    def unit(self, name: str) -> Unit:
        """The unit of that name.

        Raises:
            KeyError: there is none.
        """
        for unit in self.units:
            if unit.name == name:
                return unit
        raise KeyError(name)

    def with_role(self, role: str) -> list[Unit]:
        """All units of a role."""
        return [unit for unit in self.units if unit.role == role]


def plan(spec: LabSpec, table: RouteTable, site: Site) -> Plan:
    """Lays the lab out.

    Args:
        spec: what stands up.
        table: the route table that will be published first; it names the clusters, and ``direct`` callers have its
            addresses written into them, which is what is wrong with ``direct``.
        site: where things are.
    """
    models = list(_models(spec, table, site))
    gateways = list(_gateways(spec, site)) if spec.has_gateway else []
    callers = {
        name: Endpoints(
            resolver=site.address(f"{name}-resolver", "grpc") if spec.has_mesh else None,
            sidecar=site.address(f"{name}-sidecar", "grpc") if spec.has_mesh else None,
            gateways=tuple(unit.address for unit in gateways),
            direct=_direct_targets(table, models) if "direct" in spec.topologies else {},
        )
        for name in spec.callers
    }
    units = [_control_plane(site), *models, *gateways]
    for name, endpoints in callers.items():
        if spec.has_mesh:
            units += [_resolver(spec, name, site), _sidecar(name, site)]
        units.append(_caller(spec, name, endpoints, table, site))
    return Plan(tuple(units), callers)


def _control_plane(site: Site) -> Unit:
    address = site.address(CONTROL_PLANE, "grpc")
    argv = _python("services.controlplane", listen=address, registry=site.path(CONTROL_PLANE, "registry.sqlite"))
    return Unit(CONTROL_PLANE, "control-plane", argv, address, pod=CONTROL_PLANE)


def _models(spec: LabSpec, table: RouteTable, site: Site) -> Iterator[Unit]:
    for cluster, replicas in {**spec.idle_clusters, **table.clusters}.items():
        for number in range(replicas):
            name = f"{cluster}-{_letters(number)}"
            address = site.address(name, "grpc")
            argv = _python(
                "models.stub",
                cluster=cluster,
                replica=name,
                listen=address,
                advertise=address,
                control_plane=site.address(CONTROL_PLANE, "grpc"),
                latency=spec.stub.latency,
                error_rate=spec.stub.error_rate,
                warm_up_ms=spec.stub.warm_up_ms,
                concurrency_limit=spec.stub.concurrency_limit,
            )
            yield Unit(name, "model", argv, address, pod=name)


def _gateways(spec: LabSpec, site: Site) -> Iterator[Unit]:
    for number in range(1, spec.gateway.replicas + 1):
        name = f"gateway-{number}"
        address = site.address(name, "grpc")
        argv = _python(
            "services.gateway",
            name=name,
            listen=address,
            control_plane=site.address(CONTROL_PLANE, "grpc"),
            access_log=site.path(name, "access.log"),
        )
        yield Unit(name, "gateway", argv, address, pod=name)


def _resolver(spec: LabSpec, caller: str, site: Site) -> Unit:
    name = f"{caller}-resolver"
    address = site.address(name, "grpc")
    argv = _python(
        "services.resolver",
        name=name,
        owner=caller,
        listen=address,
        control_plane=site.address(CONTROL_PLANE, "grpc"),
        lease_ttl=spec.leases.ttl_s,
        max_stale=spec.leases.max_stale_s,
    )
    return Unit(name, "resolver", argv, address, pod=caller)


def _sidecar(caller: str, site: Site) -> Unit:
    name = f"{caller}-sidecar"
    address, admin = site.address(name, "grpc"), site.address(name, "admin")
    host, port = address.rsplit(":", 1)
    admin_host, admin_port = admin.rsplit(":", 1)
    control_plane_host, control_plane_port = site.address(CONTROL_PLANE, "grpc").rsplit(":", 1)
    bootstrap = Template(_SIDECAR_TEMPLATE.read_text()).substitute(
        node=name,
        caller=caller,
        host=host,
        port=port,
        admin_host=admin_host,
        admin_port=admin_port,
        access_log=site.path(name, "access.log"),
        control_plane_host=control_plane_host,
        control_plane_port=control_plane_port,
    )
    argv = (
        "envoy",
        *("--config-path", site.path(name, "envoy.yaml")),
        *("--concurrency", "1"),
        # With hot restart, Envoys on one host collide, and each ends with the process that started it.
        "--disable-hot-restart",
        *("--log-level", "warn"),
    )
    return Unit(name, "sidecar", argv, address, admin, {"envoy.yaml": bootstrap}, pod=caller)


def _caller(spec: LabSpec, name: str, endpoints: Endpoints, table: RouteTable, site: Site) -> Unit:
    address = site.address(name, "grpc")
    config = {
        "endpoints": asdict(endpoints),
        "topologies": list(spec.topologies),
        "page": spec.callers[name].page,
        "apis": apis_of(table),
    }
    argv = _python("services.caller", name=name, listen=address, config=site.path(name, "caller.json"))
    return Unit(name, "caller", argv, address, files={"caller.json": json.dumps(config, indent=1)}, pod=name)


def apis_of(table: RouteTable) -> dict[str, str]:
    """Each use case's API."""
    return {name: use_case["api"] for name, use_case in table.document["use_cases"].items()}


def _direct_targets(table: RouteTable, models: list[Unit]) -> dict[str, DirectTarget]:
    result = {}
    for name, use_case in table.document["use_cases"].items():
        model, _, version = use_case["default"].partition("@")
        cluster = table.document["models"][model]["versions"][version]["cluster"]
        addresses = tuple(unit.address for unit in models if unit.name.rsplit("-", 1)[0] == cluster)
        result[name] = DirectTarget(model, version, addresses)
    return result


def _python(module: str, **flags: Any) -> tuple[str, ...]:
    argv = ["python", "-m", module]
    for flag, value in flags.items():
        argv += [f"--{flag.replace('_', '-')}", str(value)]
    return tuple(argv)


def _letters(number: int) -> str:
    """``a`` … ``z``, ``aa`` …: names of replicas."""
    letters = ""
    number += 1
    while number:
        number, digit = divmod(number - 1, len(ascii_lowercase))
        letters = ascii_lowercase[digit] + letters
    return letters
