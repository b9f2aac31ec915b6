"""The faults API: the control plane sends invalid or stale updates, to test that nodes refuse them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import grpc

from lab.routing.document import RouteTable
from lab.transport.xds import ROLE as GRPC_CLIENT
from models.proto.control.v1 import faults_pb2, faults_pb2_grpc, rules_pb2
from services.controlplane.publishing.rules_feed import whole_update

if TYPE_CHECKING:
    from services.controlplane.nodes.subscribers import Subscriber
    from services.controlplane.publishing.publisher import Publisher

    Context = grpc.aio.ServicerContext[Any, Any]

_ANSWERED_WITHIN_S = 5.0
_BROKEN = b'{"callers": ['


class FaultsServicer(faults_pb2_grpc.FaultsServicer):
    """Sends nodes updates that they must refuse."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher

    async def Offer(self, request: faults_pb2.OfferRequest, context: Context) -> faults_pb2.OfferResponse:
        """Sends the update, and waits for each node's acknowledgement or refusal."""
        if request.wrong == faults_pb2.WRONG_CORRUPT_CLUSTERS:
            generation, answered = await self._offer_clusters(request, context)
        else:
            generation, answered = await self._offer_rules(request, context)
        answers = [_answer(each, generation) for each in answered]
        return faults_pb2.OfferResponse(answers=sorted(answers, key=lambda each: each.node))

    async def Restate(self, request: faults_pb2.RestateRequest, context: Context) -> faults_pb2.RestateResponse:
        """Sends every node the state in force again, and waits until all have applied it."""
        fleet = self._publisher.fleet
        fleet.store.restate()
        fleet.feed.restate()
        for subscribers in (fleet.sidecars, fleet.routers):
            nodes = {each.node for each in subscribers}
            await subscribers.answers(subscribers.generation, nodes, timeout_s=_ANSWERED_WITHIN_S)
        return faults_pb2.RestateResponse()

    async def _offer_clusters(self, request: faults_pb2.OfferRequest, context: Context) -> tuple[int, list[Subscriber]]:
        store = self._publisher.fleet.store
        nodes = _selected(request, (each.node for each in store.subscribers if each.role != GRPC_CLIENT))
        generation, offered = store.offer_corrupt(nodes)
        if not offered:
            await _refuse(context, "no Envoy has a cluster yet; send a request through one first")
        return generation, await store.subscribers.answers(generation, offered, timeout_s=_ANSWERED_WITHIN_S)

    async def _offer_rules(self, request: faults_pb2.OfferRequest, context: Context) -> tuple[int, list[Subscriber]]:
        feed = self._publisher.fleet.feed
        nodes = _selected(request, (each.node for each in feed.subscribers))
        if not nodes:
            await _refuse(context, "no resolver or gateway is connected")
        is_stale = request.wrong == faults_pb2.WRONG_STALE_RULES
        update = await self._stale(request.revision, context) if is_stale else self._corrupt()
        generation = feed.offer(nodes, update)
        return generation, await feed.subscribers.answers(generation, nodes, timeout_s=_ANSWERED_WITHIN_S)

    def _corrupt(self) -> rules_pb2.RulesUpdate:
        name = next(iter(self._publisher.table.document["use_cases"]))
        broken = rules_pb2.UseCaseRules(name=name, document=_BROKEN)
        return rules_pb2.RulesUpdate(revision=self._publisher.revision, use_cases=[broken])

    async def _stale(self, revision: int, context: Context) -> rules_pb2.RulesUpdate:
        in_force = self._publisher.fleet.feed.revision
        revision = revision or in_force - 1
        if not 0 < revision < in_force or self._publisher.registry.get(revision) is None:
            await _refuse(
                context,
                f"no revision {revision} is older than {in_force}, the latest that changed rules; "
                "publish a change of rules first",
            )
        return whole_update(revision, RouteTable.of_valid(self._publisher.registry.document(revision)))


def _selected(request: faults_pb2.OfferRequest, there: Iterable[str]) -> set[str]:
    found = set(there)
    return found.intersection(request.nodes) if request.nodes else found


def _answer(subscriber: Subscriber, generation: int) -> faults_pb2.Answer:
    refused = subscriber.refused == generation
    return faults_pb2.Answer(
        node=subscriber.node,
        role=subscriber.role,
        answered=refused or subscriber.applied >= generation,
        refusal=subscriber.error if refused else "",
    )


async def _refuse(context: Context, reason: str) -> None:
    await context.abort(grpc.StatusCode.INVALID_ARGUMENT, reason)
