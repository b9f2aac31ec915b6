"""A small lab on a fake of Kubernetes."""

from __future__ import annotations

from pathlib import Path

from lab.plugins.kubernetes.options import configure
from lab.plugins.kubernetes.policies import ATTENDING_RULES, OPERATOR_RULES
from lab.plugins.kubernetes.runtime import KubernetesRuntime
from lab.roles import Plan, plan
from lab.routing.document import read_path
from lab.spec import SIZES, read_spec
from tests.kubernetes_server import FakeServer

IMAGE = "registry.example/lab:1"
# Beside the role of its namespace: it makes the namespace and removes it, looks at nodes and storage classes, and
# cordons a node for a fault.
_BEYOND = {
    ("get", "", "namespaces"),
    ("patch", "", "namespaces"),
    ("delete", "", "namespaces"),
    ("list", "", "nodes"),
    ("patch", "", "nodes"),
    ("list", "storage.k8s.io", "storageclasses"),
    # An administrator's first lab makes the role and removes it; where the lab has that role, it goes on without.
    *(
        (verb, "rbac.authorization.k8s.io", kind)
        for verb in ("patch", "list", "delete")
        for kind in ("roles", "rolebindings")
    ),
}


def configured(folder: Path) -> Path:
    """The folder of a lab that is not up yet."""
    made = folder / "labs" / "small"
    configure(made, {"image": IMAGE})
    return made


def brought_up(folder: Path) -> tuple[KubernetesRuntime, Plan, list[str]]:
    """A lab whose pods are placed: its runtime, its plan, and what it said."""
    runtime = KubernetesRuntime(folder, "plaintext")
    spec = read_spec(SIZES["mini"])
    layout = plan(spec, read_path(spec.routes), runtime.site())
    said: list[str] = []
    runtime.prepare(layout, said.append)
    assert [name for name, _ in runtime.start(layout.units)] == [unit.name for unit in layout.units]
    return runtime, layout, said


ROLE = {
    (verb, group, resource)
    for rule in (*OPERATOR_RULES, *ATTENDING_RULES)
    for verb in rule["verbs"]
    for group in rule["apiGroups"]
    for resource in rule["resources"]
}
"""Calls that the lab's role allows."""


def asked_beyond_its_role(cluster: FakeServer) -> set[tuple[str, str, str]]:
    """Calls of a fake, as verb, API group and resource, that the lab's role does not allow."""
    return cluster.calls - ROLE - _BEYOND
