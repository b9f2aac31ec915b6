"""What can be done to a unit, on both runtimes: each fault bites, and each is undone."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from lab.errors import InputError, PublishError
from lab.lab import Lab
from lab.runtime.compose import engine
from lab.runtime.state import LabState
from lab.waiting import eventually
from scenarios.framework.steps import registered
from tests.labs import replica_of, states, with_timeout
from tests.runtime.conftest import ROUTES

WITHIN = timedelta(seconds=10)
ON_COMPOSE, ON_PROCESS = (
    pytest.mark.parametrize("lab_to_break", [runtime], indirect=True, scope="module")
    for runtime in ("compose", "process")
)


@pytest.fixture
def lab(lab_to_break: Lab) -> Lab:
    return lab_to_break


@pytest.fixture
def routes(lab: Lab) -> Path:
    return lab.folder.parent.parent / "routes.yaml"


def answers(lab: Lab, *, calls: int = 6) -> set[str]:
    return {replica_of(lab, topology) for topology in ("gateway", "mesh") for _ in range(calls)}


def identities(lab: Lab) -> dict[str, object]:
    return {unit.name: (unit.pid, unit.container) for unit in lab.status().units}


@pytest.mark.parametrize("unit", ["homepage", "homepage-sidecar", "homepage-resolver"])
def test_each_of_a_pod_dies_and_comes_back_alone(lab: Lab, unit: str) -> None:
    before = states(lab)
    others = {name: each for name, each in _started(lab).items() if name != unit}

    lab.units.kill(unit)
    assert states(lab) == {**before, unit: "exited"}
    lab.units.start(unit)

    eventually("the pod serves again", lambda: replica_of(lab).startswith("ml-cluster-1-"), within=WITHIN)
    assert states(lab) == before
    assert {name: each for name, each in _started(lab).items() if name != unit} == others


def test_a_paused_replica_is_left_alone_until_it_goes_on(lab: Lab) -> None:
    lab.units.pause("ml-cluster-1-a")
    try:
        assert states(lab)["ml-cluster-1-a"] == "paused"
        eventually("it is left out", lambda: "ml-cluster-1-a" not in registered(lab), within=WITHIN)
        eventually("the other answers", lambda: answers(lab), until={"ml-cluster-1-b"}.__eq__, within=WITHIN)
    finally:
        lab.units.resume("ml-cluster-1-a")
    assert states(lab)["ml-cluster-1-a"] == "running"
    eventually("it answers again", lambda: "ml-cluster-1-a" in answers(lab), within=WITHIN)
    lab.units.resume("ml-cluster-1-a")


def test_a_paused_unit_can_be_killed_and_started(lab: Lab) -> None:
    lab.units.pause("ml-cluster-1-a")
    lab.units.kill("ml-cluster-1-a")
    assert states(lab)["ml-cluster-1-a"] == "exited"
    with pytest.raises(InputError, match=r"^ml-cluster-1-a does not run: start it first"):
        lab.units.pause("ml-cluster-1-a")
    lab.units.start("ml-cluster-1-a")

    eventually("it answers again", lambda: "ml-cluster-1-a" in answers(lab), within=WITHIN)


@ON_COMPOSE
def test_a_replica_that_is_cut_off_is_left_alone_until_it_is_connected_again(lab: Lab) -> None:
    lab.units.partition("ml-cluster-1-a")
    try:
        assert states(lab)["ml-cluster-1-a"] == "running"
        eventually("it is left out", lambda: "ml-cluster-1-a" not in registered(lab), within=WITHIN)
        eventually("the other answers", lambda: answers(lab), until={"ml-cluster-1-b"}.__eq__, within=WITHIN)
    finally:
        lab.units.rejoin("ml-cluster-1-a")

    eventually("it answers again", lambda: "ml-cluster-1-a" in answers(lab), within=WITHIN)


@ON_COMPOSE
def test_a_pod_is_cut_off_as_a_whole_and_a_publish_meanwhile_goes_on_without_it(
    lab: Lab, routes: Path, tmp_path: Path
) -> None:
    changed = tmp_path / "changed.yaml"
    changed.write_text(with_timeout(ROUTES, "3s"))
    before = lab.routes.show().revision
    lab.units.partition("homepage-sidecar")
    try:
        # Nobody outside reaches any of the three.
        assert replica_of(lab) == "UNAVAILABLE"
        assert lab.routes.publish(changed) == before + 1
    finally:
        lab.units.rejoin("homepage-sidecar")

    eventually("the pod serves again", lambda: replica_of(lab).startswith("ml-cluster-1-"), within=WITHIN)
    eventually("a publish succeeds", lambda: published(lab, changed), within=WITHIN)
    lab.routes.publish(routes)


def published(lab: Lab, routes: Path) -> int:
    """The revision, 0 if a node did not answer."""
    try:
        return lab.routes.publish(routes)
    except PublishError:
        return 0


@ON_PROCESS
def test_where_a_partition_cannot_be_had_one_line_says_what_can(lab: Lab) -> None:
    for method in (lab.units.partition, lab.units.rejoin):
        with pytest.raises(InputError, match=r"not on the process runtime.*use `pause`.*--runtime compose"):
            method("ml-cluster-1-a")


def test_a_cluster_is_scaled_up_and_down_and_its_newcomers_replica_of(lab: Lab) -> None:
    before = states(lab)

    assert lab.units.scale("ml-cluster-1", 3) == ["ml-cluster-1-a", "ml-cluster-1-b", "ml-cluster-1-c"]
    eventually("the newcomer answers", lambda: "ml-cluster-1-c" in answers(lab), within=WITHIN)
    assert lab.units.scale("ml-cluster-1", 2) == ["ml-cluster-1-a", "ml-cluster-1-b"]

    assert states(lab) == before
    assert answers(lab) == {"ml-cluster-1-a", "ml-cluster-1-b"}


def test_another_versions_replica_at_the_address_of_a_dead_one_answers_for_its_own_version_only(lab: Lab) -> None:
    address = _inside(lab, "ml-cluster-1-a")

    new = lab.units.replace("ml-cluster-1-a", "ml-cluster-2")

    assert new == "ml-cluster-2-b"
    assert _inside(lab, new) == address
    assert answers(lab) == {"ml-cluster-1-b"}
    eventually("it answers for its own version", lambda: replica_of(lab, device="tv") == new, within=WITHIN)
    assert answers(lab) == {"ml-cluster-1-b"}

    assert lab.units.replace(new, "ml-cluster-1") == "ml-cluster-1-a"
    eventually("all is as before", lambda: "ml-cluster-1-a" in answers(lab), within=WITHIN)


@pytest.mark.parametrize(
    ("method", "arguments", "message"),
    [
        ("kill", ("nobody",), r"'nobody' is not a unit of this lab; there are control-plane, "),
        ("pause", ("nobody",), r"'nobody' is not a unit"),
        (
            "scale",
            ("ml-cluster-9", 2),
            r"'ml-cluster-9' is not a cluster of this lab; there are ml-cluster-1, ml-cluster-2",
        ),
        ("scale", ("ml-cluster-1", 0), r"scale ml-cluster-1: 0 replicas: use 1 or more"),
        ("replace", ("homepage", "ml-cluster-1"), r"replace homepage: is a caller, not a model replica"),
        ("replace", ("ml-cluster-1-a", "ml-cluster-9"), r"'ml-cluster-9' is not a cluster"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line_and_changes_nothing(
    lab: Lab, method: str, arguments: tuple[object, ...], message: str
) -> None:
    before = identities(lab)

    with pytest.raises(InputError, match=message) as error:
        getattr(lab.units, method)(*arguments)

    assert "\n" not in str(error.value)
    assert identities(lab) == before


def _inside(lab: Lab, unit: str) -> str:
    return LabState.of(lab.folder).plan.unit(unit).port.inside


def _started(lab: Lab) -> dict[str, object]:
    """Unit → which start of it this is."""
    if lab.status().runtime == "process":
        return {unit.name: unit.pid for unit in lab.status().units}
    client = engine.connect()
    return {unit.name: client.containers.get(unit.container).attrs["State"]["StartedAt"] for unit in lab.status().units}
