"""A split that is the same for a user at each request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.plugins.conform.check import Check, Finding, failed, passed
from lab.plugins.conform.forms import USER
from lab.plugins.conform.power import by_chance, requests_for
from lab.plugins.conform.table import Backend, Route

if TYPE_CHECKING:
    from lab.plugins.conform.stage import Stage

_KEY = "conform-sticky.v1"
_SHARE = 0.2
_USERS, _ASKED_AGAIN, _ROUNDS = requests_for(_SHARE), 200, 3


async def _run(stage: Stage) -> Finding:
    seen: dict[int, set[str]] = {user: set() for user in range(_USERS)}
    for number in range(_ROUNDS):  # each by another connection
        users = range(_ASKED_AGAIN if number else _USERS)
        async with stage.channel() as channel:
            calls = (stage.call(_KEY, metadata=((USER, f"u{user}"),), channel=channel) for user in users)
            for user, answer in enumerate(await stage.each(calls)):
                if not answer.ok:
                    return failed(f"{USER}: u{user} got {answer}")
                seen[user].add(answer.model)
    moved = sum(len(models) > 1 for models in seen.values())
    share = sum(models == {"b"} for models in seen.values()) / _USERS
    figures = {"users": _USERS, "moved": moved, "b_percent": round(100 * share, 1)}
    if moved:
        return failed(
            f"{moved} of {_ASKED_AGAIN} users met both models in {_ROUNDS} requests without any change; hash {USER}",
            **figures,
        )
    if abs(share - _SHARE) > by_chance(_SHARE, _USERS):
        return failed(f"model b has weight 20 of 100, but {100 * share:.1f} % of {_USERS} users", **figures)
    return passed(**figures)


CHECK = Check(
    name="sticky",
    claim="a weighted split sends the same user to the same model, over any connection",
    upstream="psm-interop url_map/affinity_test",
    routes=(Route(key=_KEY, backends=(Backend("a", 80), Backend("b", 20)), sticky=USER),),
    run=_run,
)
