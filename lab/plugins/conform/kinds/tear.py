"""Two routes change at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from itertools import pairwise

from lab.plugins.conform.check import Check, Finding, failed, passed, unknown
from lab.plugins.conform.stage import FOLLOWS_WITHIN_S, Stage
from lab.plugins.conform.table import route

_ONE, _TWO = "conform-tear.v1", "conform-tear.v2"
_BEFORE = {_ONE: "a", _TWO: "b"}
_AFTER = {_ONE: "b", _TWO: "a"}
_CHANGES, _SETTLES_S, _PAUSE_S = 6, 0.3, 0.02


async def _run(stage: Stage) -> Finding:
    async with stage.traffic(_ONE, _TWO, pause_s=0.0) as histories:
        for number in range(_CHANGES):
            wanted = (_AFTER, _BEFORE)[number % 2]
            await stage.change(*(route(key, model) for key, model in wanted.items()))
            for key, model in wanted.items():
                answer = await stage.settled(key, model)
                if answer.model != model:
                    return failed(f"after change {number + 1}, {key} leads to model {model}, but got {answer}")
            if not await _asked_on_all(histories):
                return unknown(
                    f"after change {number + 1} a connection got no answers within {FOLLOWS_WITHIN_S:g} s: let the "
                    "proxy answer on all connections, or try again on a less busy machine"
                )
            await asyncio.sleep(_SETTLES_S)
    requests = sum(map(len, histories))
    torn = 0
    for history in histories:
        # Each change turns the table once, as one connection sees it. More turns: new, then old again.
        seen = [_BEFORE[key] == answer.model for key, answer in history if answer.ok]
        torn += sum(one != other for one, other in pairwise(seen)) > _CHANGES
    figures = {"requests": requests, "changes": _CHANGES, "torn_connections": torn}
    if torn:
        return failed(
            f"over {torn} of {len(histories)} connections a request met the old table after one before it had met the "
            "new: put all routes of a table in force at once",
            **figures,
        )
    return passed(**figures)


async def _asked_on_all(histories: Sequence[Sequence[object]]) -> bool:
    """Waits until each connection has more answers than now; whether it has in time."""
    before, deadline = [len(each) for each in histories], time.monotonic() + FOLLOWS_WITHIN_S
    while any(len(each) == length for each, length in zip(histories, before, strict=True)):
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(_PAUSE_S)
    return True


CHECK = Check(
    name="tear",
    claim="after a connection has met a new table, it never meets the old one",
    routes=tuple(route(key, model) for key, model in _BEFORE.items()),
    run=_run,
    changes=True,
)
