"""A request with two keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.plugins.conform.check import Check, Finding, failed, passed
from lab.plugins.conform.forms import BY_HEADER
from lab.plugins.conform.table import route

if TYPE_CHECKING:
    from lab.plugins.conform.stage import Stage

_FIRST, _SECOND = "conform-twice.v1", "conform-twice.v2"


async def _run(stage: Stage) -> Finding:
    for first, second in ((_FIRST, _SECOND), (_SECOND, _FIRST), (_FIRST, "*"), ("*", _FIRST)):
        answer = await stage.call(first, metadata=((stage.form.described, second),))
        if answer.ok:
            return failed(
                f"{stage.form.described} sent twice, {first} and {second}: got {answer}; refuse it, as programs along "
                "the path may each read another one"
            )
    return passed(status=answer.code.name)


CHECK = Check(
    name="duplicate-key",
    claim="a request with two routing keys leads to no model",
    routes=(route(_FIRST, "a"), route(_SECOND, "b")),
    run=_run,
    only=BY_HEADER,
)
