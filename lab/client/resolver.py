"""A client of the resolver. It parses each distinct decision once, as many requests share it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
import grpc.aio

from lab.errors import CallError, ResolverUnreachableError
from lab.routing.attempts import Decision, RequestAttempts, Target
from lab.routing.headers import REQUEST_ID
from lab.routing.keys import HEADER
from lab.routing.rules import Shadow
from lab.transport import Security, answer_of, open_channel
from models.context import write_context
from models.proto.control.v1 import resolver_pb2

if TYPE_CHECKING:
    from google.protobuf.duration_pb2 import Duration


RESOLVE_TIMEOUT_S = 1.0
_MAX_INTERNED = 4_096
_RESOLVE = "/control.v1.Resolver/Resolve"

# Refusals by the rules; with any other status the resolver gave no decision.
_REFUSALS = frozenset({grpc.StatusCode.NOT_FOUND, grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.INVALID_ARGUMENT})


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedDecision(Decision):
    """A resolver's decision, and its lease.

    Attributes:
        reads: fields of the request context that the use case's rules read.
        ttl_s: for how long it may be reused, seconds.
        max_stale_s: for how long it may be reused while the resolver cannot be reached, seconds.
    """

    reads: tuple[str, ...] = ()
    ttl_s: float = 0.0
    max_stale_s: float = 0.0


class DecisionReader:
    """Reads serialised decisions. Equal bytes are read once: many users share few decisions.

    Args:
        through_envoy: whether requests pass an Envoy, which then shadows and retries them as their headers say;
            otherwise the client sends the shadow copies, and nothing on the path retries.
    """

    def __init__(self, *, through_envoy: bool = True) -> None:
        self._through_envoy = through_envoy
        self._known: dict[bytes, ResolvedDecision] = {}

    def read(self, raw: bytes) -> ResolvedDecision:
        """Parses ``raw``, a serialised ``control.v1.Decision``."""
        decision = self._known.get(raw)
        if decision is None:
            if len(self._known) >= _MAX_INTERNED:
                self._known.clear()
            decision = self._known[raw] = _parse(raw, through_envoy=self._through_envoy)
        return decision


def _parse(raw: bytes, *, through_envoy: bool) -> ResolvedDecision:
    message = resolver_pb2.Decision.FromString(raw)
    for_envoy = tuple((each.name, each.value) for each in message.headers) if through_envoy else ()

    def target(version: resolver_pb2.Decision | resolver_pb2.Alternative) -> Target:
        return Target(
            routing_key=version.routing_key,
            model_config=version.model_config,
            headers=((HEADER, version.routing_key),),
            unary_headers=for_envoy,
        )

    shadow = message.shadow
    return ResolvedDecision(
        targets=(target(message), *map(target, message.alternatives)),
        timeout_s=_seconds(message.timeout),
        revision=message.revision,
        falls_back=message.falls_back,
        shadow=Shadow(shadow.routing_key, shadow.percent) if message.HasField("shadow") else None,
        renewable=True,
        mirrored_by_proxy=through_envoy,
        repeated_by_proxy=bool(message.repeats) and through_envoy,
        repeats=message.repeats,
        reads=tuple(message.lease.reads),
        ttl_s=_seconds(message.lease.ttl),
        max_stale_s=_seconds(message.lease.max_stale),
    )


def _seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos / 1e9


class ResolverClient:
    """Resolves in one caller's name.

    Args:
        caller: its name.
        address: ``host:port`` of the resolver.
        security: credentials; this process's own by default.
        through_envoy: whether requests pass an Envoy, see :class:`DecisionReader`.

    Attributes:
        channel: to the resolver.
    """

    def __init__(
        self, caller: str, address: str, security: Security | None = None, *, through_envoy: bool = True
    ) -> None:
        self.channel = open_channel(address, security=security, peer="resolver", keepalive=True)
        self._caller, self._address = caller, address
        self._rpc: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self.channel.unary_unary(_RESOLVE)
        self._reader = DecisionReader(through_envoy=through_envoy)

    async def resolve(
        self, attempts: RequestAttempts, context: Mapping[str, str], timeout_s: float = RESOLVE_TIMEOUT_S
    ) -> ResolvedDecision:
        """The resolver's decision for a request.

        Raises:
            ResolverUnreachableError: it gives none in time.
            CallError: it refuses the request, or the context is not valid.
        """
        use_case, metadata = attempts.use_case, ((REQUEST_ID, attempts.request_id),)
        request = resolver_pb2.ResolveRequest(use_case=use_case)
        try:
            write_context(request.context, context)
        except (TypeError, ValueError) as error:
            raise CallError(grpc.StatusCode.INVALID_ARGUMENT, f"{use_case}: {error}") from None
        request.context.caller = self._caller
        try:
            rpc = self._rpc(request.SerializeToString(), timeout=timeout_s, metadata=metadata)
            return self._reader.read(await answer_of(rpc, timeout_s))
        except grpc.aio.AioRpcError as error:
            details = error.details() or error.code().name
            if error.code() in _REFUSALS:
                raise CallError(error.code(), details) from None
            message = f"{use_case}: no decision from the resolver at {self._address}: {details}"
            raise ResolverUnreachableError(grpc.StatusCode.UNAVAILABLE, message) from None

    async def close(self) -> None:
        """Closes the channel."""
        await self.channel.close(None)
