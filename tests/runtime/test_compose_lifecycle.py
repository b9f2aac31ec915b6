"""Labs of containers: what they leave behind when they go, whatever went wrong."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from datetime import timedelta
from pathlib import Path

import docker
import pytest
from docker.errors import NotFound

from lab.errors import LabError, LabNotRunningError, SpecError, UnitError
from lab.lab import Lab
from lab.routing.keys import HEADER
from lab.runs import LoadOptions
from lab.runtime.compose import image
from lab.runtime.compose.project import Project
from lab.runtime.compose.runtime import ComposeRuntime
from lab.transport import open_blocking_channel
from lab.waiting import eventually
from models.proto.ranking.v1 import ranking_pb2, ranking_pb2_grpc
from tests.lab_command import LAB, await_line, refusal, start_lab
from tests.labs import ask, docker_objects_of
from tests.missing import missing

pytestmark = pytest.mark.usefixtures("engine")


def test_a_lab_comes_up_answers_records_its_load_and_goes_without_a_trace(own_lab: Lab, mini_spec: Path) -> None:
    calls = own_lab.up(spec=mini_spec, runtime="compose")

    assert [call.topology for call in calls] == ["gateway", "mesh"]
    assert own_lab.status().runtime == "compose"
    assert {unit.state for unit in own_lab.status(memory=True).units} == {"running"}
    assert all(unit.container and unit.memory_bytes > 0 and not unit.pid for unit in own_lab.status(memory=True).units)
    assert ask(own_lab).version == "v1"
    with open_blocking_channel(own_lab.endpoints().clients["homepage"].address_of("sidecar")) as channel:
        rank = ranking_pb2_grpc.RankingStub(channel).Rank
        answer = rank(ranking_pb2.RankRequest(), metadata=((HEADER, "cw-ranker.v1"),), timeout=5)
    assert answer.answered_by.cluster == "ml-cluster-1"
    for topology, proxy in (("gateway", "gateway-1"), ("mesh", "homepage-sidecar")):
        result = own_lab.load(LoadOptions(topology=topology, caller="homepage", rate=50, duration_s=1))
        assert result.summary.ok == result.summary.planned > 0
        assert result.misrouted == 0
        assert "cw-ranker.v1" in (result.folder / "units" / proxy / "access.log").read_text()
        ground = json.loads((result.folder / "versions.json").read_text())
        assert ground["runtime"] == "compose"
        assert ground["python"].startswith("3.")
        assert ground["image"].startswith("inference-routing-lab:")
    assert not [name for name in docker_objects_of(own_lab) if "driver" in name]

    units = len(own_lab.status().units)
    assert own_lab.down() == units == 6

    assert docker_objects_of(own_lab) == []
    assert not own_lab.folder.exists()
    with pytest.raises(LabNotRunningError):
        own_lab.status()


def test_the_card_of_a_run_survives_a_container_that_dies_while_asked(
    compose_lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = ComposeRuntime(compose_lab.folder, "plaintext")
    listed = sorted(runtime._project.listed(), key=lambda each: "homepage-sidecar" not in each["Names"][0])
    compose_lab.units.kill("homepage-sidecar")
    monkeypatch.setattr(Project, "listed", lambda _: listed)

    assert re.fullmatch(r"3\.\d+\.\d+", runtime.versions()["python"])


def test_up_again_brings_back_just_the_missing_unit(
    compose_lab: Lab, mini_spec: Path, engine: docker.DockerClient
) -> None:
    before = _started(compose_lab, engine)
    compose_lab.units.kill("homepage-sidecar")
    assert [unit.name for unit in compose_lab.status().units if unit.state == "exited"] == ["homepage-sidecar"]

    compose_lab.up(spec=mini_spec)

    after = _started(compose_lab, engine)
    assert {name for name in before if before[name] != after[name]} == {"homepage-sidecar"}
    with pytest.raises(LabError, match=r"is up on the compose runtime: `lab down` first"):
        compose_lab.up(spec=mini_spec, runtime="process")


def test_a_container_that_ends_while_starting_is_named_with_its_last_words(
    own_lab: Lab, mini_spec: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    template = tmp_path / "broken.yaml"
    template.write_text("node: {id: [")
    monkeypatch.setattr("lab.roles._envoy._TEMPLATE", template)

    with pytest.raises(UnitError, match=r"homepage-sidecar ended while starting: .*whole log: "):
        own_lab.up(spec=mini_spec, runtime="compose")

    assert docker_objects_of(own_lab) == []
    assert (own_lab.folder / "units" / "homepage-sidecar" / "log").read_text()


def test_a_store_that_containers_are_not_given_is_refused_in_one_line(own_lab: Lab, mini_spec: Path) -> None:
    mini_spec.write_text(f'store = "postgresql://lab:secret@db/lab"\n{mini_spec.read_text()}')

    with pytest.raises(SpecError, match=r"^store: containers keep revisions in SQLite; leave it out, or ") as error:
        own_lab.up(spec=mini_spec, runtime="compose")

    assert "\n" not in str(error.value)
    assert "secret" not in str(error.value)
    assert docker_objects_of(own_lab) == []


def test_a_port_that_is_taken_meanwhile_is_one_line_and_nothing_is_left(own_lab: Lab, mini_spec: Path) -> None:
    taken: list[socket.socket] = []

    def take_a_port(message: str) -> None:
        if message.startswith("starting"):
            state = json.loads((own_lab.folder / "state.json").read_text())
            address = next(unit["port"]["outside"] for unit in state["plan"]["units"] if unit["role"] == "gateway")
            taken.append(socket.create_server(("127.0.0.1", int(address.rsplit(":", 1)[1]))))

    with pytest.raises(UnitError, match=r"^docker compose up: port 127\.0\.0\.1:\d+ is taken: end what") as error:
        own_lab.up(spec=mini_spec, runtime="compose", say=take_a_port)

    with closing(taken[0]):
        assert "\n" not in str(error.value)
        assert docker_objects_of(own_lab) == []


def test_a_base_image_that_cannot_be_had_is_one_line_and_nothing_is_left(
    own_lab: Lab, mini_spec: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BASE_IMAGE", "localhost:1/no-such-image:1")

    with pytest.raises(
        UnitError, match=r"^docker compose build: image \S*no-such-image:1 is neither here nor"
    ) as error:
        own_lab.up(spec=mini_spec, runtime="compose")

    assert "\n" not in str(error.value)
    assert docker_objects_of(own_lab) == []
    assert not own_lab.folder.exists()


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of a few pages."""
    mount = tmp_path / "small"
    mount.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24k", "tmpfs", str(mount)], check=False)
    if done.returncode:
        missing("only root may mount")
    yield mount
    subprocess.run(["umount", str(mount)], check=True)


@pytest.mark.parametrize("runtime", ["process", "compose"])
def test_a_full_disk_is_one_line_and_nothing_is_left(
    own_lab: Lab, mini_spec: Path, full_disk: Path, runtime: str
) -> None:
    command = [str(LAB), "up", "--runtime", runtime, "--spec", str(mini_spec), "--name", own_lab.name, "--json"]

    up = subprocess.run(
        command, env={**os.environ, "LAB_HOME": str(full_disk)}, capture_output=True, text=True, check=False
    )

    assert "No space left on device" in refusal(up)
    assert docker_objects_of(own_lab) == []
    assert list((full_disk / ".lab").glob("*/*")) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("moment", ["at once", "with half of it up"])
def test_up_that_is_interrupted_or_killed_leaves_nothing_that_down_does_not_find(
    own_lab: Lab, mini_spec: Path, number: signal.Signals, moment: str
) -> None:
    up = start_lab(own_lab, "up", "--runtime", "compose", "--spec", str(mini_spec))
    await_line(up, "starting")
    if moment != "at once":
        eventually("containers are there", lambda: docker_objects_of(own_lab), within=timedelta(seconds=30))
    up.send_signal(number)
    _, errors = up.communicate()

    if number == signal.SIGINT:
        assert errors.splitlines()[-1] == "lab: interrupted"
        assert up.returncode == 130
        assert not own_lab.folder.exists()
    else:
        own_lab.down()
    assert docker_objects_of(own_lab) == []


def test_down_waits_for_a_container_that_holds_a_volume_of_the_lab(
    compose_lab: Lab, engine: docker.DockerClient
) -> None:
    units = [
        each for each in engine.containers.list(ignore_removed=True) if f"lab-{compose_lab.name}-" in (each.name or "")
    ]
    [volume] = {name for name in docker_objects_of(compose_lab) if name.endswith("_revisions")}
    # As a container that is being made does: it is none of the lab's that the engine would list.
    image = units[0].image
    assert image is not None
    holder = engine.containers.create(image, volumes={volume: {"bind": "/held"}})
    try:
        with ThreadPoolExecutor(max_workers=1) as pool:
            down = pool.submit(compose_lab.down)
            eventually(
                "only the volume is left",
                lambda: docker_objects_of(compose_lab),
                within=timedelta(seconds=30),
                until=lambda left: left == [volume],
            )
            holder.remove(force=True)
            down.result()
    finally:
        with suppress(NotFound):
            holder.remove(force=True)

    assert docker_objects_of(compose_lab) == []


def test_two_labs_side_by_side_do_not_disturb_each_other(new_lab: Callable[[], Lab], mini_spec: Path) -> None:
    one, other = new_lab(), new_lab()
    one.up(spec=mini_spec, runtime="compose")
    other.up(spec=mini_spec, runtime="compose")
    assert not {unit.address for unit in one.status().units} & {unit.address for unit in other.status().units}

    one.down()

    assert {unit.state for unit in other.status().units} == {"running"}
    assert ask(other).version == "v1"


def test_a_damaged_state_file_is_said_and_down_cleans_up_all_the_same(compose_lab: Lab) -> None:
    (compose_lab.folder / "state.json").write_text('{"runtime": "compose", "units"')

    with pytest.raises(LabError, match=r"damaged .* run `lab down`"):
        compose_lab.status()

    compose_lab.down()
    assert docker_objects_of(compose_lab) == []


def test_ctrl_c_ends_a_load_early_with_what_was_sent_until_then(compose_lab: Lab) -> None:
    load = start_lab(compose_lab, "load", "--topology", "mesh", "--rate", "50", "--duration", "60")
    await_line(load, " done, ")

    load.send_signal(signal.SIGINT)
    output, _ = load.communicate(timeout=60)

    assert "UNSENT" in output
    assert " right, " in output
    assert not [name for name in docker_objects_of(compose_lab) if "driver" in name]


def test_a_change_of_the_code_makes_another_image(engine: docker.DockerClient, monkeypatch: pytest.MonkeyPatch) -> None:
    name, base = image.wanted(engine)
    monkeypatch.setattr(image, "_FILES", (*image._FILES, "README.md"))

    assert image.wanted(engine) != (name, base)
    assert image.wanted(engine)[1] == base


def _started(lab: Lab, engine: docker.DockerClient) -> dict[str, str]:
    """Unit → when its container was last started."""
    return {unit.name: engine.containers.get(unit.container).attrs["State"]["StartedAt"] for unit in lab.status().units}
