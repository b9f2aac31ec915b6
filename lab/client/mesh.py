"""Caller ⇄ resolver beside it, caller → Envoy beside it → model: directory assistance."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from lab.client.base import Client
from lab.client.decisions import DecisionReader
from lab.client.headers import REQUEST_ID
from lab.client.leases import Lease, LeaseKey, Leases, lease_key
from lab.client.rpc_channel import Wire
from lab.client.watch import Watch
from lab.errors import CallError, ResolverUnreachableError
from lab.transport import open_channel
from lab.transport.address_registry import beside
from models.context import write_context
from models.proto.control.v1 import resolver_pb2

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lab.client.attempts import Passage
    from lab.client.decisions import Decision
    from lab.client.endpoints import Endpoints

_RESOLVE = "/control.v1.Resolver/Resolve"
_RESOLVE_TIMEOUT_S = 1.0
# With a lease to fall back on there is no need to wait long for a better one, nor to ask again at once.
_RENEW_TIMEOUT_S = 0.25
_RENEW_PAUSE_S = 0.1
# So often a request joins a question: again if a newer revision overtook the answer, or if it was another's answer.
_SHARED_LIMIT = 4

# These are the resolver's answers; every other status says that it could not give one.
_REFUSALS = frozenset({grpc.StatusCode.NOT_FOUND, grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.INVALID_ARGUMENT})


class UnleasedMeshClient(Client):
    """Asks the resolver on every call."""

    topology = "mesh-unleased"

    def __init__(self, caller: str, endpoints: Endpoints, **options: Any) -> None:
        super().__init__(caller, endpoints, **options)
        self._resolver_address = endpoints.address_of("resolver")
        self._wire = self._open_wire()
        self._resolver = open_channel(self._resolver_address, security=self._security, peer="resolver", keepalive=True)
        self._resolve_rpc: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self._resolver.unary_unary(_RESOLVE)
        self._decisions = DecisionReader()

    def _open_wire(self) -> Wire:
        """The way to every model, by routing key."""
        sidecar = self._endpoints.address_of("sidecar")
        return Wire((sidecar,), beside(sidecar))

    async def _choose(self, passage: Passage, context: Mapping[str, str]) -> tuple[Wire, Decision]:
        return self._wire, await self._resolve(passage, context, _RESOLVE_TIMEOUT_S)

    async def _resolve(self, passage: Passage, context: Mapping[str, str], timeout_s: float) -> Decision:
        use_case, metadata = passage.use_case, ((REQUEST_ID, passage.request_id),)
        request = resolver_pb2.ResolveRequest(use_case=use_case)
        try:
            write_context(request.context, context)
        except (TypeError, ValueError) as error:
            raise CallError(grpc.StatusCode.INVALID_ARGUMENT, f"{use_case}: {error}") from None
        request.context.caller = self._caller
        try:
            rpc = self._resolve_rpc(request.SerializeToString(), timeout=timeout_s, metadata=metadata)
            return self._decisions.read(await rpc)
        except grpc.aio.AioRpcError as error:
            details = error.details() or error.code().name
            if error.code() in _REFUSALS:
                raise CallError(error.code(), details) from None
            message = f"{use_case}: no decision from the resolver at {self._resolver_address}: {details}"
            raise ResolverUnreachableError(grpc.StatusCode.UNAVAILABLE, message) from None

    def _end_after_tear(self, use_case: str, context: Mapping[str, str], error: grpc.aio.AioRpcError) -> bool:
        del use_case, context
        return error.code() is grpc.StatusCode.FAILED_PRECONDITION

    async def ready(self, timeout_s: float = 10.0) -> None:
        """Returns once the way to the models is open."""
        await self._wire.ready(timeout_s)

    async def close(self) -> None:
        """Closes all connections."""
        await asyncio.gather(self._wire.close(), self._resolver.close(None))


class MeshClient(UnleasedMeshClient):
    """Reuses decisions for as long as their leases say; a revision that the resolver names ends them at once."""

    topology = "mesh"

    def __init__(self, caller: str, endpoints: Endpoints, **options: Any) -> None:
        super().__init__(caller, endpoints, **options)
        self._leases = Leases()
        self._watch = Watch(self._resolver, self._leases)
        self._questions: dict[LeaseKey, asyncio.Task[tuple[Decision, LeaseKey]]] = {}
        self._renew_not_before = 0.0

    async def _choose(self, passage: Passage, context: Mapping[str, str]) -> tuple[Wire, Decision]:
        lease = self._leases.find(self._leases.key(passage.use_case, context))
        if lease is not None and self._watch.holds and time.monotonic() < lease.fresh_until:
            return self._wire, lease.decision
        return self._wire, await self._renew(passage, context, lease)

    async def _renew(self, passage: Passage, context: Mapping[str, str], lease: Lease | None) -> Decision:
        now = time.monotonic()
        if lease is None or now >= lease.usable_until:
            return await self._resolve_together(passage, context, _RESOLVE_TIMEOUT_S)
        if now < self._renew_not_before:
            return lease.decision
        try:
            return await self._resolve_together(passage, context, _RENEW_TIMEOUT_S)
        except ResolverUnreachableError:
            self._renew_not_before = time.monotonic() + _RENEW_PAUSE_S
            # A revision may have ended the lease while the question was under way.
            if lease.decision.revision < self._leases.revision:
                raise
            return lease.decision

    async def _resolve_together(self, passage: Passage, context: Mapping[str, str], timeout_s: float) -> Decision:
        """Resolves and keeps the lease; requests that would get the same decision share one question, the first's."""
        use_case = passage.use_case
        for _ in range(_SHARED_LIMIT):
            # As long as nobody knows what the rules read, one request finds out and the others wait for it; not for one
            # that is pinned, which may be refused what the others get.
            key = self._leases.key(use_case, context) or (use_case, context.get("override", ""))
            question = self._questions.get(key)
            if question is None:
                question = asyncio.create_task(self._resolve_and_keep(passage, dict(context), timeout_s))
                self._questions[key] = question
                question.add_done_callback(partial(self._answered, key))
            # One impatient request must not take the answer away from the others.
            decision, asker = await asyncio.shield(question)
            overtaken = decision.revision < self._leases.revision
            if not overtaken and asker == lease_key(use_case, decision.reads, context):
                return decision
        return await self._resolve(passage, context, timeout_s)

    async def _resolve_and_keep(
        self, passage: Passage, context: Mapping[str, str], timeout_s: float
    ) -> tuple[Decision, LeaseKey]:
        use_case = passage.use_case
        try:
            decision = await self._resolve(passage, context, timeout_s)
        except ResolverUnreachableError:
            raise
        except CallError:
            self._leases.drop(self._leases.key(use_case, context))
            raise
        self._leases.grant(use_case, context, decision, now=time.monotonic())
        return decision, lease_key(use_case, decision.reads, context)

    def _answered(self, key: LeaseKey, question: asyncio.Task[tuple[Decision, LeaseKey]]) -> None:
        del self._questions[key]
        if not question.cancelled():
            question.exception()  # those who wait have seen it; if nobody waits any more, it is no news

    def _end_after_tear(self, use_case: str, context: Mapping[str, str], error: grpc.aio.AioRpcError) -> bool:
        torn = super()._end_after_tear(use_case, context, error)
        if torn:
            self._leases.drop(self._leases.key(use_case, context))
        return torn

    async def ready(self, timeout_s: float = 10.0) -> None:
        """Returns once the way to the models is open and the resolver has named its revision."""
        await asyncio.gather(super().ready(timeout_s), self._watch.ready(timeout_s))

    async def close(self) -> None:
        """Closes all connections."""
        for question in list(self._questions.values()):
            question.cancel()
        await self._watch.close()
        await super().close()
