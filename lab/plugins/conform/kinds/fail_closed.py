"""Requests without a usable key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.plugins.conform.check import Check, Finding, failed, passed
from lab.plugins.conform.table import route

if TYPE_CHECKING:
    from lab.plugins.conform.stage import Stage

_KEYS = (None, "", "*", "default", "127.0.0.1", "../a", "a" * 2_000)
_SHOWN = 20


async def _run(stage: Stage) -> Finding:
    for key in _KEYS:
        answer = await stage.call(key)
        if answer.ok:
            what = "without a key" if key is None else f"with the key {key[:_SHOWN]!r}"
            return failed(f"a request {what} got {answer}: the proxy fails open; leave no default backend")
        if answer.code.name == "DEADLINE_EXCEEDED":
            return failed(f"the key {key!r:.20} gets no answer: refuse it at once")
    return passed(keys=len(_KEYS), policy="fail-closed")


CHECK = Check(
    name="fail-closed",
    claim="a request without a usable key leads to no model",
    routes=(route("conform-closed.v1", "a"),),
    run=_run,
)
