"""The lab as files: what kustomize makes of each overlay is the lab that was planned."""

from __future__ import annotations

import shutil
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509

from lab.plugins.render import Source
from lab.plugins.render.kubernetes import LIFETIME_DAYS, kustomizations, variants_of
from lab.routing.document import Source as Text
from lab.routing.document import read_path, read_sources
from lab.spec import SIZES, override, read_spec
from tests.manifests import Manifest, problems
from tests.missing import missing

IMAGE = "registry.example/lab@sha256:" + "1" * 64
# Of its CRD: https://github.com/locustio/k8s-operator, charts/locust-operator/crds/locusttest.yaml
OPERATOR_FIELDS = {"annotations", "labels", "image", "imagePullPolicy", "imagePullSecrets", "workers", "args", "env"}
OPERATOR_FIELDS |= {"master", "worker", "locustfile", "metrics"}
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
Variants = dict[str, list[Manifest]]


def source(size: str = "default", security: str = "mtls") -> Source:
    spec = override(read_spec(SIZES[size]), security=security)
    return Source(spec, read_path(spec.routes), IMAGE)


@pytest.fixture(scope="module")
def variants() -> Variants:
    return variants_of(source())


@pytest.fixture(scope="module")
def folder(variants: Variants, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("rendered")
    for name, text in kustomizations(variants).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def found(objects: list[Manifest], kind: str, name: str) -> Manifest:
    return next(each for each in objects if (each["kind"], each["metadata"]["name"]) == (kind, name))


def built(folder: Path) -> dict[tuple[str, str], Any]:
    if shutil.which("kustomize") is None:
        missing("kustomize is not installed: make kustomize")
    text = subprocess.run(["kustomize", "build", folder], check=True, capture_output=True, text=True).stdout
    return {(each["kind"], each["metadata"]["name"]): each for each in yaml.load_all(text, Loader=_LOADER)}


@pytest.mark.parametrize("name", ["base", "small", "talk", "postgres", "locust"])
def test_kustomize_builds_the_planned_objects(variants: Variants, folder: Path, name: str) -> None:
    made = built(folder / "base" if name == "base" else folder / "overlays" / name)

    assert made == {(each["kind"], each["metadata"]["name"]): each for each in variants[name]}


@pytest.mark.parametrize("name", ["small", "postgres", "locust"])
def test_an_overlay_has_no_problem(variants: Variants, name: str) -> None:
    assert problems(variants[name]) == []


def test_there_are_thirty_callers_in_the_talk(variants: Variants) -> None:
    callers = [
        each
        for each in variants["talk"]
        if each["kind"] == "Deployment" and each["metadata"]["labels"]["app.kubernetes.io/component"] == "caller"
    ]

    assert len(callers) == 30


def test_the_readme_names_every_overlay(folder: Path) -> None:
    readme = (folder / "README.md").read_text()

    assert [each.name for each in (folder / "overlays").iterdir() if f"`overlays/{each.name}`" not in readme] == []


def test_the_readme_says_how_long_certificates_are_valid(variants: Variants, folder: Path) -> None:
    pem = found(variants["base"], "Secret", "homepage-identity")["stringData"]["cert.pem"]
    read = x509.load_pem_x509_certificate(pem.encode())

    assert round((read.not_valid_after_utc - read.not_valid_before_utc) / timedelta(days=1)) == LIFETIME_DAYS
    assert f"valid for {LIFETIME_DAYS} days" in (folder / "README.md").read_text()


def test_the_published_table_is_the_one_that_was_rendered(variants: Variants) -> None:
    for name, expected in (("base", source().table), ("small", source("mini").table)):
        published = found(variants[name], "ConfigMap", "routes")["data"]

        assert read_sources([Text(*each) for each in published.items()]).document == expected.document


def test_locust_presents_the_certificate_of_the_caller_that_it_names(variants: Variants) -> None:
    worker = found(variants["locust"], "Deployment", "locust-worker")["spec"]["template"]["spec"]
    variables = {each["name"]: each.get("value") for each in worker["containers"][0]["env"]}
    table = source().table.document["use_cases"]

    assert {each["secret"]["secretName"] for each in worker["volumes"] if "secret" in each} == {
        f"{variables['LAB_CALLER']}-identity"
    }
    assert {variables["LAB_CALLER"] in table[name]["callers"] for name in variables["LAB_USE_CASES"].split(",")} == {
        True
    }


def test_the_operator_of_locust_gets_a_test_only_where_it_needs_no_certificate(variants: Variants) -> None:
    plain = variants_of(source(security="plaintext"))
    test = found(plain["locust-operator"], "LocustTest", "lab")

    assert "locust-operator" not in variants
    assert (test["apiVersion"], test["metadata"]["namespace"]) == ("locust.cloud/v1", "lab-locust")
    assert test["spec"].keys() <= OPERATOR_FIELDS
    assert found(plain["locust-operator"], "ConfigMap", test["spec"]["locustfile"]["configMap"]["name"])
    assert "--host http://gateway-replicas.lab:9080" in test["spec"]["args"]


def test_the_image_is_the_one_that_is_named(variants: Variants) -> None:
    images = {
        container["image"]
        for objects in variants.values()
        for each in objects
        if each["kind"] in ("Deployment", "StatefulSet", "Job")
        for pod in [each["spec"]["template"]["spec"]]
        for container in [*pod.get("initContainers", []), *pod["containers"]]
    }

    assert images == {IMAGE}


def test_certificates_of_all_overlays_are_of_one_authority(variants: Variants) -> None:
    authorities = {
        each["stringData"]["ca.pem"]
        for objects in variants.values()
        for each in objects
        if each["kind"] == "Secret" and "ca.pem" in each["stringData"]
    }

    assert len(authorities) == 1
