"""Act 6: big payloads."""

from __future__ import annotations

from lab.plugins.play.act import Act
from lab.plugins.play.finding import Finding
from lab.plugins.play.stage import Stage, folders, is_late, judged
from lab.runs import LoadOptions, RunResult

_TOPOLOGIES = ("gateway", "mesh")
_SIZES = {"0.4 KB": (400, 60.0), "4 MB": (4_000_000, 6.0)}  # bytes, requests per second
_SECONDS = 5


def _play(stage: Stage) -> Finding:
    use_case, caller, _, _ = stage.use_case()
    p50_ms: dict[str, list[float]] = {}
    runs: list[RunResult] = []
    for size, (payload, rate) in _SIZES.items():
        stage.doing(f"{size} at {rate:g} requests/s through each, at the same time")
        loads = [
            LoadOptions(
                topology=each,
                caller=caller,
                use_cases=(use_case,),
                arrivals="constant",
                rate=rate,
                duration_s=_SECONDS,
                payload_bytes=payload,
            )
            for each in _TOPOLOGIES
        ]
        of_size = stage.load(*loads)
        p50_ms[size] = [run.summary.p50_ms for run in of_size]
        stage.live(_words(size, *p50_ms[size]))
        runs += of_size
    gateway_ms, mesh_ms = p50_ms["4 MB"]
    return Finding(
        figure="; ".join(_words(size, *each) for size, each in reversed(p50_ms.items())),
        shown=0 < mesh_ms < gateway_ms,
        basis=f"{judged(tuple(runs))}; medians, gateway and mesh measured at the same time",
        doubt="the machine was busy: treat the milliseconds as a guess" if is_late(tuple(runs)) else "",
        runs=folders(tuple(runs)),
    )


def _words(size: str, gateway_ms: float, mesh_ms: float) -> str:
    return f"{size}: gateway {gateway_ms:.3g} ms, mesh {mesh_ms:.3g} ms"


ACT = Act(
    number=6,
    name="payloads",
    title="Big payloads",
    sentence="A gateway parses every payload, a sidecar one header: that costs little at kilobytes, much at megabytes.",
    needs=_TOPOLOGIES,
    play=_play,
)
