"""A cluster's VIP gives out connections: one caller's requests reach one replica, and *balance* says so."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab.checkers import Claim, Outcome
from lab.lab import Lab
from lab.runs import RunResult, judge
from lab.runs.folder import RunFolder
from tests.labs import TWO_REPLICAS, drive_all, lab_up, write_spec

SPEC = 'topologies = ["direct", "direct-vip"]\nroutes = "routes.yaml"\n[callers.homepage]\n'


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("vip")
    with lab_up(folder, spec=write_spec(folder, SPEC, TWO_REPLICAS)) as lab:
        yield lab


def driven(lab: Lab, *topologies: str) -> list[RunResult]:
    return [*drive_all(lab, topologies, rate=40, duration_s=4).values()]


def replicas_of(run: RunResult) -> set[str]:
    return {each.replica for each in RunFolder(run.folder).history if each.status == "OK"}


def test_all_requests_of_one_connection_reach_one_replica(lab: Lab) -> None:
    through, straight = driven(lab, "direct-vip", "direct")

    assert [len(replicas_of(run)) for run in (through, straight)] == [1, 2]
    verdicts = {each.checker: each for each in judge(through.folder).verdicts}
    assert verdicts["balance"].outcome is Outcome.INVALID
    assert "received 0 of" in verdicts["balance"].violations[0].message
    # Nothing else is wrong: each answer is right, and comes from the replica whose certificate the caller has seen.
    invalid = [each.checker for each in verdicts.values() if each.outcome is Outcome.INVALID]
    assert invalid == ["balance"]
    assert through.claims[Claim.CORRECTNESS] is straight.claims[Claim.CORRECTNESS] is Outcome.VALID
    assert straight.claims[Claim.AVAILABILITY] is Outcome.VALID


def test_a_connection_whose_replica_ends_is_opened_to_another(lab: Lab) -> None:
    [[replica]] = map(replicas_of, driven(lab, "direct-vip"))
    with lab.faults.injected("kill", replica):
        [[other]] = map(replicas_of, driven(lab, "direct-vip"))
    assert other != replica
