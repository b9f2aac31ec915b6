"""Weights from the load that replicas report: a slow one gets fewer requests, where gRPC picks and where Envoy does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from lab.checkers import Claim, Outcome
from lab.lab import Lab
from lab.pickers import GATEWAY, PICKERS, Cannot
from lab.plugins.pickers import weights
from lab.runs import RunResult
from lab.runs.evidence import evidence_of
from lab.runs.folder import RunFolder
from tests.lab_command import run_lab
from tests.labs import drive_all, lab_up

SPEC = """
topologies = ["direct", "mesh", "proxyless"]
routes = "routes.yaml"
picker = "orca-weights"
[callers.homepage]
page = [["Rows"]]
[stub]
latency = "constant:10"
"""
ROUTES = """
use_cases: {Rows: {callers: [homepage], api: ranking.v1, timeout: 10s, default: rows@v1}}
models: {rows: {versions: {v1: {cluster: ml-cluster-1}}}}
clusters: {ml-cluster-1: {replicas: 3}}
"""
SLOW = "ml-cluster-1-a"
WEIGHING = ("direct", "mesh", "proxyless")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Three replicas that take 10 ms; one of them takes 50 ms."""
    folder = tmp_path_factory.mktemp("orca")
    (folder / "routes.yaml").write_text(ROUTES)
    (spec := folder / "lab.toml").write_text(SPEC)
    with lab_up(folder, spec=spec) as lab:
        run_lab(lab, "fault", "inject", "slow", SLOW, "--set", "ms=40")
        yield lab


@pytest.fixture(scope="module")
def runs(lab: Lab) -> dict[str, RunResult]:
    """A run over each topology, all at the same time."""
    return drive_all(lab, WEIGHING, rate=60, duration_s=8)


@pytest.mark.parametrize("topology", WEIGHING)
def test_a_slow_replica_gets_fewer_requests(topology: str, runs: dict[str, RunResult]) -> None:
    evidence = evidence_of(RunFolder(runs[topology].folder))

    came = Counter(each.replica for record in evidence.records for each in evidence.attempts[record.request_id])

    assert runs[topology].claims[Claim.CORRECTNESS] is Outcome.VALID
    # By service times of 10, 10 and 50 ms its due is 1 of 11 parts, without weights a third. Those of the first one
    # or two seconds, of eight, are in turn.
    assert 0.04 < came[SLOW] / came.total() < 0.24
    others = [count for replica, count in came.items() if replica != SLOW]
    assert max(others) < 1.2 * min(others)
    verdict = weights.check(evidence)
    assert verdict is not None
    assert verdict.outcome is Outcome.VALID, verdict


def test_the_gateway_refuses_it_with_the_reason() -> None:
    configured = PICKERS["orca-weights"].at(GATEWAY)
    assert isinstance(configured, Cannot)
    assert "reads no load reports" in configured.reason
