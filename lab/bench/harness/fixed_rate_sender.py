"""Sends requests at fixed times, whether or not earlier ones have been answered."""

from __future__ import annotations

import asyncio
import math
from itertools import takewhile
from time import monotonic_ns
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

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
