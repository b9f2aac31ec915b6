"""Drives loads of prompts: the open loop, with prompts of conversations or of a trace in place of drawn ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvloop

from lab.errors import InputError
from lab.load.open_loop import OpenLoop, Stop
from lab.load.open_loop_run import drive
from lab.load.steps import connect, print_progress, raise_priority, write_summary
from lab.plugins.pickers.conversations import Conversations
from lab.plugins.pickers.trace_prompts import payload_of

if TYPE_CHECKING:
    from lab.load.mix import Payload, RequestSpec
    from lab.load.plan import LoadPlan

_API = "generate.v1"


class _Chat(OpenLoop):
    """An open loop whose users take turns, each in its own conversation."""

    def __init__(self, plan: LoadPlan, *more: Any) -> None:
        self._conversations = Conversations(plan.engine.settings["chat"], users=plan.users, seed=plan.seed)
        super().__init__(plan, *more)

    def _drawn(self, place: int) -> tuple[int, RequestSpec, Payload, int]:
        sequence, spec, _, intended_ns = super()._drawn(place)
        turn = self._conversations.turn(sequence)
        spec.context["user_id"] = f"u{turn.user}"
        return sequence, spec, self._conversations.payload(turn), intended_ns


class _Prompts(OpenLoop):
    """An open loop whose prompts and answers are as long as those of a trace."""

    def _drawn(self, place: int) -> tuple[int, RequestSpec, Payload, int]:
        sequence, spec, _, intended_ns = super()._drawn(place)
        row = self._plan.engine.settings["prompts"][sequence]
        return sequence, spec, payload_of(row, sequence, self._plan.seed), intended_ns


def run_chat(plan: LoadPlan, path: Path) -> None:
    """Runs a plan of conversations.

    Raises:
        InputError: a use case is of another API.
    """
    del path
    _require_tokens(plan, "conversations")
    uvloop.run(_run(plan, _Chat))


def run_prompts(plan: LoadPlan, path: Path) -> None:
    """Runs a plan of a trace's prompts.

    Raises:
        InputError: a use case is of another API, or the trace has fewer prompts than the run has requests.
    """
    del path
    _require_tokens(plan, "prompts of a trace")
    uvloop.run(_run(plan, _Prompts))


def _require_tokens(plan: LoadPlan, what: str) -> None:
    for each in plan.use_cases:
        if each.api != _API:
            raise InputError(f"--use-case: {each.name} is of {each.api}, and {what} are of {_API}; name another")


async def _run(plan: LoadPlan, loop_class: type[OpenLoop]) -> None:
    stop, schedule = Stop.on_signals(), plan.schedule()
    rows = plan.engine.settings.get("prompts")
    if rows is not None and len(rows) < len(schedule):
        raise InputError(
            f"--prompts: has {len(rows):,} requests, and the run has {len(schedule):,}; lower --rate or --duration, or "
            "take the arrivals of the same file: --arrivals trace:FILE"
        )
    raise_priority()
    write_summary(plan.summary, await drive(plan, schedule, connect(plan), stop, print_progress, loop_class))
