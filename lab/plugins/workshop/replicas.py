"""Which replica gets a request: the same conversations by one picker after the other, and what the evidence proves."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.checkers import Claim, Outcome
from lab.load.engines import ENGINES
from lab.plugins.bench.suites.pickers import (
    CALLER,
    PROMPT_TOKENS,
    USE_CASE,
    capacity_rps,
    figures_of,
    routes,
    spec_of,
    users_at,
)
from lab.plugins.pickers.checker import CHECKER
from lab.plugins.workshop.feedback import ExerciseResult, not_yet, right
from lab.plugins.workshop.figures import Figure, show, table
from lab.plugins.workshop.traffic import records_of
from lab.report.bars import Bar, BarChart, BarGroup
from lab.report.palette import style_of
from lab.report.scales import linear
from lab.runs import LoadOptions
from lab.runs.evidence import evidence_of
from lab.runs.folder import RunFolder
from models.tokens.settings import TokenSettings

if TYPE_CHECKING:
    from lab.checkers import Verdict
    from lab.plugins.workshop.session import WorkshopLab
    from lab.runs import RunResult

SETTINGS = TokenSettings(max_num_seqs=8, load_factor=2, queue_limit=512, blocks=256)
"""A small model on a small accelerator. A cache holds 4,096 tokens: two thirds of the system prompts."""

SHARE, SYSTEM_PROMPTS, TURNS, SECONDS, LEAD_S = 0.75, 16, 2, 4.0, 1.0
"""Share of a first prompt that is its system prompt, number of system prompts, turns of a conversation, length of a
load, and its lead, which is not counted, while caches fill."""

_NS_PER_MS = 1e6


def pick_by(lab: WorkshopLab, picker: str, *, age_ms: int = 50) -> None:
    """Brings a lab with this picker up, in place of the one that is up.

    Args:
        lab: the notebook's.
        picker: one of :data:`lab.pickers.PICKERS`.
        age_ms: time between two readings of the replicas' queues.

    Raises:
        LabError: as :meth:`lab.lab.Lab.up`.
    """
    lab.down()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "routes.yaml").write_text(routes())
        spec = Path(folder) / "lab.toml"
        spec.write_text(f'routes = "routes.yaml"\n{spec_of(picker, age_ms, SETTINGS)}')
        lab.up(spec=spec, security="plaintext")


def one_conversation(lab: WorkshopLab, turns: int) -> RunResult:
    """Drives one conversation, two turns a second; each prompt begins with the one of the turn before."""
    return _converse(lab, turns, rate=2, duration_s=turns / 2, users=1, arrivals="constant")


def at_load(lab: WorkshopLab, percent: int) -> RunResult:
    """Drives conversations of two turns at a share, in percent, of what the replicas carry with empty caches."""
    rate = percent / 100 * capacity_rps(SHARE, TURNS, SETTINGS)
    return _converse(lab, TURNS, rate=rate, duration_s=SECONDS, users=users_at(rate), seed=percent)


def _converse(lab: WorkshopLab, turns: int, **options: Any) -> RunResult:
    chat = ENGINES["chat"].plan(turns=turns, share=SHARE, prompt_tokens=PROMPT_TOKENS, system_prompts=SYSTEM_PROMPTS)
    return lab.load(
        LoadOptions(topology="gateway", caller=CALLER, use_cases=(USE_CASE,), streams=100, engine=chat, **options)
    )


def turns_picture(run: RunResult) -> Figure:
    """The time to the first token of each request of a run, by replica."""
    records = sorted(records_of(run), key=lambda each: each.sequence)
    replicas = sorted({each.replica for each in records})
    bars = []
    for number, each in enumerate(records, 1):
        tokens, cached = each.usage.split()[:2] if each.usage else ("?", "?")
        first_ms = each.first_item_ns / _NS_PER_MS
        text = f"{first_ms:.0f} ms; {cached} of {tokens} tokens cached"
        style = style_of(1 + replicas.index(each.replica))
        bars.append(Bar(f"turn {number}, {each.replica}", style, first_ms, text=text))
    axis = linear("time to the first token, ms", max(bar.value for bar in bars))
    return show(BarChart("One conversation, turn by turn", axis, [BarGroup("", bars)]))


def cached_percent(run: RunResult) -> float:
    """Share of the prompts' tokens that replicas had cached, in percent."""
    return 100 * _figures(run)["hit_rate"]


def busiest(run: RunResult) -> float:
    """Requests of the busiest replica over the mean of all."""
    return _figures(run)["imbalance"]


def compared(runs: Mapping[str, RunResult], title: str) -> Figure:
    """A table of what callers noticed of each run, and why."""
    rows = []
    for name, run in runs.items():
        its = _figures(run)
        first = [f"{its[each]:.0f}" for each in ("ttft_p50_ms", "ttft_p99_ms")]
        shares = f"{100 * its['hit_rate']:.0f}", f"{its['imbalance']:.2f}"
        rows.append((name, *first, *shares, run.claims[Claim.TIMING].value))
    columns = ["picker", "first token p50, ms", "p99, ms", "cached, %", "busiest / mean", "timing"]
    note = f"The first {LEAD_S:g} s of {SECONDS:g} s, while caches fill, do not count. Timing is unknown"
    return table(title, columns, rows, f"{note} where this machine was too busy to send on time.")


def _figures(run: RunResult) -> dict[str, float]:
    return figures_of(records_of(run), {}, lead_s=LEAD_S)


Gathered = dict[str, Any]
Entries = list[dict[str, Any]]


def _claims_a_hit(gathered: Gathered, served: Entries, picks: Entries) -> None:
    del gathered, picks
    served[-1]["cached"] += 16


def _ignores_a_pick(gathered: Gathered, served: Entries, picks: Entries) -> None:
    del gathered, served
    picks[-1]["picked"] = next(each["address"] for each in picks[-1]["seen"] if each["address"] != picks[-1]["picked"])


def _loses_a_pick(gathered: Gathered, served: Entries, picks: Entries) -> None:
    del served
    for its in gathered["gateways"].values():
        its["entries"] = [each for each in its["entries"] if each is not picks[-1]]


def _misreads(gathered: Gathered, served: Entries, picks: Entries) -> None:
    del gathered, served
    for pick in picks:
        for each in pick["seen"]:
            each["waiting"] += 3


CHANGES: Mapping[str, Callable[[Gathered, Entries, Entries], None]] = {
    "a replica claims a cached block that it did not have": _claims_a_hit,
    "a request goes to another replica than was picked": _ignores_a_pick,
    "a request reaches a replica without a pick": _loses_a_pick,
    "every queue is three longer than was read": _misreads,
}
"""What to change in what was gathered, with its entries of the run's requests: at replicas, and of picks."""


def judged(folder: Path) -> dict[str, Verdict]:
    """What *picks* says of the evidence of a run of conversations as it is, and after each of :data:`CHANGES`."""
    evidence = evidence_of(RunFolder(folder))
    asked = {each.request_id for each in evidence.records}
    verdicts = {}
    for name, change in {"nothing": lambda *_: None, **CHANGES}.items():
        gathered: Gathered = copy.deepcopy(evidence.gathered[CHECKER.name])
        replicas, gateways = gathered["replicas"].values(), gathered["gateways"].values()
        served = [each for its in replicas for each in its["entries"] if each["request_id"] in asked]
        picks = [each for its in gateways for each in its["entries"] if each["asked"]["request_id"] in asked]
        change(gathered, served, picks)
        if verdict := CHECKER.check(replace(evidence, gathered={CHECKER.name: gathered})):
            verdicts[name] = verdict
    return verdicts


def noticed(verdicts: Mapping[str, Verdict]) -> set[str]:
    """The changes of which a verdict says that something is wrong."""
    return {name for name, verdict in verdicts.items() if verdict.outcome is Outcome.INVALID}


def verdicts_table(verdicts: Mapping[str, Verdict]) -> Figure:
    """Each change with its verdict, and the first reason for it."""
    rows = [
        (name, its.outcome.value, its.violations[0].message if its.violations else its.summary)
        for name, its in verdicts.items()
    ]
    return table("What picks says", ["changed in the evidence", "outcome", "because"], rows)


def check_first_token(*, tokens: int, cached: int, ms: float | None) -> ExerciseResult:
    """Notebook 8: the time to the first token of a prompt, part of which is cached, at an idle replica."""
    if ms is None:
        return not_yet("Write the milliseconds. How many tokens are left to compute?")
    asked, cold, free = (1_000 * SETTINGS.first_token_s(each, 1) for each in (tokens - cached, tokens, cached))
    if abs(ms - asked) < 1:
        return right(f"{asked:.0f} ms; a replica that has nothing of it takes {cold:.0f} ms.")
    if abs(ms - cold) < 1:
        return not_yet("That is a replica that has nothing of the prompt.")
    if abs(ms - free) < 1:
        return not_yet("That computes the tokens that are there already. Which are missing?")
    return not_yet(
        f"{'Less' if ms > asked else 'More'}. Each token that is not cached takes its time, and the request its own."
    )
