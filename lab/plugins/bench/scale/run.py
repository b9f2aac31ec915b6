"""``lab scale``: a whole run, from bringing the lab up to figures, with every answer judged."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.errors import LabNotRunningError, PublishError
from lab.load.progress import nearest_rank
from lab.plugins.bench.scale.changes import Churn, Published, moves
from lab.plugins.bench.scale.goals import goals
from lab.plugins.bench.scale.scale_lab import HOST_ENVOY, MODEL_HOST, ScaleLab, open_scale_lab
from lab.plugins.bench.scale.traffic import Traffic, TrafficRun
from lab.roles import CONTROL_PLANE
from lab.roles.resolver import SHARED_RESOLVER
from lab.waiting import eventually

if TYPE_CHECKING:
    from lab.client.admin_values import PublishProgress, RevisionInfo
    from lab.measure.findings import Claim

MOVE_S = 0.2
"""Time for a move under traffic: twice what one may take at the 99th percentile without."""

_MOVES, _MOVES_PAST_A_STUCK_NODE = 200, 20
_NS_PER_MS = 1e6
_BACK = timedelta(seconds=30)
_MARGIN_S = 3.0  # the churn begins and ends a moment after its time


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleOptions:
    """The size of the lab, see :func:`.synthetic_deployment.generate`, and what happens in the run.

    Traffic lasts ``seconds`` under ``changes`` per second, at a ``rate`` in rps of all callers together, who are shared
    among ``drivers``. One model version moves ``moves`` times before the churn, or less often if that takes more than
    :data:`MOVE_S` each, and as often without traffic.
    """

    clusters: int = 10_000
    callers: int = 30
    use_cases: int = 2_000
    seed: int = 1
    seconds: float = 60.0
    rate: float = 850.0
    drivers: int = 1
    changes: float = 100.0
    moves: int = _MOVES


DEFAULT = ScaleOptions()


@dataclass(frozen=True, slots=True)
class ScaleResult:
    """The result; see :meth:`to_document`. The names of ``figures`` contain the units.

    What is wanted of a run of the default size is in ``claims``; of any other size nothing is.
    """

    options: ScaleOptions
    figures: Mapping[str, Any]
    traffic: Traffic
    claims: Sequence[Claim] = ()

    def to_document(self) -> dict[str, Any]:
        """Returns the document of ``--json``."""
        summary = self.traffic.summary
        return {
            "clusters": self.options.clusters,
            "callers": self.options.callers,
            "use_cases": self.options.use_cases,
            "seed": self.options.seed,
            "rate": self.options.rate,
            "drivers": self.options.drivers,
            **self.figures,
            "requests": summary.planned,
            "ok": summary.ok,
            "failed": summary.failed,
            "by_status": dict(summary.by_status),
            "failed_with": dict(self.traffic.failures),
            "misrouted": self.traffic.misrouted,
            "callers_answered": self.traffic.callers,
            "clusters_answering": self.traffic.clusters,
            "p50_ms": summary.p50_ms,
            "p99_ms": summary.p99_ms,
            "verdict": str(self.traffic.outcome),
            "verdicts": [
                {"checker": each.checker, "outcome": str(each.outcome), "summary": each.summary}
                for each in self.traffic.verdicts
            ],
            "claims": [claim.to_document() for claim in self.claims],
        }


def run(options: ScaleOptions, say: Callable[[str], None], home: Path | None = None) -> ScaleResult:
    """Brings the lab up, publishes, moves, churns, pauses a node, restarts the control plane, and takes the lab down.

    Raises:
        InputError: a number is out of range.
        LabError: a step failed or timed out.
    """
    began = time.monotonic()
    say(f"generating {options.clusters:,} clusters and starting their host")
    with open_scale_lab(
        clusters=options.clusters,
        callers=options.callers,
        use_cases=options.use_cases,
        seed=options.seed,
        say=say,
        home=home,
    ) as up:
        figures: dict[str, Any] = {"up_s": round(time.monotonic() - began, 1)}
        published = Published()
        figures |= _publish_first(up, published)
        samples: dict[str, Sequence[float]] = {}
        traffic = _under_churn(up, published, options, figures, samples)
        samples["move_alone_ms"] = moves(up, published, options.moves, options.seed + 2)
        figures["move_alone_ms"] = _percentiles(samples["move_alone_ms"])
        figures |= _past_a_stuck_node(up, published, options.seed)
        figures |= _after_a_restart(up)
        figures["memory_mb"] = _memory(up)
    figures["took_s"] = round(time.monotonic() - began, 1)
    is_whole = replace(options, seed=DEFAULT.seed, drivers=DEFAULT.drivers) == DEFAULT
    return ScaleResult(options, figures, traffic, goals(figures, traffic, samples) if is_whole else ())


def _publish_first(up: ScaleLab, published: Published) -> dict[str, Any]:
    """Publishes the whole table in one revision."""
    up.say("publishing the whole table in one revision")
    at: dict[str, int] = {}

    def take(seen: PublishProgress) -> None:
        at.setdefault("called", seen.called_ns)
        if seen.waiting is None:
            at[seen.step.phase] = seen.step.at_ns

    cpu_s = up.cpu_s(CONTROL_PLANE)
    with up.admin() as admin:
        source = ("scale.json", json.dumps(up.deployment.document))
        revision = admin.publish([source], author="scale", comment="all of it", progress=take)
    published.documents[revision] = up.deployment.document
    return {
        "publish_cpu_s": round(up.cpu_s(CONTROL_PLANE) - cpu_s, 3),
        "publish_ms": {phase: round((at[phase] - at["called"]) / _NS_PER_MS, 1) for phase in at if phase != "called"},
        "replicas": len(up.deployment.replicas),
        "model_versions": sum(len(each["versions"]) for each in up.deployment.document["models"].values()),
    }


def _under_churn(
    up: ScaleLab,
    published: Published,
    options: ScaleOptions,
    figures: dict[str, Any],
    samples: dict[str, Sequence[float]],
) -> Traffic:
    """Runs traffic, first with moves of one model version, then with churn."""
    # The moves come first, so traffic lasts longer than the churn.
    lead_s = options.moves * MOVE_S
    run = TrafficRun(
        up,
        rate=options.rate,
        seconds=lead_s + options.seconds + _MARGIN_S,
        seed=options.seed,
        drivers=options.drivers,
    )
    sidecars = up.sidecars()
    figures["warm_xds_kb"] = _kb([up.xds_bytes(each) for each in sidecars])
    figures["clusters_held"] = _spread([up.clusters_of(each) for each in sidecars])
    samples["move_ms"] = moves(up, published, options.moves, options.seed, within_s=lead_s)
    figures["move_ms"] = _percentiles(samples["move_ms"])
    up.say(f"{options.changes:g} changes a second for {options.seconds:g} s")
    cpu_s, began = up.cpu_s(CONTROL_PLANE), time.monotonic()
    received = [up.xds_bytes(each) for each in sidecars]
    churn = Churn(up, published, per_second=options.changes, seed=options.seed)
    most_mb = 0.0
    while time.monotonic() < began + options.seconds:
        time.sleep(1.0)
        most_mb = max(most_mb, up.rss_mb(CONTROL_PLANE))
    churn.stop()
    took_s = time.monotonic() - began
    changes = sum(churn.done.values())
    figures["churn"] = {
        "changes": churn.done,
        "changes_per_s": round(changes / took_s, 1),
        "revisions": len(published.whole_ms),
        "failures": published.failures,
        "left_behind": published.left_behind,
        "late_s": round(churn.late_s, 3),
        "sidecars_ms": _percentiles(published.sidecars_ms),
        "converged_ms": _percentiles(published.whole_ms),
        "control_plane_cores": round((up.cpu_s(CONTROL_PLANE) - cpu_s) / took_s, 3),
        "control_plane_rss_mb": round(most_mb, 1),
        "xds_bytes_per_change_and_sidecar": round(
            statistics.mean(up.xds_bytes(each) - before for each, before in zip(sidecars, received, strict=True))
            / max(changes, 1)
        ),
    }
    up.say("waiting for the last answers")
    run.wait()
    up.say("judging every answer")
    return run.judged(_revisions(up, published))


def _revisions(up: ScaleLab, published: Published) -> list[RevisionInfo]:
    """The control plane's record of each revision. It must hold the latest table exactly as it was published."""
    with up.admin() as admin:
        found = admin.revisions()
        held = admin.revision(max(published.documents)).document or {}
    if {**published.latest, "tenants": {}} != {"tenants": {}, **held}:
        raise PublishError("the control plane holds another route table than was published; look at its log")
    return [
        replace(each, document=dict(published.documents[each.revision]))
        for each in found
        if each.revision in published.documents
    ]


def _past_a_stuck_node(up: ScaleLab, published: Published, seed: int) -> dict[str, Any]:
    """Measures moves while one sidecar is paused."""
    stuck = up.sidecars()[0].name
    up.lab.units.pause(stuck)
    try:
        up.say(f"{stuck} is paused")
        # The first publish waits for the stuck node until its timeout.
        first = moves(up, published, 1, seed)
        began = time.monotonic()
        took_ms = moves(up, published, _MOVES_PAST_A_STUCK_NODE, seed + 1)
        each_s = (time.monotonic() - began) / _MOVES_PAST_A_STUCK_NODE
    finally:
        up.lab.units.resume(stuck)
    began = time.monotonic()
    _wait_for_nodes(up)
    return {
        "stuck": {
            "first_move_ms": round(max(first, default=0.0), 1),
            "move_ms": _percentiles(took_ms),
            "publish_s": round(each_s, 3),
            "caught_up_s": round(time.monotonic() - began, 2),
        }
    }


def _after_a_restart(up: ScaleLab) -> dict[str, Any]:
    """Measures what the sidecars receive after a restart of the control plane."""
    up.say("restarting the control plane")
    sidecars = up.sidecars()
    before = [up.xds_bytes(each) for each in sidecars]
    began = time.monotonic()
    up.lab.units.kill(CONTROL_PLANE)
    up.lab.units.start(CONTROL_PLANE)
    _wait_for_nodes(up)
    took_s = time.monotonic() - began
    received = [up.xds_bytes(each) - had for each, had in zip(sidecars, before, strict=True)]
    return {"restart": {"all_back_s": round(took_s, 2), "xds_kb": _kb(received), "nodes": len(sidecars)}}


def _wait_for_nodes(up: ScaleLab) -> None:
    """Waits until every sidecar holds the revision in force."""
    names = {each.name for each in up.sidecars()}

    def behind() -> list[str]:
        try:
            with up.admin() as admin:
                status = admin.status(replicas=False)
        except LabNotRunningError:
            return ["the control plane"]
        there = {each.node for each in status.nodes if each.acked_revision == status.revision and not each.error}
        return sorted(names - there)

    eventually("every sidecar holds the revision in force (still behind)", behind, within=_BACK, until=lambda b: not b)


def _memory(up: ScaleLab) -> dict[str, float]:
    each = [up.rss_mb(unit.name) for unit in up.sidecars()]
    units = {unit: round(up.rss_mb(unit), 1) for unit in (CONTROL_PLANE, SHARED_RESOLVER, MODEL_HOST, HOST_ENVOY)}
    return {**units, "sidecar_median": round(statistics.median(each), 1), "sidecars": round(sum(each), 1)}


def _kb(values: Sequence[int]) -> dict[str, float]:
    return _spread([round(value / 1e3, 2) for value in values])


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": round(statistics.median(values), 2), "most": max(values)}


def _percentiles(values: Sequence[float]) -> Mapping[str, float]:
    if not values:
        return {}
    ordered = sorted(values)
    ranks = {f"p{percent}": round(nearest_rank(ordered, percent), 1) for percent in (50, 90, 99)}
    return {"n": len(ordered), **ranks, "max": round(ordered[-1], 1)}
