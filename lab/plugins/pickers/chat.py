"""The engine ``chat``: conversations of several turns that share system prompts, each request at its time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lab.bounds import Range
from lab.errors import InputError
from lab.load.engines import Engine, Option
from lab.load.plan import EnginePlan

if TYPE_CHECKING:
    from lab.load.plan import LoadPlan

NAME = "chat"
TURNS, PROMPTS, SHARE, SKEW, TOKENS = 4, 8, 0.75, 1.0, 512


def plan_of(
    *,
    turns: int = TURNS,
    system_prompts: int = PROMPTS,
    share: float = SHARE,
    skew: float = SKEW,
    loras: int = 0,
    prompt_tokens: int = TOKENS,
) -> EnginePlan:
    """Its part of the plan."""
    if round(share * prompt_tokens) >= prompt_tokens:
        raise InputError(f"--share: {share:g} of {prompt_tokens} tokens leaves none for a question; take less")
    chat = {
        "turns": turns,
        "groups": system_prompts,
        "share": share,
        "skew": skew,
        "loras": loras,
        "prompt_tokens": prompt_tokens,
    }
    return EnginePlan(
        name=NAME, decides=("payload_bytes",), settings={"chat": chat}, checked_by={"picks": "it has conversations"}
    )


def _run(plan: LoadPlan, path: Path) -> None:
    from lab.plugins.pickers.prompt_drivers import run_chat  # noqa: PLC0415 (imports gRPC, only for its runs)

    run_chat(plan, path)


ENGINE = Engine(
    name=NAME,
    summary="conversations of several turns that share system prompts, with models that generate tokens",
    plan=plan_of,
    run=_run,
    options=(
        Option(name="turns", help=f"Turns of a conversation; {TURNS} by default.", type=int, within=Range(1, 1_000)),
        Option(
            name="system-prompts",
            help=f"Number of system prompts that conversations share; {PROMPTS} by default.",
            type=int,
            within=Range(1, 100_000),
        ),
        Option(
            name="share",
            help=f"Share of a conversation's first prompt that is its system prompt; {SHARE:g} by default.",
            type=float,
            within=Range(0, 1),
        ),
        Option(
            name="skew",
            help=f"How unequal system prompts are: prompt g has 1/(g+1)^skew; {SKEW:g} by default, 0: equal.",
            type=float,
            within=Range(0, 10),
        ),
        Option(
            name="loras",
            help="Number of adapters among which system prompts are divided; none by default.",
            type=int,
            within=Range(0, 1_000),
        ),
        Option(
            name="prompt-tokens",
            help=f"Tokens of a conversation's first prompt; {TOKENS} by default.",
            type=int,
            within=Range(1, 100_000),
        ),
    ),
)
