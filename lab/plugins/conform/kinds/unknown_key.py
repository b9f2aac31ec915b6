"""The status of a key without a route."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.plugins.conform.check import Check, Finding, failed, passed
from lab.plugins.conform.table import route

if TYPE_CHECKING:
    from lab.plugins.conform.stage import Stage

_KNOWN, _UNKNOWN = "conform-known.v1", "conform-nobody.v9"


async def _run(stage: Stage) -> Finding:
    if not (answer := await stage.call(_KNOWN)).ok:
        return failed(f"{_KNOWN} leads to model a, but got {answer}")
    answer = await stage.call(_UNKNOWN)
    if answer.ok:
        return failed(f"{_UNKNOWN} has no route, but got {answer}; refuse it")
    wanted = stage.form.unknown
    if not answer.by_grpc or answer.code is not wanted:
        return failed(
            f"{_UNKNOWN} has no route and must be {wanted.name} by grpc-status, but got {answer}; "
            f"answer HTTP 200 with grpc-status {wanted.value[0]}",
            status=answer.code.name,
        )
    return passed(status=answer.code.name, ms=round(1e3 * (answer.done - answer.sent), 1))


CHECK = Check(
    name="unknown-key",
    claim="a key without a route is UNAVAILABLE, and an unknown use case NOT_FOUND, as in every topology of the lab",
    routes=(route(_KNOWN, "a"),),
    run=_run,
)
