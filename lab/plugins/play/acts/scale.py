"""Act 8: thousands of clusters, on a scale lab, or as recorded before."""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import orjson

from lab.plugins.bench.scale.run import ScaleOptions, run
from lab.plugins.play.act import Act
from lab.plugins.play.finding import Finding

if TYPE_CHECKING:
    from lab.plugins.play.stage import Stage

RECORDED = "recorded_scale.json"
"""A run of ``lab scale --json``, with when and on what it was made."""


def _play(stage: Stage) -> Finding:
    if not stage.clusters:
        recorded = orjson.loads(files("lab.plugins.play").joinpath(RECORDED).read_bytes())
        stage.doing(f"as recorded on {recorded['recorded']}: {recorded['command']}")
        seen = found(recorded)
        how = f"recorded on {recorded['recorded']}, not live, by `{recorded['command']}`"
        return replace(seen, figure=f"recorded: {seen.figure}", basis=f"{how}; {seen.basis}")
    stage.doing(f"a second lab of {stage.clusters:,} clusters starts")
    options = ScaleOptions(
        clusters=stage.clusters,
        callers=10,
        use_cases=max(10, stage.clusters // 5),
        seconds=10.0,
        rate=100.0,
        changes=20.0,
        moves=10,
    )
    return found(run(options, stage.doing).to_document())


def found(document: dict[str, Any]) -> Finding:
    """What a run of ``lab scale`` shows."""
    held = document["clusters_held"]["most"]
    return Finding(
        figure=f"{document['clusters']:,} clusters, of which a sidecar holds {held:g} at most; "
        f"{document['misrouted']} of {document['ok']:,} answers wrong",
        shown=document["ok"] > 0 and not document["misrouted"] and held < document["clusters"],
        basis=f"{document['requests']:,} requests judged while clusters moved",
        doubt="" if document["verdict"] == "valid" else f"the run's verdict is {document['verdict']}",
    )


ACT = Act(
    number=8,
    name="scale",
    title="Thousands of clusters",
    sentence="A sidecar learns a cluster when its caller first asks for it: thousands of others cost it nothing.",
    play=_play,
)
