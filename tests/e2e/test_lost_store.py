"""A control plane that comes back without its store leaves the lab as it was last published."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from lab.checkers import Outcome
from lab.lab import Lab
from lab.runs import LoadOptions, RunResult
from lab.runs.folder import RunFolder
from lab.waiting import eventually
from scenarios.framework.steps import under_loads
from tests.lab_command import run_lab
from tests.labs import TWO_CALLERS_ROUTES, TWO_CALLERS_SPEC, known, write_spec

WITHIN = timedelta(seconds=30)
TOPOLOGIES = ("mesh", "gateway", "gateway-header", "proxyless")


@pytest.fixture
def lab(own_lab: Lab, tmp_path: Path) -> Lab:
    own_lab.up(spec=write_spec(tmp_path, TWO_CALLERS_SPEC, TWO_CALLERS_ROUTES), runtime="process")
    return own_lab


def connected(lab: Lab) -> set[str]:
    """The nodes that the control plane knows, without those of drivers."""
    status = lab.control_plane_status()
    return set() if status is None else {each.node for each in status.nodes if "proxyless" not in each.node}


def outcome_of(checker: str, result: RunResult) -> Outcome:
    return next(each.outcome for each in result.verdicts if each.checker == checker)


def loads(duration_s: float) -> list[LoadOptions]:
    return [
        LoadOptions(topology=each, caller="homepage", rate=20.0, duration_s=duration_s, seed=1) for each in TOPOLOGIES
    ]


def test_what_was_published_last_stays_in_force_until_the_next_publish(lab: Lab, tmp_path: Path) -> None:
    before, revision = connected(lab), known(lab).revision

    with under_loads(lab, *loads(duration_s=100.0)) as runs:
        lab.units.kill("control-plane")
        for path in (lab.folder / "units" / "control-plane").glob("registry.sqlite*"):
            path.unlink()
        lab.units.start("control-plane")
        eventually("all nodes are back", lambda: connected(lab), within=WITHIN, until=before.issubset)
        assert "the control plane has no revision: nodes keep the last one" in run_lab(lab, "status").stdout
        going_on = [each for each in lab.runs.iterdir() if not each.is_symlink() and RunFolder(each).spools]
        so_far = {each: outcome_of("routing", lab.judge_so_far(each)) for each in going_on}
        assert list(so_far.values()) == [Outcome.VALID] * len(TOPOLOGIES), so_far
    results = [each.result() for each in runs]
    assert [(each.summary.failed, each.outcome) for each in results] == [(0, Outcome.VALID)] * len(TOPOLOGIES)

    moved = TWO_CALLERS_ROUTES.replace("v1: {cluster: ml-cluster-1}", "v1: {cluster: ml-cluster-2}")
    (tmp_path / "routes.yaml").write_text(moved)
    assert lab.routes.publish(tmp_path / "routes.yaml") > revision
    results = list(lab.load_parallel(loads(duration_s=2.0)).runs)
    assert [(each.summary.failed, each.outcome) for each in results] == [(0, Outcome.VALID)] * len(TOPOLOGIES)
