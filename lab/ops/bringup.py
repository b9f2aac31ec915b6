"""Brings a lab up and verifies it with one call per topology.

An error names the unit that failed and the end of its log.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from lab import clock
from lab.checkers.plain import decide
from lab.client.admin import AdminClient
from lab.client.call import CallOutcome, call
from lab.clock import lab_time_ns
from lab.errors import CallError, LabError, LabNotRunningError, SpecError, UnitError
from lab.faults import Injector
from lab.identity.user import author
from lab.ops.teardown import clean_up
from lab.registry import keep_plugins
from lab.roles import CONTROL_PLANE, Role, StartingLab, plan, roles_of
from lab.routing.document import RouteTable, Source, read_sources, sources_of
from lab.routing.headers import DEFAULT
from lab.runs.events import Event, append_event, of_unit
from lab.runs.published import keep_published
from lab.runs.seal import provide_key
from lab.runtime import Runtime, choose, configure, make_runtime
from lab.runtime.identities import Identities
from lab.runtime.lock import exclusive
from lab.runtime.state import STATE_FILE, LabState, clock_of
from lab.topologies import TOPOLOGIES
from lab.transport.security import MTLS
from lab.waiting import eventually
from services.caller.pages import PAGES

if TYPE_CHECKING:
    from lab.runtime.context import LabContext
    from lab.spec import LabSpec

FIRST_REVISION = 1
START_TIMEOUT = timedelta(seconds=60)
CALL_TIMEOUT = timedelta(seconds=10)
_FIXED = ("receipt_key", "clock")  # parts of the spec that the first `lab up` fixes


def bring_up(
    context: LabContext,
    spec_file: Path,
    spec: LabSpec,
    *,
    routes: Path | None,
    runtime: str,
    options: Mapping[str, str],
    say: Callable[[str], None],
) -> list[CallOutcome]:
    """Brings a lab up, or the units of it that do not run; see :meth:`lab.lab.Lab.up`."""
    _check_callers(spec_file, spec)
    sources = sources_of(routes or spec.routes)
    table = read_sources(sources)
    state_file = context.folder / STATE_FILE
    with exclusive(context.folder):
        before = LabState.load(state_file)
        kind, why = (before.runtime, "it is up") if before and runtime == "auto" else choose(runtime)
        say(f"runtime: {kind} ({why})")
        if before and before.runtime != kind:
            raise LabError(f"lab {context.name} is up on the {before.runtime} runtime: `lab down` first, or use --name")
        fixed = (
            {name: getattr(before.spec, name) for name in _FIXED} if before else {"receipt_key": secrets.token_hex(16)}
        )
        spec = spec.model_copy(update=fixed)
        if before and before.spec != spec:
            raise LabError(
                f"lab {context.name} is up, and was made from another spec ({before.spec_file}, as it was then): "
                "`lab down` first, or use --name"
            )
        configure(kind, context.folder, options)
        chosen = make_runtime(kind, context.folder, spec.security.mode)
        attempt = BringUp(chosen, state_file, say)
        try:
            state = before or _plan_new(context.folder, chosen, spec_file, spec, table)
            if spec.security.mode == MTLS:
                Identities(context.folder).provide(state.plan.units)
            provide_key(context.folder)
            chosen.prepare(state.plan, say)
            state.save(state_file)
            state = attempt.start(state)
            revision = attempt.publish(state, sources)
            if revision > FIRST_REVISION:
                with context.admin(state) as admin:
                    table = RouteTable.from_document(admin.revision().document or {})
            return attempt.verify(state, table, revision)
        except BaseException as error:
            if before is None:
                say("cleaning up")
                clean_up(context.folder, keep_logs=isinstance(error, LabError))
            raise


@dataclass(frozen=True, slots=True)
class BringUp:
    """One attempt at bringing a lab up.

    Attributes:
        state_file: gets every unit as soon as it is started, so that a crash leaves none behind unrecorded.
        say: called with a line of progress before each step.
    """

    runtime: Runtime
    state_file: Path
    say: Callable[[str], None]

    def start(self, state: LabState) -> LabState:
        """Starts the units that do not run, and waits until the probes of all roles pass.

        That a unit which had ended is started again is an event of the lab, and undoes a kill.
        """
        states = self.runtime.states(state.running)
        missing = [unit for unit in state.plan.units if states.get(unit.name, "exited") == "exited"]
        if missing:
            self.say(f"starting {len(missing)} units")
        self.runtime.watch()
        from_ns, ended = lab_time_ns(), [unit for unit in missing if unit.name in states]
        for name, running in self.runtime.start(missing):
            state = state.with_running(name, running)
            state.save(self.state_file)
        for unit in ended:
            started = Event(kind="start", target=unit.name, past="started", from_ns=from_ns, until_ns=lab_time_ns())
            append_event(self.state_file.parent, of_unit(started, unit, state.spec))
        with AdminClient(state.plan.control_plane) as admin:
            for role in roles_of(state.spec):
                self._wait_for(role, state, admin)
        return state

    def publish(self, state: LabState, sources: Sequence[Source]) -> int:
        """Publishes the first route table unless a revision is in force; returns the revision in force."""
        with AdminClient(state.plan.control_plane) as admin:
            revision = self._in_force(admin)
            if revision:
                return revision
            self.say("publishing the route table")
            revision = admin.publish(sources, author=author(), comment="first")
        keep_published(self.state_file.parent, revision, sources)
        return revision

    def verify(self, state: LabState, table: RouteTable, revision: int) -> list[CallOutcome]:
        """Makes one call per topology and compares the answering model version with the rules in force.

        From the second revision on it skips topologies that follow no rules: their hard-coded addresses are those of
        the first revision.

        Raises:
            UnitError: a call failed, or the wrong model version answered.
        """
        use_case, caller = _allowed_call(table, state)
        # No rule matches this context, so a topology that follows no rules is right, too.
        context = {"user_id": "u1", "caller": caller}
        expected = decide(table.document, use_case, context)
        outcomes = []
        for topology in state.topologies:
            if revision > FIRST_REVISION and not TOPOLOGIES[topology].capabilities.follows_rules:
                self.say(f"not verifying {topology}: it follows no rules, and revision {revision} is in force")
                continue
            self.say(f"verifying {topology}")
            outcome = self._first_answer(state, caller, use_case, topology, context)
            if (outcome.model, outcome.version) != (expected.model, expected.version):
                raise UnitError(
                    f"{use_case} over {topology} was answered by {outcome.model}@{outcome.version}, "
                    f"not by {expected.model}@{expected.version}"
                )
            outcomes.append(outcome)
        return outcomes

    def _first_answer(
        self, state: LabState, caller: str, use_case: str, topology: str, context: dict[str, str]
    ) -> CallOutcome:
        answers: list[CallOutcome] = []

        def attempt() -> str:
            try:
                outcome = call(state.plan.unit(caller).address, use_case, topology, context)
            except CallError as error:
                self._states(state)
                return str(error)
            if outcome.source == DEFAULT:
                return "the caller's own default answer: it got no routing decision in time"
            answers.append(outcome)
            return ""

        eventually(
            f"{use_case} over {topology} is answered", attempt, within=CALL_TIMEOUT, until=lambda error: not error
        )
        return answers[0]

    @staticmethod
    def _in_force(admin: AdminClient) -> int:
        """The revision in force, 0 for none; retries, as a busy control plane may be slow to accept a connection."""

        def read() -> tuple[int, str]:
            try:
                return admin.status(replicas=False).revision, ""
            except LabNotRunningError as error:
                return 0, str(error)

        what = f"the {CONTROL_PLANE} says which revision is in force"
        return eventually(what, read, within=CALL_TIMEOUT, until=lambda seen: not seen[1])[0]

    def _wait_for(self, role: Role, state: LabState, admin: AdminClient) -> None:
        units = state.plan.with_role(role.name)
        control_planes = [unit.address for unit in state.plan.with_role(CONTROL_PLANE)]

        def names_missing() -> list[str]:
            paused = {name for name, how in self._states(state).items() if how == "paused"}
            try:
                return [*role.probe.missing(units, StartingLab(admin, control_planes, paused))] if units else []
            except LabNotRunningError:
                # It runs, but while thirty units start at once, connecting may take longer than its timeout.
                return [CONTROL_PLANE]

        what = f"ready: {role.title} (still missing)"
        eventually(what, names_missing, within=START_TIMEOUT, until=lambda names: not names)

    def _states(self, state: LabState) -> dict[str, str]:
        """The state of each unit.

        Raises:
            UnitError: one has ended.
        """
        states = self.runtime.states(state.running)
        for unit, how in states.items():
            if how == "exited":
                last_words = self.runtime.last_words(unit) or "without a word"
                log = self.runtime.log(unit)
                raise UnitError(f"{unit} ended while starting: {last_words} (whole log: {log})")
        return states


def _allowed_call(table: RouteTable, state: LabState) -> tuple[str, str]:
    for use_case, document in table.document["use_cases"].items():
        for caller in document["callers"]:
            if caller in state.plan.callers:
                return use_case, caller
    raise UnitError("no caller of the spec may ask for any use case of the route table: add one to its `callers`")


def _check_callers(file: Path, spec: LabSpec) -> None:
    for name, caller in spec.callers.items():
        if not caller.page and name not in PAGES:
            known = ", ".join(PAGES)
            raise SpecError(f'{file}: callers.{name}: is not one of {known}; give it a page, e.g. page = [["UpNext"]]')


def _plan_new(folder: Path, runtime: Runtime, file: Path, spec: LabSpec, table: RouteTable) -> LabState:
    """Removes the remains of an earlier lab of this name, and plans a new one."""
    runtime.sweep()
    shutil.rmtree(folder / "units", ignore_errors=True)
    identities = Identities(folder)
    shutil.rmtree(identities.folder, ignore_errors=True)
    if spec.security.mode == MTLS:
        identities.establish(lifetime_s=spec.security.lifetime_s, key_mode=runtime.key_mode)
    Injector(folder).forget()
    keep_plugins(folder)
    spec = spec.model_copy(update={"clock": _clock(folder) if runtime.shares_clock() else ""})
    return LabState(runtime.name, str(file), spec, plan(spec, table, runtime.site()))


def _clock(folder: Path) -> str:
    """Returns a new lab's clock: that of another lab that is up beside it, as one process may work with both."""
    others = map(clock_of, sorted(folder.parent.glob(f"*/{STATE_FILE}")))
    return next(filter(clock.is_of_this_boot, others), "") or clock.fixed()
