"""Reads a lab without changing it: status, addresses, audit log, and what units logged about a request."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.client import Endpoints
from lab.errors import InputError, LabNotRunningError
from lab.faults import AuditLog, Journal
from lab.identity import OPERATOR
from lab.links import ROLE as LINK
from lab.roles import ACCESS_LOG, CALLER, CONTROL_PLANE, LOAD, MODEL, ROLES, Placement, Plan, Role, Unit, role_of
from lab.runtime.identities import Identities
from lab.runtime.state import LabState, Running
from lab.topologies import TOPOLOGIES
from lab.transport import metrics
from lab.transport.security import MTLS
from lab.transport.xds import bootstrap

if TYPE_CHECKING:
    from lab.client.admin_values import ControlPlaneStatus, Registrations
    from lab.runtime import Runtime
    from lab.runtime.context import LabContext

# Units flush their logs at least this often, so the last lines may still be missing from the file.
_FLUSH_INTERVAL_S = 0.3
_READS = 4
_FULL_BYTES = 65_536
_OF_ENVOY = "/stats/prometheus"


@dataclass(frozen=True, slots=True)
class UnitStatus:
    """Status of one unit.

    Attributes:
        state: ``running``, ``paused``, ``stalled`` if the kernel holds it, as when its disk does not answer,
            ``exited``, or ``absent`` if it was never started.
        address: ``host:port`` at which programs on this machine reach it.
        pid: of its process; 0 if it is a container.
        container: short id of its container; empty if it is a process.
        last_words: end of its log if it has exited.
        memory_bytes: with shared pages counted once over all units; 0 if not requested.
        open_files: its limit of open files and connections if it has reached it, else 0.
        over_ceiling: one line for each time that it was killed for exceeding its memory ceiling, and started again.
        figures: what it says of itself, of a role that has figures; None of others, and if it does not answer.
    """

    name: str
    role: str
    state: str
    address: str
    pid: int
    container: str
    last_words: str
    memory_bytes: int = 0
    open_files: int = 0
    over_ceiling: tuple[str, ...] = ()
    figures: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class LabStatus:
    """Status of a lab.

    Attributes:
        security: ``mtls`` or ``plaintext``.
        control_plane: None if it does not answer.
        disk_is_full: whether less than 64 KB are free for the lab's folder.
    """

    name: str
    runtime: str
    security: str
    units: tuple[UnitStatus, ...]
    control_plane: ControlPlaneStatus | None
    disk_is_full: bool = False

    def to_document(self) -> dict[str, Any]:
        """As ``lab status --json`` prints it."""
        known = self.control_plane
        return {
            "runtime": self.runtime,
            "security": self.security,
            "revision": known.revision if known else None,
            "staged": {"revision": known.staged, "callers": known.staged_for} if known and known.staged else None,
            "units": [_without_other_id(asdict(unit)) for unit in self.units],
            "nodes": [asdict(node) for node in (*known.nodes, *known.away)] if known else [],
            "disk_is_full": self.disk_is_full,
        }


@dataclass(frozen=True, slots=True)
class ScrapeTarget:
    """Where Prometheus finds the metrics of a unit.

    Attributes:
        address: ``host:port``.
        path: on that host.
        labels: of all its metrics: ``lab``, ``unit``, ``role``, and where there is one ``caller`` or ``model_cluster``.
    """

    address: str
    path: str
    labels: Mapping[str, str]

    @property
    def url(self) -> str:
        """Where a browser finds them."""
        return f"http://{self.address}{self.path}"

    def to_document(self) -> dict[str, Any]:
        """As an entry of Prometheus' service discovery by files."""
        return {"targets": [self.address], "labels": {"__metrics_path__": self.path, **self.labels}}


@dataclass(frozen=True, slots=True)
class LabEndpoints:
    """Addresses for any outside client, each ``host:port`` unless said otherwise.

    Attributes:
        callers: caller → its service.
        clients: caller → addresses that a client with its identity connects to.
        shared: units that all callers share, models and links left out.
        rest: gateway or model replica → base URL of its REST API.
        identity: folder of the operator's certificate, for mTLS clients; empty in plaintext.
        metrics: where to scrape metrics: at all Envoys, and at all other units of a lab with ``--metrics``.
    """

    callers: Mapping[str, str]
    clients: Mapping[str, Endpoints]
    shared: Endpoints
    rest: Mapping[str, str]
    identity: str
    metrics: tuple[ScrapeTarget, ...]

    def beside(self, caller: str) -> dict[str, str | None]:
        """Address of each unit beside a caller, by role; None for a role that this lab has none of."""
        by_role = self.clients[caller].by_role
        return {role: next(iter(by_role.get(role, ())), None) for role in roles_beside_callers()}

    def to_document(self) -> dict[str, Any]:
        """As ``lab endpoints --json`` prints it."""
        shared = [role for role in ROLES.values() if role.name not in {*roles_beside_callers(), CALLER, LINK, MODEL}]
        return {
            "callers": {
                caller: {"address": address, **self.beside(caller)} for caller, address in self.callers.items()
            },
            **{role.name.replace("-", "_"): self._shared(role) for role in shared},
            "rest": dict(self.rest),
            "identity": self.identity or None,
            "metrics": [target.url for target in self.metrics],
        }

    def _shared(self, role: Role) -> list[str] | str | None:
        addresses = self.shared.by_role.get(role.name, ())
        return list(addresses) if role.placement is Placement.REPLICATED else ",".join(addresses) or None

    @property
    def control_plane(self) -> str:
        """Addresses of the control planes, comma-separated."""
        return ",".join(self.shared.addresses_of(CONTROL_PLANE))


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of one unit's log.

    Attributes:
        fields: of the line, by the unit's own names.
    """

    unit: str
    role: str
    fields: Mapping[str, Any]

    @property
    def began_s(self) -> float:
        """When the unit began with the request, Unix seconds: services log its end, Envoys its begin."""
        if (at := self.fields.get("at")) is not None:
            return datetime.fromisoformat(at).timestamp()
        return float(self.fields["time"]) - float(self.fields["ms"]) / 1e3


def status(context: LabContext, *, memory: bool = False) -> LabStatus:
    """The state of every unit, and with ``memory`` its memory use. A unit that has crashed is ``exited``."""
    state = context.state()
    runtime = context.runtime(state)
    states = runtime.states(state.running)
    exhausted = runtime.exhausted(state.running)
    sizes = runtime.memory_bytes(state.running) if memory else {}
    units = []
    for unit in state.plan.units:
        how = states.get(unit.name, "absent")
        running = state.running.get(unit.name, Running())
        units.append(
            UnitStatus(
                name=unit.name,
                role=unit.role,
                state=how,
                address=unit.address,
                pid=running.pid,
                container=running.container[:12],
                last_words=runtime.last_words(unit.name) if how == "exited" else "",
                memory_bytes=sizes.get(unit.name, 0),
                open_files=exhausted.get(unit.name, 0),
                over_ceiling=tuple(runtime.over_ceiling(unit.name)),
                figures=_figures(unit) if how == "running" else None,
            )
        )
    return LabStatus(
        context.name,
        state.runtime,
        state.security,
        tuple(units),
        control_plane_status(context, state),
        shutil.disk_usage(context.folder).free < _FULL_BYTES,
    )


def _figures(unit: Unit) -> Mapping[str, Any] | None:
    """What a unit says of itself, of a role that has figures."""
    role = role_of(unit)
    return role.figures(unit) if role and role.figures else None


def control_plane_status(context: LabContext, state: LabState | None = None) -> ControlPlaneStatus | None:
    """The control plane's own status; None if it does not answer."""
    admin = context.admin(state)
    try:
        with admin:
            return admin.status()
    except LabNotRunningError:
        return None


def registrations(context: LabContext) -> list[Registrations]:
    """When which replicas were registered, as each control plane knows it; empty if none answers."""
    try:
        with context.admin() as admin:
            return admin.registrations()
    except LabNotRunningError:
        return []


def endpoints(context: LabContext) -> LabEndpoints:
    """The addresses for outside clients."""
    state = context.state()
    scheme = "https" if state.security == MTLS else "http"
    return LabEndpoints(
        callers={unit.name: unit.address for unit in state.plan.with_role(CALLER)},
        clients=state.plan.clients,
        shared=Endpoints(
            {
                role: tuple(unit.address for unit in units)
                for role in dict.fromkeys(unit.role for unit in state.plan.units)
                if (units := [unit for unit in state.plan.with_role(role) if unit.pod not in state.plan.callers])
                and role not in (LINK, MODEL)
            }
        ),
        rest={unit.name: f"{scheme}://{unit.rest.outside}" for unit in state.plan.units if unit.rest},
        identity=str(Identities(context.folder).of(OPERATOR)) if state.security == MTLS else "",
        metrics=tuple(_scrape_targets(context.name, state.plan)),
    )


def _scrape_targets(lab: str, plan: Plan) -> Iterator[ScrapeTarget]:
    for unit in plan.units:
        labels = {"lab": lab, "unit": unit.name, "role": unit.role}
        if unit.pod in plan.callers:
            labels["caller"] = unit.pod
        if unit.cluster:
            labels["model_cluster"] = unit.cluster
        for port, path in ((unit.metrics, metrics.PATH), (unit.admin, _OF_ENVOY)):
            if port:
                yield ScrapeTarget(port.outside, path, labels)
    if plan.load_metrics:
        yield ScrapeTarget(plan.load_metrics, metrics.PATH, {"lab": lab, "unit": LOAD, "role": LOAD})


def xds_bootstrap(context: LabContext, caller: str) -> dict[str, Any]:
    """The xDS bootstrap for an outside client whose gRPC library routes by itself in this caller's name.

    Raises:
        InputError: the lab has no such caller.
    """
    state = context.state()
    if caller not in state.plan.callers:
        raise InputError(
            f"caller {caller!r} is not in lab {context.name}; write one of {', '.join(state.plan.callers)}"
        )
    control_planes = ",".join(unit.address for unit in state.plan.with_role(CONTROL_PLANE))
    certificate = str(Identities(context.folder).of(caller)) if state.security == MTLS else ""
    return bootstrap(control_planes, caller, certificate)


def audit(context: LabContext, last: int = 0) -> AuditLog:
    """The latest ``last`` entries of the audit log, or all for 0: the control plane's and the lab's own."""
    admin, missing, acts = context.admin(), "", Journal(context.folder).acts()
    try:
        with admin:
            acts += admin.acts(last)
    except LabNotRunningError as error:
        missing = str(error)
    return AuditLog(tuple(sorted(acts, key=lambda act: act.at_ns)[-last:]), missing)


def logs(context: LabContext, request_id: str) -> list[LogLine]:
    """The lines that units logged about one request, in the order of its path.

    Raises:
        InputError: no unit of this lab has logged it.
    """
    state = context.state()
    lines = _lines_about(request_id, state.plan.units, context.folder, context.runtime(state))
    if not lines:
        raise InputError(
            f"request {request_id!r}: no unit of lab {context.name} has logged it; callers, resolvers and models log "
            "requests only if the lab was brought up with --log-requests"
        )
    return lines


def _lines_about(request_id: str, units: Sequence[Unit], folder: Path, runtime: Runtime) -> list[LogLine]:
    """All lines about a request, in the order of its path; waits for lines that are still being flushed."""
    order = _order()
    logging = sorted((unit for unit in units if unit.logs_requests), key=lambda unit: (order[unit.role], unit.name))
    found: list[LogLine] = []
    for _ in range(_READS):
        before = found
        runtime.fetch_logs(logging)
        found = [line for unit in logging for line in _lines(request_id, unit, folder)]
        if found and found == before:
            break
        time.sleep(_FLUSH_INTERVAL_S)
    return found


def _order() -> dict[str, int]:
    """Position of each role on a request's path: edge, caller, roles it asks, roles that carry the payload, model."""
    fronting = (role.name for role in ROLES.values() if role.fronts_pages)
    topologies = TOPOLOGIES.values()
    asked = (role for each in topologies for role in each.asks)
    aiding = (role for each in topologies for role in each.aided_by)
    between = (role for each in topologies for role in each.between)
    return {
        role: number for number, role in enumerate(dict.fromkeys((*fronting, CALLER, *asked, *between, *aiding, MODEL)))
    }


def _lines(request_id: str, unit: Unit, folder: Path) -> list[LogLine]:
    file = folder / "units" / unit.name / ACCESS_LOG
    if not file.exists():
        return []
    with file.open() as lines:
        read = ROLES[unit.role].read_log_line
        fields = [read(line) for line in lines if request_id in line and line.endswith("\n")]
    return [LogLine(unit.name, unit.role, each) for each in fields if each.get("request_id") == request_id]


def roles_beside_callers() -> list[str]:
    """Roles whose units run beside each caller."""
    return [each.name for each in ROLES.values() if each.placement is Placement.BESIDE_CALLER and each.name != CALLER]


def _without_other_id(unit: dict[str, Any]) -> dict[str, Any]:
    """Leaves out the container id of a process, the pid of a container, and figures of a unit that has none."""
    return {name: value for name, value in unit.items() if value or name not in {"pid", "container", "figures"}}
