"""Senders: at fixed times, and in a closed loop, in which each answer triggers the next request.

A closed loop measures capacity. It says nothing of latency; :mod:`lab.load.open_loop` explains why.
"""

from __future__ import annotations

import asyncio
import math
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable
from contextlib import asynccontextmanager
from itertools import takewhile
from time import monotonic_ns
from typing import TYPE_CHECKING

from lab.errors import CallError
from lab.load.mix import Mix, Payloads
from lab.load.outcome import Recorder, answered, failed
from models.apis import APIS

if TYPE_CHECKING:
    from lab.client import Client
    from lab.history import SpoolWriter
    from lab.load.outcome import LoadClient
    from lab.load.plan import LoadPlan


_NS_PER_MS = 1_000_000


async def send_at_fixed_rate(
    send: Callable[[int], Awaitable[None]],
    *,
    every_ms: int,
    numbers: Iterable[int],
    offset_ms: int = 0,
    stop: asyncio.Event | None = None,
) -> None:
    """Sends a request every ``every_ms`` milliseconds, and returns once all are done.

    The event loop's timers count whole milliseconds of the monotonic clock, so requests are due on those: at any other
    time each would be late by a fraction of a millisecond.

    Args:
        send: sends one request and awaits its end. Its argument is when the request was due, in ns of
            ``time.monotonic_ns``; latency counts from there.
        every_ms: between two requests.
        numbers: of the requests, from 0; may be endless.
        offset_ms: before the first request, so that several senders do not send at the same instant.
        stop: when set, nothing more is sent.
    """
    loop = asyncio.get_running_loop()
    began_ms = math.ceil(monotonic_ns() / _NS_PER_MS) + 1 + offset_ms
    in_flight: set[asyncio.Future[None]] = set()
    for number in takewhile(lambda _: stop is None or not stop.is_set(), numbers):
        due_ms = began_ms + number * every_ms
        await asyncio.sleep(due_ms / 1e3 - loop.time())
        in_flight.add(asyncio.ensure_future(send(due_ms * _NS_PER_MS)))
    await asyncio.gather(*in_flight)


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
