"""Act 5: one sidecar dies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.plugins.play.act import Act
from lab.plugins.play.stage import LONGEST_S, Stage
from lab.roles import ROLES, Placement
from lab.runs import LoadOptions
from lab.runtime.state import LabState
from lab.topologies import TOPOLOGIES

if TYPE_CHECKING:
    from lab.plugins.play.finding import Finding

RATE = 10.0


def _play(stage: Stage) -> Finding:
    role = next(each for each in TOPOLOGIES["mesh"].between if ROLES[each].placement is Placement.BESIDE_CALLER)
    victim = next(unit.name for unit in LabState.of(stage.lab.folder).plan.with_role(role))
    loads = [
        LoadOptions(topology="mesh", caller=each, rate=RATE, duration_s=LONGEST_S, seed=number)
        for number, each in enumerate(stage.callers)
    ]
    return stage.blast_radius(victim, *loads, wanted=1)


ACT = Act(
    number=5,
    name="sidecar",
    title="One sidecar dies",
    sentence="Each caller has its own sidecar: when one dies, one caller fails.",
    needs=("mesh",),
    play=_play,
)
