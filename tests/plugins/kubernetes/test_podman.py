"""The containers of a model's and of a caller's pod, run by podman without a cluster, as far as it can.

`podman kube play` knows no sidecars, no probes without systemd, no references to fields and no names of Services. So
sidecars become plain containers, and a pod has nothing but its loopback. What can be seen is that the programs start
and listen under the restrictions of the manifest.
"""

from __future__ import annotations

import copy
import os
import shutil
import subprocess
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
import yaml

from lab.plugins.kubernetes.pods import USER
from lab.waiting import eventually
from tests.kubernetes_server import Manifest
from tests.missing import missing
from tests.plugins.kubernetes.test_manifests import found, objects, planned

WITHIN = timedelta(seconds=90)
_UNKNOWN_TO_PODMAN = ("startupProbe", "readinessProbe", "restartPolicy")


@pytest.fixture(scope="module", autouse=True)
def _needs_podman() -> None:
    if shutil.which("podman") is None:
        missing("no podman: make podman")


def podman(*words: str, stdin: str | None = None) -> tuple[int, str]:
    done = subprocess.run(
        ["podman", *words],
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        env={**os.environ, "PODMAN_IGNORE_CGROUPSV1_WARNING": "1"},
    )
    return done.returncode, done.stdout.strip()


@pytest.fixture(scope="module")
def image(image_name: str) -> str:
    """The lab's image, copied from the Docker engine unless podman has it."""
    if podman("image", "exists", image_name)[0]:
        with subprocess.Popen(["docker", "save", image_name], stdout=subprocess.PIPE) as saved:
            subprocess.run(["podman", "load", "--quiet"], stdin=saved.stdout, stdout=subprocess.DEVNULL, check=True)
    return image_name


def playable(made: list[Manifest], pod: str) -> list[Manifest]:
    """A Deployment's pod and its ConfigMap, without what podman does not know."""
    template = copy.deepcopy(found(made, "Deployment", pod)["spec"]["template"])
    spec = template["spec"]
    spec["containers"] += spec.pop("initContainers", [])
    for container in spec["containers"]:
        for field in _UNKNOWN_TO_PODMAN:
            container.pop(field, None)
        container["env"] = [each if "value" in each else {**each, "value": "127.0.0.1"} for each in container["env"]]
        for each in container["env"]:
            each.pop("valueFrom", None)
    config = [each for each in made if each["kind"] == "ConfigMap" and each["metadata"]["name"] == f"{pod}-files"]
    return [*config, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"lab-{pod}"}, "spec": spec}]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("pod", "listening"),
    [
        ("ml-cluster-1-a", {"ml-cluster-1-a": 9000}),
        ("homepage", {"homepage": 9000, "homepage-resolver": 9001, "homepage-sidecar": 9002}),
    ],
)
def test_the_containers_of_a_pod_listen_as_restricted_as_their_manifest_says(
    image: str, pod: str, listening: dict[str, int], tmp_path: Path
) -> None:
    made = objects(planned(), image=image, security="plaintext")
    file = tmp_path / "pod.yaml"
    file.write_text(yaml.safe_dump_all(playable(made, pod)))
    try:
        status, said = podman("kube", "play", "--network", "none", str(file))
        assert status == 0, said
        for unit, port in listening.items():
            name = f"lab-{pod}-{unit}"
            eventually(
                f"{unit} listens: {podman('logs', '--tail', '3', name)[1]}",
                partial(podman, "exec", name, "healthcheck", "open", str(port)),
                within=WITHIN,
                until=lambda answer: answer[0] == 0,
            )
            assert podman("exec", name, "id", "-u") == (0, str(USER))
            assert "Read-only file system" in podman("exec", name, "touch", "/here")[1]
            assert podman("exec", name, "touch", "/tmp/here")[0] == 0  # noqa: S108 (within the container)
            capabilities = podman("exec", name, "grep", "CapBnd", "/proc/self/status")[1]
            assert capabilities.split() == ["CapBnd:", "0" * 16]
    finally:
        podman("kube", "down", "--force", str(file))
