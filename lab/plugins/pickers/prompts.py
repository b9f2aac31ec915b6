"""The engine ``prompts``: prompts and answers as long as those of a trace, with the blocks that its prompts share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lab.errors import InputError
from lab.load.engines import Engine, Option
from lab.load.plan import EnginePlan
from lab.load.trace import read_trace

if TYPE_CHECKING:
    from lab.load.plan import LoadPlan

NAME = "prompts"
MOST_ROWS, MOST_ANSWER_TOKENS = 50_000, 4_096
"""Rows of a trace, which the plan keeps, and tokens that a model gives."""


def plan_of(*, prompts: Path) -> EnginePlan:
    """Its part of the plan: tokens of prompt and answer, and numbers of the prompt's blocks, of each row.

    Raises:
        InputError: the trace cannot be read, or has too many rows or too long an answer.
    """
    rows: list[tuple[int, int, tuple[int, ...]]] = []
    for row in read_trace(prompts):
        if len(rows) == MOST_ROWS:
            raise InputError(f"{prompts}: has more than {MOST_ROWS:,} requests; name a file with fewer")
        if row.answer_tokens > MOST_ANSWER_TOKENS:
            problem = f"request {len(rows) + 1} has an answer of {row.answer_tokens:,} tokens"
            raise InputError(f"{prompts}: {problem}, and models give {MOST_ANSWER_TOKENS:,} at most; shorten it")
        rows.append((max(row.prompt_tokens, 1), max(row.answer_tokens, 1), row.blocks))
    return EnginePlan(
        name=NAME, decides=("payload_bytes",), settings={NAME: rows}, checked_by={"picks": "its prompts share blocks"}
    )


def _run(plan: LoadPlan, path: Path) -> None:
    from lab.plugins.pickers.prompt_drivers import run_prompts  # noqa: PLC0415 (imports gRPC, only for its runs)

    run_prompts(plan, path)


ENGINE = Engine(
    name=NAME,
    summary="prompts and answers as long as those of a trace, with models that generate tokens",
    plan=plan_of,
    run=_run,
    options=(
        Option(
            name="prompts",
            help="Trace in Mooncake's or Azure's form: row n has the lengths and shared blocks of request n, and "
            "--arrivals says when it is sent.",
            type=Path,
        ),
    ),
)
