"""Labs whose revisions are in a real PostgreSQL, and labs with several control planes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path

import psutil
import pytest

from lab.errors import PublishError, SpecError
from lab.faults import Visible
from lab.lab import Lab
from lab.runs import LoadOptions
from lab.spec import read_spec
from lab.waiting import eventually
from tests.lab_command import refusal, run_lab
from tests.labs import ask, known
from tests.postgresql import Server

BACK_WITHIN = timedelta(seconds=40)


@pytest.fixture
def spec(mini_spec: Path, postgresql: Server) -> Path:
    """Two control planes, and a server's database for their store."""
    store = f'control_planes = 2\nstore = "{postgresql.new_database()}"\n'
    mini_spec.write_text(store + mini_spec.read_text())
    return mini_spec


def _nodes(lab: Lab) -> dict[str, int]:
    known = lab.control_plane_status()
    return {node.node: node.acked_revision for node in known.nodes} if known else {}


def _await_nodes(lab: Lab, nodes: Iterable[str]) -> None:
    """Waits until all of them are known to a control plane that answers."""
    eventually("nodes are connected", lambda: _nodes(lab).keys(), within=BACK_WITHIN, until=set(nodes).issubset)


@pytest.fixture
def pair(own_lab: Lab, mini_spec: Path) -> Lab:
    """A lab of two control planes that is up."""
    mini_spec.write_text(f"control_planes = 2\n{mini_spec.read_text()}")
    own_lab.up(spec=mini_spec)
    return own_lab


def test_two_control_planes_on_a_postgresql_store_take_over_from_each_other(own_lab: Lab, spec: Path) -> None:
    own_lab.up(spec=spec)
    nodes = _nodes(own_lab)
    assert nodes.keys() >= {"homepage-resolver", "homepage-sidecar", "gateway-1"}
    for victim in ("control-plane", "control-plane-2"):
        own_lab.units.kill(victim)
        revision = own_lab.routes.publish(spec.parent / "routes.yaml")
        assert _nodes(own_lab) == dict.fromkeys(nodes, revision)
        assert ask(own_lab).version == "v1"
        own_lab.up(spec=spec)

    phases = [step.phase for step in own_lab.routes.history()[-1].steps]
    assert phases[:4] == ["stored", "loaded", "endpoints", "converged"]
    assert [each.revision for each in own_lab.routes.history()] == [1, 2, 3]


def test_the_password_of_the_store_is_nowhere_to_be_seen(own_lab: Lab, spec: Path) -> None:
    [password] = re.findall("postgres:(.*)@", spec.read_text())
    assert password not in str(own_lab.up(spec=spec))
    run = own_lab.load(LoadOptions(topology="mesh", caller="homepage", rate=20, duration_s=1))
    shown = [
        run_lab(own_lab, *words.split())
        for words in ("status --json", "endpoints --json", "logs", "audit --json", "doctor --json")
    ]
    shown.append(run_lab(own_lab, "report", str(run.folder)))

    assert all(password not in each.stdout + each.stderr for each in shown)
    assert not [each.pid for each in psutil.process_iter(["cmdline"]) if password in str(each.info["cmdline"])]
    kept = [path for path in (*own_lab.folder.rglob("*"), *run.folder.rglob("*")) if path.is_file()]
    holding = {path for path in kept if password.encode() in path.read_bytes()}
    assert {path.name for path in holding} == {"state.json", "store"}
    assert {path.stat().st_mode & 0o777 for path in holding} == {0o600}


def test_an_envoy_reports_to_the_one_that_serves_it_so_clusters_leave_with_several_too(
    own_lab: Lab, mini_spec: Path
) -> None:
    mini_spec.write_text(
        f"control_planes = 2\nclusters_idle_after_s = 1\nclusters_unasked = 0\n{mini_spec.read_text()}"
    )
    own_lab.up(spec=mini_spec)
    eventually(
        "the cluster that verifying has brought leaves",
        lambda: sum(node.clusters_left for node in known(own_lab).nodes),
        within=timedelta(seconds=40),
        until=bool,
    )
    assert ask(own_lab).version == "v1"


def test_a_frozen_one_stops_a_publish_and_is_named_and_killed_it_stops_nobody(pair: Lab, mini_spec: Path) -> None:
    nodes = _nodes(pair)
    pair.units.pause("control-plane")
    _await_nodes(pair, nodes)

    with pytest.raises(PublishError, match=r"no answer within 7 s from control-plane: if it is frozen"):
        pair.routes.publish(mini_spec.parent / "routes.yaml")

    pair.units.kill("control-plane")
    revision = pair.routes.publish(mini_spec.parent / "routes.yaml")
    assert _nodes(pair) == dict.fromkeys(nodes, revision)
    assert ask(pair).version == "v1"


def test_a_fault_of_the_control_plane_is_one_of_all_that_there_are(pair: Lab) -> None:
    nodes = _nodes(pair)
    # They are offered it by those that they are connected to.
    with pair.faults.injected("bad-push", "rules") as fault:
        assert set(fault.observe().figures["refusals"]) == {"gateway-1", "homepage-resolver"}

    with pair.faults.injected("control-plane-loss", how="kill") as fault:
        assert fault.record.units == ("control-plane", "control-plane-2")
        assert fault.observe().visible is Visible.YES
        assert ask(pair).version == "v1"
    _await_nodes(pair, nodes)


@pytest.mark.parametrize(
    "line", ['store = "mysql://ada:geheim@host/registry"', 'store = "ada:geheim"', "store = 7", "control_planes = 0"]
)
def test_a_store_or_a_number_that_cannot_be_is_refused_without_showing_a_password(mini_spec: Path, line: str) -> None:
    mini_spec.write_text(f"{line}\n{mini_spec.read_text()}")

    with pytest.raises(SpecError, match=f"mini.toml:1: {line.split(maxsplit=1)[0]}: ") as refusal:
        read_spec(mini_spec)

    assert "geheim" not in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_store_that_does_not_answer_is_named_when_the_lab_comes_up(own_lab: Lab, mini_spec: Path) -> None:
    mini_spec.write_text(f'store = "postgresql://ada:geheim@127.0.0.1:1/registry"\n{mini_spec.read_text()}')

    ended = refusal(run_lab(own_lab, "up", "--spec", str(mini_spec), "--json"))

    assert "postgresql://ada@127.0.0.1:1/registry: cannot use the registry of revisions" in ended
    assert "geheim" not in ended
