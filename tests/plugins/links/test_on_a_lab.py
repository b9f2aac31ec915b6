"""A lab with two zones: its runs are valid, its links delay and count, and the fault ``delay`` shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import grpc
import pytest

from lab.checkers import Outcome
from lab.checkers.kinds.path import hops_in
from lab.errors import InputError, LabError
from lab.lab import Lab
from lab.plugins.links import control
from lab.plugins.links.checker import check
from lab.runs import LoadOptions, RunResult
from lab.runs.evidence import evidence_of
from lab.runs.folder import RunFolder
from lab.runtime.identities import Identities
from lab.runtime.state import LabState
from lab.spec import SIZES
from lab.transport.security import MTLS, Security
from tests.labs import drive_all, lab_up

TOPOLOGIES = ("gateway", "mesh", "proxyless")
WEST = ("ml-cluster-1-a", "ml-cluster-2-a")
ROUND_TRIP_MS = 1.0  # there and back over one link of the spec


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with lab_up(tmp_path_factory.mktemp("links"), spec=SIZES["links"]) as lab:
        yield lab


def driven(lab: Lab, topology: str, rate: float, duration_s: float) -> RunResult:
    return lab.load(LoadOptions(topology=topology, caller="homepage", rate=rate, duration_s=duration_s))


def invalid(run: RunResult) -> list[str]:
    return [each.summary for each in run.verdicts if each.outcome is Outcome.INVALID]


def latencies_ms(run: RunResult) -> list[float]:
    return [(each.done_ns - each.sent_ns) / 1e6 for each in RunFolder(run.folder).history if each.status == "OK"]


@pytest.fixture(scope="module")
def runs(lab: Lab) -> dict[str, RunResult]:
    """A run over each topology, all at the same time."""
    before = carried(lab)
    found = drive_all(lab, TOPOLOGIES, rate=60, duration_s=3)
    assert all(carried(lab)[name] > before[name] for name in ("west-to-gateway-1", "east-to-ml-cluster-1-a"))
    return found


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_a_run_through_links_is_valid(runs: dict[str, RunResult], topology: str) -> None:
    run = runs[topology]
    assert not invalid(run)
    verdicts = {each.checker: each.outcome for each in run.verdicts}
    assert verdicts["links"] is Outcome.VALID
    evidence = evidence_of(RunFolder(run.folder))
    attempts = [each for record in evidence.records for each in evidence.attempts[record.request_id]]
    came = Counter(each.replica for each in attempts)
    if topology == "gateway":
        assert min(latencies_ms(run)) >= ROUND_TRIP_MS
        assert set(came) > {*WEST}  # a gateway takes all replicas in turn, in whichever zone
        assert {hop.unit for each in attempts for hop in hops_in(each.via)} == {"gateway-1"}
    else:
        assert set(came) <= {*WEST}  # mesh and gRPC keep to their own zone


def carried(lab: Lab) -> dict[str, float]:
    found = {}
    for unit in lab.status().units:
        if unit.role == "link":
            assert unit.figures is not None
            found[unit.name] = unit.figures["bytes_there"] + unit.figures["bytes_back"]
    return found


def test_the_status_of_a_lab_with_links_counts_bytes(lab: Lab) -> None:
    units = {unit["name"]: unit for unit in lab.status().to_document()["units"]}
    figures = units["west-to-gateway-1"]["figures"]
    assert figures["there"] == figures["back"] == {"delay_ms": 0.5, "jitter_ms": 0.0, "mbit_s": 1000.0}
    assert figures["late_mean_ms"] <= figures["late_max_ms"]
    assert "figures" not in units["gateway-1"]


def test_the_fault_delay_shows_in_latencies_and_in_the_journal(lab: Lab) -> None:
    with lab.faults.injected("delay", "west", ms=20) as fault:
        assert fault.observe().visible == "yes"
        slow, untouched = drive_all(lab, ["gateway", "mesh"], rate=20, duration_s=2).values()
    healed = control.read(LabState.of(lab.folder).plan.unit("west-to-gateway-1"))

    assert not invalid(slow)
    assert min(latencies_ms(slow)) >= 2 * 20 + ROUND_TRIP_MS
    assert min(latencies_ms(untouched)) < 2 * 20
    assert healed is not None
    assert healed["there"] == healed["back"] == {"delay_ms": 0.5, "jitter_ms": 0.0, "mbit_s": 1000.0}
    [event] = [each for each in RunFolder(slow.folder).events if each.kind == "delay"]
    assert (event.target, event.past) == ("west", "delayed")
    assert "ms 20" in event.text
    done = [act.what for act in lab.audit().acts if "delay" in act.what]
    assert done[:2] == ["fault inject delay", "fault heal delay"]


def test_a_fault_of_one_link_hits_it_alone(lab: Lab) -> None:
    with lab.faults.injected("delay", "west-to-gateway-1", ms=5) as fault:
        assert fault.record.units == ("west-to-gateway-1",)
    with pytest.raises(InputError, match=r"delay gateway-1: is not a link or zone; there are the zones west, east"):
        lab.faults.inject("delay", "gateway-1")


def test_a_link_that_ends_takes_its_target_away_from_its_zone_alone(lab: Lab) -> None:
    with lab.faults.injected("kill", "west-to-ml-cluster-1-b"):
        through_gateway = driven(lab, "gateway", rate=30, duration_s=2)  # which is in the east
        assert not invalid(through_gateway)
        verdicts = {each.checker: each.outcome for each in through_gateway.verdicts}
        assert verdicts["links"] is Outcome.VALID
        came = {each.replica for each in RunFolder(through_gateway.folder).history}
    assert "ml-cluster-1-b" in came


def test_an_answer_that_is_too_fast_for_its_links_is_seen(lab: Lab) -> None:
    run = RunFolder(driven(lab, "gateway", rate=20, duration_s=1).folder)
    gathered = run.gathered["links"]
    evidence = evidence_of(run)
    for pair in gathered["delays"]:
        gathered["delays"][pair] = 10_000.0
    claimed = check(replace(evidence, gathered={"links": gathered}))
    assert claimed is not None
    assert claimed.outcome is Outcome.INVALID
    assert "though the links on its way take " in claimed.violations[0].message


def test_the_operator_alone_may_change_a_link(lab: Lab) -> None:
    link = LabState.of(lab.folder).plan.unit("west-to-gateway-1")
    before = control.read(link)
    caller = Security(MTLS, str(Identities(lab.folder).of("homepage")))
    for method in ("Read", "Change"):
        with grpc.secure_channel(link.address, caller.channel_credentials()) as channel:
            call: Any = channel.unary_unary(f"/{control.SERVICE}/{method}")
            with pytest.raises(grpc.RpcError) as refused:
                call(b"", timeout=10)
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert before is not None
    assert control.change(link, before) == {each: before[each] for each in ("there", "back")}
    with pytest.raises(LabError, match=r"there and back: each needs delay_ms of 0 to 10000"):
        control.change(link, {"there": {"delay_ms": -1}, "back": {}})


def test_replicas_stay_as_they_are(lab: Lab) -> None:
    with pytest.raises(InputError, match="a lab with links keeps its replicas"):
        lab.units.scale("ml-cluster-1", 3)
