"""Locust's master and workers in a rendered lab: interactive load, over REST, on its gateways."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lab.plugins.kubernetes.naming import GROUP, Manifest, Setting, labels, manifest, selector
from lab.plugins.kubernetes.pods import (
    container_defaults,
    environment,
    identity_mounts,
    identity_volume,
    lifecycle,
    pod_defaults,
    scratch,
)
from lab.plugins.kubernetes.policies import allow
from lab.plugins.kubernetes.site import number_of
from lab.roles import CALLER, Plan
from lab.transport.security import MTLS

if TYPE_CHECKING:
    from lab.routing.document import RouteTable

GATEWAY, MASTER, WORKER, FILES = "gateway", "locust-master", "locust-worker", "locustfile"
WORKERS = 2
OFFICIAL_IMAGE = "locustio/locust:2.47.0"
"""Image of the operator's pods: it runs `locust` by itself, as the lab's does not."""
_WEB, _MESSAGES = 8089, 5557
_FILE = Path(__file__).with_name("_rest_locustfile.py")


def locust(plan: Plan, table: RouteTable, setting: Setting) -> list[Manifest]:
    """Master and workers as Deployments; nothing for a lab without a gateway that speaks REST."""
    gateways = [unit for unit in plan.with_role(GATEWAY) if unit.rest]
    if not gateways or gateways[0].rest is None:
        return []
    rest = gateways[0].rest
    caller = plan.with_role(CALLER)[0].name
    scheme = "https" if setting.security == MTLS else "http"
    options = ["--locustfile", f"/locust/{_FILE.name}", "--host", f"{scheme}://{rest.inside}"]
    asks = {"LAB_CALLER": caller, "LAB_USE_CASES": ",".join(_use_cases(table, caller))}
    ports = {"web": _WEB, "messages": _MESSAGES}
    service = {
        # Workers ask for the master while it starts.
        "clusterIP": "None",
        "publishNotReadyAddresses": True,
        "selector": selector(setting, component=MASTER),
        "ports": [{"name": name, "port": port, "targetPort": name} for name, port in ports.items()],
    }
    to = ["--worker", "--master-host", MASTER]
    return [
        *(
            {**manifest("ServiceAccount", each, setting, each), "automountServiceAccountToken": False}
            for each in (MASTER, WORKER)
        ),
        manifest("ConfigMap", FILES, setting, MASTER, data={_FILE.name: _FILE.read_text()}),
        manifest("Service", MASTER, setting, MASTER, spec=service),
        _allow(MASTER, setting, Ingress=[(WORKER, _MESSAGES)]),
        _allow(WORKER, setting, Egress=[(MASTER, _MESSAGES), (GATEWAY, number_of(rest))]),
        _allow(GATEWAY, setting, Ingress=[(WORKER, number_of(rest))]),
        _deployment(MASTER, 1, ["--master", *options], asks, "", ports, setting),
        _deployment(WORKER, WORKERS, [*to, *options], asks, caller, {}, setting),
    ]


def _use_cases(table: RouteTable, caller: str) -> list[str]:
    """Use cases that the caller may ask for, and whose requests the locustfile can write."""
    entries = table.document["use_cases"]
    return [name for name, entry in entries.items() if caller in entry["callers"] and entry["api"] == "ranking.v1"]


def _allow(component: str, setting: Setting, **directions: list[tuple[str, int]]) -> Manifest:
    rules = {
        direction: [
            {
                "from" if direction == "Ingress" else "to": [
                    {"podSelector": {"matchLabels": selector(setting, component=peer)}}
                ],
                "ports": [{"protocol": "TCP", "port": port}],
            }
            for peer, port in peers
        ]
        for direction, peers in directions.items()
    }
    return allow(f"locust-{component.removeprefix('locust-')}", component, setting, rules)


def _deployment(
    name: str,
    replicas: int,
    args: list[str],
    asks: Mapping[str, str],
    identity: str,
    ports: Mapping[str, int],
    setting: Setting,
) -> Manifest:
    """The Deployment of master or workers, which present the certificate of a caller, if one is named."""
    container = {
        "name": name,
        **container_defaults(setting, cpus=1, memory_mb=512),
        "command": ["locust"],
        "args": args,
        "env": [*environment(name, setting), *({"name": key, "value": value} for key, value in asks.items())],
        "volumeMounts": [
            {"name": FILES, "mountPath": "/locust", "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 (within the container)
            *(identity_mounts(identity, setting) if identity else []),
        ],
    }
    if ports:
        container["ports"] = [{"name": key, "containerPort": port, "protocol": "TCP"} for key, port in ports.items()]
        container["readinessProbe"] = {"tcpSocket": {"port": "web"}, "periodSeconds": 2}
        container["livenessProbe"] = {"tcpSocket": {"port": "web"}, "periodSeconds": 30, "failureThreshold": 6}
        container["lifecycle"] = lifecycle()
    volumes = [{"name": FILES, "configMap": {"name": FILES}}, scratch("tmp", "64Mi")]
    if identity and setting.security == MTLS:
        volumes.append(identity_volume(identity))
    spec = {
        "replicas": replicas,
        "selector": {"matchLabels": selector(setting, component=name)},
        "template": {
            "metadata": {"labels": {**labels(setting, name), GROUP: name}},
            "spec": {**pod_defaults(setting, name), "containers": [container], "volumes": volumes},
        },
    }
    return manifest("Deployment", name, setting, name, spec=spec)


def locust_test(plan: Plan, table: RouteTable, setting: Setting) -> list[Manifest]:
    """A test for the official operator of Locust, in its own namespace; nothing for a lab with certificates.

    A ``LocustTest`` has no volumes, for a caller's certificate, and no security context, which the lab's namespace asks
    for.
    """
    gateways = [unit for unit in plan.with_role(GATEWAY) if unit.rest]
    if setting.security == MTLS or not gateways or gateways[0].rest is None:
        return []
    port, caller = number_of(gateways[0].rest), plan.with_role(CALLER)[0].name
    its = replace(setting, namespace=f"{setting.namespace}-locust")
    namespace = manifest("Namespace", its.namespace, its, WORKER)
    del namespace["metadata"]["namespace"]
    peer = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": its.namespace}}}
    allowed = {"from": [peer], "ports": [{"protocol": "TCP", "port": port}]}
    asks = {"LAB_CALLER": caller, "LAB_USE_CASES": ",".join(_use_cases(table, caller))}
    resources = container_defaults(setting, cpus=1, memory_mb=512)["resources"]
    spec = {
        "image": OFFICIAL_IMAGE,
        "workers": WORKERS,
        "args": f"--host http://{gateways[0].rest.inside.rpartition(':')[0]}.{setting.namespace}:{port}",
        "env": [{"name": name, "value": value} for name, value in asks.items()],
        "locustfile": {"configMap": {"name": FILES}},
        "master": {"resources": resources},
        "worker": {"resources": resources},
    }
    test = {"metadata": {"name": "lab", "namespace": its.namespace, "labels": labels(its, WORKER)}, "spec": spec}
    return [
        namespace,
        # The operator's containers look for this name.
        manifest("ConfigMap", FILES, its, WORKER, data={"locustfile.py": _FILE.read_text()}),
        allow("locust-test", GATEWAY, setting, {"Ingress": [allowed]}),
        {"apiVersion": "locust.cloud/v1", "kind": "LocustTest", **test},
    ]
