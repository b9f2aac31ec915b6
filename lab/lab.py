"""``Lab``: the one public face. Command line, scenarios and notebooks all go through it."""

from __future__ import annotations

import getpass
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lab.admin import AdminClient, ControlPlaneStatus
from lab.calls import call
from lab.errors import InputError, LabError, LabNotRunningError, SpecError
from lab.routing.compiled import Router
from lab.routing.document import RouteTable, read_path, read_sources, sources_of
from lab.routing.explanation import Explanation, explain
from lab.runs import drive
from lab.runtime import make_runtime
from lab.runtime.lock import exclusive
from lab.runtime.state import LabState
from lab.spec import override, read_spec
from lab.standup import FIRST_REVISION, StandUp
from lab.units import CONTROL_PLANE, plan
from services.caller.pages import PAGES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lab.admin import RevisionInfo, Step
    from lab.calls import CallOutcome
    from lab.client import Endpoints
    from lab.load.progress import Progress
    from lab.runs import LoadOptions, RunResult
    from lab.runtime import Runtime
    from lab.spec import LabSpec

CHECKOUT = Path(__file__).resolve().parent.parent
DEFAULT_SPEC = CHECKOUT / "lab.toml"

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,30}")


@dataclass(frozen=True, slots=True)
class UnitStatus:
    """How a unit is doing.

    Attributes:
        state: ``running``, ``exited``, or ``absent`` if it was never started.
        last_words: the end of its log, if it has exited.
        memory_bytes: shared pages counted once over all units; 0 if it was not asked for.
    """

    name: str
    role: str
    state: str
    address: str
    pid: int
    last_words: str
    memory_bytes: int = 0


@dataclass(frozen=True, slots=True)
class LabStatus:
    """How a lab is doing; ``control_plane`` is None if that does not answer."""

    name: str
    runtime: str
    units: tuple[UnitStatus, ...]
    control_plane: ControlPlaneStatus | None


@dataclass(frozen=True, slots=True)
class LabEndpoints:
    """Addresses for any outside gRPC client, each ``host:port``.

    Attributes:
        callers: name → where the service itself is.
        clients: name → what stands beside it.
        metrics: admin pages of the sidecars' Envoys; Prometheus finds ``/stats/prometheus`` there.
    """

    callers: Mapping[str, str]
    clients: Mapping[str, Endpoints]
    gateways: tuple[str, ...]
    control_plane: str
    metrics: tuple[str, ...]


class Lab:
    """One lab, up or not.

    Args:
        name: keeps labs on one machine apart.
        home: folder in which labs keep their state and their runs; the checkout by default.

    Raises:
        InputError: the name cannot be that of a lab.
    """

    def __init__(self, name: str = "default", home: Path | None = None) -> None:
        if not _NAME.fullmatch(name):
            raise InputError(f"--name: {name!r} cannot name a lab; write lower-case letters, digits and dashes")
        home = home or Path(os.environ.get("LAB_HOME", CHECKOUT))
        self.name = name
        self.folder = home / ".lab" / name
        self.runs = home / "runs" / name

    # -- up and down ---------------------------------------------------------------------------------------------

    def up(
        self,
        *,
        spec: Path = DEFAULT_SPEC,
        routes: Path | None = None,
        topologies: Sequence[str] = (),
        security: str | None = None,
        runtime: str = "auto",
        say: Callable[[str], None] = lambda _: None,
    ) -> list[CallOutcome]:
        """Brings the lab up, or what is missing of it; returns one verified call per topology.

        If it fails, or is interrupted, while the lab was down before, nothing is left behind.

        Args:
            spec: what stands up.
            routes: route table to publish first; the spec's own by default.
            topologies: instead of the spec's.
            security: instead of the spec's.
            runtime: ``process``, or ``auto`` for the best that this machine offers.
            say: told what is going on.

        Raises:
            InputError: spec or route table is not valid.
            UnitError: a unit did not come up, or answered wrongly.
            LabError: a lab of this name is up that was made from something else.
        """
        wanted = override(read_spec(spec), topologies=topologies, security=security)
        _check_callers(spec, wanted)
        sources = sources_of(routes or wanted.routes)
        table = read_sources(sources)
        with exclusive(self.folder):
            before = LabState.load(self._state_file)
            carrier = make_runtime(runtime, self.folder, wanted.security.mode)
            say(f"runtime: {carrier.name}")
            if before is None:
                self._clear(carrier)
                layout = plan(wanted, table, carrier.site())
                state = LabState(carrier.name, str(spec), wanted, layout)
                state.save(self._state_file)
            elif (before.spec, before.runtime) == (wanted, carrier.name):
                state = before
            else:
                raise LabError(
                    f"lab {self.name} is up, and was made from another spec ({before.spec_file}, as it was then): "
                    "`lab down` first, or use --name"
                )
            stand_up = StandUp(carrier, self._state_file, say)
            try:
                state = stand_up.start(state)
                revision = stand_up.publish(state, sources)
                if revision > FIRST_REVISION:
                    table = self._table_in_force(state)
                return stand_up.verify(state, table, revision)
            except BaseException:
                if before is None:
                    say("cleaning up")
                    self._take_down(carrier, keep_logs=True)
                raise

    def down(self) -> int:
        """Ends every process of the lab and removes what it kept, whatever state it is in; returns how many ended."""
        if not self.folder.exists():
            return 0
        with exclusive(self.folder):
            return self._take_down(make_runtime("auto", self.folder, "plaintext"), keep_logs=False)

    # -- looking -------------------------------------------------------------------------------------------------

    def status(self, *, memory: bool = False) -> LabStatus:
        """How every unit is doing, and with ``memory`` what it takes. A unit that has crashed is ``exited``."""
        state = self._state()
        runtime = self._runtime(state)
        units = []
        for unit in state.plan.units:
            running = state.running.get(unit.name)
            alive = running is not None and runtime.is_running(running)
            how = "running" if alive else "exited" if running else "absent"
            last_words = "" if alive else runtime.last_words(unit.name)
            size = runtime.memory_bytes(running) if running and memory else 0
            pid = running.pid if running else 0
            units.append(UnitStatus(unit.name, unit.role, how, unit.address, pid, last_words, size))
        try:
            with self._admin(state) as admin:
                control_plane = admin.status()
        except LabNotRunningError:
            control_plane = None
        return LabStatus(self.name, state.runtime, tuple(units), control_plane)

    def endpoints(self) -> LabEndpoints:
        """Where everything is, for outside clients."""
        state = self._state()
        return LabEndpoints(
            callers={unit.name: unit.address for unit in state.plan.with_role("caller")},
            clients=state.plan.callers,
            gateways=tuple(unit.address for unit in state.plan.with_role("gateway")),
            control_plane=state.plan.unit(CONTROL_PLANE).address,
            metrics=tuple(unit.admin for unit in state.plan.units if unit.admin),
        )

    # -- units ---------------------------------------------------------------------------------------------------

    def kill(self, unit: str) -> None:
        """Ends one unit at once, without a chance to say goodbye.

        Raises:
            InputError: no such unit.
        """
        state = self._state()
        self._check_unit(state, unit)
        running = state.running.get(unit)
        if running is not None:
            self._runtime(state).kill(running)

    def start(self, unit: str) -> None:
        """Starts one unit that does not run, at the addresses that it had.

        Raises:
            InputError: no such unit.
        """
        with exclusive(self.folder):
            state = self._state()
            self._check_unit(state, unit)
            runtime = self._runtime(state)
            running = state.running.get(unit)
            if running is None or not runtime.is_running(running):
                state.with_running(unit, runtime.start(state.plan.unit(unit))).save(self._state_file)

    # -- calling -------------------------------------------------------------------------------------------------

    def call(
        self,
        use_case: str,
        *,
        topology: str,
        caller: str,
        context: Mapping[str, str] | None = None,
        payload_bytes: int = 400,
    ) -> CallOutcome:
        """One call in the name of a caller.

        Raises:
            InputError: no such caller or topology in this lab.
            CallError: with the status of the call itself.
        """
        state = self._state()
        self._check_topology(state, topology)
        self._check_caller(state, caller)
        address = state.plan.unit(caller).address
        return call(address, use_case, topology, context or {}, payload_bytes=payload_bytes)

    def load(self, options: LoadOptions, *, progress: Callable[[Progress], None] = lambda _: None) -> RunResult:
        """Drives load in the name of a caller, keeps a record of every request, and judges the answers.

        Raises:
            InputError: the options fit neither lab nor route table.
            UnitError: the driver did not come to its end.
        """
        state = self._state()
        self._check_topology(state, options.topology)
        self._check_caller(state, options.caller)
        return drive(
            options,
            state=state,
            runtime=self._runtime(state),
            runs=self.runs,
            units=self.folder / "units",
            document=self.revision().document or {},
            revisions=lambda: [self.revision(each.revision) for each in self.revisions()],
            progress=progress,
        )

    # -- routes --------------------------------------------------------------------------------------------------

    def publish(
        self,
        routes: Path,
        *,
        expected_revision: int = 0,
        comment: str = "",
        progress: Callable[[int, Step], None] = lambda *_: None,
    ) -> int:
        """Publishes a route table; returns its revision once every node has converged.

        Raises:
            InputError: it is not valid; the revision in force stays.
            PublishError: a phase failed; the revision in force stays.
        """
        sources = sources_of(routes)
        read_sources(sources)  # said here, with no lab in the way
        with self._admin(self._state()) as admin:
            return admin.publish(
                sources,
                author=getpass.getuser(),
                comment=comment,
                expected_revision=expected_revision,
                progress=progress,
            )

    def rollback(self, revision: int, *, progress: Callable[[int, Step], None] = lambda *_: None) -> int:
        """Publishes an earlier revision's route table anew; returns the new revision."""
        with self._admin(self._state()) as admin:
            return admin.rollback(revision, author=getpass.getuser(), progress=progress)

    def revision(self, revision: int = 0) -> RevisionInfo:
        """One revision with its route table; 0 for the one in force."""
        with self._admin(self._state()) as admin:
            return admin.revision(revision)

    def revisions(self) -> list[RevisionInfo]:
        """All revisions, oldest first, without their route tables."""
        with self._admin(self._state()) as admin:
            return admin.revisions()

    def explain(self, use_case: str, context: Mapping[str, str], *, file: Path | None = None) -> Explanation:
        """Where a request would go and why; by a file with no lab up, or by the revision in force."""
        if file is not None:
            return explain(Router.of_document(read_path(file).document), use_case, context)
        in_force = self.revision()
        return explain(Router.of_document(in_force.document or {}, in_force.revision), use_case, context)

    # -- within --------------------------------------------------------------------------------------------------

    @property
    def _state_file(self) -> Path:
        return self.folder / "state.json"

    def _state(self) -> LabState:
        state = LabState.load(self._state_file)
        if state is None:
            raise LabNotRunningError(f"lab {self.name} is not up: run `lab up` (or name another with --name)")
        return state

    def _runtime(self, state: LabState) -> Runtime:
        return make_runtime(state.runtime, self.folder, state.security)

    def _admin(self, state: LabState) -> AdminClient:
        return AdminClient(state.plan.unit(CONTROL_PLANE).address)

    def _table_in_force(self, state: LabState) -> RouteTable:
        with self._admin(state) as admin:
            return RouteTable.from_document(admin.revision().document or {})

    def _check_topology(self, state: LabState, topology: str) -> None:
        if topology not in state.topologies:
            raise InputError(f"--topology: {topology!r} is not up; there are {', '.join(state.topologies)}")

    def _check_unit(self, state: LabState, unit: str) -> None:
        names = [each.name for each in state.plan.units]
        if unit not in names:
            raise InputError(f"{unit!r} is no unit of lab {self.name}; there are {', '.join(names)}")

    def _check_caller(self, state: LabState, caller: str) -> None:
        if caller not in state.plan.callers:
            raise InputError(f"--caller: {caller!r} is not in this lab; there are {', '.join(state.plan.callers)}")

    def _take_down(self, runtime: Runtime, *, keep_logs: bool) -> int:
        try:
            state = LabState.load(self._state_file)
        except LabError:
            state = None  # damaged: the sweep finds what it no longer tells
        if state is not None:
            runtime.stop(state.running.values())
        ended = runtime.sweep() + (len(state.running) if state else 0)
        self._state_file.unlink(missing_ok=True)
        if not keep_logs:
            shutil.rmtree(self.folder, ignore_errors=True)
        return ended

    def _clear(self, runtime: Runtime) -> None:
        """What an earlier lab of this name has left: processes after a crash, logs, revisions."""
        runtime.sweep()
        shutil.rmtree(self.folder / "units", ignore_errors=True)


def _check_callers(file: Path, spec: LabSpec) -> None:
    for name, caller in spec.callers.items():
        if not caller.page and name not in PAGES:
            known = ", ".join(PAGES)
            raise SpecError(f'{file}: callers.{name}: is not one of {known}; give it a page, e.g. page = [["UpNext"]]')
