"""A split that is the same for a user at each request."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lab.plugins.conform.check import Check, Finding, failed, passed
from lab.plugins.conform.forms import USER
from lab.plugins.conform.table import Backend, Route

if TYPE_CHECKING:
    from lab.plugins.conform.stage import Stage

_KEY = "conform-sticky.v1"
_USERS, _ROUNDS = 200, 3
_SHARE, _SIGMAS = 0.2, 4.5


async def _run(stage: Stage) -> Finding:
    seen: dict[int, set[str]] = {user: set() for user in range(_USERS)}
    for _ in range(_ROUNDS):  # each by another connection
        async with stage.channel() as channel:
            calls = (stage.call(_KEY, metadata=((USER, f"u{user}"),), channel=channel) for user in seen)
            for user, answer in enumerate(await stage.each(calls)):
                if not answer.ok:
                    return failed(f"{USER}: u{user} got {answer}")
                seen[user].add(answer.model)
    moved = sum(len(models) > 1 for models in seen.values())
    share = sum(models == {"b"} for models in seen.values()) / _USERS
    figures = {"users": _USERS, "moved": moved, "b_percent": round(100 * share, 1)}
    if moved:
        return failed(
            f"{moved} of {_USERS} users met both models in {_ROUNDS} requests without any change; hash {USER}",
            **figures,
        )
    bound = _SIGMAS * math.sqrt(_SHARE * (1 - _SHARE) / _USERS)
    if abs(share - _SHARE) > bound:
        return failed(f"model b has weight 20 of 100, but {100 * share:.1f} % of {_USERS} users", **figures)
    return passed(**figures)


CHECK = Check(
    name="sticky",
    claim="a weighted split sends the same user to the same model, over any connection",
    upstream="psm-interop url_map/affinity_test",
    routes=(Route(key=_KEY, backends=(Backend("a", 80), Backend("b", 20)), sticky=USER),),
    run=_run,
)
