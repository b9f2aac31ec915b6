"""The lab itself as files for ``kubectl apply -k``: a base, and overlays that differ from it.

The objects are those of ``lab up --runtime kubernetes``; without ``lab``, a Job publishes the route table. Certificates
are new in each rendering, so two renderings differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lab.identity import OPERATOR, Identity
from lab.identity.folder import version
from lab.plugins.kubernetes.manifests import manifests
from lab.plugins.kubernetes.naming import APP, Manifest, Setting
from lab.plugins.kubernetes.site import FileSite
from lab.plugins.render._locust import locust, locust_test
from lab.plugins.render._target import Rendering, Source, Target, yaml_of
from lab.roles import Plan, plan
from lab.routing.document import read_path
from lab.spec import SIZES, read_spec

NAMESPACE = "lab"
IMAGE = f"{APP}:local"
"""The image if none is named: what ``docker compose -f compose/compose.yaml build control-plane`` builds."""
LIFETIME_DAYS = 90
"""Of the certificates, which nobody renews."""

_STORE = "postgresql://lab:lab@postgresql/lab"
_PARTS = {
    "Namespace": "namespace",
    "ServiceAccount": "accounts",
    "Role": "accounts",
    "RoleBinding": "accounts",
    "Secret": "secrets",
    "ConfigMap": "config",
    "Service": "services",
    "NetworkPolicy": "policies",
    "PodDisruptionBudget": "policies",
    "Job": "first-revision",
}
_README = Path(__file__).with_suffix(".md")


def kustomizations(variants: Mapping[str, Sequence[Manifest]]) -> dict[str, str]:
    """Name → text of all files: a kustomization of the objects of ``base``, and overlays that make it the others."""
    base = variants["base"]
    overlays = {name: objects for name, objects in variants.items() if name != "base"}
    return {"README.md": _README.read_text(), **_base(base), **_differences(base, overlays)}


def variants_of(source: Source) -> dict[str, list[Manifest]]:
    """Name → objects of the source's lab, ``base``, and of the labs that the overlays are."""
    sources = {"base": source, **_overlays(source)}
    plans = {name: plan(each.spec, each.table, FileSite(Path(), {})) for name, each in sources.items()}
    secrets = _certificates(plans.values()) if source.mtls else {}
    made, settings = {}, {}
    for name, each in sources.items():
        names = [*(unit.name for unit in plans[name].units if unit.hosts), OPERATOR]
        settings[name] = Setting(
            lab=APP,
            namespace=NAMESPACE,
            image=source.image or IMAGE,
            security=each.spec.security.mode,
            secrets={unit: secrets[unit] for unit in names} if secrets else {},
            routes={"routes.yaml": yaml_of([each.table.document])},
        )
        made[name] = manifests(plans[name], settings[name])
    for name, add in (("locust", locust), ("locust-operator", locust_test)):
        if more := add(plans["base"], source.table, settings["base"]):
            made[name] = [*made["base"], *more]
    return made


def _overlays(source: Source) -> dict[str, Source]:
    on_postgres = source.spec.model_copy(update={"store": _STORE, "control_planes": 3})
    found = {"postgres": replace(source, spec=on_postgres)}
    for name, size in (("small", "mini"), ("talk", "full")):
        spec = read_spec(SIZES[size]).model_copy(update={"security": source.spec.security})
        found[name] = replace(source, spec=spec, table=read_path(spec.routes))
    return found


def _certificates(plans: Iterable[Plan]) -> dict[str, dict[str, str]]:
    """Unit → its certificate's files, all by one authority, whose own key is not kept."""
    from lab.identity.authority import Authority  # noqa: PLC0415 (its library is heavy)

    units = {unit.name: unit for layout in plans for unit in layout.units if unit.hosts}
    with TemporaryDirectory() as folder:
        authority = Authority.create(Path(folder) / "pki", lifetime_s=LIFETIME_DAYS * 86_400.0)
        wanted = {name: (unit.identity, unit.hosts) for name, unit in units.items()}
        wanted[OPERATOR] = (Identity(OPERATOR, "cli"), set())
        for name, (identity, hosts) in wanted.items():
            authority.issue(name, identity, hosts)
        folders = {name: Path(folder) / "pki" / "units" / name for name in wanted}
        return {
            name: {file.name: file.read_text() for file in (home / version(home)).iterdir()}
            for name, home in folders.items()
        }


def _base(objects: Sequence[Manifest]) -> dict[str, str]:
    parts: dict[str, list[Manifest]] = {}
    for each in objects:
        parts.setdefault(_PARTS.get(each["kind"], "workloads"), []).append(each)
    files = {f"base/{part}.yaml": yaml_of(its) for part, its in parts.items()}
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [f"{part}.yaml" for part in parts],
    }
    return {"base/kustomization.yaml": yaml_of([kustomization]), **files}


def _differences(base: Sequence[Manifest], overlays: Mapping[str, Sequence[Manifest]]) -> dict[str, str]:
    files = {}
    before = {_key(each): each for each in base}
    for overlay, objects in overlays.items():
        after = {_key(each): each for each in objects}
        folder = f"overlays/{overlay}"
        kustomization: dict[str, Any] = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": ["../../base"],
        }
        if added := [each for key, each in after.items() if key not in before]:
            files[f"{folder}/added.yaml"] = yaml_of(added)
            kustomization["resources"].append("added.yaml")
        patches: list[dict[str, Any]] = [_removal(before[key]) for key in before if key not in after]
        for key, each in after.items():
            if key in before and (steps := list(_steps(before[key], each))):
                file = f"changed/{each['kind'].lower()}-{each['metadata']['name']}.yaml"
                files[f"{folder}/{file}"] = yaml_of([steps])
                patches.append({"path": file, "target": {"kind": each["kind"], "name": each["metadata"]["name"]}})
        kustomization["patches"] = patches
        files[f"{folder}/kustomization.yaml"] = yaml_of([kustomization])
    return files


def _key(each: Manifest) -> tuple[str, str]:
    return each["kind"], each["metadata"]["name"]


def _removal(each: Manifest) -> dict[str, str]:
    metadata = {key: each["metadata"][key] for key in ("name", "namespace") if key in each["metadata"]}
    gone = {"$patch": "delete", "apiVersion": each["apiVersion"], "kind": each["kind"], "metadata": metadata}
    return {"patch": yaml_of([gone])}


def _steps(before: Manifest, after: Manifest) -> Iterator[dict[str, Any]]:
    """A JSON patch, of whole fields: merging would keep what is gone from a list or a map."""
    for field in dict.fromkeys([*before, *after]):
        if field not in after:
            yield {"op": "remove", "path": f"/{field}"}
        elif before.get(field) != after[field]:
            yield {"op": "add", "path": f"/{field}", "value": after[field]}


def _render(source: Source) -> Rendering:
    return Rendering(kustomizations(variants_of(source)))


TARGET = Target("kubernetes", "the lab itself, as kustomize base and overlays", _render, deploys=True)
