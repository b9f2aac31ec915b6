"""Act 2: a model moves under load."""

from __future__ import annotations

from typing import Any

from lab.errors import InputError
from lab.plugins.play.act import Act
from lab.plugins.play.finding import Finding
from lab.plugins.play.stage import Stage, folders, judged
from lab.runs import LoadOptions

_TOPOLOGIES = ("direct", "gateway", "mesh")


def _play(stage: Stage) -> Finding:
    use_case, caller, model, version = stage.use_case()
    used = {each["cluster"] for each in stage.document["models"][model]["versions"].values()}
    free = [name for name in stage.document["clusters"] if name not in used]
    if not free:
        raise InputError(
            f"lab play: {model} runs on every cluster of the route table, so it cannot move; add a cluster"
        )

    def moved(document: dict[str, Any]) -> None:
        document["models"][model]["versions"][version]["cluster"] = free[-1]

    loads = [
        LoadOptions(topology=each, caller=caller, use_cases=(use_case,), rate=30, duration_s=6) for each in _TOPOLOGIES
    ]
    with stage.under_load(*loads) as loaded:
        stage.doing(f"{model}@{version} moves to {free[-1]}")
        with stage.published(moved, f"play: {model}@{version} moves"):
            runs = loaded.runs()
    shares = {
        each.topology: (run.counts.wrong + run.counts.failed) / max(1, run.counts.sent)
        for each, run in zip(loads, runs, strict=True)
    }
    return Finding(
        figure="wrong or failed: " + ", ".join(f"{name} {100 * share:.0f} %" for name, share in shares.items()),
        shown=shares["direct"] > 0 and not shares["gateway"] and not shares["mesh"],
        basis=judged(runs),
        runs=folders(runs),
    )


ACT = Act(
    number=2,
    name="move",
    title="Move a model",
    sentence="A model moves to another cluster under load: only callers with hard-coded addresses notice.",
    needs=_TOPOLOGIES,
    play=_play,
)
