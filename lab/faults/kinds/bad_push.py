"""Pushes configuration that nodes must reject, or publishes a model version that cannot be loaded."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import grpc

from lab.errors import InputError, LabError, PublishError
from lab.faults.fault_kind import FaultKind
from lab.faults.observation import Observation, seen
from lab.faults.settings import SEVERE, SHARE, Number, number
from lab.identity.user import author
from lab.roles import followers, rule_followers
from lab.routing.keys import routing_key
from lab.routing.shards import clusters_of
from lab.transport import open_blocking_channel
from models.proto.control.v1 import faults_pb2, faults_pb2_grpc, stub_pb2

if TYPE_CHECKING:
    from lab.faults.fault_context import FaultContext
    from lab.faults.state import FaultRecord

MODEL = "model"
_OFFERS: Mapping[str, tuple[faults_pb2.Wrong.ValueType, Callable[[], tuple[str, ...]]]] = {
    "clusters": (faults_pb2.WRONG_CORRUPT_CLUSTERS, partial(followers, "xds")),
    "rules": (faults_pb2.WRONG_CORRUPT_RULES, rule_followers),
    "stale-rules": (faults_pb2.WRONG_STALE_RULES, rule_followers),
}
_BAD_VERSION = "v999999"
_OFFER_S = 15.0


class BadPush(FaultKind):
    """Pushes what nodes and models must reject."""

    name = "bad-push"
    summary = "pushes configuration that nodes must reject, or publishes a model version that cannot be loaded"
    past = "pushed with errors"
    targets = (
        "`clusters`: corrupt ones, to Envoys; `rules`: corrupt ones, to resolvers and gateways; `stale-rules`: those "
        "of an older revision; `model`: a version that its replicas cannot load"
    )
    settings = (
        SHARE,
        Number("revision", "for stale-rules: the revision; 0: the previous one", 0, 1e9),
    )
    default_level = SEVERE
    default_target = "rules"
    group = "push"

    def candidates(self, context: FaultContext, target: str, settings: Mapping[str, Any]) -> list[str]:
        """Returns connected nodes, or replicas of the cluster of one model."""
        del settings
        if target == MODEL:
            cluster = self._cluster(context)
            return [unit.name for unit in context.state().plan.units if unit.cluster == cluster]
        if target not in _OFFERS:
            raise InputError(f"{self.name}: {target!r} is not a target; use {', '.join(_OFFERS)} or {MODEL}")
        control_plane = context.control_plane()
        if control_plane is None:
            raise InputError(f"{self.name} {target}: the control plane does not answer; heal or start it first")
        roles = _OFFERS[target][1]()
        if nodes := [each.node for each in control_plane.nodes if each.role in roles]:
            return nodes
        raise InputError(
            f"{self.name} {target}: no {' or '.join(roles)} is connected; send a request through one first"
        )

    def prepare(self, context: FaultContext, fault: FaultRecord) -> Mapping[str, Any]:
        """Returns the revision in force, and what replicas already refuse to load."""
        with context.admin() as admin:
            memory: dict[str, Any] = {"revision": admin.status().revision}
        if fault.target == MODEL:
            memory["before"] = {name: list(context.behaviour(name).refuse_to_load.routing_keys) for name in fault.units}
        return memory

    def inject(self, context: FaultContext, fault: FaultRecord) -> Mapping[str, Any]:
        """Pushes it, and returns each node's answer."""
        if fault.target == MODEL:
            return self._publish(context, fault)
        request = faults_pb2.OfferRequest(
            wrong=_OFFERS[fault.target][0], nodes=fault.units, revision=int(number(fault.settings, "revision"))
        )
        responses: list[faults_pb2.OfferResponse] = _call(context, lambda api: api.Offer(request, timeout=_OFFER_S))
        answers = [answer for response in responses for answer in response.answers]
        return {
            "refusals": {each.node: _one_line(each.refusal) for each in answers if each.refusal},
            "taken": [each.node for each in answers if each.answered and not each.refusal],
        }

    def observe(self, context: FaultContext, fault: FaultRecord) -> Observation:
        """Checks that nodes rejected it, each with a reason, and none accepted it."""
        refusals: Mapping[str, str] = fault.memory["refusals"]
        control_plane = context.control_plane()
        figures: dict[str, object] = {
            "refusals": dict(refusals),
            "taken": list(fault.memory["taken"]),
            "revision_before": fault.memory["revision"],
        }
        if control_plane is not None:
            figures["revision"] = control_plane.revision
            figures["errors_now"] = {
                each.node: each.error for each in control_plane.nodes if each.node in fault.units and each.error
            }
        count = len(refusals)
        first = next((f"; {node}: {reason}" for node, reason in refusals.items()), "")
        because = f"{count} of {len(fault.units)} refused it{first}"
        return seen(holds=count > 0 and not fault.memory["taken"], because=because, **figures)

    def heal(self, context: FaultContext, fault: FaultRecord) -> None:
        """Pushes the configuration in force again, and lets replicas load all versions again."""
        for name, keys in fault.memory.get("before", {}).items():
            if context.keeps_behaviour(name):
                context.set_behaviour(name, stub_pb2.Behaviour(refuse_to_load=stub_pb2.RoutingKeys(routing_keys=keys)))
        # A control plane that is down pushes its state to all nodes when it comes back.
        if fault.target != MODEL and context.control_plane() is not None:
            _call(context, lambda api: api.Restate(faults_pb2.RestateRequest(), timeout=_OFFER_S))

    def _publish(self, context: FaultContext, fault: FaultRecord) -> Mapping[str, Any]:
        cluster = context.state().plan.unit(fault.units[0]).cluster
        with context.admin() as admin:
            document = admin.revision().document or {}
            model = next(
                name
                for name, entry in document["models"].items()
                if any(cluster in clusters_of(each["cluster"]).values() for each in entry["versions"].values())
            )
            key = routing_key(model, _BAD_VERSION)
            for name in fault.units:
                refused = [*fault.memory["before"][name], key]
                context.set_behaviour(
                    name, stub_pb2.Behaviour(refuse_to_load=stub_pb2.RoutingKeys(routing_keys=refused))
                )
            document["models"][model]["versions"][_BAD_VERSION] = {"cluster": cluster}
            sources = [(f"{fault.id}.yaml", json.dumps(document))]
            try:
                revision = admin.publish(sources, author=author(), comment=f"fault {fault.id}")
            except PublishError as error:
                return {"refusals": {MODEL: str(error)}, "taken": []}
        return {"refusals": {}, "taken": [f"revision {revision}"]}

    @staticmethod
    def _cluster(context: FaultContext) -> str:
        """Returns the cluster of the first model of the route table in force."""
        with context.admin() as admin:
            document = admin.revision().document or {}
        model = next(iter(document["models"].values()))
        return next(iter(clusters_of(next(iter(model["versions"].values()))["cluster"]).values()))


def _call(context: FaultContext, call: Callable[[faults_pb2_grpc.FaultsStub], Any]) -> list[Any]:
    """Returns the control planes' answers. One without such a node declines; at least one must accept."""
    answers, declined = [], ["no control plane answers; heal or start it first"]
    for unit in context.control_planes():
        try:
            with open_blocking_channel(unit.address) as channel:
                answers.append(call(faults_pb2_grpc.FaultsStub(channel)))
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.INVALID_ARGUMENT:
                raise LabError(f"{unit.name} does not push: {error.code().name}: {error.details()}") from None
            declined.append(str(error.details()))
    if not answers:
        raise InputError(f"bad-push: {declined[-1]}")
    return answers


def _one_line(refusal: str) -> str:
    return " ".join(refusal.removeprefix("-: ").split())


BAD_PUSH = BadPush()
