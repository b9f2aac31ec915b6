"""``Lab``: the one public face. Command line, scenarios and notebooks all go through it."""

from __future__ import annotations

import getpass
import os
import re
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from lab.admin import AdminClient
from lab.client.call import call
from lab.errors import InputError, LabError, SpecError
from lab.faults import Faulting
from lab.ops.bringup import FIRST_REVISION, StandUp
from lab.ops.certificates import Certifying
from lab.ops.inspect import Looking
from lab.ops.routes import Publishing
from lab.plan import plan
from lab.roll import Interruption, execute
from lab.routing.document import RouteTable, read_sources, sources_of
from lab.runs import Stage, drive, drive_together
from lab.runtime import choose, make_runtime, possible_runtimes
from lab.runtime.cancellation import Breaking
from lab.runtime.identities import Identities
from lab.runtime.lock import exclusive
from lab.runtime.state import STATE_FILE, LabState
from lab.spec import SIZES, override, read_spec, spec_file
from lab.transport import ChannelCache
from lab.transport.security import MTLS
from services.caller.pages import PAGES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lab.client.call import CallOutcome
    from lab.load.progress import Progress
    from lab.roll import RollOptions, RollProgress, RollResult
    from lab.runs import LoadOptions, RunResult, TogetherResult
    from lab.runtime import Runtime
    from lab.spec import LabSpec

CHECKOUT = Path(__file__).resolve().parent.parent
DEFAULT_SPEC = SIZES["default"]

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,30}")


class Lab(Looking, Publishing, Certifying, Faulting):
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
        self._channels = ChannelCache()

    # -- up and down ---------------------------------------------------------------------------------------------

    def up(
        self,
        *,
        spec: Path = DEFAULT_SPEC,
        routes: Path | None = None,
        topologies: Sequence[str] = (),
        security: str | None = None,
        log_requests: bool = False,
        runtime: str = "auto",
        say: Callable[[str], None] = lambda _: None,
    ) -> list[CallOutcome]:
        """Brings the lab up, or what is missing of it; returns one verified call per topology.

        If it fails, or is interrupted, while the lab was down before, nothing is left behind.

        Args:
            spec: what stands up: a file, or the name of one of :data:`lab.spec.SIZES`.
            routes: route table to publish first; the spec's own by default.
            topologies: instead of the spec's.
            security: instead of the spec's.
            log_requests: have callers, resolvers and models write a line a request as well; see :meth:`log_lines`.
            runtime: ``process``, ``compose``, or ``auto`` for the best that this machine offers; a lab that is up
                stays on its own.
            say: told what is going on.

        Raises:
            InputError: spec or route table is not valid.
            UnitError: a unit did not come up, or answered wrongly.
            LabError: a lab of this name is up that was made from something else.
        """
        spec = spec_file(spec).absolute()
        wanted = override(read_spec(spec), topologies=topologies, security=security, log_requests=log_requests)
        _check_callers(spec, wanted)
        sources = sources_of(routes or wanted.routes)
        table = read_sources(sources)
        with exclusive(self.folder):
            before = LabState.load(self._state_file)
            kind, why = (before.runtime, "it is up") if before and runtime == "auto" else choose(runtime)
            say(f"runtime: {kind} ({why})")
            carrier = make_runtime(kind, self.folder, wanted.security.mode)
            if before and before.runtime != kind:
                raise LabError(
                    f"lab {self.name} is up on the {before.runtime} runtime: `lab down` first, or use --name"
                )
            if before and before.spec != wanted:
                raise LabError(
                    f"lab {self.name} is up, and was made from another spec ({before.spec_file}, as it was then): "
                    "`lab down` first, or use --name"
                )
            stand_up = StandUp(carrier, self._state_file, say)
            try:
                state = before or self._lay_out(carrier, spec, wanted, table)
                if wanted.security.mode == MTLS:
                    Identities(self.folder).provide(state.plan.units)
                carrier.prepare(state.plan, say)
                state.save(self._state_file)
                state = stand_up.start(state)
                revision = stand_up.publish(state, sources)
                if revision > FIRST_REVISION:
                    table = self._table_in_force(state)
                return stand_up.verify(state, table, revision)
            except BaseException as error:
                if before is None:
                    say("cleaning up")
                    self._take_down(keep_logs=isinstance(error, LabError))
                raise

    def down(self) -> int:
        """Ends every unit of the lab and removes what it kept, whatever state it is in; returns how many ended."""
        if not self.folder.exists():
            return 0
        with exclusive(self.folder):
            return self._take_down(keep_logs=False)

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
        state = LabState.of(self.folder)
        self._check_topology(state, topology)
        self._check_caller(state, caller)
        address = state.plan.unit(caller).address
        return call(address, use_case, topology, context or {}, payload_bytes=payload_bytes)

    def load(
        self,
        options: LoadOptions,
        *,
        progress: Callable[[Progress], None] = lambda _: None,
        breaking: Breaking | None = None,
    ) -> RunResult:
        """Drives load in the name of a caller, keeps a record of every request, and judges the answers.

        Args:
            options: what load.
            progress: told how it goes.
            breaking: breaks it off from another thread.

        Raises:
            InputError: the options fit neither lab nor route table.
            UnitError: the driver did not come to its end.
        """
        state = LabState.of(self.folder)
        self._check_topology(state, options.topology)
        self._check_caller(state, options.caller)
        return drive(options, self._stage(state), progress, breaking)

    def load_together(
        self,
        options: Sequence[LoadOptions],
        *,
        progress: Callable[[Mapping[str, Progress]], None] = lambda _: None,
        breaking: Breaking | None = None,
    ) -> TogetherResult:
        """Drives several runs at the same time, e.g. one in the name of each caller; else as :meth:`load`.

        Args:
            options: one a run; no two of the same topology and caller.
            progress: told how each run goes, by its name.
            breaking: breaks all off from another thread.

        Raises:
            InputError: options fit neither lab nor route table, or do not go together.
            UnitError: a driver did not come to its end; the others were broken off.
        """
        state = LabState.of(self.folder)
        for each in options:
            self._check_topology(state, each.topology)
            self._check_caller(state, each.caller)
        return drive_together(options, self._stage(state), progress, breaking or Breaking())

    def roll(self, options: RollOptions, *, progress: Callable[[RollProgress], None] = lambda _: None) -> RollResult:
        """Shifts a model's traffic to another version in steps, and back if one of them turns out bad.

        Raises:
            InputError: the options fit neither lab nor route table; nothing was published.
        """
        state = LabState.of(self.folder)
        self._check_topology(state, options.probe.topology)
        if options.probe.caller:
            self._check_caller(state, options.probe.caller)
        with Interruption() as interruption, self._admin(state) as admin:
            return execute(
                options,
                admin=admin,
                author=getpass.getuser(),
                callers=state.plan.callers,
                load=lambda load, told: self.load(load, progress=told),
                interruption=interruption,
                progress=progress,
            )

    # -- within --------------------------------------------------------------------------------------------------

    def _own_folder(self) -> Path:
        return self.folder

    def _stage(self, state: LabState) -> Stage:
        return Stage(
            state=state,
            runtime=self._runtime(state),
            runs=self.runs,
            units=self.folder / "units",
            document=self.revision().document or {},
            revisions=lambda since_ns, named: self.revisions(tables=True, since_ns=since_ns, named=named),
            replicas=lambda: LabState.of(self.folder).plan.with_role("model"),
        )

    @property
    def _state_file(self) -> Path:
        return self.folder / STATE_FILE

    def _runtime(self, state: LabState) -> Runtime:
        return make_runtime(state.runtime, self.folder, state.security)

    def _control_plane(self) -> AdminClient:
        return self._admin(LabState.of(self.folder))

    def _admin(self, state: LabState) -> AdminClient:
        return AdminClient(state.plan.control_plane, self._channels)

    def _table_in_force(self, state: LabState) -> RouteTable:
        with self._admin(state) as admin:
            return RouteTable.from_document(admin.revision().document or {})

    def _check_topology(self, state: LabState, topology: str) -> None:
        if topology not in state.topologies:
            raise InputError(f"--topology: {topology!r} is not up; there are {', '.join(state.topologies)}")

    def _check_caller(self, state: LabState, caller: str) -> None:
        if caller not in state.plan.callers:
            raise InputError(f"--caller: {caller!r} is not in this lab; there are {', '.join(state.plan.callers)}")

    def _lay_out(self, carrier: Runtime, file: Path, spec: LabSpec, table: RouteTable) -> LabState:
        """Plans a new lab, once all that an earlier one of this name has left is gone."""
        carrier.sweep()
        shutil.rmtree(self.folder / "units", ignore_errors=True)
        identities = Identities(self.folder)
        shutil.rmtree(identities.folder, ignore_errors=True)
        if spec.security.mode == MTLS:
            identities.establish(lifetime_s=spec.security.lifetime_s, key_mode=carrier.key_mode)
        self._faults.forget()
        return LabState(carrier.name, str(file), spec, plan(spec, table, carrier.site()))

    def _take_down(self, *, keep_logs: bool) -> int:
        with suppress(LabError):  # what of them is left is swept away with the rest
            self._faults.end()
        try:
            state = LabState.load(self._state_file)
        except LabError:
            state = None  # damaged: the sweep finds what it no longer tells
        runtimes = possible_runtimes(self.folder) if state is None else [self._runtime(state)]
        if state is not None and keep_logs:
            with suppress(LabError):  # what went wrong before is what is to be told
                runtimes[0].fetch_logs(state.plan.units)
        ended = sum(runtime.sweep() for runtime in runtimes)
        self._state_file.unlink(missing_ok=True)
        shutil.rmtree(Identities(self.folder).folder, ignore_errors=True)
        if not (keep_logs and (self.folder / "units").exists()):
            shutil.rmtree(self.folder, ignore_errors=True)
        return ended


def _check_callers(file: Path, spec: LabSpec) -> None:
    for name, caller in spec.callers.items():
        if not caller.page and name not in PAGES:
            known = ", ".join(PAGES)
            raise SpecError(f'{file}: callers.{name}: is not one of {known}; give it a page, e.g. page = [["UpNext"]]')
