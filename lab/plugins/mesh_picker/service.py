"""Replica signals for the clients of one caller, and their picks, which a run collects."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from lab.clock import lab_time_ns
from lab.pickers import GATEWAY, Chooses, Seen
from lab.transport import proved_caller
from models.proto.control.v1 import picks_pb2, picks_pb2_grpc
from models.tokens.journal_parts import parts_of
from services.gateway.picks import KEPT, Picking, PickLog
from services.gateway.pool import Pool
from services.gateway.replicas import Replicas
from services.rules import RuleSet

if TYPE_CHECKING:
    from lab.pickers import Picker
    from services.gateway.picks import SignalSettings

    _Context = grpc.aio.ServicerContext[Any, Any]

LEAST_PERIOD_S, MOST_PERIOD_S = 0.05, 0.25
"""Time between two messages about a key's replicas, at least and at most."""


class Signals(picks_pb2_grpc.ReplicaSignalsServicer, picks_pb2_grpc.PickJournalServicer):
    """Passes on where replicas are and their load, without picking; keeps the picks of clients.

    Args:
        owner: the caller whose clients it serves.
        picker: the lab's; clients pick by it.
        signal: settings of the load.
        signal_json: the same, as the spec has it.

    Attributes:
        dropped: entries that it no longer has.
    """

    def __init__(self, owner: str, picker: Picker, signal: SignalSettings, signal_json: str) -> None:
        self._owner, self._picker, self._signal_json = owner, picker, signal_json
        chooses = isinstance(picker.at(GATEWAY), Chooses)
        self._pool = Pool(picker, Picking(signal, PickLog())) if chooses else None
        self._period_s = min(max(signal.age_s, LEAST_PERIOD_S), MOST_PERIOD_S)
        self._rules = RuleSet()
        self._lines: OrderedDict[tuple[str, str], bytes] = OrderedDict()
        self.dropped, self._began_ns = 0, lab_time_ns()

    async def put_in_force(self, rules: RuleSet) -> None:
        """Follows the endpoints of a rule set, and the load of each if the picker goes by it."""
        if self._pool is not None:
            await self._pool.put_in_force(replace(rules, policies={}))
        self._rules = rules

    async def Follow(  # noqa: N802 (gRPC's name)
        self, request: picks_pb2.FollowReplicasRequest, context: _Context
    ) -> AsyncIterator[picks_pb2.ReplicasOfKey]:
        """The replicas of a key, until the client leaves."""
        await self._require_owner(context)
        objectives: dict[str, picks_pb2.Objectives] = {}
        of: RuleSet | None = None
        while True:
            if of is not self._rules:
                of = self._rules
                slos = ((name, each.slo) for name, each in of.router_of(self._owner).use_cases.items())
                objectives = {
                    name: picks_pb2.Objectives(first_token_ms=slo.first_ms, next_token_ms=slo.next_ms)
                    for name, slo in slos
                    if any(slo)
                }
            yield picks_pb2.ReplicasOfKey(
                replicas=[_load_of(each) for each in self._seen(request.routing_key)],
                picker=self._picker.name,
                signal=self._signal_json,
                objectives=objectives,
            )
            await asyncio.sleep(self._period_s)

    def _seen(self, routing_key: str) -> list[Seen]:
        if self._pool is not None:
            group = self._pool.backend(routing_key)
            return [*group.seen().values()] if isinstance(group, Replicas) else []
        addresses = self._rules.endpoints.get(routing_key) or self._rules.standby.get(routing_key, ())
        return [Seen(each, 0, 0, 0, 0.0, 0.0) for each in sorted(addresses)]

    async def Report(  # noqa: N802 (gRPC's name)
        self, request: picks_pb2.ReportPicksRequest, context: _Context
    ) -> picks_pb2.ReportPicksResponse:
        """Keeps a client's entries."""
        await self._require_owner(context)
        for name, line in request.lines.items():
            self._lines[request.client, name] = line
        while len(self._lines) > KEPT:
            self._lines.popitem(last=False)
            self.dropped += 1
        return picks_pb2.ReportPicksResponse()

    async def Read(  # noqa: N802 (gRPC's name)
        self, request: picks_pb2.ReadPicksRequest, context: _Context
    ) -> AsyncIterator[picks_pb2.ReadPicksResponse]:
        """The entries of all clients."""
        del request, context
        for part in parts_of([*self._lines.values()], self.dropped, self._began_ns):
            yield part

    async def _require_owner(self, context: _Context) -> None:
        if (proved := proved_caller(context)) not in {"", self._owner}:
            reason = f"these signals are for caller {self._owner} only; you are {proved}"
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, reason)

    async def close(self) -> None:
        """Ends the connections to replicas."""
        if self._pool is not None:
            await self._pool.close()


def _load_of(seen: Seen) -> picks_pb2.ReplicaLoad:
    speed = seen.speed
    load = picks_pb2.GetLoadResponse(
        waiting=seen.waiting,
        running=seen.running,
        kv_used=seen.kv_used,
        loras=seen.loras,
        waiting_loras=seen.waiting_loras,
        max_loras=seen.max_loras,
        speed=picks_pb2.Speed(
            overhead_ms=speed.overhead_ms,
            prefill_ms=speed.prefill_ms,
            itl_ms=speed.itl_ms,
            load_factor=speed.load_factor,
            max_num_seqs=speed.slots,
        ),
        prefills=seen.prefills,
    )
    return picks_pb2.ReplicaLoad(address=seen.address, load=load, age_ms=seen.age_ms)
