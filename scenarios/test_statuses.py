"""The same failure has the same status on every topology, and its message names the subject."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import grpc
import pytest

from lab.errors import CallError
from lab.waiting import eventually
from models.proto.control.v1 import stub_pb2
from scenarios.framework.steps import set_behaviour

if TYPE_CHECKING:
    from lab.lab import Lab
    from scenarios.framework.scenario import Scenario
    from scenarios.framework.steady import SteadyState

CLUSTER = "ml-cluster-6"
USE_CASE, CALLER, KEY = "FraudDetection", "payments", "fraud.v1"
BACK_WITHIN = timedelta(seconds=15)


def _refusal(lab: Lab, topology: str) -> CallError:
    with pytest.raises(CallError) as refusal:
        lab.call(USE_CASE, topology=topology, caller=CALLER, context={"user_id": "u1"})
    return refusal.value


@pytest.mark.smoke
@pytest.mark.scenario(takes_s=3)
def test_a_slow_model_is_deadline_exceeded(scenario: Scenario, lab: Lab, topology: str, steady: SteadyState) -> None:
    """A model that takes ten seconds fails a use case that allows two, after those two."""
    with scenario.step("Let the model take ten seconds, and ask"):
        try:
            set_behaviour(lab, stub_pb2.Behaviour(constant=stub_pb2.ConstantLatency(ms=10_000)), CLUSTER)
            refusal = _refusal(lab, topology)
        finally:
            set_behaviour(lab, steady.behaviour, CLUSTER)

    assert grpc.StatusCode.DEADLINE_EXCEEDED is refusal.code
    assert refusal.message == f"{USE_CASE} ({KEY}): no answer within 2000 ms"


@pytest.mark.smoke
@pytest.mark.scenario(takes_s=1)
def test_a_failing_models_status_reaches_the_caller(scenario: Scenario, lab: Lab, topology: str) -> None:
    """A model's own error reaches the caller as it is."""
    with scenario.step("Let the model fail always, and ask"), scenario.fault("error", CLUSTER, rate=1, share=1):
        refusal = _refusal(lab, topology)

    assert grpc.StatusCode.INTERNAL is refusal.code
    assert KEY in refusal.message


@pytest.mark.smoke
@pytest.mark.scenario(takes_s=4)
def test_an_empty_cluster_is_unavailable_until_replicas_return(
    scenario: Scenario, lab: Lab, topology: str, topologies: list[str]
) -> None:
    """With all its replicas dead a cluster is UNAVAILABLE, in words that name the key; then it answers again."""
    with scenario.step(f"Kill all of {CLUSTER}, and ask"), scenario.fault("kill", CLUSTER):
        refusal = scenario.see(
            "the dead replicas have left",
            lambda: _refusal(lab, topology),
            within=BACK_WITHIN,
            until=lambda error: "no healthy" in error.message,
        )

    assert grpc.StatusCode.UNAVAILABLE is refusal.code
    assert KEY in refusal.message
    with scenario.step("Start them, and ask until they answer"):
        eventually("the cluster answers on every topology", lambda: _answers(lab, topologies), within=BACK_WITHIN)


def _answers(lab: Lab, topologies: list[str]) -> bool:
    # More calls than gateways: each gateway must know the replicas again.
    calls = [topology for topology in topologies for _ in range(4)]
    try:
        return all(
            lab.call(USE_CASE, topology=topology, caller=CALLER, context={"user_id": "u1"}).cluster == CLUSTER
            for topology in calls
        )
    except CallError:
        return False
