"""The runtime and the rendered files against a real API server, which validates, defaults, admits and authorises."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from lab.plugins.kubernetes.api import Api
from lab.plugins.kubernetes.load_job import load_job
from lab.plugins.kubernetes.naming import Setting, pods_of
from lab.plugins.kubernetes.runtime import KubernetesRuntime
from lab.plugins.render.kubernetes import kustomizations, variants_of
from lab.waiting import eventually
from tests.kubernetes_api import api_server, kubectl
from tests.manifests import Manifest
from tests.plugins.kubernetes.labs import IMAGE, brought_up, configured
from tests.plugins.render.test_kubernetes import source

OVERLAYS = ("small", "talk", "postgres")
NAMESPACE = "lab-small"


@pytest.fixture(scope="module")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with api_server(tmp_path_factory.mktemp("api-server")) as kubeconfig:
        yield kubeconfig


@pytest.fixture(scope="module")
def variants() -> dict[str, list[Manifest]]:
    return variants_of(source())


def versions(kubeconfig: Path, namespace: str) -> dict[str, str]:
    """Object → its version, which changes with it."""
    kinds = "deployments,statefulsets,services,secrets,configmaps,networkpolicies,poddisruptionbudgets,roles"
    shown = kubectl(kubeconfig, "get", kinds, "--namespace", namespace, "--output", "yaml")
    return {
        f"{each['kind']}/{each['metadata']['name']}": each["metadata"]["resourceVersion"]
        for each in yaml.safe_load(shown)["items"]
    }


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_is_applied_without_a_warning_and_again_without_a_change(
    kubeconfig: Path, variants: dict[str, list[Manifest]], tmp_path: Path, overlay: str
) -> None:
    for name, text in kustomizations(variants).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    [namespace] = [each for each in variants[overlay] if each["kind"] == "Namespace"]
    kubectl(kubeconfig, "apply", "--server-side", "-f", "-", given=yaml.safe_dump(namespace))
    apply = ("apply", "--server-side", "-k", str(tmp_path / "overlays" / overlay))

    tried = kubectl(kubeconfig, *apply, "--dry-run=server").splitlines()
    applied = kubectl(kubeconfig, *apply).splitlines()
    before = versions(kubeconfig, namespace["metadata"]["name"])
    kubectl(kubeconfig, *apply)

    assert [line for line in tried if not line.endswith(" serverside-applied (server dry run)")] == []
    assert [line for line in applied if not line.endswith(" serverside-applied")] == []
    assert len(applied) == len(variants[overlay])
    assert versions(kubeconfig, namespace["metadata"]["name"]) == before


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_pod_of_an_overlay_is_admitted_by_the_restricted_standard(
    kubeconfig: Path, variants: dict[str, list[Manifest]], overlay: str
) -> None:
    kubectl(kubeconfig, "apply", "--server-side", "-f", "-", given=yaml.safe_dump_all(copy.deepcopy(variants[overlay])))
    pods = [pod_of(each) for each in variants[overlay] if each["kind"] in ("Deployment", "StatefulSet")]

    said = kubectl(kubeconfig, "apply", "--server-side", "--dry-run=server", "-f", "-", given=yaml.safe_dump_all(pods))

    assert [line for line in said.splitlines() if not line.endswith(" serverside-applied (server dry run)")] == []


def pod_of(workload: Manifest) -> Manifest:
    """The pod that a controller would make."""
    template = copy.deepcopy(workload["spec"]["template"])
    names = {"name": workload["metadata"]["name"], "namespace": workload["metadata"]["namespace"]}
    # A StatefulSet's own volume, which is a claim, is none of the template's.
    claimed = [each["metadata"]["name"] for each in workload["spec"].get("volumeClaimTemplates", [])]
    volumes = [{"name": each, "emptyDir": {}} for each in claimed]
    spec = {**template["spec"], "volumes": [*template["spec"].get("volumes", []), *volumes]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {**template["metadata"], **names}, "spec": spec}


def test_a_pod_that_may_run_as_root_is_refused(kubeconfig: Path, variants: dict[str, list[Manifest]]) -> None:
    kubectl(kubeconfig, "apply", "--server-side", "-f", "-", given=yaml.safe_dump_all(copy.deepcopy(variants["small"])))
    pod = pod_of(next(each for each in variants["small"] if each["kind"] == "Deployment"))
    pod["spec"]["securityContext"] = {}

    said = kubectl(kubeconfig, "apply", "--server-side", "--dry-run=server", "-f", "-", given=yaml.safe_dump(pod))

    assert 'violates PodSecurity "restricted' in said


def test_the_runtime_brings_a_lab_up_starts_drivers_and_leaves_nothing(
    kubeconfig: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    monkeypatch.setattr(KubernetesRuntime, "_await_placed", lambda *_: None)  # nothing runs pods here
    # It was there before the lab, so the lab's objects are deleted one by one. (No controller ends a namespace here.)
    kubectl(kubeconfig, "create", "namespace", NAMESPACE)
    _, layout, said = brought_up(configured(tmp_path))
    api = Api("", NAMESPACE, "small")
    assert said[0].startswith("Kubernetes v")
    assert api.controllers() == {pod.name for pod in pods_of(layout)}

    setting = Setting(lab="small", namespace=NAMESPACE, image=IMAGE, security="plaintext", attended=True)
    job = load_job("driver-1", 2, "homepage", pods_of(layout), setting)
    api.apply(job)
    shown = kubectl(kubeconfig, "get", "job", "driver-1", "--namespace", NAMESPACE, "--output", "yaml")
    assert yaml.safe_load(shown)["spec"]["completionMode"] == "Indexed"
    api.delete(job)

    eventually("nothing is left", lambda: api.delete_all(()), within=timedelta(seconds=30), until=lambda done: done)
    assert set(versions(kubeconfig, NAMESPACE)) == set()


def test_an_operator_has_the_rights_that_the_lab_uses_and_a_unit_none(
    kubeconfig: Path, variants: dict[str, list[Manifest]]
) -> None:
    objects = variants["small"]
    kubectl(kubeconfig, "apply", "--server-side", "-f", "-", given=yaml.safe_dump_all(copy.deepcopy(objects)))
    [role] = [each for each in objects if each["kind"] == "Role"]
    accounts = [each["metadata"] for each in objects if each["kind"] == "ServiceAccount"]
    bare = rights(kubeconfig, role["metadata"]["namespace"], "nobody")

    found = {each["name"]: rights(kubeconfig, each["namespace"], each["name"]) - bare for each in accounts}

    operators = {line.split()[0] for line in found.pop(role["metadata"]["name"])}
    assert operators == {resource for rule in role["rules"] for resource in _resources(rule)}
    assert {name for name, lines in found.items() if lines} == set()


def _resources(rule: Manifest) -> list[str]:
    return [f"{each}.{group}" if group else each for group in rule["apiGroups"] for each in rule["resources"]]


def rights(kubeconfig: Path, namespace: str, account: str) -> set[str]:
    """The lines of ``kubectl auth can-i --list``."""
    who = f"--as=system:serviceaccount:{namespace}:{account}"
    listed = kubectl(kubeconfig, "auth", "can-i", "--list", "--no-headers", "--namespace", namespace, who)
    return set(listed.splitlines())
