"""A route changes under load."""

from __future__ import annotations

import asyncio
import math
import time
from statistics import median
from typing import NamedTuple

from lab.plugins.conform.check import Check, Finding, failed, passed
from lab.plugins.conform.stage import FOLLOWS_WITHIN_S, Answer, Stage
from lab.plugins.conform.table import route

_KEY = "conform-change.v1"
_CHANGES, _SETTLES_S = 8, 0.3
_LATE_S = 1.0


class _Change(NamedTuple):
    """When its control began and returned, on the monotonic clock, and the model that answers from then on."""

    began: float
    returned: float
    model: str


async def _run(stage: Stage) -> Finding:
    changes: list[_Change] = []
    async with stage.traffic(_KEY) as histories:
        for number in range(_CHANGES):
            model = ("b", "a")[number % 2]
            began = time.monotonic()
            await stage.change(route(_KEY, model))
            changes.append(_Change(began, time.monotonic(), model))
            answer = await stage.settled(_KEY, model)
            if answer.model != model:
                return failed(
                    f"{FOLLOWS_WITHIN_S:g} s after change {number + 1} to model {model} a request still got {answer}"
                )
            await asyncio.sleep(_SETTLES_S)  # open connections may follow later than a new one
    answers = sorted((answer for history in histories for _, answer in history), key=lambda each: each.sent)
    ends = [*(each.began for each in changes[1:]), math.inf]
    late = [_last_old(answers, change, until) for change, until in zip(changes, ends, strict=True)]
    bad = [each for each in answers if each.model not in {"a", "b"}]
    figures = {
        "requests": len(answers),
        "failed": len(bad),
        "last_old_ms_median": round(1e3 * median(late), 1),
        "last_old_ms_max": round(1e3 * max(late), 1),
        "control_ms_median": round(1e3 * median(each.returned - each.began for each in changes), 1),
    }
    if bad:
        return failed(
            f"{len(bad)} of {len(answers)} requests failed over {_CHANGES} changes; the first: {bad[0]}; let requests "
            "in flight end before a connection does",
            **figures,
        )
    if max(late) > _LATE_S:
        return failed(
            f"{max(late):.1f} s after the control returned, a request was still answered by the old model; return once "
            "the proxy follows, on open connections, too",
            **figures,
        )
    return passed(**figures)


def _last_old(answers: list[Answer], change: _Change, until: float) -> float:
    """Seconds from the return of a change until the last request was sent that the old model answered."""
    old = (
        each.sent
        for each in answers
        if change.returned < each.sent and each.done < until and each.model != change.model
    )
    return max((sent - change.returned for sent in old), default=0.0)


CHECK = Check(
    name="config-change",
    claim="changes under load fail no request, and the old model answers none a second later",
    upstream="psm-interop change_backend_service_test",
    routes=(route(_KEY, "a"),),
    models=("b",),
    run=_run,
    changes=True,
)
