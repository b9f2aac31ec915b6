"""Rolls in a lab that is up: to the end, back by themselves, and back on Ctrl-C."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from lab.history import read_parquet
from lab.lab import Lab
from lab.runs import LoadOptions
from lab.waiting import eventually
from models.proto.control.v1 import stub_pb2
from scenarios.framework.steps import set_behaviour, under_load
from tests.lab_command import json_of, refusal, run_lab, start_lab
from tests.labs import known, lab_up, write_spec

ROUTES = """
use_cases:
  ContinueWatchingRanking: {callers: [homepage], api: ranking.v1, timeout: 10s, default: cw-ranker@v1}
  HomepageRows: {callers: [homepage], api: ranking.v1, timeout: 10s, default: rows@v1}
models:
  cw-ranker: {versions: {v1: {cluster: ml-cluster-1}, v2: {cluster: ml-cluster-2}, v3: {cluster: ml-cluster-2}}}
  rows: {versions: {v1: {cluster: ml-cluster-1}}}
clusters:
  ml-cluster-1: {replicas: 1}
  ml-cluster-2: {replicas: 1}
"""
ROLL = ("roll", "cw-ranker", "--to", "v2", "--hold", "2", "--rate", "100")


@pytest.fixture(scope="module")
def small_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    home = tmp_path_factory.mktemp("roll-lab")
    with lab_up(home, spec=write_spec(home, routes=ROUTES)) as lab:
        yield lab


@pytest.fixture
def at_v1(small_lab: Lab) -> Lab:
    """The lab with its first route table in force, and everybody well behaved."""
    small_lab.routes.publish(small_lab.folder.parent.parent / "routes.yaml")
    set_behaviour(small_lab, stub_pb2.Behaviour(error_rate=0.0, warm_up_ms=0.0), "ml-cluster-2")
    return small_lab


@pytest.mark.parametrize("topology", ["gateway", "mesh"])
def test_a_roll_goes_through_its_steps_to_the_plain_version(at_v1: Lab, topology: str) -> None:
    before = at_v1.routes.show().revision

    # Whether one is slower than the other is not the question here, and a busy machine would ask it.
    conditions = ("--abort-on", "error-rate>1%,misroutes>0", "--rate", "300")
    options = ("--steps", "10,50,100", *conditions, "--topology", topology)
    document = json_of(run_lab(at_v1, *ROLL, *options, "--json"))

    assert (document["outcome"], document["reason"]) == ("completed", "")
    assert [step["percent"] for step in document["steps"]] == [10, 50, 100]
    for step in document["steps"]:
        share, new, old = step["percent"] / 100, step["new"]["requests"], step["old"]["requests"]
        assert abs(step["share"] - share) <= 5 * (share * (1 - share) / step["drawn"]) ** 0.5
        assert step["percent"] == 100 or abs(new - old) <= 5 * (new + old) ** 0.5
        assert {each["standing"] for each in step["verdicts"]} == {"not met"}
    history = at_v1.routes.history()[before:]
    assert [each.comment for each in history] == [f"roll cw-ranker v1→v2 {percent} %" for percent in (10, 50, 100)]
    document = at_v1.routes.show().document
    assert document is not None
    use_case = document["use_cases"]["ContinueWatchingRanking"]
    assert (use_case["default"], use_case.get("rules", [])) == ("cw-ranker@v2", [])


def test_a_bad_version_is_taken_back_by_itself(at_v1: Lab) -> None:
    before = at_v1.routes.show()
    set_behaviour(at_v1, stub_pb2.Behaviour(error_rate=0.5), "ml-cluster-2")

    result = run_lab(at_v1, *ROLL, "--steps", "10,50,100", "--abort-on", "error-rate>1%", "--json")

    document = json_of(result, statuses=(1,))
    assert document["outcome"] == "aborted"
    assert document["reason"].startswith("at 10 %: error-rate>1% (")
    assert [step["percent"] for step in document["steps"]] == [10]
    after = at_v1.routes.show()
    assert (after.revision, after.document) == (document["revision"], before.document)
    assert after.comment.startswith("roll cw-ranker to v2 aborted: at 10 %")
    assert any("nothing to load" in step.detail for step in after.steps)


def test_a_step_of_one_percent_at_a_low_rate_lasts_until_enough_is_seen(at_v1: Lab) -> None:
    options = ("--steps", "1,100", "--abort-on", "error-rate>20%", "--rate", "20", "--hold", "1")
    document = json_of(run_lab(at_v1, *ROLL, *options, "--json"))

    assert document["outcome"] == "completed"
    for step in document["steps"]:
        [verdict] = step["verdicts"]
        assert verdict["requests"] == step["new"]["requests"] >= 20
        assert verdict["power"] >= 0.9


def started_roll(lab: Lab, *options: str) -> subprocess.Popen[str]:
    """A roll whose first step is in force."""
    before = lab.routes.show().revision
    roll = start_lab(lab, *ROLL, *options, "--json")
    eventually("the first step is in force", lambda: lab.routes.show().revision > before, within=timedelta(seconds=30))
    return roll


def aborted_by(roll: subprocess.Popen[str]) -> tuple[str, str]:
    """The outcome and its reason."""
    output, errors = roll.communicate(timeout=60)
    assert roll.returncode == 1, errors
    document = json.loads(output)
    return document["outcome"], document["reason"]


def test_ctrl_c_in_the_middle_of_a_roll_takes_it_back(at_v1: Lab) -> None:
    before = at_v1.routes.show()
    roll = started_roll(at_v1, "--hold", "60", "--steps", "10,100")

    roll.send_signal(signal.SIGINT)

    assert aborted_by(roll) == ("aborted", "interrupted")
    assert at_v1.routes.show().document == before.document


def test_somebody_elses_publish_stops_a_roll_and_is_not_overwritten(at_v1: Lab, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(ROUTES.replace("default: rows@v1", "default: rows@v1, rules: []"))
    roll = started_roll(at_v1, "--steps", "50,100", "--abort-on", "misroutes>0")

    theirs = at_v1.routes.publish(other)

    outcome, reason = aborted_by(roll)
    assert outcome == "stopped"
    assert f"revision {theirs} is in force" in reason
    assert at_v1.routes.show().revision == theirs


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nope", "--to", "v2"], "lab: model 'nope' is not in the route table"),
        (["cw-ranker", "--to", "v9"], "lab: --to: model 'cw-ranker' has no version 'v9'"),
        (["cw-ranker", "--to", "v1"], "lab: no default and no rule anywhere uses another version"),
        (["cw-ranker", "--to", "v2", "--steps", "50,10,100"], "lab: --steps: 50,10,100 does not rise"),
        (["cw-ranker", "--to", "v2", "--steps", "1,10"], "lab: --steps: 1,10 does not end in 100"),
        (["cw-ranker", "--to", "v2", "--steps", "few"], "lab: --steps: 'few' is not a list of percentages"),
        (["cw-ranker", "--to", "v2", "--abort-on", "luck"], "lab: --abort-on: 'luck' is not a condition"),
        (["cw-ranker", "--to", "v2", "--use-case", "No"], "lab: --use-case: 'No' is not in the route table"),
        (["cw-ranker", "--to", "v2", "--caller", "nobody"], "lab: --caller: 'nobody' is not in this lab"),
        (["cw-ranker", "--to", "v2", "--topology", "pigeon"], "lab: --topology: 'pigeon' is not up"),
    ],
)
def test_what_cannot_be_rolled_is_one_line(at_v1: Lab, arguments: list[str], message: str) -> None:
    before = at_v1.routes.show().revision

    assert refusal(run_lab(at_v1, "roll", *arguments)).startswith(message)
    assert at_v1.routes.show().revision == before


def test_a_version_whose_cluster_has_no_replica_is_not_rolled_to(at_v1: Lab) -> None:
    at_v1.units.kill("ml-cluster-2-a")
    try:
        eventually(
            "it has left",
            lambda: {each.cluster for each in known(at_v1).replicas},
            within=timedelta(seconds=10),
            until=lambda seen: "ml-cluster-2" not in seen,
        )
        result = run_lab(at_v1, "roll", "cw-ranker", "--to", "v2")
    finally:
        at_v1.units.start("ml-cluster-2-a")
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("lab: --to: cw-ranker@v2 is to run on ml-cluster-2, which has no")


@pytest.mark.parametrize("topology", ["gateway", "mesh"])
def test_without_make_before_break_a_roll_is_caught(at_v1: Lab, tmp_path: Path, topology: str) -> None:
    only = {
        version: ROUTES.replace("default: cw-ranker@v1", f"default: cw-ranker@{version}").replace(
            "{v1: {cluster: ml-cluster-1}, v2: {cluster: ml-cluster-2}, v3: {cluster: ml-cluster-2}}",
            f"{{{version}: {{cluster: ml-cluster-2}}}}",
        )
        for version in ("v1", "v2")
    }
    for version, text in only.items():
        (tmp_path / f"{version}.yaml").write_text(text)
    set_behaviour(at_v1, stub_pb2.Behaviour(warm_up_ms=300.0), "ml-cluster-2")
    at_v1.routes.publish(tmp_path / "v1.yaml")
    eventually(
        "v2 is unloaded",
        lambda: {key for each in known(at_v1).replicas for key in each.loaded},
        within=timedelta(seconds=20),
        until=lambda loaded: "cw-ranker.v2" not in loaded,
    )

    load = LoadOptions(
        topology=topology, caller="homepage", use_cases=("ContinueWatchingRanking",), rate=300.0, duration_s=4.0
    )
    with under_load(at_v1, load) as run:
        at_v1.routes.publish(tmp_path / "v2.yaml", unsafe_skip_phases=True)
        at_v1.routes.publish(tmp_path / "v1.yaml")
    result = run.result()

    assert result.summary.failed > 0 or result.misrouted > 0, result.folder
    assert {record.version for record in read_parquet(result.folder / "history.parquet")} >= {"v1"}
    skipped = [each for each in at_v1.routes.history()[-2].steps if "unsafe" in each.detail]
    assert [each.phase for each in skipped] == ["loaded", "endpoints", "converged", "retired"]
