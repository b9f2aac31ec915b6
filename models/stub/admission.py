"""Admission of requests: the loaded version that answers, concurrency limits, and the queue in front of a replica."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

import grpc

from lab.routing.keys import HEADER, routing_key, version_key
from lab.routing.rules import shown

if TYPE_CHECKING:
    from models.proto.control.v1 import replicas_pb2
    from models.proto.serving.v1 import serving_pb2
    from models.stub.behaviour import Behaviour, Draws

_GATEWAY = "2 gateway"  # as one begins its part of `via`


@dataclass(frozen=True, slots=True)
class LoadedVersion:
    """A model version that is loaded and runnable.

    Attributes:
        routing_key: its routing key, ``cw-ranker.v2``.
        callers: that may use it.
        apis: that it serves; any, if there are none.
        answered_by: part of every answer of this version, built once per assignment. The request context that the model
            saw is added per answer.
    """

    routing_key: str
    model: str
    version: str
    answered_by: serving_pb2.AnsweredBy
    callers: frozenset[str] = frozenset()
    apis: frozenset[str] = frozenset()

    def require_allowed(self, caller: str) -> None:
        """Raises Refused unless the route table lets this caller use it."""
        if caller not in self.callers:
            may = ", ".join(sorted(self.callers)) or "nobody"
            raise Refused(
                grpc.StatusCode.PERMISSION_DENIED,
                f"{self.routing_key}: caller {shown(caller)} may not use it by the route table; these may: {may}",
            )

    def require_api(self, api: str) -> None:
        """Raises Refused unless a use case of this API uses it."""
        if self.apis and api not in self.apis:
            raise Refused(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"{self.routing_key}: serves {' and '.join(sorted(self.apis))} by the route table, not {api}",
            )


@dataclass(frozen=True, slots=True)
class Suspended:
    """Those that decide by rules that may have ended, as the control plane knows.

    Attributes:
        callers: whose resolvers do not follow.
        gateways: as in :data:`lab.routing.headers.VIA`.
    """

    callers: frozenset[str]
    gateways: tuple[str, ...]

    @classmethod
    def by(cls, suspensions: Iterable[replicas_pb2.Suspension]) -> Suspended | None:
        """What several control planes suspend together; None if nobody."""
        callers, gateways = set[str](), set[str]()
        for each in suspensions:
            callers.update(each.callers)
            gateways.update(f"{_GATEWAY} ({name};" for name in each.gateways)
        return cls(frozenset(callers), tuple(sorted(gateways))) if callers or gateways else None

    def require_current(self, caller: str, via: str, key: str) -> None:
        """Raises Refused if the caller's resolver, or the gateway that decided, is among them."""
        by_gateway = f"{_GATEWAY} (" in via
        if any(gateway in via for gateway in self.gateways) or (caller in self.callers and not by_gateway):
            who = "the gateway" if by_gateway else f"the resolver of caller {shown(caller)}"
            reason = f"{key}: {who} does not follow the route table, so its decisions may have ended"
            raise Refused(grpc.StatusCode.UNAVAILABLE, reason)


class Refused(Exception):  # noqa: N818 (control flow, not an error of the stub)
    """A refused request: its gRPC status, and a message with the remedy."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


class NotLoaded(Refused):
    """The replica does not have the version."""


class Torn(Refused):
    """Header and body name different model versions."""


def select(
    model: str, version: str, keys: Sequence[str], loaded: Mapping[str, LoadedVersion], replica: str
) -> LoadedVersion:
    """The model version that answers.

    Args:
        model: of the body's model config; empty if the body has none.
        version: likewise.
        keys: all values of the request's routing key header.
        loaded: the replica's model versions by routing key.
        replica: its name, for messages.

    Raises:
        Refused: FAILED_PRECONDITION or INVALID_ARGUMENT.
    """
    if len(keys) > 1 and len(set(keys)) > 1:
        raise Refused(
            grpc.StatusCode.INVALID_ARGUMENT, f"{HEADER} is given as {' and as '.join(keys)}; send exactly one value"
        )
    if model and version:
        wanted = routing_key(model, version)
        if keys and version_key(keys[0]) != wanted:
            raise Torn(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"tear: {HEADER} says {keys[0]!r}, the body says {wanted!r} ({model}@{version}); "
                f"send both from one decision (replica {replica})",
            )
        wanted = keys[0] if keys else wanted
    elif model or version:
        raise Refused(
            grpc.StatusCode.FAILED_PRECONDITION,
            f"envelope.model_config: model is {model!r}, version is {version!r}; set both or neither",
        )
    elif keys:
        wanted = keys[0]
    elif len(loaded) == 1:
        return next(iter(loaded.values()))
    else:
        _refuse_to_guess(loaded, replica)
    found = loaded.get(wanted)
    if found is None:
        raise NotLoaded(
            grpc.StatusCode.FAILED_PRECONDITION,
            f"{_as_model_version(wanted)} is not loaded at replica {replica}; it holds {_listed(loaded)}",
        )
    return found


def _refuse_to_guess(loaded: Mapping[str, LoadedVersion], replica: str) -> NoReturn:
    raise Refused(
        grpc.StatusCode.FAILED_PRECONDITION,
        f"the request names no model version and replica {replica} holds {_listed(loaded)}; "
        f"set the header {HEADER}, or envelope.model_config in the body",
    )


def _listed(loaded: Mapping[str, LoadedVersion]) -> str:
    return ", ".join(sorted(loaded)) or "none"


def _as_model_version(key: str) -> str:
    model, dot, version = key.partition(".")
    return f"{model}@{version} ({HEADER} {key})" if dot else f"{HEADER} {key!r}"


class AdmissionQueue:
    """Limits and counts requests. Shadow copies have their own queue, so they take no place from requests.

    Attributes:
        in_flight: admitted and not yet answered.
        draws: their service times and errors.
    """

    __slots__ = ("_by_tenant", "_limit", "_slots", "draws", "in_flight")

    def __init__(self, draws: Draws) -> None:
        self.in_flight = 0
        self.draws = draws
        # Holds only tenants with a request in flight, so made-up names cannot fill the memory.
        self._by_tenant: dict[str, int] = {}
        self._limit, self._slots = 0, asyncio.Semaphore(0)

    def enter(self, envelope: serving_pb2.Envelope, behaviour: Behaviour, who: str) -> None:
        """Admits a request; call :meth:`leave` when it is done.

        Args:
            envelope: names its tenant and use case; the tenant is empty if it has none.
            behaviour: has the limits.
            who: the replica, for messages.

        Raises:
            Refused: RESOURCE_EXHAUSTED: the tenant's limit or the total limit is reached.
        """
        tenant = envelope.context.tenant
        mine = self._by_tenant.get(tenant, 0)
        limit = behaviour.tenant_concurrency_limit
        if limit and mine >= limit:
            raise Refused(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"{who} serves {limit} requests of one tenant at once, its tenant_concurrency_limit, and tenant "
                f"{shown(tenant)} has as many (use case {shown(envelope.use_case)}); try again later",
            )
        limit, queue = behaviour.concurrency_limit, behaviour.queue_limit
        if limit and self.in_flight >= limit + queue:
            raise Refused(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"{who} serves {limit} requests at once and lets {queue} wait, its queue_limit; try again later"
                if queue
                else f"{who} serves {limit} requests at once, its concurrency_limit; try again later",
            )
        self._by_tenant[tenant] = mine + 1
        self.in_flight += 1

    def slot(self, behaviour: Behaviour) -> AbstractAsyncContextManager[object]:
        """Holds a place while a request is served; waits for one if there is a queue.

        After a change of the limit, requests that already wait follow the old one.
        """
        limit = behaviour.concurrency_limit
        if not limit or not behaviour.queue_limit:
            return nullcontext()
        if limit != self._limit:
            self._limit, self._slots = limit, asyncio.Semaphore(limit)
        return self._slots

    def leave(self, tenant: str) -> None:
        """Ends an admitted request of this tenant."""
        self.in_flight -= 1
        if (left := self._by_tenant[tenant] - 1) > 0:
            self._by_tenant[tenant] = left
        else:
            del self._by_tenant[tenant]
