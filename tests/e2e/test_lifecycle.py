from __future__ import annotations

import json
import os
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from lab.errors import InputError, LabError, LabNotRunningError, SpecError, UnitError
from lab.lab import Lab
from lab.roles import UNIX, _envoy
from lab.runs.events import lab_events
from lab.runtime import ports
from lab.waiting import eventually
from tests.lab_command import await_line, start_lab
from tests.labs import (
    TWO_CALLERS_ROUTES,
    TWO_CALLERS_SPEC,
    address_of,
    ask,
    lab_up,
    processes_of,
    states,
    write_spec,
)


@pytest.fixture(scope="module")
def _shared_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lab, Path]]:
    folder = tmp_path_factory.mktemp("shared-lab")
    spec = write_spec(folder)
    with lab_up(folder, spec=spec) as lab:
        yield lab, spec


@pytest.fixture
def shared_lab(_shared_lab: tuple[Lab, Path]) -> Iterator[tuple[Lab, Path]]:
    """A lab of five units with its spec, which a test leaves whole."""
    yield _shared_lab
    assert set(states(_shared_lab[0]).values()) == {"running"}


def test_down_leaves_no_process_no_port_and_no_folder(mini_lab: Lab) -> None:
    addresses = [unit.address for unit in mini_lab.status().units]
    assert len(processes_of(mini_lab)) == len(addresses)

    mini_lab.down()

    assert processes_of(mini_lab) == []
    assert not mini_lab.folder.exists()
    for address in addresses:
        if address.startswith(UNIX):
            assert not Path(address.removeprefix(UNIX)).parent.exists()
            continue
        host, port = address.rsplit(":", 1)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, int(port)))
    with pytest.raises(LabNotRunningError, match="lab up"):
        mini_lab.status()


def test_up_again_changes_nothing_and_verifies_again(shared_lab: tuple[Lab, Path]) -> None:
    lab, spec = shared_lab
    before = [(unit.name, unit.pid) for unit in lab.status().units]

    calls = lab.up(spec=spec)

    assert [call.topology for call in calls] == ["gateway", "mesh"]
    assert [(unit.name, unit.pid) for unit in lab.status().units] == before


def test_up_again_after_a_move_verifies_the_topologies_that_follow_the_rules(own_lab: Lab, tmp_path: Path) -> None:
    spec = write_spec(tmp_path, TWO_CALLERS_SPEC, TWO_CALLERS_ROUTES)
    own_lab.up(spec=spec, topologies=["direct", "mesh"])
    moved = tmp_path / "moved.yaml"
    moved.write_text(TWO_CALLERS_ROUTES.replace("v1: {cluster: ml-cluster-1}", "v1: {cluster: ml-cluster-2}"))
    own_lab.routes.publish(moved)

    [call] = own_lab.up(spec=spec, topologies=["direct", "mesh"])

    assert (call.topology, call.cluster) == ("mesh", "ml-cluster-2")


def test_every_caller_can_be_asked_once_the_lab_is_up(own_lab: Lab, mini_spec: Path) -> None:
    mini_spec.write_text(f"{mini_spec.read_text()}[callers.search]\n")
    routes = mini_spec.with_name("routes.yaml")
    routes.write_text(routes.read_text().replace("[homepage]", "[homepage, search]"))
    own_lab.up(spec=mini_spec)
    own_lab.units.kill("search")

    own_lab.up(spec=mini_spec)

    for topology in ("gateway", "mesh"):
        assert own_lab.call("ContinueWatchingRanking", topology=topology, caller="search").version == "v1"


def test_a_unit_that_crashes_is_reported_and_up_brings_back_just_that(shared_lab: tuple[Lab, Path]) -> None:
    lab, spec = shared_lab
    before = {unit.name: unit.pid for unit in lab.status().units}

    os.kill(before["homepage-sidecar"], signal.SIGKILL)

    eventually(
        "the sidecar is reported",
        lambda: {unit.name for unit in lab.status().units if unit.state == "exited"},
        within=timedelta(seconds=5),
        until=lambda exited: exited == {"homepage-sidecar"},
    )
    lab.up(spec=spec)
    after = {unit.name: unit.pid for unit in lab.status().units}
    assert {name for name in before if before[name] != after[name]} == {"homepage-sidecar"}
    assert lab_events(lab.folder)[-1].text == "homepage-sidecar started"  # which undoes a kill in the evidence of runs
    assert ask(lab).version == "v1"


def test_another_process_with_the_id_of_a_dead_unit_does_not_count_as_that_unit(shared_lab: tuple[Lab, Path]) -> None:
    lab, _ = shared_lab
    state_file = lab.folder / "state.json"
    text = state_file.read_text()
    state = json.loads(text)
    state["running"]["homepage"]["created"] -= 1000
    state_file.write_text(json.dumps(state))
    try:
        assert [unit.name for unit in lab.status().units if unit.state == "exited"] == ["homepage"]
    finally:
        state_file.write_text(text)


def test_two_labs_side_by_side_do_not_disturb_each_other(shared_lab: tuple[Lab, Path], mini_lab: Lab) -> None:
    one, (other, _) = mini_lab, shared_lab
    assert not {unit.address for unit in one.status().units} & {unit.address for unit in other.status().units}

    one.down()

    assert {unit.state for unit in other.status().units} == {"running"}
    assert ask(other).version == "v1"


def test_a_port_that_is_taken_is_chosen_around(mini_lab: Lab, mini_spec: Path) -> None:
    wanted = address_of(mini_lab, "control-plane")
    mini_lab.down()

    host, port = wanted.rsplit(":", 1)
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind((host, int(port)))
        taken.listen()
        mini_lab.up(spec=mini_spec)

        assert wanted not in {unit.address for unit in mini_lab.status().units}


def test_reservations_are_disjoint_and_lapse_with_the_folder(tmp_path: Path) -> None:
    owners = [tmp_path / name for name in ("a", "b")]
    for owner in owners:
        owner.mkdir()
    first = ports.reserve(["x", "y"], owners[0])
    second = ports.reserve(["x", "y"], owners[1])
    assert not set(first.values()) & set(second.values())

    ports.release(owners[0])
    owners[1].rmdir()

    third = ports.reserve(["x", "y"], tmp_path)
    ports.release(tmp_path)
    assert len(third) == 2


def test_a_unit_that_cannot_start_is_named_with_its_last_words_and_nothing_is_left(
    own_lab: Lab, mini_spec: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    template = tmp_path / "broken.yaml"
    template.write_text("node: {id: [")
    monkeypatch.setattr(_envoy, "_TEMPLATE", template)

    with pytest.raises(UnitError, match=r"homepage-sidecar ended while starting: .*") as error:
        own_lab.up(spec=mini_spec)

    assert processes_of(own_lab) == []
    log = Path(str(error.value).rsplit("whole log: ", 1)[1].rstrip(")"))
    assert log.exists()
    assert list(own_lab.folder.parent.iterdir()) == [own_lab.folder]
    assert list(own_lab.folder.iterdir()) == [own_lab.folder / "units"]
    with pytest.raises(LabNotRunningError):
        own_lab.status()
    own_lab.down()
    assert not own_lab.folder.parent.exists()


def test_up_that_fails_before_it_starts_a_unit_leaves_no_folder_and_no_lock(
    own_lab: Lab, mini_spec: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="'rocket' is not known"):
        own_lab.up(spec=mini_spec, runtime="rocket")
    assert not own_lab.folder.parent.exists()

    monkeypatch.setattr(ports, "_is_free", lambda _: False)
    with pytest.raises(UnitError, match="no free port"):
        own_lab.up(spec=mini_spec)
    assert not own_lab.folder.parent.exists()


def test_down_ends_the_units_of_a_lab_whose_folder_is_gone(mini_lab: Lab) -> None:
    units = len(processes_of(mini_lab))
    shutil.rmtree(mini_lab.folder.parent)

    assert mini_lab.down() == units
    assert processes_of(mini_lab) == []
    assert not mini_lab.folder.parent.exists()


def test_down_creates_no_home(tmp_path: Path) -> None:
    home = tmp_path / "no" / "home"

    assert Lab("nowhere", home).down() == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_up_that_is_interrupted_or_killed_leaves_nothing_that_down_does_not_find(
    own_lab: Lab, mini_spec: Path, number: signal.Signals
) -> None:
    up = start_lab(own_lab, "up", "--spec", str(mini_spec))
    await_line(up, "starting")
    up.send_signal(number)
    _, errors = up.communicate()

    if number == signal.SIGINT:
        assert errors.splitlines()[-1] == "lab: interrupted"
        assert up.returncode == 130
    else:
        own_lab.down()
    assert processes_of(own_lab) == []


def test_up_from_another_spec_is_refused_while_the_lab_is_up(shared_lab: tuple[Lab, Path]) -> None:
    lab, spec = shared_lab
    text = spec.read_text()
    spec.write_text(text.replace("replicas = 1", "replicas = 2"))
    try:
        with pytest.raises(
            LabError, match=r"was made from another spec \(.*mini.toml, as it was then\): `lab down` first"
        ):
            lab.up(spec=spec)
    finally:
        spec.write_text(text)


def test_a_damaged_state_file_is_said_and_down_cleans_up_all_the_same(mini_lab: Lab) -> None:
    (mini_lab.folder / "state.json").write_text('{"runtime": "process", "units"')

    with pytest.raises(LabError, match=r"damaged .* run `lab down`"):
        mini_lab.status()

    mini_lab.down()
    assert processes_of(mini_lab) == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            'topologies = ["gateway", "carrier-pigeon"]',
            r":2: topologies\.1: topology 'carrier-pigeon' is not known",
        ),
        ("[gateway]\nreplicas = 0", r":4: gateway\.replicas: Input should be greater than or equal to 1"),
        ("[gatway]\nreplicas = 1", r":3: gatway: unknown field"),
        ("[callers.checkout]", r"callers\.checkout: is not one of homepage, .* give it a page"),
        ("[callers.homepage", r":2: not TOML"),
    ],
)
def test_a_bad_spec_is_said_in_one_line_with_its_place(
    new_lab: Callable[[], Lab], tmp_path: Path, line: str, message: str
) -> None:
    spec = tmp_path / "bad.toml"
    head = "[callers.homepage]\n" if "[callers.homepage" not in line else ""
    text = f"\n{line}\n{head}" if line.startswith("topologies") else f"\n{head}{line}\n"
    spec.write_text(text)

    with pytest.raises(SpecError, match=message) as error:
        new_lab().up(spec=spec)

    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["", "Upper", "a b", "../x", "-x"])
def test_a_name_that_cannot_be_a_folder_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="cannot name a lab"):
        Lab(name)
