"""The side of :class:`lab.lab.Lab` that looks: how it is, where everything is, what was done to it, what it wrote."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from lab.client import Endpoints
from lab.errors import InputError, LabNotRunningError
from lab.faults import AuditLog, Journal
from lab.identity import OPERATOR
from lab.ops.logs import lines_about
from lab.ops.status import LabEndpoints, LabStatus, UnitStatus
from lab.roles import CALLER, MODEL
from lab.runtime.identities import Identities
from lab.runtime.logs import log_of
from lab.runtime.state import LabState, Running
from lab.transport.security import MTLS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lab.admin import AdminClient, ControlPlaneStatus
    from lab.ops.logs import LogLine
    from lab.runtime import Runtime


class Looking(ABC):
    """What can be asked of a lab without changing it.

    Attributes:
        name: the lab's.
        folder: its own.
    """

    name: str
    folder: Path

    def status(self, *, memory: bool = False) -> LabStatus:
        """How every unit is doing, and with ``memory`` what it takes. A unit that has crashed is ``exited``."""
        state = LabState.of(self.folder)
        runtime = self._runtime(state)
        states = runtime.states(state.running)
        sizes = runtime.memory_bytes(state.running) if memory else {}
        units = []
        for unit in state.plan.units:
            how = states.get(unit.name, "absent")
            running = state.running.get(unit.name, Running())
            units.append(
                UnitStatus(
                    unit.name,
                    unit.role,
                    how,
                    unit.address,
                    running.pid,
                    running.container[:12],
                    runtime.last_words(unit.name) if how == "exited" else "",
                    sizes.get(unit.name, 0),
                )
            )
        return LabStatus(self.name, state.runtime, tuple(units), self._known(state))

    def known(self) -> ControlPlaneStatus | None:
        """What the control plane knows of the lab, as :meth:`status` has it; None if it does not answer."""
        return self._known(LabState.of(self.folder))

    def tail(self, units: Sequence[str], lines: int = 5) -> dict[str, list[str]]:
        """The last lines that each of these units has logged; a name that is no unit's is left out."""
        state = LabState.of(self.folder)
        meant = [unit for unit in state.plan.units if unit.name in units]
        self._runtime(state).fetch_logs(meant)
        return {unit.name: log_of(self.folder, unit.name).last_lines(lines) for unit in meant}

    def endpoints(self) -> LabEndpoints:
        """Where everything is, for outside clients."""
        state = LabState.of(self.folder)
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
            identity=str(Identities(self.folder).of(OPERATOR)) if state.security == MTLS else "",
            metrics=tuple(unit.admin.outside for unit in state.plan.units if unit.admin),
        )

    def audit(self, last: int = 0) -> AuditLog:
        """So many of the latest acts of the audit log, or all for 0: the control plane's and the lab's own."""
        state, missing, acts = LabState.of(self.folder), "", Journal(self.folder).acts()
        try:
            with self._admin(state) as admin:
                acts += admin.acts(last)
        except LabNotRunningError as error:
            missing = str(error)
        return AuditLog(tuple(sorted(acts, key=lambda act: act.at_ns)[-last:]), missing)

    def log_lines(self, request_id: str) -> list[LogLine]:
        """What every unit wrote about one request, in the order of its way.

        Raises:
            InputError: no unit of this lab has written of it.
        """
        state = LabState.of(self.folder)
        lines = lines_about(request_id, state.plan.units, self.folder, self._runtime(state))
        if not lines:
            raise InputError(
                f"request {request_id!r}: no unit of lab {self.name} has written of it; callers, resolvers and models "
                "write only where the lab was brought up with --log-requests"
            )
        return lines

    def _known(self, state: LabState) -> ControlPlaneStatus | None:
        try:
            with self._admin(state) as admin:
                return admin.status()
        except LabNotRunningError:
            return None

    @abstractmethod
    def _runtime(self, state: LabState) -> Runtime:
        """What carries its units out."""

    @abstractmethod
    def _admin(self, state: LabState) -> AdminClient:
        """Where to ask its control plane."""
