"""Shadows, chains, pinned requests and tears in a lab that is up: over each topology, with its evidence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import grpc
import pytest

from lab import CHECKOUT
from lab.errors import CallError, InputError
from lab.history import Record, read_parquet
from lab.history.arrivals import Arrival, read_arrivals
from lab.lab import Lab
from lab.load.steps import WARM_UP
from lab.runs import LoadOptions, RunResult
from lab.transport import open_blocking_channel
from models.proto.control.v1 import stub_pb2, stub_pb2_grpc
from scenarios.framework.steps import PHONES, set_behaviour
from tests.lab_command import json_of, refusal, run_lab
from tests.labs import drive_all

USE_CASE = "ContinueWatchingRanking"
TOPOLOGIES = ["gateway", "gateway-passthrough", "gateway-header", "mesh", "mesh-unleased", "proxyless"]
COPYING = ["gateway", "gateway-passthrough", "gateway-header", "mesh", "proxyless"]
TEARING = ["gateway-header", "mesh", "mesh-unleased", "proxyless"]
CHAIN = """\
    override: [homepage]
    fallback: [cw-ranker@v1]
    shadow: {use: cw-ranker@v3, percent: 30}
"""


@pytest.fixture(scope="module")
def chained(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The default lab with a chain, a shadow and pinning for one use case."""
    before = (CHECKOUT / "routes.yaml").read_text()
    routes = tmp_path_factory.mktemp("chain") / "routes.yaml"
    routes.write_text(before.replace(f"  {USE_CASE}:\n", f"  {USE_CASE}:\n{CHAIN}", 1))
    lab.routes.publish(routes)
    yield lab
    lab.routes.publish(CHECKOUT / "routes.yaml")


@contextmanager
def behaving(lab: Lab, cluster: str, behaviour: stub_pb2.Behaviour) -> Iterator[None]:
    """Every replica of the cluster behaves so, and fails no request afterwards."""
    try:
        set_behaviour(lab, behaviour, cluster)
        yield
    finally:
        set_behaviour(lab, stub_pb2.Behaviour(error_rate=0, constant=stub_pb2.ConstantLatency(ms=0)), cluster)


def counts(lab: Lab, cluster: str) -> stub_pb2.Counts:
    """What the replicas of a cluster have counted, together."""
    total = stub_pb2.Counts()
    for unit in lab.status().units:
        if unit.name.startswith(cluster):
            with open_blocking_channel(unit.address) as channel:
                found = stub_pb2_grpc.StubControlStub(channel).GetCounts(stub_pb2.GetCountsRequest(), timeout=10)
            total.requests += found.requests
            total.tears += found.tears
            total.copies += found.copies
    return total


def drive(lab: Lab, topology: str, *, duration_s: float = 1, **options: Any) -> RunResult:
    return lab.load(
        LoadOptions(topology=topology, caller="homepage", use_cases=(USE_CASE,), duration_s=duration_s, **options)
    )


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_each_answer_names_its_source(chained: Lab, topology: str) -> None:
    arguments = ("call", USE_CASE, "--topology", topology, "--context", "device=tv", "--context", "country=US")
    assert "source       model" in run_lab(chained, *arguments).stdout
    with behaving(chained, "ml-cluster-2", stub_pb2.Behaviour(error_rate=1)):
        answer = json_of(run_lab(chained, *arguments, "--json"))
        assert (
            *(answer["source"], answer["routing_key"]),
            *(answer["version"], answer["attempts"]),
        ) == ("fallback", "cw-ranker.v1", "v1", 2)
        with behaving(chained, "ml-cluster-1", stub_pb2.Behaviour(error_rate=1)):
            assert "source       default" in run_lab(chained, *arguments).stdout


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_a_request_is_pinned_by_its_context(chained: Lab, topology: str) -> None:
    arguments = ("call", USE_CASE, "--topology", topology)
    answer = json_of(run_lab(chained, *arguments, "--context", "override=cw-ranker@v3", "--json"))
    assert (answer["routing_key"], answer["version"], answer["source"]) == ("cw-ranker.v3", "v3", "model")

    unknown = refusal(run_lab(chained, *arguments, "--context", "override=cw-ranker@v9"))
    assert "NOT_FOUND" in unknown
    assert "cw-ranker@v9" in unknown
    other = {"user_id": "u1", "override": "cw-ranker@v3"}
    with pytest.raises(CallError, match="recommendations") as refused:
        chained.call(USE_CASE, topology=topology, caller="recommendations", context=other)
    assert refused.value.code is grpc.StatusCode.PERMISSION_DENIED


class Copied(NamedTuple):
    """A run whose requests are copied by draw."""

    records: Sequence[Record]
    result: RunResult
    marked: set[str]
    copies: list[Arrival]


@pytest.fixture(scope="module", params=[400, 2_000_000], ids=["400 B", "2 MB"])
def copied(request: pytest.FixtureRequest, chained: Lab) -> dict[str, Copied]:
    """A run over each topology, with what the models report of it; they report nothing else."""
    before = counts(chained, "ml-cluster-2")
    rate, duration_s = (100, 1) if request.param < 1_000_000 else (10, 4)
    options = {"use_cases": (USE_CASE,), "contexts": PHONES, "payload_bytes": request.param}
    found, others = {}, set()
    for topology, result in drive_all(chained, COPYING, rate=rate, duration_s=duration_s, **options).items():
        records = read_parquet(result.folder / "history.parquet")
        ids = {record.request_id for record in records}
        marked = {record.request_id for record in records if record.shadow == "cw-ranker.v3"}
        copies = [each for each in read_arrivals(result.folder / "arrivals.parquet")[0] if each.is_copy]
        found[topology] = Copied(records, result, marked, [each for each in copies if each.request_id in ids])
        others |= {each.request_id for each in copies}

    others -= set[str]().union(*(each.marked for each in found.values()))
    assert [each for each in others if WARM_UP not in each] == []
    after = counts(chained, "ml-cluster-2")
    assert after.copies - before.copies == sum(len(each.marked) for each in found.values()) + len(others)
    # A copy is not a request of the shadow's own: nobody asked for it.
    assert after.requests == before.requests
    return found


@pytest.mark.parametrize("topology", COPYING)
def test_every_request_that_is_drawn_is_copied_and_no_other(copied: dict[str, Copied], topology: str) -> None:
    run = copied[topology]
    assert 0 < len(run.marked) < len(run.records) == run.result.summary.ok
    assert sorted(run.marked) == sorted(each.request_id for each in run.copies)
    assert {each.routing_key for each in run.copies} == {"cw-ranker.v3"}


@pytest.fixture(scope="module")
def beside_a_slow_shadow(chained: Lab) -> dict[str, RunResult]:
    """A run over each topology, whose copies take two seconds and fail."""
    slow = stub_pb2.Behaviour(constant=stub_pb2.ConstantLatency(ms=2_000), error_rate=1)
    with behaving(chained, "ml-cluster-2", slow):
        return drive_all(chained, COPYING, use_cases=(USE_CASE,), contexts=PHONES, rate=100, duration_s=2)


@pytest.mark.parametrize("topology", COPYING)
def test_a_shadow_that_takes_its_time_or_fails_is_nowhere_in_the_run(
    beside_a_slow_shadow: dict[str, RunResult], topology: str
) -> None:
    result = beside_a_slow_shadow[topology]
    assert result.summary.ok == result.summary.planned
    # Nothing that waited for a copy could have been answered before the copy was.
    assert result.summary.max_ms < 2_000


@pytest.fixture(scope="module")
def torn(chained: Lab) -> dict[str, RunResult]:
    """A run over each topology with a tear at every tenth request; the replicas count the tears of all runs."""
    before = counts(chained, "ml-cluster-")
    results = drive_all(chained, TEARING, use_cases=(USE_CASE,), rate=100, duration_s=1, tear_every=10)

    assert counts(chained, "ml-cluster-").tears - before.tears == sum(map(tears_in, results.values()))
    return results


def tears_in(result: RunResult) -> int:
    """How many requests are torn: the driver's warm-up call is one too, and the n-th may have been it."""
    return int((result.summary.planned + 1) // 10)


@pytest.mark.parametrize("topology", TEARING)
def test_tears_on_demand_are_counted_retried_once_and_answered_rightly(
    torn: dict[str, RunResult], topology: str
) -> None:
    result = torn[topology]
    assert result.summary.ok == result.summary.planned > 10
    assert (result.misrouted, result.torn) == (0, 0)
    records = read_parquet(result.folder / "history.parquet")
    twice = [record for record in records if record.attempts == 2]
    assert len(twice) == tears_in(result)
    assert {record.status for record in twice} == {"OK"}


def test_where_the_caller_makes_no_header_there_is_nothing_to_tear(chained: Lab) -> None:
    with pytest.raises(InputError, match="tear_every: in topology gateway"):
        drive(chained, "gateway", tear_every=10)


def test_a_tear_that_nothing_mends_is_a_failed_precondition(lab: Lab) -> None:
    result = drive(lab, "direct", rate=50, duration_s=1, tear_every=5)
    assert set(result.summary.by_status) == {"OK", "FAILED_PRECONDITION"}
