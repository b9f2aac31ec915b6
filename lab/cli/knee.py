"""``lab load --find-knee``: the highest rate that holds, step by step."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lab.cli.output import console, print_json, say, table
from lab.runs.knee import Knee, Objective, Step, find_knee

if TYPE_CHECKING:
    from lab.checkers import Outcome
    from lab.lab import Lab
    from lab.runs import LoadOptions

_FIGURES = ("asked rps", "achieved", "answered", "p50 ms", "p99 ms", "late p99 ms")


def knee(lab: Lab, options: LoadOptions, objective: Objective, *, as_json: bool) -> Outcome:
    """Runs the steps, says each on standard error, prints what was found, and returns its outcome."""
    found = find_knee(lambda rate: lab.load(replace(options, rate=rate)), options.rate, objective, _say)
    from lab.report.knee import draw  # noqa: PLC0415 (it takes half a second)

    drawn = draw(found, options.topology, found.steps[-1].run_dir / "knee")
    if as_json:
        print_json({**found.to_document(), "charts": [str(each) for each in drawn]})
    else:
        _show(found)
        say(f"chart: {drawn[-1]}")
    return found.outcome


def _say(step: Step) -> None:
    how = f"breaks the {step.broken}: {step.because}" if step.broken else "holds"
    say(f"{step.rate:g} rps: achieved {step.achieved_rate:.1f}, p99 {step.p99_ms:.1f} ms, {how}")


def _show(found: Knee) -> None:
    rows = [
        (
            f"{step.rate:g}",
            f"{step.achieved_rate:.1f}",
            f"{step.answered:.2%}",
            f"{step.p50_ms:.2f}",
            f"{step.p99_ms:.2f}",
            f"{step.schedule_delay_p99_ms:.2f}",
            str(step.broken) or "holds",
        )
        for step in sorted(found.steps, key=lambda step: step.rate)
    ]
    console.print(table((*_FIGURES, "breaks"), rows, right=_FIGURES))
    console.print(f"\n{found.sentence}", markup=False)
