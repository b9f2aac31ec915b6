"""A key loses its route."""

from __future__ import annotations

from lab.plugins.conform.check import Check, Finding, failed, passed
from lab.plugins.conform.stage import FOLLOWS_WITHIN_S, Stage
from lab.plugins.conform.table import route

_KEY, _NEW = "conform-removed.v1", "conform-added.v1"


async def _run(stage: Stage) -> Finding:
    if not (answer := await stage.call(_KEY)).ok:
        return failed(f"{_KEY} leads to model a, but got {answer}")
    await stage.change(route(_NEW, "b"), without=_KEY)
    if (answer := await stage.settled(_NEW, "b")).model != "b":
        return failed(f"{FOLLOWS_WITHIN_S:g} s after a change that adds {_NEW}, it got {answer}")
    answer = await stage.until(_KEY, lambda answer: not answer.ok)
    if answer.ok:
        return failed(f"{FOLLOWS_WITHIN_S:g} s after a change that removes {_KEY}, it got {answer}")
    if answer.code is not stage.form.unknown:
        return failed(f"a removed key must be {stage.form.unknown.name}, as an unknown one is, but got {answer}")
    return passed(status=answer.code.name)


CHECK = Check(
    name="removed-key",
    claim="a key that is added leads to its model, and one that is removed to none",
    upstream="psm-interop remove_neg_test",
    routes=(route(_KEY, "a"),),
    models=("b",),
    run=_run,
    changes=True,
)
