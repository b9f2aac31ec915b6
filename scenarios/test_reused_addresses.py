"""Addresses are used again at once: whoever remembers one may find another version's model there."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from lab.history import read_parquet
from lab.runs import LoadOptions
from lab.waiting import eventually
from scenarios.steps import assert_only_the_cut_off_failed, cutting, under_load

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lab.lab import Lab

RATE_RPS = 300.0
DURATION_S = 8.0
VICTIM, ITS_CLUSTER, OTHER_CLUSTER = "ml-cluster-1-a", "ml-cluster-1", "ml-cluster-2"
WITHIN = timedelta(seconds=10)


@pytest.fixture
def replaced(lab: Lab) -> Iterator[list[str]]:
    """Whoever stands at the victim's address; it gets that back in the end."""
    there: list[str] = []
    yield there
    for name in there:
        lab.replace(name, ITS_CLUSTER)
        eventually("it is registered again", lambda: VICTIM in _registered(lab), within=WITHIN)


def _load(topology: str) -> LoadOptions:
    # Phones are ranked by v1 on the victim's cluster, televisions in the US by v2 on the other.
    contexts = {"device": ("phone",)} if topology == "direct" else {"device": ("phone", "tv"), "country": ("US",)}
    return LoadOptions(
        topology=topology,
        caller="homepage",
        use_cases=("ContinueWatchingRanking",),
        rate=RATE_RPS,
        duration_s=DURATION_S,
        contexts=contexts,
    )


def test_a_v2_replica_at_the_address_of_a_killed_v1_replica_gets_v2_calls_and_no_v1_call(
    lab: Lab, topology: str, replaced: list[str]
) -> None:
    with under_load(lab, _load(topology)) as run:
        with cutting() as cut:
            newcomer = lab.replace(VICTIM, OTHER_CLUSTER)
        replaced.append(newcomer)
        eventually("the newcomer serves", lambda: newcomer in _registered(lab), within=WITHIN)

    result = run.result()
    by_newcomer = _versions_by(result.folder, newcomer)
    assert by_newcomer.keys() == {"v2"}, by_newcomer
    assert result.misrouted == 0
    # A model refuses a body that names another version, so a call that went astray would show here.
    assert "FAILED_PRECONDITION" not in result.summary.by_status
    assert_only_the_cut_off_failed(result, cut)


def test_whoever_has_written_the_address_down_reaches_the_wrong_model(lab: Lab, replaced: list[str]) -> None:
    with under_load(lab, _load("direct")) as run:
        newcomer = lab.replace(VICTIM, OTHER_CLUSTER)
        replaced.append(newcomer)
        eventually("the newcomer serves", lambda: newcomer in _registered(lab), within=WITHIN)

    result = run.result()
    assert result.summary.by_status.get("FAILED_PRECONDITION", 0) > 0, "nobody noticed who stands there now"
    # Refused, that is, and never answered by the wrong version.
    assert _versions_by(result.folder, newcomer) == {}


def _versions_by(folder: Path, replica: str) -> Counter[str]:
    return Counter(each.version for each in read_parquet(folder / "history.parquet") if each.replica == replica)


def _registered(lab: Lab) -> set[str]:
    known = lab.status().control_plane
    return {replica.replica for replica in known.replicas if replica.loaded} if known else set()
