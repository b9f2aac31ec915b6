"""Conversations by Envoy's and gRPC's ring of hashes: on a lab, against the ring computed again."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lab.checkers import Evidence, FaultWindow, Outcome, Verdict
from lab.lab import Lab
from lab.pickers import ENVOY, GRPC_XDS, PICKERS
from lab.plugins.pickers.checker import CHECKER
from lab.plugins.pickers.readers._ring import on_ring, xxh64
from lab.routing.keys import SESSION_HEADER
from lab.runs.evidence import evidence_of
from lab.runs.folder import RunFolder
from lab.spec import SIZES
from services.controlplane.xds.resources import listener
from tests.lab_command import json_of, run_lab
from tests.labs import lab_up

PATHS = ("mesh", "proxyless", "gateway-header")
CHAT = ("--rate", "40", "--duration", "2", "--streams", "100", "--turns", "4", "--users", "21")


def evidence(lab: Lab, topology: str, *options: str) -> Evidence:
    driven = json_of(run_lab(lab, "load", "--topology", topology, *options, "--json"), statuses=(0, 2))
    return evidence_of(RunFolder(Path(driven["run_dir"])))


def picks(evidence: Evidence) -> Verdict:
    verdict = CHECKER.check(evidence)
    assert verdict is not None
    return verdict


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The lab of token models, with a ring in every Envoy and gRPC client."""
    folder = tmp_path_factory.mktemp("ring")
    with lab_up(folder, spec=SIZES["tokens"], picker="session-ring", topologies=list(PATHS)) as lab:
        yield lab


@pytest.fixture(scope="module")
def runs(lab: Lab) -> dict[str, Evidence]:
    """A run of the same conversations on each path, all at the same time."""
    with ThreadPoolExecutor() as pool:
        return dict(zip(PATHS, pool.map(lambda each: evidence(lab, each, *CHAT), PATHS), strict=True))


@pytest.mark.parametrize("topology", PATHS)
def test_each_conversation_comes_to_the_replica_of_the_ring(topology: str, runs: dict[str, Evidence]) -> None:
    verdict = picks(runs[topology])

    assert verdict.outcome is Outcome.VALID
    assert f"{len(runs[topology].records)} by the ring of hashes" in verdict.summary
    assert runs[topology].skewed


def test_sidecars_and_grpc_clients_send_a_conversation_to_the_same_replica(runs: dict[str, Evidence]) -> None:
    came: defaultdict[int, set[str]] = defaultdict(set)
    for run in runs.values():
        for record in run.records:
            came[record.sequence].update(each.replica for each in run.attempts[record.request_id])

    assert {len(each) for each in came.values()} == {1}
    assert len(set.union(*came.values())) > 1


def _picker_unknown(gathered: dict[str, Any]) -> None:
    del gathered["picker"], gathered["has_links"]


def _address(gathered: dict[str, Any]) -> None:
    for number, each in enumerate(gathered["replicas"].values()):
        each["address"] = f"10.0.0.{number}:80"


def _links(gathered: dict[str, Any]) -> None:
    gathered["has_links"] = True


@pytest.mark.parametrize(
    ("changed", "outcome", "says"),
    [
        (_picker_unknown, Outcome.VALID, "cached"),
        (_address, Outcome.INVALID, "served it, and the ring gives its conversation u"),
        (_links, Outcome.UNKNOWN, "the ring of hashes says of no request where it must come to"),
    ],
)
def test_another_ring_is_found(
    changed: Callable[[dict[str, Any]], None], outcome: Outcome, says: str, runs: dict[str, Evidence]
) -> None:
    gathered = copy.deepcopy(dict(runs["mesh"].gathered))
    changed(gathered["picks"])

    verdict = picks(replace(runs["mesh"], gathered=gathered))

    assert verdict.outcome is outcome
    assert says in verdict.summary + "".join(each.message for each in verdict.violations)


def test_nothing_is_judged_while_something_is_broken(runs: dict[str, Evidence]) -> None:
    run = runs["mesh"]
    broken = replace(run, faults_elsewhere=[FaultWindow("ml-cluster-1-a killed", "ml-cluster-1-a", 1, 2)])
    assert picks(broken).outcome is Outcome.UNKNOWN


def test_requests_without_a_conversation_are_not_judged(lab: Lab) -> None:
    verdict = picks(evidence(lab, "mesh", "--rate", "20", "--duration", "1"))
    assert verdict.outcome is Outcome.UNKNOWN


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", 0xEF46DB3751D8E999),
        ("a", 0xD24EC4F1A98C6E5B),
        ("abc", 0x44BC2CF5AD770999),
        ("Nobody inspects the spammish repetition", 0xFBCEA83C8A378BF1),
    ],
)
def test_xxh64_is_as_published(text: str, value: int) -> None:
    assert xxh64(text.encode()) == value


def test_a_replica_that_leaves_the_ring_moves_few_conversations_but_its_own() -> None:
    three = ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"]
    names = [f"u{number}.0" for number in range(300)]
    before = {each: on_ring(each, three) for each in names}
    after = {each: on_ring(each, three[:2]) for each in names}

    others = [each for each in names if before[each] != three[2]]
    # The others get more points each, so that the ring keeps its size.
    assert 0.8 * len(others) < sum(after[each] == before[each] for each in others) < len(others)
    assert all(50 < [*before.values()].count(each) < 150 for each in three)


def test_both_places_have_the_same_ring_and_routes_of_grpc_hash_the_header() -> None:
    assert PICKERS["session-ring"].at(ENVOY) == PICKERS["session-ring"].at(GRPC_XDS)
    assert SESSION_HEADER.encode() in listener(["rows.v1"]).body.value
