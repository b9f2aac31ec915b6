"""Requests at fixed times, whatever has become of the ones before."""

from __future__ import annotations

import asyncio
import math
from itertools import takewhile
from time import monotonic_ns
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

_NS_PER_MS = 1_000_000


async def send_on_time(
    send: Callable[[int], Awaitable[None]],
    *,
    every_ms: int,
    numbers: Iterable[int],
    offset_ms: int = 0,
    stop: asyncio.Event | None = None,
) -> None:
    """Sends one request each ``every_ms`` milliseconds, and returns once all are done.

    The event loop's timers count whole milliseconds of the monotonic clock, so that is when requests are due: at any
    other time each would be late by a part of one.

    Args:
        send: sends one and awaits its end; is told when it was due, in ns of ``time.monotonic_ns``, from where its
            latency counts.
        every_ms: between two requests.
        numbers: of the requests, from 0; may be endless.
        offset_ms: until the first, lest several timetables send at the same instant.
        stop: ends it before all are sent.
    """
    loop = asyncio.get_running_loop()
    began_ms = math.ceil(monotonic_ns() / _NS_PER_MS) + 1 + offset_ms
    under_way: set[asyncio.Future[None]] = set()
    for number in takewhile(lambda _: stop is None or not stop.is_set(), numbers):
        due_ms = began_ms + number * every_ms
        await asyncio.sleep(due_ms / 1e3 - loop.time())
        under_way.add(asyncio.ensure_future(send(due_ms * _NS_PER_MS)))
    await asyncio.gather(*under_way)
