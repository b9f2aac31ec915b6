"""Names and labels of a lab's objects, and what a rendering is made for beside the plan."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lab.errors import SpecError
from lab.roles import CALLER, Plan, Unit

Manifest = dict[str, Any]
"""An object of Kubernetes' API, as JSON has it."""

APP = "inference-routing-lab"
MANAGED_BY = "app.kubernetes.io/managed-by"
INSTANCE = "app.kubernetes.io/instance"
COMPONENT = "app.kubernetes.io/component"
POD, GROUP = "lab.internal/pod", "lab.internal/group"
"""Labels of a pod: the plan's name for it, and the group of replicas that it is one of."""
DRIVER = "driver"
"""Container in which load drivers run, of a caller's pod or of one with nothing else; component of the latter."""
OPERATOR_ACCOUNT = "lab-operator"
"""The service account, and its role, with the rights that the ``lab`` command needs."""

_LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_LONGEST = 52  # a Deployment's pods, a Service of replicas and a volume's claim have longer names


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What manifests contain beside the plan.

    Attributes:
        lab: name of the lab; the label by which its objects are found.
        namespace: where the lab's own namespace holds them.
        image: image of all units, by tag or by digest.
        security: security mode, ``mtls`` or ``plaintext``.
        secrets: unit → name → content of its certificate's files; empty for plaintext.
        storage_class: of the control plane's volume; without one, revisions are lost with its pod.
        pull_policy: ``IfNotPresent``, ``Always`` or ``Never``.
        attended: whether ``lab`` attends to the pods: it may keep a unit from starting, and run load drivers in a
            container of a caller's pod.
        routes: name → content of the route table's files, for a Job that publishes it; empty if ``lab up`` does that.
    """

    lab: str
    namespace: str
    image: str
    security: str
    secrets: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    storage_class: str = ""
    pull_policy: str = "IfNotPresent"
    attended: bool = False
    routes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pod:
    """The units that share an address: a caller with those beside it, or a unit by itself.

    Attributes:
        name: of the pod in the plan.
        units: the one that the pod is for, then those beside it.
    """

    name: str
    units: tuple[Unit, ...]

    @property
    def main(self) -> Unit:
        """The unit that the pod is for."""
        return self.units[0]

    @property
    def group(self) -> str:
        """The replicas that it is one of: a model cluster, or all units of its role."""
        return self.main.cluster or self.main.role


def pods_of(plan: Plan) -> list[Pod]:
    """All pods of a plan.

    Raises:
        SpecError: Kubernetes does not take a name.
    """
    pods = []
    for name in dict.fromkeys(unit.pod for unit in plan.units):
        units = [unit for unit in plan.units if unit.pod == name]
        # Alone, a unit that is beside a caller elsewhere is the pod's own.
        pods.append(Pod(name, tuple(sorted(units, key=lambda unit: unit.role != CALLER))))
    for pod in pods:
        for each in (pod.name, pod.group):
            if not _LABEL.fullmatch(each) or len(each) > _LONGEST:
                raise SpecError(
                    f"{each!r} cannot be a name on Kubernetes: use at most {_LONGEST} lower-case letters, digits and "
                    "hyphens, a letter first"
                )
    return pods


def labels(setting: Setting, component: str) -> dict[str, str]:
    """The recommended labels of an object of a role."""
    return {
        "app.kubernetes.io/name": APP,
        INSTANCE: setting.lab,
        COMPONENT: component,
        "app.kubernetes.io/part-of": APP,
        MANAGED_BY: "lab",
    }


def selector(setting: Setting, **more: str) -> dict[str, str]:
    """Labels that select pods of the lab: of a ``component``, a ``group``, or the one ``pod``."""
    keys = {"component": COMPONENT, "group": GROUP, "pod": POD}
    return {INSTANCE: setting.lab, **{keys[name]: value for name, value in more.items()}}


def manifest(kind: str, name: str, setting: Setting, component: str, **body: Any) -> Manifest:
    """An object in the lab's namespace."""
    return {
        "apiVersion": API_VERSIONS[kind],
        "kind": kind,
        "metadata": {"name": name, "namespace": setting.namespace, "labels": labels(setting, component)},
        **body,
    }


API_VERSIONS = {
    "Namespace": "v1",
    "ServiceAccount": "v1",
    "Secret": "v1",
    "ConfigMap": "v1",
    "Service": "v1",
    "Role": "rbac.authorization.k8s.io/v1",
    "RoleBinding": "rbac.authorization.k8s.io/v1",
    "NetworkPolicy": "networking.k8s.io/v1",
    "PodDisruptionBudget": "policy/v1",
    "StatefulSet": "apps/v1",
    "Deployment": "apps/v1",
    "Job": "batch/v1",
}
"""The kinds of objects of a lab, in the order in which they are applied."""
