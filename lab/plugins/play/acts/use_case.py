"""Act 1: callers name the use case."""

from __future__ import annotations

from lab.plugins.play.act import Act
from lab.plugins.play.finding import Finding
from lab.plugins.play.stage import Stage, folders, judged
from lab.runs import LoadOptions
from lab.runs.folder import RunFolder


def _play(stage: Stage) -> Finding:
    use_case, caller, _, _ = stage.use_case(versions=2)
    stage.doing(f"{caller} asks for {use_case}: all devices and countries, and nothing else")
    runs = stage.load(LoadOptions(topology="mesh", caller=caller, use_cases=(use_case,), rate=60, duration_s=4))
    answered = {(each.model, each.version) for each in RunFolder(runs[0].folder).history if each.status == "OK"}
    counts = runs[0].counts
    return Finding(
        figure=f"1 name, {len(answered)} model version{'s' * (len(answered) != 1)}, {counts.wrong} wrong answers",
        shown=len(answered) > 1 and counts.right > 0 and not counts.wrong,
        basis=judged(runs),
        runs=folders(runs),
    )


ACT = Act(
    number=1,
    name="use-case",
    title="Name the use case",
    sentence="A caller names the use case and its context; the route table decides which model answers, and where.",
    needs=("mesh",),
    play=_play,
)
