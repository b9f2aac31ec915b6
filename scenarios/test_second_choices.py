"""What a use case has beside its rules: copies for a shadow, and next choices when the first fails."""

from __future__ import annotations

import json
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from lab.history import read_parquet
from lab.routing.document import read_path
from lab.runs import LoadOptions
from lab.waiting import eventually
from models.proto.control.v1 import stub_pb2
from scenarios.steps import assert_all_answered_rightly, dial, under_load, verdict_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lab.lab import Lab

USE_CASE = "ContinueWatchingRanking"
FIRST, NEXT = "ml-cluster-1", "ml-cluster-2"
WITHIN = timedelta(seconds=10)


def _with(routes: Path, folder: Path, **more: Any) -> Path:
    """The default table with more said about the use case."""
    document = read_path(routes).document
    document["use_cases"][USE_CASE].update(more)
    path = folder / "more.yaml"
    path.write_text(json.dumps(document))
    return path


def _load(topology: str, duration_s: float) -> LoadOptions:
    # A phone is ranked by the default, v1 on the first cluster.
    return LoadOptions(
        topology=topology,
        caller="homepage",
        use_cases=(USE_CASE,),
        rate=200,
        duration_s=duration_s,
        contexts={"device": ("phone",)},
    )


@pytest.fixture
def slow_shadow(lab: Lab) -> Iterator[None]:
    """The shadow's cluster takes a second to answer, and answers half of all with an error."""
    dial(lab, _behaviour(latency_ms=1000, error_rate=0.5), NEXT)
    yield
    dial(lab, _behaviour(latency_ms=0, error_rate=0), NEXT)


@pytest.mark.usefixtures("slow_shadow")
def test_a_shadow_gets_every_copy_that_it_is_due_and_no_caller_notices_how_slow_and_broken_it_is(
    lab: Lab, topology: str, routes: Path, tmp_path: Path
) -> None:
    lab.publish(_with(routes, tmp_path, shadow={"use": "cw-ranker@v3", "percent": 20}))

    result = lab.load(_load(topology, duration_s=4))

    assert_all_answered_rightly(result)
    assert str(verdict_of(result, "shadow")) == "valid"
    records = read_parquet(result.folder / "history.parquet")
    copied = [record for record in records if record.shadow]
    assert 0.1 < len(copied) / len(records) < 0.3
    assert {record.version for record in records} == {"v1"}
    # A caller that waited for its copy would wait for a second.
    assert max(record.done_ns - record.sent_ns for record in copied) < 900_000_000


def test_when_a_whole_cluster_dies_the_next_choice_answers_and_says_that_it_is_that(
    lab: Lab, topology: str, routes: Path, tmp_path: Path
) -> None:
    lab.publish(_with(routes, tmp_path, fallback=["cw-ranker@v3"]))
    victims = [unit.name for unit in lab.status().units if unit.name.startswith(f"{FIRST}-")]
    try:
        with under_load(lab, _load(topology, duration_s=6)) as run:
            for victim in victims:
                lab.kill(victim)
    finally:
        for victim in victims:
            lab.start(victim)
        eventually("the cluster is back", lambda: set(victims) <= _loaded(lab), within=WITHIN)

    result = run.result()
    assert_all_answered_rightly(result)
    answers = Counter((record.source, record.version) for record in read_parquet(result.folder / "history.parquet"))
    assert answers.keys() == {("model", "v1"), ("fallback", "v3")}, answers


def _behaviour(*, latency_ms: float, error_rate: float) -> stub_pb2.Behaviour:
    return stub_pb2.Behaviour(constant=stub_pb2.ConstantLatency(ms=latency_ms), error_rate=error_rate)


def _loaded(lab: Lab) -> set[str]:
    known = lab.status().control_plane
    return {replica.replica for replica in known.replicas if replica.loaded} if known else set()
