"""Act 7: a noisy neighbour."""

from __future__ import annotations

from typing import Any

from lab.errors import InputError
from lab.plugins.play.act import Act
from lab.plugins.play.finding import Finding
from lab.plugins.play.stage import Stage, folders, judged
from lab.runs import LoadOptions

_NOISY = "noisy"
_LIMIT = {"rate": 20, "burst": 10, "concurrent": 5}
_FLOOD, _OTHERS = 100.0, 20.0  # requests per second
_REFUSED = "RESOURCE_EXHAUSTED"


def _limited(document: dict[str, Any]) -> None:
    document.setdefault("tenants", {})[_NOISY] = dict(_LIMIT)


def _play(stage: Stage) -> Finding:
    if len(stage.callers) < 2:  # noqa: PLR2004 (one that floods, and another)
        raise InputError("lab play: act neighbour needs two callers; leave it out by --acts")
    quiet, loud = stage.callers[:2]
    with stage.published(_limited, f"play: tenant {_NOISY} may send {_LIMIT['rate']} requests/s"):
        stage.doing(f"tenant {_NOISY} sends {_FLOOD:g} requests/s, five times its limit")
        runs = stage.load(
            LoadOptions(
                topology="gateway", caller=loud, contexts={"tenant": (_NOISY,)}, rate=_FLOOD, duration_s=5, seed=1
            ),
            LoadOptions(
                topology="gateway", caller=quiet, contexts={"tenant": ("drama", "kids")}, rate=_OTHERS, duration_s=5
            ),
        )
    flood, others = (run.summary for run in runs)
    refused = flood.by_status.get(_REFUSED, 0) / max(1, flood.ok + flood.failed)
    sent = others.ok + others.failed
    return Finding(
        figure=f"{_NOISY}: {100 * refused:.0f} % refused; the others: {others.failed} of {sent} failed",
        shown=refused > 0 and others.ok > 0 and not others.failed,
        basis=judged(runs),
        runs=folders(runs),
    )


ACT = Act(
    number=7,
    name="neighbour",
    title="A noisy neighbour",
    sentence="One tenant sends five times what it may: its limit refuses the rest, and no other tenant notices.",
    needs=("gateway",),
    play=_play,
)
