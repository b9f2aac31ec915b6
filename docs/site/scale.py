"""Measures one run of `lab scale`: ten thousand clusters, thirty callers, a hundred changes a second."""

from __future__ import annotations

from typing import Any

from docs.site.measuring import lab_json
from lab.plugins.bench.scale.run import DEFAULT

_COMMAND = (
    f"lab scale --clusters {DEFAULT.clusters} --callers {DEFAULT.callers} --use-cases {DEFAULT.use_cases} "
    f"--seed {DEFAULT.seed} --json"
)


def measure() -> dict[str, Any]:
    """The run in the form of a bench: what is wanted of it as claims, and one table of what was seen.

    Raises:
        UnitError: the command ended without a result.
    """
    seen = lab_json(_COMMAND)
    return {"ran": {"rounds": 1, "command": _COMMAND}, "claims": seen["claims"], "tables": [table(seen)]}


def table(seen: dict[str, Any]) -> dict[str, Any]:
    """The table of a run from the document of ``lab scale --json``."""
    churn, stuck, restart, memory = (seen[part] for part in ("churn", "stuck", "restart", "memory_mb"))
    published = ", ".join(f"{phase} {ms / 1e3:.2f} s" for phase, ms in seen["publish_ms"].items())
    rows = [
        (
            f"answers at {seen['rate']:g} rps: right, wrong, failed",
            f"{seen['ok'] - seen['misrouted']:,}, {seen['misrouted']:,}, {seen['failed']:,}",
        ),
        ("verdict", seen["verdict"]),
        ("callers, clusters that answered", f"{seen['callers_answered']}, {seen['clusters_answering']:,}"),
        (
            f"{seen['clusters']:,} clusters, {seen['model_versions']:,} versions, {seen['replicas']:,} replicas",
            f"{published}; {seen['publish_cpu_s']:g} s of the control plane's processor time",
        ),
        ("one move to the last sidecar, without traffic", _spread(seen["move_alone_ms"])),
        ("one move to the last sidecar, under traffic", _spread(seen["move_ms"])),
        ("changes a second", f"{churn['changes_per_s']:g}"),
        (f"{churn['revisions']} revisions meanwhile, to the last sidecar", _spread(churn["sidecars_ms"])),
        (
            "control plane meanwhile",
            f"{churn['control_plane_cores']:g} cores, {churn['control_plane_rss_mb']:,.0f} MB",
        ),
        ("on the xDS wire, for a change and a sidecar", f"{churn['xds_bytes_per_change_and_sidecar']:,} bytes"),
        ("one move past a frozen sidecar", _spread(stuck["move_ms"])),
        ("control plane killed: all sidecars back", f"{restart['all_back_s']:g} s"),
        (
            "sent to a sidecar then; when it was new",
            f"{restart['xds_kb']['median']:g} KB; {seen['warm_xds_kb']['median']:g} KB",
        ),
        ("memory of a sidecar, median", f"{memory['sidecar_median']:,.0f} MB"),
    ]
    return {"title": "one run", "columns": ["", "seen"], "numbers": [], "rows": [list(row) for row in rows]}


def _spread(values: dict[str, float]) -> str:
    return f"p50 {values['p50']:g} ms, p99 {values['p99']:g} ms of {values['n']}" if values else "none was measured"
