"""Sends in a closed loop, in which each answer triggers the next request.

That measures capacity. It says nothing of latency; :mod:`lab.load.open_loop` explains why.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from time import monotonic_ns
from typing import TYPE_CHECKING

from lab.client.outcome import answered, failed
from lab.errors import CallError
from lab.load.mix import Mix, Payloads
from lab.load.outcome import LoadClient, Recorder
from models.apis import APIS

if TYPE_CHECKING:
    from lab.client import Client
    from lab.history import SpoolWriter
    from lab.load.plan import LoadPlan


async def keep_busy(plan: LoadPlan, client: LoadClient, spool: SpoolWriter, *, in_flight: int) -> float:
    """Keeps ``in_flight`` requests going for as long as the plan's arrivals last; each record is due when it was sent.

    Returns:
        Seconds from the first request to the last answer.

    Raises:
        OSError: the spool could not be written.
    """
    errors: list[OSError] = []
    recorder = Recorder(plan.topology, spool, on_error=errors.append)
    mix, payloads, prefix = Mix(plan), Payloads(), secrets.token_hex(4)
    began = monotonic_ns()
    end = began + plan.schedule().duration_ns
    sequence = 0

    async def one_after_the_other() -> None:
        nonlocal sequence
        while monotonic_ns() < end:
            number, sequence = sequence, sequence + 1
            ask = mix.draw()
            api = ask.use_case.api
            message, size = payloads.get(api, plan.payload_bytes)
            request_id = f"{prefix}-{number:08x}"
            sent_ns = monotonic_ns()
            try:
                answer = await client.call(ask.use_case.name, message, ask.context, request_id=request_id)
                outcome = answered(answer, APIS[api])
            except CallError as error:
                outcome = failed(error)
            recorder.keep(
                number,
                ask,
                outcome,
                payload_bytes=size,
                intended_ns=sent_ns,
                sent_ns=sent_ns,
                done_ns=monotonic_ns(),
                request_id=request_id,
            )

    await asyncio.gather(*(one_after_the_other() for _ in range(in_flight)))
    took_ns = monotonic_ns() - began
    recorder.flush()
    if errors:
        raise errors[0]
    return took_ns / 1e9


@asynccontextmanager
async def all_ready(clients: Collection[Client]) -> AsyncIterator[None]:
    """Waits until all clients are ready, and closes them afterwards."""
    try:
        await asyncio.gather(*(client.ready() for client in clients))
        yield
    finally:
        await asyncio.gather(*(client.close() for client in clients))
