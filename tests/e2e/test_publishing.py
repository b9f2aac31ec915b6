"""What a publish says, and what stops it, in a lab that is up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from lab.errors import CallError
from lab.lab import Lab
from lab.transport import open_blocking_channel
from lab.waiting import eventually
from models.proto.control.v1 import stub_pb2, stub_pb2_grpc
from tests.lab_command import json_of, refusal, run_lab, start_lab
from tests.labs import address_of

SOON = timedelta(seconds=20)
MOVED = ("v1: {cluster: ml-cluster-1}", "v1: {cluster: ml-cluster-5}")


@pytest.fixture
def changed(routes: Path, tmp_path: Path) -> Callable[..., Path]:
    """The default route table with some text replaced."""

    def make(old: str, new: str) -> Path:
        text = routes.read_text()
        assert old in text
        path = tmp_path / "changed.yaml"
        path.write_text(text.replace(old, new, 1))
        return path

    return make


def test_json_says_when_each_node_followed(lab: Lab, routes: Path) -> None:
    document = json_of(run_lab(lab, "routes", "publish", str(routes), "--json"))

    assert [each["phase"] for each in document["phases"]] == ["stored", "loaded", "endpoints", "converged"]
    by_role = Counter(node["role"] for node in document["nodes"])
    for node in document["nodes"]:
        assert 0 <= node["since_sent_ms"] <= node["since_call_ms"]
    # A sidecar connects once somebody asks it for a key.
    assert by_role.pop("sidecar") >= 1
    # Nor does a caller before its gRPC library does.
    assert by_role.pop("proxyless") >= 1
    assert by_role == {"resolver": 5, "gateway": 2, "central-envoy": 1}
    kept = json_of(run_lab(lab, "routes", "show", str(document["revision"]), "--json"))
    assert [each["node"] for each in kept["acknowledgements"]] == [each["node"] for each in document["nodes"]]


def test_where_there_is_no_terminal_each_phase_is_a_line(lab: Lab, routes: Path) -> None:
    result = run_lab(lab, "routes", "publish", str(routes))

    lines = [line.split()[3] for line in result.stderr.splitlines()]
    assert lines == ["stored", "loaded", "endpoints", "converged"]
    assert "gateway-1" in result.stdout
    assert "is in force" in result.stdout.splitlines()[-1]


def test_one_use_case_is_set_and_the_rest_stays(lab: Lab, routes: Path, tmp_path: Path) -> None:
    del routes
    file = tmp_path / "up-next.yaml"
    file.write_text("callers: [playback]\napi: ranking.v1\ntimeout: 1s\ndefault: up-next@v1\n")
    before = lab.routes.show().document

    result = run_lab(lab, "routes", "set", "UpNext", str(file), "--comment", "shorter", "--json")

    assert result.returncode == 0, result.stderr
    after = lab.routes.show().document
    assert before is not None
    assert after is not None
    assert after["use_cases"].pop("UpNext")["timeout"] == "1s"
    before["use_cases"].pop("UpNext")
    assert after == before


def test_of_two_publishers_at_once_one_wins_and_the_other_is_refused(lab: Lab, changed: Callable[..., Path]) -> None:
    file = changed("country: [US, CA]", "country: [US]")
    seen = lab.routes.show().revision
    both = [start_lab(lab, "routes", "publish", str(file), "--expect", str(seen)) for _ in range(2)]
    outputs = [each.communicate(timeout=60) for each in both]

    assert sorted(each.returncode for each in both) == [0, 1]
    loser = next(number for number, each in enumerate(both) if each.returncode == 1)
    [line] = outputs[loser][1].splitlines()
    assert line == f"lab: revision {seen + 1} is in force, not {seen}: check it, then publish again"
    assert lab.routes.show().revision == seen + 1


def test_a_frozen_sidecar_is_left_behind_named_and_answered_by_no_old_place(
    lab: Lab, routes: Path, changed: Callable[..., Path]
) -> None:
    def ask() -> str:
        try:
            return lab.call(
                "ContinueWatchingRanking", topology="mesh", caller="homepage", context={"device": "phone"}
            ).cluster
        except CallError as error:
            return error.code.name

    def behind() -> dict[str, str]:
        nodes = json_of(run_lab(lab, "status", "--json"), statuses=(0, 1))["nodes"]
        return {node["node"]: node["error"] for node in nodes if node["behind"]}

    assert ask() == "ml-cluster-1"
    lab.units.pause("homepage-sidecar")
    try:
        result = run_lab(lab, "routes", "publish", str(changed(*MOVED)), "--json")
        left_behind = {"node": "homepage-sidecar", "role": "sidecar", "reason": "no answer within 5 s"}
        assert json_of(result)["left_behind"] == [left_behind]
        assert behind() == {"homepage-sidecar": "no answer within 5 s"}
    finally:
        lab.units.resume("homepage-sidecar")
    try:
        assert ask() != "ml-cluster-1"
        eventually("it has caught up", lambda: not behind(), within=SOON)
        assert ask() == "ml-cluster-5"
    finally:
        lab.routes.publish(routes)


def test_a_replica_that_cannot_load_stops_the_publish_and_is_named(lab: Lab, changed: Callable[..., Path]) -> None:
    def holders() -> set[str]:
        known = lab.status().control_plane
        assert known is not None
        return {each.replica for each in known.replicas if "cw-ranker.v1" in each.loaded}

    before = lab.routes.show().revision
    moved = changed(*MOVED)
    eventually(
        "no replica holds the version there that a test before has moved there",
        holders,
        within=SOON,
        until=lambda replicas: "ml-cluster-5-b" not in replicas,
    )

    def refuse(*keys: str) -> None:
        with open_blocking_channel(address_of(lab, "ml-cluster-5-b")) as channel:
            behaviour = stub_pb2.Behaviour(refuse_to_load=stub_pb2.RoutingKeys(routing_keys=keys))
            stub_pb2_grpc.StubControlStub(channel).SetBehaviour(behaviour, timeout=5)

    refuse("cw-ranker.v1")
    try:
        line = refusal(run_lab(lab, "routes", "publish", str(moved), "--json"))
    finally:
        refuse()

    assert line.startswith("lab: replica ml-cluster-5-b of ml-cluster-5 cannot load cw-ranker.v1: ")
    assert lab.routes.show().revision == before
