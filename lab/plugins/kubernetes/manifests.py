"""Turns a plan of units into Kubernetes objects; pure functions, so that files and ``lab up`` have the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lab.errors import SpecError
from lab.identity import OPERATOR
from lab.links import ROLE as LINK
from lab.plugins.kubernetes.naming import (
    API_VERSIONS,
    GROUP,
    Manifest,
    Pod,
    Setting,
    labels,
    manifest,
    pods_of,
    selector,
)
from lab.plugins.kubernetes.pods import (
    VOLUME,
    container_defaults,
    environment,
    files_name,
    files_of,
    identity_mounts,
    identity_secret,
    identity_volume,
    pod_defaults,
    scratch,
    secret_files,
    template,
)
from lab.plugins.kubernetes.policies import PUBLISHER, accounts, policies
from lab.plugins.kubernetes.site import replicas_of
from lab.roles import CONTROL_PLANE, Plan
from lab.transport.security import MTLS

_VOLUME_SIZE = "1Gi"
_TRIES = 30
_ROUTES = "routes"


def manifests(plan: Plan, setting: Setting) -> list[Manifest]:
    """All objects of a lab, in the order in which they are to be applied.

    Raises:
        SpecError: Kubernetes does not take a name, or the lab has links.
    """
    if links := plan.with_role(LINK):
        raise SpecError(f"links: {links[0].name}: labs with links run as processes and on Compose; leave [links] out")
    pods = pods_of(plan)
    components = list(dict.fromkeys(pod.main.role for pod in pods))
    made = [namespace(setting)]
    made += accounts([*components, *([PUBLISHER] if setting.routes else [])], setting)
    made += _files(pods, setting)
    made += [certificate(unit, content, setting) for unit, content in setting.secrets.items()]
    made += _services(pods, setting)
    made += policies(plan, pods, setting)
    made += _budgets(pods, setting)
    made += [workload(pod, setting) for pod in pods]
    if setting.routes:
        made += _first_revision(plan, setting)
    order = list(API_VERSIONS)
    return sorted(made, key=lambda each: order.index(each["kind"]))


def namespace(setting: Setting) -> Manifest:
    """The lab's namespace, which admits only pods of the restricted standard."""
    made = manifest("Namespace", setting.namespace, setting, "namespace")
    del made["metadata"]["namespace"]
    made["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] = "restricted"
    return made


def workload(pod: Pod, setting: Setting) -> Manifest:
    """The controller of one pod: it has a name, a certificate and its own command.

    A control plane keeps its volume when its pod is replaced. All others are replaced at once, elsewhere if their node
    is lost.
    """
    spec: dict[str, Any] = {
        "replicas": 1,
        "selector": {"matchLabels": selector(setting, pod=pod.name)},
        "template": template(pod, setting),
    }
    if _is_replicated(pod):
        spec["template"]["spec"]["subdomain"] = replicas_of(pod.group)
    component = pod.main.role
    if component != CONTROL_PLANE:
        # Two pods of one name at a time would both register as the same replica.
        spec["strategy"] = {"type": "Recreate"}
        return manifest("Deployment", pod.name, setting, component, spec=spec)
    spec["serviceName"] = replicas_of(pod.group)
    if setting.storage_class:
        spec["volumeClaimTemplates"] = [
            {
                "metadata": {"name": VOLUME, "labels": labels(setting, component)},
                "spec": {
                    "accessModes": ["ReadWriteOnce"],
                    "storageClassName": setting.storage_class,
                    "resources": {"requests": {"storage": _VOLUME_SIZE}},
                },
            }
        ]
    return manifest("StatefulSet", pod.name, setting, component, spec=spec)


def _files(pods: Sequence[Pod], setting: Setting) -> Iterator[Manifest]:
    for pod in pods:
        if content := files_of(pod, secret=False):
            yield manifest("ConfigMap", files_name(pod.name), setting, pod.main.role, data=content)
        if content := files_of(pod, secret=True):
            yield manifest("Secret", files_name(pod.name), setting, pod.main.role, type="Opaque", stringData=content)


def certificate(unit: str, content: Mapping[str, str], setting: Setting) -> Manifest:
    """The Secret with a unit's certificate."""
    return manifest(
        "Secret", identity_secret(unit), setting, "identity", type="Opaque", stringData=secret_files(content)
    )


def secret_names(plan: Plan) -> list[str]:
    """Names of the Secrets that a lab may have: units' certificates, and files with a password."""
    pods = [pod.name for pod in pods_of(plan) if files_of(pod, secret=True)]
    return [*(identity_secret(unit.name) for unit in plan.units if unit.hosts), *map(files_name, pods)]


def _services(pods: Sequence[Pod], setting: Setting) -> Iterator[Manifest]:
    """A name for each pod that clients know by itself; two for a group: one address, and the addresses of all."""
    for group in dict.fromkeys(pod.group for pod in pods):
        members = [pod for pod in pods if pod.group == group]
        component, ports = members[0].main.role, _ports(members[0])
        if _is_replicated(members[0]):
            selected = selector(setting, group=group)
            yield _service(group, component, selected, ports, setting)
            yield _service(replicas_of(group), component, selected, ports, setting, clusterIP="None")
        else:
            for pod in members:
                yield _service(pod.name, component, selector(setting, pod=pod.name), ports, setting)
        if component == CONTROL_PLANE:  # a StatefulSet needs one
            selected = selector(setting, group=group)
            yield _service(replicas_of(group), component, selected, ports, setting, clusterIP="None")


def _is_replicated(pod: Pod) -> bool:
    """Whether clients reach the pods of its group by the group's name."""
    return pod.main.port.inside.rpartition(":")[0] == replicas_of(pod.group)


def _service(
    name: str, component: str, selected: dict[str, str], ports: Sequence[Any], setting: Setting, **more: Any
) -> Manifest:
    spec = {"type": "ClusterIP", **more, "selector": selected, "ports": list(ports)}
    return manifest("Service", name, setting, component, spec=spec)


def _ports(pod: Pod) -> list[dict[str, Any]]:
    """The ports that other pods may use: an Envoy's admin page is only for its own."""
    unit = pod.main
    numbers = {"grpc": unit.port, "rest": unit.rest}
    return [
        {
            "name": name,
            "port": int(port.bind.rpartition(":")[2]),
            "targetPort": name,
            "protocol": "TCP",
            "appProtocol": "http" if name == "rest" else "kubernetes.io/h2c",
        }
        for name, port in numbers.items()
        if port
    ]


def _budgets(pods: Sequence[Pod], setting: Setting) -> Iterator[Manifest]:
    """Lets a drain of nodes take one replica of a group at a time."""
    for group in dict.fromkeys(pod.group for pod in pods):
        members = [pod for pod in pods if pod.group == group]
        if len(members) > 1 and _is_replicated(members[0]):
            yield manifest(
                "PodDisruptionBudget",
                group,
                setting,
                members[0].main.role,
                spec={"maxUnavailable": 1, "selector": {"matchLabels": selector(setting, group=group)}},
            )


def _first_revision(plan: Plan, setting: Setting) -> Iterator[Manifest]:
    """A Job that publishes the route table as soon as all units are ready, unless a revision is in force."""
    yield manifest("ConfigMap", _ROUTES, setting, PUBLISHER, data=dict(setting.routes))
    made = container_defaults(setting, cpus=1, memory_mb=256)
    volumes = [{"name": _ROUTES, "configMap": {"name": _ROUTES}}, scratch("tmp", "64Mi")]
    if setting.security == MTLS:
        volumes.append(identity_volume(OPERATOR))
    yield manifest(
        "Job",
        PUBLISHER,
        setting,
        PUBLISHER,
        spec={
            "backoffLimit": _TRIES,
            "template": {
                "metadata": {"labels": {**labels(setting, PUBLISHER), GROUP: PUBLISHER}},
                "spec": {
                    **pod_defaults(setting, PUBLISHER),
                    "restartPolicy": "OnFailure",
                    "containers": [
                        {
                            "name": PUBLISHER,
                            **made,
                            "command": ["python", "-m", "lab.client.first_publish"],
                            "args": ["--control-plane", plan.with_role(CONTROL_PLANE)[0].port.inside, "/routes"],
                            "env": environment(PUBLISHER, setting),
                            "volumeMounts": [
                                {"name": _ROUTES, "mountPath": "/routes", "readOnly": True},
                                {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 (within the container)
                                *identity_mounts(OPERATOR, setting),
                            ],
                        }
                    ],
                    "volumes": volumes,
                },
            },
        },
    )
