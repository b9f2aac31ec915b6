"""Who may connect to whom, and who may ask Kubernetes' API for what.

Network policies count where the cluster's network enforces them; elsewhere the API server accepts them all the same.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from lab.plugins.kubernetes.naming import (
    DRIVER,
    INSTANCE,
    OPERATOR_ACCOUNT,
    Manifest,
    Pod,
    Setting,
    manifest,
    selector,
)
from lab.plugins.kubernetes.site import number_of
from lab.roles import CALLER, COLLECTOR, CONTROL_PLANE, MODEL, ROLES, Plan, Port

PUBLISHER = "first-revision"
"""The Job that publishes the first route table, and its role."""
_Rule = dict[str, list[str]]
_MADE = ["list", "create", "patch", "delete"]
OPERATOR_RULES: tuple[_Rule, ...] = (
    {"apiGroups": [""], "resources": ["configmaps", "services", "serviceaccounts"], "verbs": _MADE},
    # Secrets are written and never read: also a list of them has their content.
    {"apiGroups": [""], "resources": ["secrets"], "verbs": ["create", "patch", "delete"]},
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "delete"]},
    {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
    {"apiGroups": ["apps"], "resources": ["deployments", "statefulsets"], "verbs": _MADE},
    {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": _MADE},
    {"apiGroups": ["networking.k8s.io"], "resources": ["networkpolicies"], "verbs": _MADE},
    {"apiGroups": ["policy"], "resources": ["poddisruptionbudgets"], "verbs": _MADE},
    {"apiGroups": [""], "resources": ["persistentvolumeclaims"], "verbs": ["list", "delete"]},
)
"""The rights of the ``lab`` command in its namespace, and no more. An administrator writes its role, and the namespace:
anyone who may write roles can grant all of their own permissions.
"""
ATTENDING_RULES: tuple[_Rule, ...] = (
    {"apiGroups": [""], "resources": ["pods/exec", "pods/portforward"], "verbs": ["get", "create"]},
)
"""Its rights in a lab that it attends to: units are killed, paused and driven within their containers."""

_RESOLVERS: tuple[tuple[str, dict[str, str], int], ...] = (
    ("kube-system", {"k8s-app": "kube-dns"}, 53),
    ("kube-system", {"app.kubernetes.io/name": "coredns"}, 53),
    ("openshift-dns", {"dns.operator.openshift.io/daemonset-dns": "default"}, 5353),
)
"""Namespace, labels and port of the pods that resolve names, by distribution."""
_NODE_LOCAL = "169.254.20.10/32"
"""Address of a node's own cache of names, where a cluster has one."""


def accounts(components: Sequence[str], setting: Setting) -> Iterator[Manifest]:
    """A service account for each kind of pod, none of them with any rights, and one for the ``lab`` command."""
    for component in components:
        yield {
            **manifest("ServiceAccount", component, setting, component),
            "automountServiceAccountToken": False,
        }
    yield {
        **manifest("ServiceAccount", OPERATOR_ACCOUNT, setting, OPERATOR_ACCOUNT),
        "automountServiceAccountToken": False,
    }
    rules = (*OPERATOR_RULES, *(ATTENDING_RULES if setting.attended else ()))
    yield manifest("Role", OPERATOR_ACCOUNT, setting, OPERATOR_ACCOUNT, rules=copy.deepcopy(list(rules)))
    yield manifest(
        "RoleBinding",
        OPERATOR_ACCOUNT,
        setting,
        OPERATOR_ACCOUNT,
        roleRef={"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": OPERATOR_ACCOUNT},
        subjects=[{"kind": "ServiceAccount", "name": OPERATOR_ACCOUNT, "namespace": setting.namespace}],
    )


def policies(plan: Plan, pods: Sequence[Pod], setting: Setting) -> Iterator[Manifest]:
    """Denies all connections of the lab's pods, and allows those that its roles need."""
    components = list(dict.fromkeys(pod.main.role for pod in pods))
    clients = {component: _clients(component, pods, setting) for component in components}
    yield manifest(
        "NetworkPolicy",
        "deny-all",
        setting,
        "network",
        spec={"podSelector": _only(INSTANCE, setting.lab), "policyTypes": ["Ingress", "Egress"]},
    )
    yield manifest(
        "NetworkPolicy",
        "allow-names",
        setting,
        "network",
        spec={
            "podSelector": _only(INSTANCE, setting.lab),
            "policyTypes": ["Egress"],
            "egress": [*_to_resolvers()],
        },
    )
    for component in components:
        servers = [server for server, its in clients.items() if component in its]
        yield _policy(component, clients[component], servers, pods, setting)
    if setting.routes:
        yield _policy(PUBLISHER, [], [CONTROL_PLANE], pods, setting)
    yield from _to_store(plan, setting)


def driver_policies(job: str, caller: Pod, pods: Sequence[Pod], setting: Setting) -> Iterator[Manifest]:
    """Allows drivers of a Job what their caller's pod may do, and to reach what is beside the caller."""
    drivers = {"podSelector": {"matchLabels": selector(setting, component=DRIVER)}}
    components = dict.fromkeys(pod.main.role for pod in pods)
    served = {each: _ports(each, pods) for each in components if CALLER in _clients(each, pods, setting)}
    yield from (
        allow(f"{job}-to-{server}", server, setting, {"Ingress": [{"from": [drivers], "ports": ports}]})
        for server, ports in served.items()
    )
    targets = [(selector(setting, component=server), ports) for server, ports in served.items()]
    if beside := _numbered(unit.port for unit in caller.units[1:]):
        pod = selector(setting, component=CALLER, pod=caller.name)
        targets.append((pod, beside))
        yield allow(
            f"{job}-to-{CALLER}", CALLER, setting, {"Ingress": [{"from": [drivers], "ports": beside}]}, pod=caller.name
        )
    egress = [{"to": [{"podSelector": {"matchLabels": target}}], "ports": ports} for target, ports in targets]
    yield allow(job, DRIVER, setting, {"Egress": egress})


def _clients(server: str, pods: Sequence[Pod], setting: Setting) -> list[str]:
    """Components whose pods connect to pods of another component."""

    def connects(pod: Pod) -> bool:
        roles = [ROLES[unit.role] for unit in pod.units]
        if server == CONTROL_PLANE:
            return any(role.name == MODEL or bool(role.follows) for role in roles)
        if server == MODEL:
            return any(role.calls_models for role in roles)
        if server == COLLECTOR:
            return pod.main.role not in (COLLECTOR, CONTROL_PLANE)
        return pod.main.role == CALLER and server != CALLER

    publishers = [PUBLISHER] if setting.routes and server == CONTROL_PLANE else []
    return [*dict.fromkeys(pod.main.role for pod in pods if connects(pod)), *publishers]


def _policy(
    component: str, clients: Sequence[str], servers: Sequence[str], pods: Sequence[Pod], setting: Setting
) -> Manifest:
    directions: dict[str, Any] = {"Ingress": [], "Egress": []}
    if clients:
        peers = [{"podSelector": {"matchLabels": selector(setting, component=each)}} for each in clients]
        directions["Ingress"] = [{"from": peers, "ports": _ports(component, pods)}]
    directions["Egress"] = [
        {
            "to": [{"podSelector": {"matchLabels": selector(setting, component=server)}}],
            "ports": _ports(server, pods),
        }
        for server in servers
    ]
    used = {name: rules for name, rules in directions.items() if rules}
    return allow(component, component, setting, used or {"Ingress": []})


def allow(
    name: str, component: str, setting: Setting, directions: Mapping[str, list[dict[str, Any]]], *, pod: str = ""
) -> Manifest:
    """Allows pods of a component these connections, by direction (``Ingress``, ``Egress``), and denies others.

    With ``pod``, only the plan's pod of that name is allowed them.
    """
    spec = {
        "podSelector": {"matchLabels": selector(setting, component=component, **({"pod": pod} if pod else {}))},
        "policyTypes": list(directions),
        **{direction.lower(): rules for direction, rules in directions.items() if rules},
    }
    return manifest("NetworkPolicy", f"allow-{name}", setting, component, spec=spec)


def _ports(component: str, pods: Sequence[Pod]) -> list[dict[str, Any]]:
    """The ports at which pods of a component serve other pods; an admin page is only for the pod itself."""
    units = [pod.main for pod in pods if pod.main.role == component]
    return _numbered(port for unit in units for port in (unit.port, unit.rest) if port)


def _numbered(ports: Iterable[Port]) -> list[dict[str, Any]]:
    return [{"protocol": "TCP", "port": number} for number in sorted({number_of(port) for port in ports})]


def _to_store(plan: Plan, setting: Setting) -> Iterator[Manifest]:
    """Lets control planes reach the database of their revisions, which may be anywhere."""
    stores = [unit.files["store"].splitlines()[-1] for unit in plan.with_role(CONTROL_PLANE) if "store" in unit.files]
    if stores:
        port = {"protocol": "TCP", "port": urlsplit(stores[0]).port or 5432}
        yield allow("store", CONTROL_PLANE, setting, {"Egress": [{"ports": [port]}]})


def _to_resolvers() -> Iterator[dict[str, Any]]:
    for place, its, port in _RESOLVERS:
        in_place = {"namespaceSelector": _only("kubernetes.io/metadata.name", place)}
        yield {"to": [{**in_place, "podSelector": {"matchLabels": dict(its)}}], "ports": _both(port)}
    yield {"to": [{"ipBlock": {"cidr": _NODE_LOCAL}}], "ports": _both(53)}


def _both(port: int) -> list[dict[str, Any]]:
    return [{"protocol": protocol, "port": port} for protocol in ("UDP", "TCP")]


def _only(key: str, value: str) -> dict[str, Any]:
    return {"matchLabels": {key: value}}
