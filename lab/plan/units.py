"""From spec to plan: which units stand up, with which command each, and at which addresses they meet.

A plan is the same for every runtime; only where things are differs, and that a :class:`Site` says.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from itertools import count, islice, product
from pathlib import Path
from string import Template, ascii_lowercase
from typing import TYPE_CHECKING, Any, Protocol

from lab.client import DirectTarget, Endpoints
from lab.identity import Identity, sidecar_of
from lab.identity.envoy import sds_files, sockets_of
from lab.plan import admin_page, control_planes
from lab.plan.control_planes import CONTROL_PLANE, xds_endpoints
from lab.routing.keys_in_lua import IN_BOOTSTRAP

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from lab.routing.document import RouteTable
    from lab.spec import LabSpec

CENTRAL_ENVOY = "central-envoy"
SHARED_RESOLVER = "shared-resolver"
ACCESS_LOG = "access.log"
"""Name of the file in which a unit writes a line a request, if it does."""
# Comes from the control plane, as limits change with the route table; until it is there, nobody is limited.
_TENANTS_FILTER = json.dumps(
    {
        "name": "tenants",
        "config_discovery": {
            "config_source": {"ads": {}, "resource_api_version": "V3"},
            "default_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
                "stat_prefix": "tenants",
            },
            "apply_default_config_without_warming": True,
            "type_urls": ["type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit"],
        },
    }
)
_ENVOY_TEMPLATE = Path(__file__).parents[2] / "envoy" / "by-routing-key.yaml"


@dataclass(frozen=True, slots=True)
class Port:
    """Where one port of a unit is, ``host:port`` for each who asks.

    Attributes:
        bind: for the unit itself.
        inside: for the other units: of its pod if it stands in one, else of the whole lab.
        outside: for programs on this machine.
    """

    bind: str
    inside: str
    outside: str


class Site(Protocol):
    """Where a runtime puts things."""

    @property
    def visitor(self) -> str:
        """The address that programs of this machine come from; empty if units are at its own loopback."""

    def port(self, unit: str, name: str, pod: str = "") -> Port:
        """Where a unit's port is; the same again when asked again.

        Args:
            unit: the unit.
            name: ``grpc``, ``admin`` or ``rest``.
            pod: the caller that the unit stands beside, if it stands in a pod.
        """

    def path(self, unit: str, file: str) -> str:
        """Where a unit finds a file of its own."""

    def identity(self, unit: str) -> str:
        """The folder in which a unit finds its certificate, if there are any."""


@dataclass(frozen=True, slots=True)
class Unit:
    """One process.

    Attributes:
        name: unique within the lab.
        role: ``control-plane``, ``model``, ``gateway``, ``central-envoy``, ``resolver``, ``sidecar`` or ``caller``.
        argv: the command; ``python`` and ``envoy`` stand for whatever the runtime has of them.
        port: where it serves.
        admin: where its admin page is, if it has one.
        rest: where it serves REST, if it does.
        files: name → content of what it needs to find at :meth:`Site.path`.
        pod: the caller that it stands beside, its own name for a unit that stands alone.
        cluster: of a model replica.
    """

    name: str
    role: str
    argv: tuple[str, ...]
    port: Port
    admin: Port | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    pod: str = ""
    cluster: str = ""
    rest: Port | None = None
    together: tuple[str, ...] = ()

    @property
    def logs_requests(self) -> bool:
        """Whether it writes :data:`ACCESS_LOG`: who does is told so on its command line or in a file of its own."""
        return any(ACCESS_LOG in text for text in (*self.argv, *self.files.values()))

    @property
    def address(self) -> str:
        """``host:port`` at which programs on this machine reach it."""
        return self.port.outside

    @property
    def identity(self) -> Identity:
        """Who it is; control planes stand in for each other, and are one."""
        return Identity(self.role, CONTROL_PLANE if self.role == CONTROL_PLANE else self.cluster or self.name)

    @property
    def hosts(self) -> set[str]:
        """All hosts, and names, that somebody reaches it by; none of what serves nothing."""
        addresses = (self.port.inside, self.port.outside)
        return {address.rsplit(":", 1)[0] for address in addresses if address}.union(self.together)


@dataclass(frozen=True, slots=True)
class Plan:
    """All units of a lab.

    Attributes:
        units: in the order of starting.
        callers: each caller's name → where it, and whoever stands in its pod, finds what it needs.
        clients: the same for programs on this machine.
    """

    units: tuple[Unit, ...]
    callers: Mapping[str, Endpoints]
    clients: Mapping[str, Endpoints]

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

    @property
    def control_plane(self) -> str:
        """Where programs on this machine reach the control plane; of several all, with commas between."""
        return ",".join(unit.address for unit in self.with_role(CONTROL_PLANE))


def plan(spec: LabSpec, table: RouteTable, site: Site) -> Plan:
    """Lays the lab out.

    Args:
        spec: what stands up.
        table: the route table that will be published first; it names the clusters, and ``direct`` callers have its
            addresses written into them, which is what is wrong with ``direct``.
        site: where things are.
    """
    planes = list(_control_planes(spec, site))
    models = [
        replica(spec, cluster, name, site.port(name, "grpc"), site)
        for cluster, replicas in {**spec.idle_clusters, **table.clusters}.items()
        for name in islice(_replica_names(cluster), replicas)
    ]
    gateways = list(_gateways(spec, site)) if "gateway" in spec.roles else []
    central = [_envoy(spec, CENTRAL_ENVOY, "central-envoy", site)] if "central-envoy" in spec.roles else []
    resolvers = [_resolver(spec, site)] if "resolver" in spec.roles and spec.resolver == "shared" else []
    shared = [*resolvers, *gateways, *central]
    units = [*planes, *models, *gateways, *central, *resolvers]
    callers, clients = {}, {}
    for name in spec.callers:
        beside = [_resolver(spec, site, name)] if "resolver" in spec.roles and not resolvers else []
        beside += [_envoy(spec, sidecar_of(name).name, "sidecar", site, name)] if "sidecar" in spec.roles else []
        reached = [*control_planes.in_turn(planes, name), *shared, *beside, *models]
        callers[name] = _endpoints(spec, table, reached, lambda port: port.inside)
        clients[name] = _endpoints(spec, table, reached, lambda port: port.outside)
        units += [*beside, _caller(spec, name, callers[name], table, site)]
    return Plan(tuple(units), callers, clients)


def replica(spec: LabSpec, cluster: str, name: str, port: Port, site: Site) -> Unit:
    """One replica of a model cluster."""
    rest = site.port(name, "rest")
    argv = _python(
        "models.stub",
        cluster=cluster,
        replica=name,
        listen=port.bind,
        rest=rest.bind,
        advertise=port.inside,
        control_plane=control_planes.address(spec, name, site),
        **spec.stub.model_dump(exclude_defaults=True),
        **_request_log(spec, name, site),
    )
    return Unit(name, "model", argv, port, pod=name, cluster=cluster, rest=rest)


def new_replica_name(cluster: str, taken: Collection[str]) -> str:
    """The first name for a replica of the cluster that no unit has."""
    return next(name for name in _replica_names(cluster) if name not in taken)


def _control_planes(spec: LabSpec, site: Site) -> Iterator[Unit]:
    """One, or several that serve the revisions of one store."""
    names = control_planes.names(spec)
    together = control_planes.together([site.port(name, "grpc") for name in names])
    for name in names:
        port = site.port(name, "grpc")
        own = {"name": name} if together else {}
        idle_after = f"{spec.clusters_idle_after_s:g}"
        argv, files = _python("services.controlplane", listen=port.bind, **own, clusters_idle_after=idle_after), {}
        if spec.store:  # its password is to be seen in no list of processes
            argv, files = (*argv, f"@{site.path(name, 'store')}"), {"store": f"--registry\n{spec.store}"}
        else:
            argv = (*argv, "--registry", site.path(CONTROL_PLANE, "registry.sqlite"))
        yield Unit(name, CONTROL_PLANE, argv, port, files=files, pod=name, together=together)


def _gateways(spec: LabSpec, site: Site) -> Iterator[Unit]:
    for number in range(1, spec.gateway.replicas + 1):
        name = f"gateway-{number}"
        port, rest = site.port(name, "grpc"), site.port(name, "rest")
        argv = _python(
            "services.gateway",
            name=name,
            listen=port.bind,
            rest=rest.bind,
            control_plane=control_planes.address(spec, name, site),
            replicas=spec.gateway.replicas,
            access_log=site.path(name, ACCESS_LOG),
        )
        yield Unit(name, "gateway", argv, port, pod=name, rest=rest)


def _resolver(spec: LabSpec, site: Site, caller: str = "") -> Unit:
    """The resolver beside a caller, which speaks for it alone; without one, that which all callers share."""
    name = f"{caller}-resolver" if caller else SHARED_RESOLVER
    port = site.port(name, "grpc", caller)
    argv = _python(
        "services.resolver",
        name=name,
        **({"owner": caller} if caller else {}),
        listen=port.bind,
        control_plane=control_planes.address(spec, name, site),
        lease_ttl=spec.leases.ttl_s,
        max_stale=spec.leases.max_stale_s,
        **_request_log(spec, name, site),
    )
    return Unit(name, "resolver", argv, port, pod=caller or name)


def _envoy(spec: LabSpec, name: str, role: str, site: Site, caller: str = "") -> Unit:
    port, admin = site.port(name, "grpc", caller), site.port(name, "admin", caller)
    page, view = admin_page.addresses(admin, site.visitor)
    addresses = {"": port.bind, "admin_": page}
    hosts_and_ports = {
        f"{prefix}{part}": value
        for prefix, address in addresses.items()
        for part, value in zip(("host", "port"), address.rsplit(":", 1), strict=True)
    }
    secrets = sds_files(site.identity(name)) if spec.security.mode == "mtls" else {}
    folder = str(Path(site.path(name, "envoy.yaml")).parent) if secrets else ""
    bootstrap = Template(_ENVOY_TEMPLATE.read_text()).substitute(
        hosts_and_ports,
        control_planes=xds_endpoints(control_planes.address(spec, name, site)),
        role=role,
        access_log=site.path(name, ACCESS_LOG),
        secrets=folder,
        **sockets_of(role, folder, caller),
        **view,
        **IN_BOOTSTRAP,
        tenants="" if caller else f"\n          - {_TENANTS_FILTER}",
    )
    argv = (
        "envoy",
        *("--config-path", site.path(name, "envoy.yaml")),
        # Who it is stands here, not in the file, so that where the ports are the same all sidecars share one file.
        *("--service-node", name),
        *("--service-cluster", caller or name),
        # Also the central one: what it is compared with has one thread, too.
        *("--concurrency", "1"),
        # With hot restart, Envoys on one host collide, and each ends with the process that started it.
        "--disable-hot-restart",
        # The access log, as often as a gateway writes its own; Envoy's default is 10 s.
        *("--file-flush-interval-msec", "250"),
        *("--log-level", "warn"),
    )
    return Unit(name, role, argv, port, admin, {"envoy.yaml": bootstrap, **secrets}, pod=caller or name)


def _caller(spec: LabSpec, name: str, endpoints: Endpoints, table: RouteTable, site: Site) -> Unit:
    port = site.port(name, "grpc", name)
    config = {
        "endpoints": asdict(endpoints),
        "topologies": list(spec.topologies),
        "page": spec.callers[name].page,
        "apis": apis_of(table),
    }
    own = {"config": site.path(name, "caller.json"), **_request_log(spec, name, site)}
    argv = _python("services.caller", name=name, listen=port.bind, **own)
    return Unit(name, "caller", argv, port, files={"caller.json": json.dumps(config, indent=1)}, pod=name)


def _request_log(spec: LabSpec, unit: str, site: Site) -> dict[str, str]:
    """For the units that write a line a request only if they are asked to."""
    return {"access_log": site.path(unit, ACCESS_LOG)} if spec.log_requests else {}


def apis_of(table: RouteTable) -> dict[str, str]:
    """Each use case's API."""
    return {name: use_case["api"] for name, use_case in table.document["use_cases"].items()}


def _endpoints(spec: LabSpec, table: RouteTable, units: list[Unit], seen: Callable[[Port], str]) -> Endpoints:
    """What a caller finds among the units that it may talk to, with each address as ``seen`` from somewhere."""
    by_role: dict[str, list[str]] = {}
    for unit in units:
        by_role.setdefault(unit.role, []).append(seen(unit.port))
    direct = {}
    for name, use_case in table.document["use_cases"].items() if "direct" in spec.topologies else ():
        model, _, version = use_case["default"].partition("@")
        cluster = table.document["models"][model]["versions"][version]["cluster"]
        replicas = tuple(seen(unit.port) for unit in units if unit.cluster == cluster)
        direct[name] = DirectTarget(model, version, replicas, cluster)
    return Endpoints({role: tuple(addresses) for role, addresses in by_role.items() if role != "model"}, direct)


def _python(module: str, **flags: Any) -> tuple[str, ...]:
    argv = ["python", "-m", module]
    for flag, value in flags.items():
        argv += [f"--{flag.replace('_', '-')}", str(value)]
    return tuple(argv)


def _replica_names(cluster: str) -> Iterator[str]:
    """``ml-cluster-1-a`` … ``-z``, ``-aa`` …."""
    for length in count(1):
        for letters in product(ascii_lowercase, repeat=length):
            yield f"{cluster}-{''.join(letters)}"
