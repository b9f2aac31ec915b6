"""Reads a lab without changing it: status, addresses, audit log, and what units logged about a request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.client import Endpoints
from lab.errors import InputError, LabNotRunningError
from lab.faults import AuditLog, Journal
from lab.identity import OPERATOR
from lab.ops.logs import lines_about
from lab.ops.status import LabEndpoints, LabStatus, UnitStatus
from lab.roles import CALLER, MODEL
from lab.runtime.identities import Identities
from lab.runtime.state import Running
from lab.transport.security import MTLS

if TYPE_CHECKING:
    from lab.client.admin_values import ControlPlaneStatus
    from lab.ops.logs import LogLine
    from lab.runtime.context import LabContext
    from lab.runtime.state import LabState


def status(context: LabContext, *, memory: bool = False) -> LabStatus:
    """The state of every unit, and with ``memory`` its memory use. A unit that has crashed is ``exited``."""
    state = context.state()
    runtime = context.runtime(state)
    states = runtime.states(state.running)
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
            )
        )
    return LabStatus(context.name, state.runtime, tuple(units), control_plane_status(context, state))


def control_plane_status(context: LabContext, state: LabState | None = None) -> ControlPlaneStatus | None:
    """The control plane's own status; None if it does not answer."""
    admin = context.admin(state)
    try:
        with admin:
            return admin.status()
    except LabNotRunningError:
        return None


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
                and role != MODEL
            }
        ),
        rest={unit.name: f"{scheme}://{unit.rest.outside}" for unit in state.plan.units if unit.rest},
        identity=str(Identities(context.folder).of(OPERATOR)) if state.security == MTLS else "",
        metrics=tuple(unit.admin.outside for unit in state.plan.units if unit.admin),
    )


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
    lines = lines_about(request_id, state.plan.units, context.folder, context.runtime(state))
    if not lines:
        raise InputError(
            f"request {request_id!r}: no unit of lab {context.name} has logged it; callers, resolvers and models log "
            "requests only if the lab was brought up with --log-requests"
        )
    return lines
