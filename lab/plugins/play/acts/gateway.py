"""Act 4: the gateways die."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.plugins.play.act import Act
from lab.plugins.play.stage import LONGEST_S, Stage
from lab.runs import LoadOptions

if TYPE_CHECKING:
    from lab.plugins.play.finding import Finding

RATE = 10.0


def _play(stage: Stage) -> Finding:
    loads = [
        LoadOptions(topology="gateway", caller=each, rate=RATE, duration_s=LONGEST_S, seed=number)
        for number, each in enumerate(stage.callers)
    ]
    return stage.blast_radius("gateway", *loads, wanted=len(loads))


ACT = Act(
    number=4,
    name="gateway",
    title="The gateways die",
    sentence="Every payload passes through the gateways: when they die, every caller fails.",
    needs=("gateway",),
    play=_play,
)
