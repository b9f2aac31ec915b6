"""Act 3: a version is rolled out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.ops.roll.conditions import parse_conditions
from lab.ops.roll.executor import Outcome, RollOptions, RollProgress
from lab.plugins.play.act import Act
from lab.plugins.play.finding import Finding
from lab.runs import LoadOptions

if TYPE_CHECKING:
    from lab.plugins.play.stage import Stage

_STEPS = (10, 50, 100)


def _play(stage: Stage) -> Finding:
    use_case, _, model, version = stage.use_case(versions=2)
    to = next(each for each in stage.document["models"][model]["versions"] if each != version)

    def tell(progress: RollProgress) -> None:
        if progress.result is not None:
            stage.live(f"{model}@{to}: {progress.result.percent} % of the users")

    stage.doing(f"{model}@{to} takes {', '.join(map(str, _STEPS))} % of the users of {use_case}")
    try:
        result = stage.lab.roll(
            RollOptions(
                model=model,
                to=to,
                steps=_STEPS,
                hold_s=2.0,
                conditions=parse_conditions("error-rate>5%,misroutes>0"),
                use_case=use_case,
                force=False,
                probe=LoadOptions(topology="mesh", caller="", rate=100.0, users=10_000),
            ),
            progress=tell,
        )
        if result.reason == "interrupted":
            raise KeyboardInterrupt
    finally:
        stage.restore()
    seen = [step.evidence for step in result.steps]
    requests = sum(each.new.requests + each.old.requests for each in seen)
    misrouted = sum(each.misroutes or 0 for each in seen)
    known = all(each.misroutes is not None for each in seen)
    return Finding(
        figure=f"{misrouted} of {requests:,} requests misrouted in {len(seen)} steps",
        shown=result.outcome is Outcome.COMPLETED and known and not misrouted,
        basis=f"{requests:,} requests judged, step by step",
        doubt=result.reason or ("" if known else "too few requests to judge every step"),
        runs=tuple(str(run) for step in result.steps for run in step.runs),
    )


ACT = Act(
    number=3,
    name="roll",
    title="Roll a version out",
    sentence="A new version takes 10, 50, then 100 % of the users; a bad step would bring the earlier table back.",
    needs=("mesh",),
    play=_play,
)
