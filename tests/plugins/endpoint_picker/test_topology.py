"""A lab with an endpoint picker: who picks, and what happens when the picker is dead, slow, or lied to."""

from __future__ import annotations

import asyncio
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest

from lab.checkers import Claim, Outcome
from lab.errors import CallError
from lab.lab import Lab
from lab.plugins.conform import Target
from lab.plugins.conform.profile import ProfileOptions
from lab.plugins.endpoint_picker.conformance import picker_profile
from lab.plugins.endpoint_picker.contract import DESTINATION
from lab.plugins.endpoint_picker.envoy import MESSAGE_TIMEOUT_S
from lab.roles import MODEL
from lab.routing.headers import FORGEABLE
from lab.runs import LoadOptions, RunResult, judge
from lab.runs.folder import RunFolder
from lab.runs.unit_evidence import arrivals_at
from lab.runtime.state import LabState
from models.proto.ranking.v1 import ranking_pb2
from tests.labs import TWO_REPLICAS, address_of, ask, lab_up, replica_of, status_of, with_timeout, write_spec

SPEC = """
topologies = ["picker", "picker-closed", "picker-body"]
routes = "routes.yaml"
[callers.homepage]
"""
OPEN, CLOSED, WITH_BODIES = "picker", "picker-closed", "picker-body"
KEY, PAYLOAD = "cw-ranker.v1", 220_000
REPLICAS = {"ml-cluster-1-a", "ml-cluster-1-b"}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("picker")
    # In plaintext a client can send whatever headers it likes.
    with lab_up(
        folder, spec=write_spec(folder, SPEC, with_timeout(TWO_REPLICAS, "2s")), security="plaintext", metrics=True
    ) as lab:
        yield lab


def driven(lab: Lab, topology: str = OPEN, *, payload_bytes: int = 400, rate: float = 60) -> RunResult:
    return lab.load(
        LoadOptions(topology=topology, caller="homepage", rate=rate, duration_s=3, payload_bytes=payload_bytes)
    )


def counted(lab: Lab, name: str) -> dict[str, float]:
    """The picker's metric, by the value of its label."""
    url = next(each.url for each in lab.endpoints().metrics if each.labels["unit"] == "picker")
    with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 (our own unit's)
        lines = [line.rpartition(" ") for line in answer.read().decode().splitlines() if line.startswith(name)]
    return {labels.partition('"')[2].partition('"')[0]: float(value) for labels, _, value in lines}


@pytest.mark.parametrize("topology", [OPEN, WITH_BODIES])
def test_every_request_is_served_as_picked_and_bodies_reach_the_picker_only_where_they_should(
    lab: Lab, topology: str
) -> None:
    before = counted(lab, "lab_picker_body_bytes_total")[""]
    run = driven(lab, topology, payload_bytes=PAYLOAD)

    verdicts = {each.checker: each for each in judge(run.folder).verdicts}
    records = RunFolder(run.folder).history
    assert verdicts["served"].summary == (
        f"{len(records)} picks, {len(records)} served as picked, 0 elsewhere; 0 requests without a pick"
    )
    assert [each for each in verdicts.values() if each.outcome is Outcome.INVALID] == []
    assert run.claims[Claim.CORRECTNESS] is Outcome.VALID
    shares = Counter(record.replica for record in records)
    assert shares.keys() == REPLICAS
    assert max(shares.values()) - min(shares.values()) <= 1
    assert counted(lab, "lab_picker_picks_total")["as picked"] >= len(records)
    seen = counted(lab, "lab_picker_body_bytes_total")[""] - before
    if topology == OPEN:
        assert seen == 0
    else:
        assert seen > len(records) * PAYLOAD


def test_the_picker_keeps_the_contract_as_a_foreign_one_must(lab: Lab) -> None:
    options = ProfileOptions(header="x-routing-key", send={"x-routing-key": KEY})
    results = asyncio.run(picker_profile.run(Target.of(address_of(lab, "picker")), options))
    assert {each.feature: (each.verdict, each.reason) for each in results} == dict.fromkeys(
        picker_profile.CHECKS, ("pass", "")
    )


def test_without_the_picker_one_envoy_sends_by_its_own_policy_and_the_others_refuse(lab: Lab) -> None:
    with lab.faults.injected("kill", "picker"):
        served = {replica_of(lab, OPEN) for _ in range(4)}
        refused = {status_of(lab, each) for each in (CLOSED, WITH_BODIES) for _ in range(4)}
        for each in (CLOSED, WITH_BODIES):
            with pytest.raises(
                CallError, match=r"^\S+: routing key '\S+': no answer from the picker: ext_proc_error\S+"
            ):
                ask(lab, each)
    assert served == REPLICAS
    assert refused == {"UNAVAILABLE"}
    assert {status_of(lab, each) for each in (OPEN, CLOSED, WITH_BODIES)} == {"OK"}


def test_a_picker_that_does_not_answer_holds_a_request_for_a_bounded_time(lab: Lab) -> None:
    with lab.faults.injected("pause", "picker"):
        began = time.monotonic()
        with pytest.raises(CallError, match=r"no answer from the picker: .*timeout_exceeded") as late:
            ask(lab, CLOSED)
        assert late.value.code is grpc.StatusCode.UNAVAILABLE
        assert ask(lab, OPEN).replica in REPLICAS
        took_s = time.monotonic() - began
        # What bodies pass through has no limit but the request's deadline, and after 4 s Envoy's keepalive.
        assert status_of(lab, WITH_BODIES) == "DEADLINE_EXCEEDED"
    # Each waits for the picker once; the deadline of a request is 2 s.
    assert 2 * MESSAGE_TIMEOUT_S <= took_s < 2 * MESSAGE_TIMEOUT_S + 2


@pytest.mark.parametrize("faults", [(), ("kill",)], ids=["picker lives", "picker is dead"])
def test_a_forged_endpoint_leads_nowhere_and_reaches_no_model(lab: Lab, faults: tuple[str, ...]) -> None:
    units = [each for each in LabState.of(lab.folder).plan.units if each.role == MODEL]
    since_ns = time.time_ns()
    with ExitStack() as broken:
        for fault in faults:
            broken.enter_context(lab.faults.injected(fault, "picker"))
        _send(lab, dict.fromkeys(FORGEABLE, units[0].address))
    arrivals = arrivals_at(units, (), since_ns=since_ns, file_of=lambda _: Path("none")).requests

    assert Counter(each.replica for each in arrivals) == dict.fromkeys(REPLICAS, 6)
    of_picks = [[name for name in each.headers.split() if name in FORGEABLE] for each in arrivals]
    assert of_picks == 12 * [[] if faults else [DESTINATION]]


def _send(lab: Lab, headers: dict[str, str]) -> None:
    """Sends twelve requests with these headers."""
    request = ranking_pb2.RankRequest(titles=[ranking_pb2.Title(id="t1")]).SerializeToString()
    with grpc.insecure_channel(address_of(lab, "picking-envoy")) as channel:
        rank: Any = channel.unary_unary("/ranking.v1.Ranking/Rank", request_serializer=bytes)
        for _ in range(12):
            rank(request, metadata=(("x-routing-key", KEY), *headers.items()), timeout=10)


def test_in_a_secured_lab_a_dead_replica_is_passed_over_down_the_list(tmp_path: Path) -> None:
    with lab_up(tmp_path, spec=write_spec(tmp_path, SPEC, TWO_REPLICAS), picker="least-request") as lab:
        with lab.faults.injected("pause", "control-plane"), lab.faults.injected("kill", "ml-cluster-1-a"):
            # Nobody has told picker and Envoy, so half of the picks name the dead one first.
            assert {replica_of(lab, OPEN) for _ in range(12)} == {"ml-cluster-1-b"}
        run = driven(lab)
    verdicts = {each.checker: each for each in judge(run.folder).verdicts}
    assert verdicts["served"].outcome is Outcome.VALID, verdicts["served"]
    assert run.claims[Claim.CORRECTNESS] is Outcome.VALID
