"""Concurrency limits of a replica, per tenant and in total, and the queue in front of it."""

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
    """Limits and counts requests. Shadow copies have a queue of their own, so they take no place from requests.

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
