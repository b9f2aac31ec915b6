"""The weights of a sticky split change."""

from __future__ import annotations

import math
import time

from lab.plugins.conform.check import Check, Finding, failed, passed
from lab.plugins.conform.forms import USER
from lab.plugins.conform.stage import FOLLOWS_WITHIN_S, Stage
from lab.plugins.conform.table import Backend, Route

_KEY = "conform-churn.v1"
_USERS, _SIGMAS = 200, 4.5
_BEFORE, _AFTER = 20, 30


def _split(percent: int) -> Route:
    return Route(key=_KEY, backends=(Backend("a", 100 - percent), Backend("b", percent)), sticky=USER)


async def _models(stage: Stage) -> dict[int, str]:
    calls = (stage.call(_KEY, metadata=((USER, f"u{user}"),)) for user in range(_USERS))
    return {user: str(answer.model or answer) for user, answer in enumerate(await stage.each(calls))}


async def _run(stage: Stage) -> Finding:
    before = await _models(stage)
    await stage.change(_split(_AFTER))
    after, deadline = before, time.monotonic() + FOLLOWS_WITHIN_S
    while after == before and time.monotonic() < deadline:
        after = await _models(stage)
    after = await _models(stage)  # the first users may have been asked before the proxy followed
    if strange := set(after.values()) - {"a", "b"}:
        return failed(f"after the change: {strange.pop()}")
    moved = [user for user in before if before[user] != after[user]]
    back = sum(before[user] == "b" for user in moved)
    expected = (_AFTER - _BEFORE) / 100
    bound = _SIGMAS * math.sqrt(expected * (1 - expected) / _USERS)
    figures = {"moved_percent": round(100 * len(moved) / _USERS, 1), "moved_back": back}
    if not moved:
        return failed(f"no user moved as the weight of b rose from {_BEFORE} to {_AFTER}", **figures)
    if back or len(moved) / _USERS > expected + bound:
        return failed(
            f"b's weight rose from {_BEFORE} to {_AFTER}: {len(moved)} of {_USERS} users moved, {back} of them from b "
            f"to a; {_AFTER - _BEFORE} % must move, all to b: lay buckets out in order",
            **figures,
        )
    return passed(**figures)


CHECK = Check(
    name="churn",
    claim="when weights change, only the users move that must",
    routes=(_split(_BEFORE),),
    run=_run,
    changes=True,
)
