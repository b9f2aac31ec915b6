"""The asynchronous twin of ``lab.waiting.eventually``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any, TypeVar, overload

from lab.errors import DeadlineError

T = TypeVar("T")
WITHIN = timedelta(seconds=15)


@overload
async def eventually(
    what: str,
    probe: Callable[[], Coroutine[Any, Any, T]],
    *,
    within: timedelta = WITHIN,
    until: Callable[[T], bool] = bool,
) -> T: ...
@overload
async def eventually(
    what: str, probe: Callable[[], T], *, within: timedelta = WITHIN, until: Callable[[T], bool] = bool
) -> T: ...
async def eventually(
    what: str, probe: Callable[[], Any], *, within: timedelta = WITHIN, until: Callable[[Any], bool] = bool
) -> Any:
    """Calls ``probe`` until ``until`` holds for its result, and returns that result; the event loop runs meanwhile.

    Raises:
        DeadlineError: the condition did not hold in time; names the last state.
    """
    give_up = time.monotonic() + within.total_seconds()
    while True:
        found = probe()
        seen = await found if asyncio.iscoroutine(found) else found
        if until(seen):
            return seen
        if time.monotonic() >= give_up:
            raise DeadlineError(f"{what}: not within {within.total_seconds():g} s; last seen: {seen!r}")
        await asyncio.sleep(0.005)
