"""What a dead cluster and a flooding tenant reach where the versions have shards: their shard alone."""

from __future__ import annotations

import json
from concurrent.futures import wait
from typing import TYPE_CHECKING, Any

import pytest

from lab.checkers.plain import decide
from lab.clock import lab_time_ns
from lab.routing.document import read_path
from models.proto.control.v1 import stub_pb2
from scenarios.framework.steps import (
    USE_CASE,
    assert_no_wrong_answer,
    load_on,
    records_of,
    set_behaviour,
    under_load,
    verdict_of,
)
from scenarios.framework.verdicts import UnknownError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from lab.history import Record
    from lab.lab import Lab
    from scenarios.framework.scenario import Scenario

CLUSTERS = ["ml-cluster-1", "ml-cluster-2", "ml-cluster-3", "ml-cluster-4"]
FIRST = CLUSTERS[0]
RATE = 100.0
DEAD_S = 1.5
NOISY, OTHERS = "noisy", ("drama", "kids")
SERVICE_MS = 200.0


@pytest.mark.scenario(takes_s=12)
def test_a_dead_cluster_reaches_its_shard_alone(
    scenario: Scenario, lab: Lab, topology: str, routes: Path, tmp_path: Path
) -> None:
    """With 1, 2 and 4 shards, requests of the dead cluster's users fail, and of no other user any."""
    for shards in (1, 2, 4):
        document = _publish(lab, routes, tmp_path, {"shards": CLUSTERS[:shards]})
        with (
            under_load(lab, load_on(topology, RATE)) as run,
            scenario.step(f"Kill {FIRST}, which has one of {shards} shards"),
            scenario.fault("kill", FIRST, share=1),
        ):
            dead_ns = lab_time_ns()
            wait([run], timeout=DEAD_S)
            until_ns = lab_time_ns()
        result = run.result()
        assert_no_wrong_answer(result)
        assert str(verdict_of(result, "answered")) == "valid"
        records = records_of(result)
        failed = [each for each in records if each.status != "OK"]
        assert {_cluster(document, each) for each in failed} <= {FIRST}
        hit = [each.status != "OK" for each in records if dead_ns < each.sent_ns and each.done_ns < until_ns]
        if not any(hit):
            raise UnknownError(f"nothing that was sent while {FIRST} was dead has failed\n{result.folder}")
        scenario.figure(f"shards: {shards}", f"{sum(hit) / len(hit):.0%} of {len(hit)} requests failed")


@pytest.mark.scenario(takes_s=6)
def test_a_flooding_tenant_reaches_its_shard_alone(
    scenario: Scenario, lab: Lab, topology: str, routes: Path, tmp_path: Path
) -> None:
    """One tenant overloads the cluster of its shard; the tenants of the other shard have every request answered."""
    _publish(lab, routes, tmp_path, {"shards": CLUSTERS[:2], "tenants": {NOISY: 1, "default": 2}})
    slow = stub_pb2.Behaviour(constant=stub_pb2.ConstantLatency(ms=SERVICE_MS), concurrency_limit=1)
    set_behaviour(lab, slow, FIRST)
    try:
        with scenario.step("Let one tenant send five times what its shard can serve"):
            contexts = {"tenant": (NOISY, *OTHERS)}
            result = lab.load(load_on(topology, RATE, duration_s=3, contexts=contexts))
    finally:
        set_behaviour(lab, stub_pb2.Behaviour(constant=stub_pb2.ConstantLatency(ms=0), concurrency_limit=0), FIRST)
    assert_no_wrong_answer(result)
    refused = [each for each in records_of(result) if each.status != "OK"]
    assert {each.tenant for each in refused} == {NOISY}
    scenario.figure("refused", f"{len(refused)} requests of {NOISY}, none of {' and '.join(OTHERS)}")


def _publish(lab: Lab, routes: Path, folder: Path, cluster: Mapping[str, Any]) -> dict[str, Any]:
    """Publishes the default table with the use case's version on these shards, and without rules."""
    document = read_path(routes).document
    document["use_cases"][USE_CASE].pop("rules", None)
    document["models"]["cw-ranker"]["versions"]["v1"]["cluster"] = cluster
    path = folder / "sharded.yaml"
    path.write_text(json.dumps(document))
    lab.routes.publish(path, comment=f"shards: {cluster}")
    return document


def _cluster(document: Mapping[str, Any], record: Record) -> str:
    return decide(document, record.use_case, {"caller": record.caller, "user_id": record.user_id}).cluster
