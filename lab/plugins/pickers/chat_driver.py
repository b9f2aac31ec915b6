"""Drives the conversations of a run: the open loop, with the prompts of conversations in place of drawn ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvloop

from lab.errors import InputError
from lab.load.open_loop import OpenLoop, Stop
from lab.load.open_loop_run import drive
from lab.load.steps import connect, print_progress, raise_priority, write_summary
from lab.plugins.pickers.conversations import Conversations

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


def run(plan: LoadPlan, path: Path) -> None:
    """Runs the plan.

    Raises:
        InputError: a use case is of another API.
    """
    del path
    for each in plan.use_cases:
        if each.api != _API:
            raise InputError(f"--use-case: {each.name} is of {each.api}, and conversations are of {_API}; name another")
    uvloop.run(_run(plan))


async def _run(plan: LoadPlan) -> None:
    stop, schedule = Stop.on_signals(), plan.schedule()
    raise_priority()
    write_summary(plan.summary, await drive(plan, schedule, connect(plan), stop, print_progress, _Chat))
