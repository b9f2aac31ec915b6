"""The Kubernetes runtime's calls of the API, against a fake that runs no container."""

from __future__ import annotations

import socket
import threading
from datetime import timedelta
from pathlib import Path

import pytest

from lab.errors import DeadlineError, InputError, LabError, UnitError
from lab.faults.fault_context import FaultContext
from lab.faults.injector import Injector
from lab.faults.observation import Visible
from lab.plugins.kubernetes import forwarding
from lab.plugins.kubernetes import runtime as kubernetes_runtime
from lab.plugins.kubernetes.options import OPTIONS_FILE, configure
from lab.plugins.kubernetes.runtime import KubernetesRuntime
from lab.roles import Plan
from lab.runs.events import lab_events
from lab.runtime import choose, possible_runtimes
from lab.runtime import configure as configure_runtime
from lab.runtime.placement import spread
from lab.runtime.state import STATE_FILE, LabState, Running
from lab.spec import SIZES, override, read_spec
from lab.waiting import eventually
from tests.kubernetes_server import FakeServer
from tests.plugins.kubernetes.labs import IMAGE, ROLE, asked_beyond_its_role, brought_up, configured

SOON = timedelta(seconds=60)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return configured(tmp_path)


def running(layout: Plan) -> dict[str, Running]:
    return {unit.name: Running(container=f"{unit.pod}/{unit.name}") for unit in layout.units}


def test_every_unit_runs_in_a_pod_and_nothing_is_left(cluster: FakeServer, folder: Path) -> None:
    runtime, layout, said = brought_up(folder)

    assert set(runtime.states(running(layout)).values()) == {"running"}
    assert set(cluster.of("namespaces")) == {"lab-small"}
    assert "Kubernetes v1.37.0-fake, 2 nodes" in said
    assert "without a StorageClass, revisions are lost with the control plane's pod: the cluster has none" in said

    assert runtime.sweep() == len(layout.units)
    assert {kind for kind, _, _ in cluster.objects} == {"nodes"}
    assert not (folder / OPTIONS_FILE).exists()


def test_starting_again_changes_no_pod(cluster: FakeServer, folder: Path) -> None:
    runtime, _, _ = brought_up(folder)
    before = set(cluster.of("pods"))

    brought_up(folder)

    assert set(cluster.of("pods")) == before
    runtime.sweep()


def test_a_namespace_of_somebody_else_stays(cluster: FakeServer, tmp_path: Path) -> None:
    theirs = {"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "team", "labels": {}}}
    cluster.objects["namespaces", "", "team"] = theirs
    folder = tmp_path / "labs" / "guest"
    configure(folder, {"image": IMAGE, "namespace": "team"})

    runtime, _, _ = brought_up(folder)
    cluster.objects["configmaps", "team", "theirs"] = {"kind": "ConfigMap", "metadata": {"name": "theirs"}}
    runtime.sweep()

    assert cluster.of("namespaces") == {"team": theirs}
    assert {key for key in cluster.objects if key[1] == "team"} == {("configmaps", "team", "theirs")}


def test_its_role_allows_what_it_asks_for_and_no_more(cluster: FakeServer, folder: Path) -> None:
    runtime, layout, _ = brought_up(folder)
    runtime.fetch_logs(layout.units)
    runtime.memory_bytes(running(layout))
    runtime.remove(Running(container="homepage/homepage"))
    runtime.sweep()

    assert asked_beyond_its_role(cluster) == set()


def test_with_its_role_alone_a_lab_stands_up_and_is_removed(cluster: FakeServer, tmp_path: Path) -> None:
    theirs = {"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "team", "labels": {}}}
    cluster.objects["namespaces", "", "team"] = theirs
    made = tmp_path / "labs" / "small"
    configure(made, {"image": IMAGE, "namespace": "team"})
    cluster.forbids = lambda call: call not in ROLE
    runtime, _, _ = brought_up(made)
    cluster.objects["secrets", "team", "homepage-identity"] = {"kind": "Secret", "metadata": {"name": "x"}}

    runtime.sweep()

    assert {key for key in cluster.objects if key[1] == "team"} == set()
    assert cluster.of("namespaces") == {"team": theirs}


def test_an_image_that_cannot_be_pulled_is_named(
    cluster: FakeServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = {"state": {"waiting": {"reason": "ImagePullBackOff", "message": f"no such image {IMAGE}"}}}
    plain = cluster.kubelet.status

    def status(pod: dict[str, object]) -> dict[str, object]:
        made = plain(pod)
        return made | {"containerStatuses": [{**each, **waiting} for each in made["containerStatuses"]]}

    monkeypatch.setattr(cluster.kubelet, "status", status)

    with pytest.raises(UnitError, match=f"ImagePullBackOff: no such image {IMAGE}"):
        brought_up(folder)


def test_a_node_that_the_api_server_cannot_reach_is_named(
    cluster: FakeServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubernetes_runtime, "_REACHED_WITHIN", timedelta(seconds=1))
    cluster.unreachable.add("node-2")

    with pytest.raises(DeadlineError, match=r"every node: not within 1 s; last seen: \['node-2: .*no such host"):
        brought_up(folder)


def test_a_cluster_that_does_not_answer_is_said_in_one_line(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "kubeconfig"
    file.write_text(
        "current-context: c\nclusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}]\n"
        "users: [{name: c, user: {token: t}}]\ncontexts: [{name: c, context: {cluster: c, user: c}}]\n"
    )
    monkeypatch.setenv("KUBECONFIG", str(file))

    with pytest.raises(UnitError, match=r"^down: Kubernetes does not answer: .*refused"):
        KubernetesRuntime(folder, "plaintext").sweep()


def test_a_context_that_is_not_there_is_named(cluster: FakeServer, tmp_path: Path) -> None:
    del cluster
    folder = tmp_path / "labs" / "lost"
    configure(folder, {"image": IMAGE, "context": "nowhere"})

    with pytest.raises(UnitError, match="nowhere"):
        KubernetesRuntime(folder, "plaintext").sweep()


def test_an_image_must_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LAB_IMAGE", raising=False)

    with pytest.raises(InputError, match=r"^--image: name an image"):
        configure(tmp_path, {})


def test_other_runtimes_take_none_of_its_options(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^--storage-class: is for --runtime kubernetes only"):
        configure_runtime("process", tmp_path, {"storage_class": "standard"})


def test_damaged_options_are_reported(tmp_path: Path) -> None:
    (tmp_path / OPTIONS_FILE).write_text("{")

    with pytest.raises(LabError, match="damaged"):
        KubernetesRuntime(tmp_path, "plaintext")


def test_no_cluster_is_touched_unless_it_is_named(
    cluster: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAB_RUNTIME", "auto")

    assert choose("auto")[0] != "kubernetes"
    assert "kubernetes" not in [each.name for each in possible_runtimes(tmp_path)]
    assert cluster.calls == set()


def test_a_port_is_forwarded_to_a_pod_and_to_the_one_that_replaces_it(cluster: FakeServer, folder: Path) -> None:
    runtime, layout, _ = brought_up(folder)
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_echo, args=(server,), daemon=True).start()
        port = int(layout.unit("homepage").address.rpartition(":")[2])
        forwarding.write(folder, {port: ("homepage", server.getsockname()[1])})
        runtime.watch()
        try:
            eventually(
                "the forwarded port answers", lambda: _asked(port), within=SOON, until=lambda answer: answer == b"hello"
            )
            [pod] = [name for name in cluster.of("pods") if name.startswith("homepage-")]
            cluster._delete(("pods", "lab-small", pod))
            eventually(
                "the next pod answers", lambda: _asked(port), within=SOON, until=lambda answer: answer == b"hello"
            )
        finally:
            runtime.sweep()
    assert _asked(port) == b""


def _echo(server: socket.socket) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        with connection:
            connection.sendall(connection.recv(100))


def _asked(port: int) -> bytes:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(b"hello")
            return connection.recv(100)
    except OSError:
        return b""


def test_the_pods_of_a_lost_node_start_elsewhere_and_the_node_opens_again(cluster: FakeServer, folder: Path) -> None:
    runtime, layout, _ = brought_up(folder)
    before = runtime.nodes()
    # As the lab computes it where there are no nodes.
    assert before == spread(layout, 2)

    runtime.lose_node("node-1")

    assert {name: set(units) for name, units in runtime.nodes().items()} == {
        "node-2": {unit.name for unit in layout.units}
    }
    assert set(runtime.states(running(layout)).values()) == {"running"}
    assert cluster.of("nodes")["node-1"]["spec"] == {"unschedulable": True}
    assert asked_beyond_its_role(cluster) == set()

    runtime.restore_node("node-1")

    assert cluster.of("nodes")["node-1"]["spec"] == {"unschedulable": False}
    assert set(runtime.nodes()) == {"node-2"}
    runtime.sweep()


def test_a_lost_node_is_a_fault_that_moves_its_units(
    cluster: FakeServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime, layout, _ = brought_up(folder)
    spec = override(read_spec(SIZES["mini"]), security="plaintext")
    LabState("kubernetes", str(SIZES["mini"]), spec, layout, running(layout)).save(folder / STATE_FILE)
    monkeypatch.setattr(FaultContext, "await_units", lambda _, names: answered.append(list(names)))
    answered: list[list[str]] = []
    faults = Injector(folder)
    on_node_1 = runtime.nodes()["node-1"]

    fault = faults.inject("node-loss", "node-1")

    assert fault.record.units == tuple(on_node_1)
    assert fault.observe().visible is Visible.YES
    assert set(fault.observe().figures["nodes"].values()) == {"node-2"}

    fault.heal()

    assert answered == [on_node_1]
    assert cluster.of("nodes")["node-1"]["spec"] == {"unschedulable": False}
    assert [(event.kind, event.target) for event in lab_events(folder)] == [
        *(("kill", unit) for unit in reversed(on_node_1)),
        *(("start", unit) for unit in reversed(on_node_1)),
    ]
    runtime.sweep()
