"""The steady state: what a lab must look like before a scenario begins and after it ends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

import grpc

from lab import FILES
from lab.checkers.plain import decide
from lab.client.call import call
from lab.errors import CallError, LabError
from lab.roles import rule_followers
from lab.routing.document import RouteTable, read_path
from lab.runs.events import heal_of, lab_events, undone_ns
from lab.transport import ChannelCache, open_blocking_channel
from lab.waiting import eventually
from models.proto.control.v1 import stub_pb2, stub_pb2_grpc

if TYPE_CHECKING:
    from lab.lab import Lab
    from lab.ops.inspect import LabStatus
    from lab.runs.events import Event

ROUTES = FILES / "routes.yaml"
WITHIN = timedelta(seconds=15)
USE_CASE, CALLER, CONTEXT = "ContinueWatchingRanking", "homepage", {"user_id": "u1", "caller": "homepage"}


@dataclass(frozen=True, slots=True)
class SteadyState:
    """What a lab was like when it was made.

    Attributes:
        table: the default one.
        behaviour: of every stub model.
        topologies: in each of which a call is made and verified.
        channels: cache of the channels to models and to the caller.
    """

    table: RouteTable
    behaviour: stub_pb2.Behaviour
    topologies: Sequence[str]
    channels: ChannelCache = field(default_factory=ChannelCache)

    @classmethod
    def of(cls, lab: Lab, topologies: Sequence[str]) -> SteadyState:
        """The state of a lab that nothing was done to."""
        model = next(unit for unit in lab.status().units if unit.role == "model")
        channels = ChannelCache()
        return cls(read_path(ROUTES), _behaviour(model.address, channels), topologies, channels)

    def wait(self, lab: Lab) -> None:
        """Returns once the lab is steady.

        Raises:
            DeadlineError: it is not in time; the message lists the differences.
        """
        eventually("the lab is steady (amiss)", lambda: self.amiss(lab), within=WITHIN, until=lambda amiss: not amiss)

    def amiss(self, lab: Lab) -> list[str]:
        """Differences from the steady state; empty if there are none."""
        try:
            return self._amiss(lab)
        except LabError as error:
            return [str(error)]
        except grpc.RpcError as error:
            return [f"a model does not report its behaviour: {error.code().name}: {error.details()}"]

    def _amiss(self, lab: Lab) -> list[str]:
        status = lab.status()
        found = [*_lasting(lab, status), *_not_connected(status), *self._not_registered(status)]
        if found:
            return found
        if not self._has_table(lab):
            return ["another route table than the default is in force"]
        found = [
            f"{unit.name} does not behave as after bring-up"
            for unit in status.units
            if unit.role == "model" and _behaviour(unit.address, self.channels) != self.behaviour
        ]
        address = next(unit.address for unit in status.units if unit.name == CALLER)
        return found or [each for topology in self.topologies for each in self._unverified(address, topology)]

    def lasting(self, lab: Lab) -> list[str]:
        """Differences that do not pass by themselves: units that do not run, and open faults."""
        return _lasting(lab, lab.status())

    def restore(self, lab: Lab) -> None:
        """Undoes, as far as possible, what a scenario has left behind, so that the next one is not affected."""
        lab.faults.heal()
        for fault in _open_faults(lab, lab.status()):
            getattr(lab.units, fault.undone_by)(fault.target)
        for unit in lab.status().units:
            if unit.state == "exited":
                lab.units.start(unit.name)
            elif unit.state == "paused":
                lab.units.resume(unit.name)
        eventually(
            "all units are back (missing)",
            lambda: [*_not_connected(status := lab.status()), *_absent(status)],
            within=WITHIN,
            until=lambda missing: not missing,
        )
        for unit in lab.status().units:
            if unit.role == "model":
                with open_blocking_channel(unit.address) as channel:
                    stub_pb2_grpc.StubControlStub(channel).SetBehaviour(self.behaviour, timeout=5)
        self.put_table_back(lab)

    def put_table_back(self, lab: Lab) -> None:
        """Publishes the default route table unless it is in force."""
        if not self._has_table(lab):
            lab.routes.publish(ROUTES, comment="as before the scenario")

    def _has_table(self, lab: Lab) -> bool:
        return lab.routes.show().document == self.table.document

    def _not_registered(self, status: LabStatus) -> Iterator[str]:
        known = status.control_plane
        holds = {each.replica: set(each.loaded) for each in known.replicas} if known else {}
        for unit in status.units:
            if unit.role != "model":
                continue
            cluster = unit.name.rpartition("-")[0]
            needed = {key for key, version in self.table.versions.items() if version.cluster == cluster}
            if lacking := needed - holds.get(unit.name, set()):
                yield f"{unit.name} has not loaded {', '.join(sorted(lacking))}"

    def _unverified(self, address: str, topology: str) -> Iterator[str]:
        expected = decide(self.table.document, USE_CASE, CONTEXT)
        try:
            answer = call(address, USE_CASE, topology, {"user_id": "u1"}, channels=self.channels)
        except CallError as error:
            yield f"{topology}: {error}"
            return
        found = (answer.model, answer.version, answer.source)
        if found != (expected.model, expected.version, "model"):
            yield f"{topology}: answered by {answer.model}@{answer.version}, {answer.source}"


def settle(lab: Lab, steady: SteadyState) -> str:
    """Waits for the steady state after a scenario; undoes what it has left behind and returns that in one line."""
    left = steady.lasting(lab)
    try:
        if not left:
            steady.wait(lab)
            return ""
    except LabError as error:
        left = [str(error)]
    try:
        steady.restore(lab)
        steady.wait(lab)
    except (LabError, grpc.RpcError) as error:
        return f"{', '.join(left)}; and it could not be undone: {error}"
    return f"{', '.join(left)}; it was undone"


def _absent(status: LabStatus) -> list[str]:
    known = {each.replica for each in status.control_plane.replicas} if status.control_plane else set()
    return [unit.name for unit in status.units if unit.role == "model" and unit.name not in known]


def _not_connected(status: LabStatus) -> list[str]:
    known = status.control_plane
    if known is None:
        return ["the control plane does not answer"]
    nodes = {node.node: node for node in known.nodes}
    nodes_by_rules = rule_followers()
    ours = {unit.name: unit.role for unit in status.units}
    return [
        *(f"{name} is not connected" for name, role in ours.items() if role in nodes_by_rules and name not in nodes),
        *(
            f"{name} holds revision {node.acked_revision} of {known.revision}{node.error and ': ' + node.error}"
            for name, node in nodes.items()
            if name in ours and node.acked_revision != known.revision
        ),
    ]


def _lasting(lab: Lab, status: LabStatus) -> list[str]:
    return [
        *(f"{unit.name} is {unit.state}" for unit in status.units if unit.state != "running"),
        *(f"{fault.kind} of {fault.target} was not undone" for fault in _open_faults(lab, status)),
    ]


def _open_faults(lab: Lab, status: LabStatus) -> list[Event]:
    events = lab_events(lab.folder)
    latest = {(event.kind, event.target): event for event in events if event.is_fault}
    units = {unit.name for unit in status.units}
    return [
        event
        for event in latest.values()
        if undone_ns(event, events) is None and (event.target in units or event.undone_by == heal_of(event.kind))
    ]


def _behaviour(address: str, channels: ChannelCache) -> stub_pb2.Behaviour:
    """A stub model's behaviour, without its seed, which has no effect while nothing is random."""
    behaviour = channels.call(
        address,
        lambda channel, within_s: stub_pb2_grpc.StubControlStub(channel).GetBehaviour(
            stub_pb2.GetBehaviourRequest(), timeout=within_s
        ),
        timeout_s=5,
    )
    behaviour.ClearField("seed")
    return behaviour
