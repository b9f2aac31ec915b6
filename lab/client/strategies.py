"""The client's strategies, one per kind of topology: who decides, how requests are encoded, and over which channel.

Here belongs what implements :class:`Strategy`. A topology's file puts one together.
"""

from __future__ import annotations

import asyncio
import time
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Protocol

import grpc
import grpc.aio

from lab.client.endpoints import DirectTarget, Endpoints
from lab.client.leases import Lease, LeaseKey, Leases, Watch, lease_key
from lab.client.resolver import RESOLVE_TIMEOUT_S, ResolvedDecision, ResolverClient
from lab.client.rpc_channel import RpcChannel
from lab.errors import CallError, ResolverUnreachableError
from lab.routing.attempts import Decision, RequestAttempts, Target
from lab.routing.headers import ENVELOPE
from lab.routing.keys import HEADER, SESSION_HEADER, TENANT_HEADER, routing_key, session_in_header, tenant_in_header
from lab.transport import Security, answer_of
from models.proto.control.v1 import gateway_pb2
from models.proto.serving.v1 import serving_pb2

if TYPE_CHECKING:
    from lab.client.rpc_channel import Metadata
    from models.apis import InferenceRequest

Encode = Callable[["InferenceRequest", Mapping[str, str]], tuple[bytes, "Metadata"]]


def message_only(request: InferenceRequest, context: Mapping[str, str]) -> tuple[bytes, Metadata]:
    """The message, and no headers."""
    del context
    return request.SerializeToString(), ()


def with_session_header(request: InferenceRequest, context: Mapping[str, str]) -> tuple[bytes, Metadata]:
    """The message, and its conversation in a header, for a proxy or gRPC library that picks by that."""
    del context
    session = session_in_header(getattr(request, "session", ""))
    return request.SerializeToString(), (((SESSION_HEADER, session),) if session else ())


def with_tenant_header(request: InferenceRequest, context: Mapping[str, str]) -> tuple[bytes, Metadata]:
    """The message, and its tenant in a header, for a proxy that limits tenants' rates."""
    return request.SerializeToString(), ((TENANT_HEADER, tenant_in_header(context.get("tenant", ""))),)


def with_tenant_and_session(request: InferenceRequest, context: Mapping[str, str]) -> tuple[bytes, Metadata]:
    """The message, with its tenant and its conversation in headers."""
    body, session = with_session_header(request, context)
    return body, ((TENANT_HEADER, tenant_in_header(context.get("tenant", ""))), *session)


def envelope_in_header(request: InferenceRequest, context: Mapping[str, str]) -> tuple[bytes, Metadata]:
    """The message without its envelope, which is a header, for a gateway that does not parse the body."""
    del context
    envelope = request.envelope.SerializeToString()
    request.ClearField("envelope")
    return request.SerializeToString(), ((ENVELOPE, envelope),)


class Strategy(Protocol):
    """Decides where each request goes. A small one derives from this, and defines ``decide`` and ``close``."""

    @abstractmethod
    async def decide(self, attempts: RequestAttempts, context: Mapping[str, str]) -> tuple[RpcChannel, Decision]:
        """The channel to send over and the decision to follow; called again after a tear, with ``attempts.torn``.

        Raises:
            CallError: the request is refused, or no decision can be had.
        """

    def encode(self, request: InferenceRequest, context: Mapping[str, str]) -> tuple[bytes, Metadata]:
        """The body and headers of a request whose envelope is filled; the message alone by default."""
        return message_only(request, context)

    async def ready(self, timeout_s: float) -> None:
        """Returns once requests can be sent; at once by default, as a call waits for its channel anyhow.

        Raises:
            UnitError: a unit that the strategy needs cannot be reached in time.
        """
        del timeout_s

    @abstractmethod
    async def close(self) -> None:
        """Closes all connections."""


StrategyFactory = Callable[[str, Endpoints, Security | None], Strategy]
"""Makes a topology's strategy from the caller's name, the addresses, and credentials (None: this process's own)."""


# Direct reads no route table, which would have the use case's own timeout.
_DIRECT_TIMEOUT_S = 10.0
# The gateway applies the use case's own timeout, and reports it: see Client. This one is for gateways that tell none.
_GATEWAY_TIMEOUT_S = 15.0
# A gateway that answers at the end of a use case's timeout says more than this side can, if it is heard.
GATEWAY_GRACE_S = 0.25
# Before its first answer a client asks for the timeout, of another gateway if one is silent: it may be frozen.
_GET_TIMEOUT = "/control.v1.Gateway/GetTimeout"
_ASK_TIMEOUT_S, _ASKS = 1.0, 2
# A request with a stale lease to fall back on waits this long for a fresh one. If it gets none twice, requests use the
# stale lease for the pause before one tries again. A first failure may be that of a connection which is opened again.
_RENEW_TIMEOUT_S = 0.25
_RENEW_PAUSE_S = 0.1
# If a call ends so much later than its timeout, this process was late, and the resolver may have answered.
_LATE_S = 0.1
# The answer to a call that began earlier may have been overtaken, unless there is a hold.
_RECENT_S = 0.05
# How often a request joins another request's call to the resolver. It joins again if a newer revision overtook the
# decision, or if the rules read a field in which the two requests differ.
_SHARED_LIMIT = 4


class Direct:
    """Sends each use case to the replicas that were given for it, which gRPC balances over.

    Args:
        models: by use case, the model version and its addresses.
        security: credentials; this process's own by default.
        encode: form of the requests.
        peer: role that the other end must prove, where that is not the model.
    """

    def __init__(
        self,
        models: Mapping[str, DirectTarget],
        security: Security | None = None,
        *,
        encode: Encode = message_only,
        peer: str = "",
    ) -> None:
        self.encode = encode
        self._security, self._peer = security, peer
        self._channels: dict[tuple[str, ...], RpcChannel] = {}
        self._decisions = {use_case: self._decision(model) for use_case, model in models.items()}

    def _decision(self, model: DirectTarget) -> tuple[RpcChannel, Decision]:
        channel = self._channels.get(model.addresses)
        if channel is None:
            peer = self._peer or (f"model/{model.cluster}" if model.cluster else "model")
            channel = self._channels[model.addresses] = RpcChannel(
                model.addresses, self._security, peer=peer, balancing=model.balancing
            )
        key = routing_key(model.model, model.version, model.shard)
        config = serving_pb2.ModelConfig(model=model.model, version=model.version)
        config.parameters.update(model.parameters)
        target = Target(
            routing_key=key,
            model_config=config,
            headers=((HEADER, key),),
        )
        return channel, Decision(targets=(target,), timeout_s=_DIRECT_TIMEOUT_S)

    async def decide(self, attempts: RequestAttempts, context: Mapping[str, str]) -> tuple[RpcChannel, Decision]:
        """The use case's own channel and model version."""
        del context
        found = self._decisions.get(attempts.use_case)
        if found is None:
            reason = f"use case {attempts.use_case!r} has no hard-coded address"
            raise CallError(grpc.StatusCode.NOT_FOUND, reason)
        return found

    async def ready(self, timeout_s: float) -> None:
        """Returns once a replica of each model is connected."""
        await asyncio.gather(*(channel.ready(timeout_s) for channel in self._channels.values()))

    async def close(self) -> None:
        """Closes all channels."""
        await asyncio.gather(*(channel.close() for channel in self._channels.values()))


class Gateway:
    """Sends to gateway replicas in turn.

    Args:
        addresses: one ``host:port``, or several ``ip:port``.
        security: credentials; this process's own by default.
        encode: form of the requests.
    """

    def __init__(
        self, addresses: Sequence[str], security: Security | None = None, *, encode: Encode = message_only
    ) -> None:
        self.encode = encode
        self._channel = RpcChannel(addresses, security, peer="gateway")
        self._decided = self._channel, Decision(targets=(Target(),), timeout_s=_GATEWAY_TIMEOUT_S)

    async def decide(self, attempts: RequestAttempts, context: Mapping[str, str]) -> tuple[RpcChannel, Decision]:
        """The gateways' channel, and a decision that leaves everything to them but when to give up.

        Raises:
            CallError: UNAVAILABLE: the use case's timeout is not known, and no gateway tells it.
        """
        del context
        if not attempts.patient:
            return self._decided
        timeout_s = await self._timeout_s(attempts.use_case)
        return self._channel, replace(self._decided[1], timeout_s=timeout_s)

    async def _timeout_s(self, use_case: str) -> float:
        question = gateway_pb2.GetTimeoutRequest(use_case=use_case).SerializeToString()
        ask = self._channel.raw(_GET_TIMEOUT)
        for _ in range(_ASKS):
            try:
                answer = await answer_of(ask(question, timeout=_ASK_TIMEOUT_S), _ASK_TIMEOUT_S)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                    return _GATEWAY_TIMEOUT_S  # the request itself fails with the reason, if there is one
            else:
                return gateway_pb2.GetTimeoutResponse.FromString(answer).timeout.ToNanoseconds() / 1e9 + GATEWAY_GRACE_S
        reason = f"{use_case}: no gateway has said within {_ASKS * _ASK_TIMEOUT_S:g} s how long a request may take"
        raise CallError(grpc.StatusCode.UNAVAILABLE, reason)

    async def ready(self, timeout_s: float) -> None:
        """Returns once a gateway is connected."""
        await self._channel.ready(timeout_s)

    async def close(self) -> None:
        """Closes the channel."""
        await self._channel.close()


class Unleased:
    """Resolves each request by itself.

    Args:
        resolver: decides.
        channel: to a proxy, or a gRPC library, that routes on the header.
        encode: form of the requests.
    """

    def __init__(self, resolver: ResolverClient, channel: RpcChannel, *, encode: Encode = message_only) -> None:
        self.resolver, self.channel, self.encode = resolver, channel, encode

    async def decide(self, attempts: RequestAttempts, context: Mapping[str, str]) -> tuple[RpcChannel, Decision]:
        """The one channel, and the resolver's decision."""
        return self.channel, await self.resolver.resolve(attempts, context)

    async def ready(self, timeout_s: float) -> None:
        """Returns once the channel is connected."""
        await self.channel.ready(timeout_s)

    async def close(self) -> None:
        """Closes the channels to models and resolver."""
        await asyncio.gather(self.channel.close(), self.resolver.close())


class Leased(Unleased):
    """Reuses decisions for as long as their leases say; a revision that the resolver announces ends them at once.

    Without a hold (see :class:`lab.client.leases.Watch`) the resolver is asked. If it does not answer although this
    process runs, this caller is cut off: it uses its leases until they are too stale.

    Needs a running event loop.

    Attributes:
        watch: hears of new revisions.
    """

    def __init__(self, resolver: ResolverClient, channel: RpcChannel, *, encode: Encode = message_only) -> None:
        super().__init__(resolver, channel, encode=encode)
        self._leases = Leases()
        self.watch = Watch(resolver.channel, self._leases)
        self._resolving: dict[LeaseKey, tuple[float, asyncio.Task[tuple[ResolvedDecision, LeaseKey]]]] = {}
        self._renew_not_before = 0.0

    async def decide(self, attempts: RequestAttempts, context: Mapping[str, str]) -> tuple[RpcChannel, Decision]:
        """The one channel, and a decision that is leased or fresh; after a tear a fresh one."""
        leases = self._leases
        key = leases.key(attempts.use_case, context)
        if attempts.torn:
            leases.drop(key)
        lease = leases.find(key)
        self.watch.used_at = now = time.monotonic()
        if lease is not None and now < min(lease.fresh_until, self.watch.holds_until):
            return self.channel, lease.decision
        return self.channel, await self._renew(attempts, context, key, lease)

    async def _renew(
        self, attempts: RequestAttempts, context: Mapping[str, str], key: LeaseKey | None, lease: Lease | None
    ) -> ResolvedDecision:
        if time.monotonic() >= self.watch.holds_until:
            self.watch.ask()
        if lease is None or time.monotonic() >= lease.usable_until:
            return await self._resolve_shared(attempts, context, RESOLVE_TIMEOUT_S)
        if self.watch.cut_off and time.monotonic() < self._renew_not_before:
            return lease.decision
        failed = 1 if self.watch.cut_off else 0
        for timeout_s in (_RENEW_TIMEOUT_S, _RENEW_TIMEOUT_S, RESOLVE_TIMEOUT_S):
            began = time.monotonic()
            try:
                return await self._resolve_shared(attempts, context, timeout_s)
            except ResolverUnreachableError as error:
                failure = error
            failed += time.monotonic() - began < timeout_s + _LATE_S
            # A revision may have ended the lease while the call was in flight.
            if (lease := self._leases.find(key)) is None:
                break
            if failed > 1:
                self.watch.cut_off = True
                self._renew_not_before = time.monotonic() + _RENEW_PAUSE_S
                return lease.decision
        raise failure

    async def _resolve_shared(
        self, attempts: RequestAttempts, context: Mapping[str, str], timeout_s: float
    ) -> ResolvedDecision:
        """Resolves and keeps the lease; requests that would get the same decision share one call to the resolver."""
        use_case = attempts.use_case
        for _ in range(_SHARED_LIMIT):
            # Until it is known which fields the rules read, one request resolves and the others wait for it. A pinned
            # request resolves alone, as it may be refused where others are not.
            key = self._leases.key(use_case, context) or (use_case, context.get("override", ""))
            now = time.monotonic()
            began, call = self._resolving.get(key, (0.0, None))
            if call is None or now > max(began + _RECENT_S, self.watch.holds_until):
                call = asyncio.create_task(self._resolve_and_keep(attempts, dict(context), timeout_s))
                self._resolving[key] = now, call
                call.add_done_callback(partial(self._resolved, key))
            # Cancelling one request must not cancel the call that the others wait for.
            decision, resolved_key = await asyncio.shield(call)
            overtaken = decision.revision < self._leases.revision
            if not overtaken and resolved_key == lease_key(use_case, decision.reads, context):
                return decision
        return await self.resolver.resolve(attempts, context, timeout_s)

    async def _resolve_and_keep(
        self, attempts: RequestAttempts, context: Mapping[str, str], timeout_s: float
    ) -> tuple[ResolvedDecision, LeaseKey]:
        use_case = attempts.use_case
        try:
            decision = await self.resolver.resolve(attempts, context, timeout_s)
        except ResolverUnreachableError:
            raise
        except CallError:
            self._leases.drop(self._leases.key(use_case, context))
            raise
        self._leases.grant(use_case, context, decision, now=time.monotonic())
        return decision, lease_key(use_case, decision.reads, context)

    def _resolved(self, key: LeaseKey, call: asyncio.Task[tuple[ResolvedDecision, LeaseKey]]) -> None:
        if self._resolving.get(key, (0.0, None))[1] is call:
            del self._resolving[key]
        if not call.cancelled():
            call.exception()  # marks it as retrieved: if no request waits any more, asyncio would log it

    async def ready(self, timeout_s: float) -> None:
        """Returns once the channel is connected and the resolver has announced its revision."""
        await asyncio.gather(super().ready(timeout_s), self.watch.ready(timeout_s))

    async def close(self) -> None:
        """Closes the channels to models and resolver."""
        for _, call in list(self._resolving.values()):
            call.cancel()
        await self.watch.close()
        await super().close()
