"""Requests that are served side by side, and how many of them there may be: of all tenants together, and of each."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from typing import TYPE_CHECKING

import grpc

from lab.routing.rules import shown
from models.stub.admission import Refused

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from models.proto.serving.v1 import serving_pb2
    from models.stub.behaviour import Behaviour, Draws


class AdmissionQueue:
    """Requests and shadow copies have one each: copies take nothing from the others.

    Attributes:
        in_flight: admitted and not yet answered.
        draws: their service times and errors.
    """

    __slots__ = ("_by_tenant", "_limit", "_slots", "draws", "in_flight")

    def __init__(self, draws: Draws) -> None:
        self.in_flight = 0
        self.draws = draws
        # Only tenants that have a request here stand in it, so their names cannot fill the memory.
        self._by_tenant: dict[str, int] = {}
        self._limit, self._slots = 0, asyncio.Semaphore(0)

    def enter(self, envelope: serving_pb2.Envelope, behaviour: Behaviour, who: str) -> None:
        """Takes a request in, which must leave again.

        Args:
            envelope: says for which tenant and use case it is; a request without a tenant has the empty one.
            behaviour: has the limits.
            who: answers, for messages.

        Raises:
            Refused: RESOURCE_EXHAUSTED; the tenant has its share already, or all together have theirs.
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
        """Is entered for as long as a request is served, and until then it waits for its turn, if there is a queue.

        When the limit changes, those that wait for the old one go by that.
        """
        limit = behaviour.concurrency_limit
        if not limit or not behaviour.queue_limit:
            return nullcontext()
        if limit != self._limit:
            self._limit, self._slots = limit, asyncio.Semaphore(limit)
        return self._slots

    def leave(self, tenant: str) -> None:
        """Lets a request of this tenant out."""
        self.in_flight -= 1
        if (left := self._by_tenant[tenant] - 1) > 0:
            self._by_tenant[tenant] = left
        else:
            del self._by_tenant[tenant]
