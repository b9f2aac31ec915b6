"""The API that changes a stub's behaviour while it runs, and the behaviour's form on the wire."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc
import grpc.aio

from lab.errors import InputError
from models.proto.control.v1 import stub_pb2, stub_pb2_grpc
from models.stub.behaviour import Behaviour, ConstantLatency, LiveBehaviour, LoadDependentLatency, LognormalLatency

if TYPE_CHECKING:
    from models.stub.connection_churn import Churn
    from models.stub.serving import RequestHandler
    from models.stub.versions import Versions

    Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]

# Field of the message → class; the fields of both have the same names.
_LATENCIES = {"constant": ConstantLatency, "lognormal": LognormalLatency, "load_dependent": LoadDependentLatency}
# About 200 KB, which hold up no request for more than a few milliseconds.
_BATCH = 1_000
_SCALARS = [each.name for each in fields(Behaviour) if each.name not in {"latency", "refuse_to_load"}]


def to_wire(behaviour: Behaviour) -> stub_pb2.Behaviour:
    """The whole behaviour as a message."""
    values: dict[str, Any] = {name: getattr(behaviour, name) for name in _SCALARS}
    kind = next(name for name, each in _LATENCIES.items() if each is type(behaviour.latency))
    values[kind] = asdict(behaviour.latency)
    refused = stub_pb2.RoutingKeys(routing_keys=sorted(behaviour.refuse_to_load))
    return stub_pb2.Behaviour(**values, refuse_to_load=refused)


def changes(message: Any) -> dict[str, Any]:
    """The fields that a ``Behaviour`` sets, as arguments of :meth:`~models.stub.behaviour.LiveBehaviour.change`.

    Raises:
        InputError: the latency is out of range.
    """
    result: dict[str, Any] = {name: getattr(message, name) for name in _SCALARS if message.HasField(name)}
    if kind := message.WhichOneof("latency"):
        numbers = getattr(message, kind)
        result["latency"] = _LATENCIES[kind](*(getattr(numbers, each.name) for each in fields(_LATENCIES[kind])))
    if message.HasField("refuse_to_load"):
        result["refuse_to_load"] = frozenset(message.refuse_to_load.routing_keys)
    return result


class StubControl(stub_pb2_grpc.StubControlServicer):
    """Serves ``control.v1.StubControl``."""

    def __init__(self, live: LiveBehaviour, handler: RequestHandler, versions: Versions, churn: Churn) -> None:
        self._live = live
        self._handler = handler
        self._versions = versions
        self._churn = churn

    async def GetBehaviour(self, request: stub_pb2.GetBehaviourRequest, context: Context) -> stub_pb2.Behaviour:
        """The behaviour in force."""
        return to_wire(self._live.behaviour)

    async def SetBehaviour(self, request: stub_pb2.Behaviour, context: Context) -> stub_pb2.Behaviour:
        """Changes the fields that are set; INVALID_ARGUMENT if one is out of range, and then nothing changes."""
        try:
            behaviour = self._live.change(**changes(request))
        except InputError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        self._versions.retry()
        self._churn.behaviour_changed()
        return to_wire(behaviour)

    async def Reload(self, request: stub_pb2.ReloadRequest, context: Context) -> stub_pb2.Behaviour:
        """Simulates a cold start: loads every version again, then serves cold requests."""
        self._live.start_cold()
        self._versions.reload()
        return to_wire(self._live.behaviour)

    async def GetCounts(self, request: stub_pb2.GetCountsRequest, context: Context) -> stub_pb2.Counts:
        """The request counts."""
        handler = self._handler
        return stub_pb2.Counts(
            requests=handler.arrivals,
            tears=handler.tears,
            copies=handler.copies,
            closed_connections=self._churn.closed,
        )

    async def Arrivals(
        self, request: stub_pb2.ArrivalsRequest, context: Context
    ) -> AsyncIterator[stub_pb2.ArrivalsResponse]:
        """The requests that the replica received."""
        journal = self._handler.journal
        found = journal.since(request.since_ns)
        yield stub_pb2.ArrivalsResponse(known_from_ns=journal.known_from_ns, began_ns=journal.began_ns)
        for start in range(0, len(found), _BATCH):
            yield stub_pb2.ArrivalsResponse(
                known_from_ns=journal.known_from_ns,
                began_ns=journal.began_ns,
                forms=journal.forms,
                arrivals=[
                    stub_pb2.Arrival(
                        request_id=arrival.request_id,
                        routing_key=arrival.routing_key,
                        is_copy=arrival.is_copy,
                        tenant=arrival.tenant,
                        received=arrival.receipt,
                        arrived_ns=arrival.arrived_ns,
                        ended_ns=ended_ns,
                        status=status,
                        via=arrival.via,
                        remaining_ms=arrival.remaining_ms,
                        form=arrival.form,
                        values=arrival.values,
                        answer=arrival.answer,
                    )
                    for arrival, ended_ns, status in found[start : start + _BATCH]
                ],
            )
