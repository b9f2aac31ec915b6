"""Bringing a lab up until calls are answered rightly.

Whatever goes wrong on the way, the error says which unit it was and what its log says last.
"""

from __future__ import annotations

import getpass
import urllib.request
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from lab.admin import AdminClient
from lab.checkers.plain import decide
from lab.client.call import call
from lab.client.headers import DEFAULT
from lab.errors import CallError, LabNotRunningError, UnitError
from lab.plan.control_planes import CONTROL_PLANE
from lab.transport import open_blocking_channel
from lab.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from lab.client.call import CallOutcome
    from lab.routing.document import RouteTable, Source
    from lab.runtime import Runtime
    from lab.runtime.state import LabState

FIRST_REVISION = 1
START_TIMEOUT = timedelta(seconds=60)
CALL_TIMEOUT = timedelta(seconds=10)
_LOOK_TIMEOUT_S = 1.0


@dataclass(frozen=True, slots=True)
class StandUp:
    """One attempt at bringing a lab up.

    Attributes:
        state_file: where every started unit is written down at once.
        say: told what is going on.
    """

    runtime: Runtime
    state_file: Path
    say: Callable[[str], None]

    def start(self, state: LabState) -> LabState:
        """Starts the units that do not run, and waits until all of them work together."""
        states = self.runtime.states(state.running)
        missing = [unit for unit in state.plan.units if states.get(unit.name, "exited") == "exited"]
        if missing:
            self.say(f"starting {len(missing)} units")
        for name, running in self.runtime.start(missing):
            state = state.with_running(name, running)
            state.save(self.state_file)
        with AdminClient(state.plan.control_plane) as admin:
            for what, still_missing in (
                ("control plane", lambda: self._control_planes_missing(state)),
                ("model replicas", lambda: self._replicas_missing(state)),
                ("resolvers and gateways", lambda: self._nodes_missing(admin, state)),
                ("Envoys", lambda: self._envoys_missing(state)),
                ("callers", lambda: self._callers_missing(state)),
            ):
                self._wait_for_none(what, still_missing, state)
        return state

    def publish(self, state: LabState, sources: Sequence[Source]) -> int:
        """Publishes the first route table, unless the lab has one, and returns the revision in force."""
        with AdminClient(state.plan.control_plane) as admin:
            revision = self._in_force(admin)
            if revision:
                return revision
            self.say("publishing the route table")
            return admin.publish(sources, author=getpass.getuser(), comment="first")

    def verify(self, state: LabState, table: RouteTable, revision: int) -> list[CallOutcome]:
        """Makes one call per topology and checks the answer against the rules in force.

        Later than at the first revision ``direct`` is left out: its addresses are those of the first, and that they may
        be wrong by now is what it is there to show.

        Raises:
            UnitError: a call failed, or the wrong model version answered.
        """
        use_case, caller = _somebody_who_may_ask(table, state)
        # Direct knows no rules: it is right only where none matches, as here.
        context = {"user_id": "u1", "caller": caller}
        expected = decide(table.document, use_case, context)
        outcomes = []
        for topology in state.topologies:
            if topology == "direct" and revision > FIRST_REVISION:
                self.say(f"not verifying direct: it does not follow, and revision {revision} is in force")
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

    @staticmethod
    def _first_answer(
        state: LabState, caller: str, use_case: str, topology: str, context: dict[str, str]
    ) -> CallOutcome:
        answers: list[CallOutcome] = []

        def attempt() -> str:
            try:
                outcome = call(state.plan.unit(caller).address, use_case, topology, context)
            except CallError as error:
                return str(error)
            if outcome.source == DEFAULT:
                return "the caller's own default answer: nobody told it in time where to send"
            answers.append(outcome)
            return ""

        eventually(
            f"{use_case} over {topology} is answered", attempt, within=CALL_TIMEOUT, until=lambda error: not error
        )
        return answers[0]

    @staticmethod
    def _in_force(admin: AdminClient) -> int:
        """Which revision is, 0 for none: patiently, as :meth:`_wait_for_none` is and for the same reason."""

        def look() -> tuple[int, str]:
            try:
                return admin.status(replicas=False).revision, ""
            except LabNotRunningError as error:
                return 0, str(error)

        what = f"the {CONTROL_PLANE} says which revision is in force"
        return eventually(what, look, within=CALL_TIMEOUT, until=lambda seen: not seen[1])[0]

    def _wait_for_none(self, what: str, missing: Callable[[], list[str]], state: LabState) -> None:
        def look() -> list[str]:
            for unit, how in self.runtime.states(state.running).items():
                if how == "exited":
                    raise UnitError(self._obituary(unit))
            try:
                return missing()
            except LabNotRunningError:
                # It runs, as was just seen: where thirty units start at once, connecting may take longer than it may.
                return [CONTROL_PLANE]

        eventually(f"{what} are up (still missing)", look, within=START_TIMEOUT, until=lambda names: not names)

    def _obituary(self, unit: str) -> str:
        last_words = self.runtime.last_words(unit) or "without a word"
        return f"{unit} ended while starting: {last_words} (whole log: {self.runtime.log(unit)})"

    @staticmethod
    def _control_planes_missing(state: LabState) -> list[str]:
        missing = []
        for unit in state.plan.with_role(CONTROL_PLANE):
            with AdminClient(unit.address) as admin:
                try:
                    admin.status(replicas=False)
                except LabNotRunningError:
                    missing.append(unit.name)
        return missing

    @staticmethod
    def _replicas_missing(state: LabState) -> list[str]:
        """Each is to be known to each control plane."""
        wanted, missing = state.plan.with_role("model"), set()
        for control_plane in state.plan.with_role(CONTROL_PLANE) if wanted else ():
            with AdminClient(control_plane.address) as admin:
                registered = {replica.replica for replica in admin.status().replicas}
            missing |= {unit.name for unit in wanted if unit.name not in registered}
        return sorted(missing)

    @staticmethod
    def _nodes_missing(admin: AdminClient, state: LabState) -> list[str]:
        connected = {node.node for node in admin.status(replicas=False).nodes}
        wanted = [*state.plan.with_role("resolver"), *state.plan.with_role("gateway")]
        return [unit.name for unit in wanted if unit.name not in connected]

    @staticmethod
    def _envoys_missing(state: LabState) -> list[str]:
        # An Envoy that is not routed through is connected, too; but whether it listens it says itself.
        return [unit.name for unit in state.plan.units if unit.admin and not _is_live(unit.admin.outside)]

    def _callers_missing(self, state: LabState) -> list[str]:
        # One of them is verified by a call, but whoever has a lab that is up may ask as any. A paused one stays so.
        states = self.runtime.states(state.running)
        callers = [unit for unit in state.plan.with_role("caller") if states.get(unit.name) == "running"]
        return [unit.name for unit in callers if not _serves(unit.address)]


def _serves(address: str) -> bool:
    with open_blocking_channel(address) as channel:
        try:
            health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=_LOOK_TIMEOUT_S)
        except grpc.RpcError:
            return False
    return True


def _is_live(admin: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{admin}/ready", timeout=_LOOK_TIMEOUT_S) as answer:
            return bool(answer.status == 200)  # noqa: PLR2004 (HTTP's OK)
    except OSError:
        return False


def _somebody_who_may_ask(table: RouteTable, state: LabState) -> tuple[str, str]:
    for use_case, document in table.document["use_cases"].items():
        for caller in document["callers"]:
            if caller in state.plan.callers:
                return use_case, caller
    raise UnitError("no caller of the spec may ask for any use case of the route table: add one to its `callers`")
