"""Checks Kubernetes objects of one namespace for what their schemas do not say, and for the schemas too.

:func:`problems` lists what a cluster would refuse, or accept and never run.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from functools import cache
from typing import Any

import kubernetes_validate
from kubernetes_validate import utils

from lab.plugins.kubernetes.naming import API_VERSIONS

Manifest = dict[str, Any]

RECOMMENDED = ("name", "instance", "component", "part-of", "managed-by")
_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_DNS_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_SERVICE_NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
_PORT_NAME = re.compile(r"(?=.*[a-z])(?!.*--)[a-z0-9]([-a-z0-9]{0,13}[a-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_LABEL_KEY = re.compile(r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_CONFIG_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}")
_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?)(m|k|M|G|T|Ki|Mi|Gi|Ti)?")
_UNITS = {"": 1, "m": Decimal("0.001"), **{unit: 1000**power for power, unit in enumerate("kMGT", 1)}}
_UNITS.update({f"{unit}i": 1024**power for power, unit in enumerate("KMGT", 1)})
_RESOURCES = ("cpu", "memory", "ephemeral-storage")
_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc")
_OF_NAMES = {53, 5353}
_WRITES = {"create", "update", "patch", "delete"}
_NOT_FOR = {
    "secrets": {"get", "list", "watch"},
    "roles": _WRITES,
    "rolebindings": _WRITES,
    "serviceaccounts/token": _WRITES,
}
"""Resource → verbs that let their holder take more rights than it has."""
_PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
_WORKLOADS = ("Deployment", "StatefulSet", "Job")
_LIMIT_BYTES = 1_048_576  # of a ConfigMap or a Secret

# A check would spend most of its time reading the schemas again for each object.
utils.schema_contents = cache(utils.schema_contents)


def problems(objects: Sequence[Manifest], *, schemas: bool = True) -> list[str]:
    """One line for each problem, with the object that has it; ``schemas``: whether to check these, which is slow."""
    return [
        *(_schemas(objects) if schemas else ()),
        *_objects(objects),
        *(problem for workload in _of(objects, *_WORKLOADS) for problem in _workload(workload, objects)),
        *_services(objects),
        *_selectors(objects),
        *_policies(objects),
        *_rights(objects),
    ]


def _of(objects: Sequence[Manifest], *kinds: str) -> list[Manifest]:
    return [each for each in objects if each.get("kind") in kinds]


def _names(objects: Sequence[Manifest], *kinds: str) -> set[str]:
    return {each["metadata"]["name"] for each in _of(objects, *kinds)}


def _title(each: Manifest) -> str:
    return f"{each.get('kind')}/{each.get('metadata', {}).get('name')}"


# -- each object -------------------------------------------------------------------------------------------------


def _schemas(objects: Sequence[Manifest]) -> Iterator[str]:
    version = kubernetes_validate.latest_version()
    for each in objects:
        try:
            kubernetes_validate.validate(each, version, strict=True)
        except (kubernetes_validate.ValidationError, kubernetes_validate.InvalidSchemaError) as error:
            yield f"{_title(each)}: {str(error).splitlines()[0]}"
        except kubernetes_validate.SchemaNotFoundError:
            yield f"{_title(each)}: no such kind"


def _objects(objects: Sequence[Manifest]) -> Iterator[str]:  # noqa: C901 (one plain check after another)
    for title, count in Counter(_title(each) for each in objects).items():
        if count > 1:
            yield f"{title}: is there {count} times"
    namespaces = _names(objects, "Namespace")
    for each in objects:
        metadata = each["metadata"]
        pattern = _SERVICE_NAME if each["kind"] == "Service" else _DNS_NAME
        if not pattern.fullmatch(metadata["name"]):
            yield f"{_title(each)}: not a name"
        if each["kind"] in _WORKLOADS and len(metadata["name"]) > 52:
            yield f"{_title(each)}: name is too long for its pods"
        if each["kind"] in API_VERSIONS and each.get("apiVersion") != API_VERSIONS[each["kind"]]:
            yield f"{_title(each)}: apiVersion is not {API_VERSIONS[each['kind']]}"
        if each["kind"] != "Namespace" and metadata.get("namespace") not in namespaces:
            yield f"{_title(each)}: namespace {metadata.get('namespace')} is not among the objects"
        yield from _labels(_title(each), metadata)
        for key, content in {**each.get("data", {}), **each.get("stringData", {})}.items():
            if not _CONFIG_KEY.fullmatch(key):
                yield f"{_title(each)}: {key!r} is not a key"
            if not isinstance(content, str):
                yield f"{_title(each)}: {key} is not text"
        if sum(len(str(content)) for content in each.get("data", {}).values()) > _LIMIT_BYTES:
            yield f"{_title(each)}: larger than 1 MiB"


def _labels(title: str, metadata: Manifest) -> Iterator[str]:
    labels = metadata.get("labels", {})
    for key, value in labels.items():
        if not _LABEL_KEY.fullmatch(key) or not _LABEL_VALUE.fullmatch(value):
            yield f"{title}: label {key}={value} is not one"
    for name in RECOMMENDED:
        if f"app.kubernetes.io/{name}" not in labels:
            yield f"{title}: lacks the label app.kubernetes.io/{name}"


# -- pods --------------------------------------------------------------------------------------------------------


def _workload(workload: Manifest, objects: Sequence[Manifest]) -> Iterator[str]:  # noqa: C901 (one plain check after another)
    title, spec = _title(workload), workload["spec"]
    template = spec["template"]
    labels, pod = template["metadata"].get("labels", {}), template["spec"]
    yield from _labels(title, template["metadata"])
    if workload["kind"] != "Job" and not _selects(spec["selector"].get("matchLabels", {}), labels):
        yield f"{title}: its selector does not select its own pods"
    if workload["kind"] == "Job":
        yield from _job(title, spec)
    if workload["kind"] == "StatefulSet" and spec["serviceName"] not in _headless(objects):
        yield f"{title}: serviceName {spec['serviceName']} is not a headless Service"
    yield from _pod(title, pod, objects)
    if "subdomain" in pod and pod["subdomain"] not in _headless(objects):
        yield f"{title}: subdomain {pod['subdomain']} is not a headless Service"
    for spread in pod.get("topologySpreadConstraints", []):
        if not _selects(spread["labelSelector"]["matchLabels"], labels):
            yield f"{title}: its spread does not count its own pods"
    containers = [*pod.get("initContainers", []), *pod["containers"]]
    yield from _unique(title, "container", [each["name"] for each in containers])
    ports = [port.get("name", "") for each in containers for port in each.get("ports", [])]
    yield from _unique(title, "port", ports)
    numbers = [(port["containerPort"], port.get("protocol")) for each in containers for port in each.get("ports", [])]
    yield from _unique(title, "port number", numbers)
    for container in pod.get("initContainers", []):
        if container.get("restartPolicy") != "Always":
            yield f"{title}: {container['name']} is not a sidecar: restartPolicy is not Always"
        elif "startupProbe" not in container:
            yield f"{title}: {container['name']}: traffic would not wait for it without a startupProbe"
    for container in containers:
        yield from _container(f"{title}: {container['name']}", container)
        if "ports" in container and "livenessProbe" not in container:
            yield f"{title}: {container['name']}: would hang for ever without a livenessProbe"
        if "ports" in container and "preStop" not in container.get("lifecycle", {}):
            yield f"{title}: {container['name']}: would drain while clients still come without preStop"
    claims = [{"name": each["metadata"]["name"]} for each in spec.get("volumeClaimTemplates", [])]
    yield from _volumes(title, [*pod.get("volumes", []), *claims], containers, objects)


def _job(title: str, spec: Manifest) -> Iterator[str]:
    policy, indexed = spec["template"]["spec"].get("restartPolicy"), spec.get("completionMode") == "Indexed"
    if policy not in ("Never", "OnFailure"):
        yield f"{title}: a Job's pods need restartPolicy Never or OnFailure"
    if "selector" in spec:
        yield f"{title}: selector is set by the cluster"
    if indexed and not (spec.get("completions") and spec.get("parallelism")):
        yield f"{title}: an indexed Job needs completions and parallelism"
    if "backoffLimitPerIndex" in spec and not (indexed and policy == "Never"):
        yield f"{title}: backoffLimitPerIndex needs an indexed Job with restartPolicy Never"


def _headless(objects: Sequence[Manifest]) -> set[str]:
    return {each["metadata"]["name"] for each in _of(objects, "Service") if each["spec"].get("clusterIP") == "None"}


def _unique(title: str, what: str, names: Sequence[Any]) -> Iterator[str]:
    for name, count in Counter(names).items():
        if count > 1:
            yield f"{title}: {what} {name} is there {count} times"


def _pod(title: str, pod: Manifest, objects: Sequence[Manifest]) -> Iterator[str]:
    security = pod.get("securityContext", {})
    if not security.get("runAsNonRoot") or not security.get("runAsUser"):
        yield f"{title}: may run as root"
    if security.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield f"{title}: no seccomp profile"
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(name):
            yield f"{title}: {name} is not restricted"
    if pod.get("serviceAccountName") not in _names(objects, "ServiceAccount"):
        yield f"{title}: service account {pod.get('serviceAccountName')} is not among the objects"
    if pod.get("automountServiceAccountToken") is not False:
        yield f"{title}: gets a token for the API that it does not need"
    if pod.get("enableServiceLinks") is not False:
        yield f"{title}: gets variables of other Services"
    if "hostname" in pod and not _DNS_LABEL.fullmatch(pod["hostname"]):
        yield f"{title}: {pod['hostname']!r} is not a host name"


def _container(title: str, container: Manifest) -> Iterator[str]:  # noqa: C901 (one plain check after another)
    if not container.get("image"):
        yield f"{title}: no image"
    security = container.get("securityContext", {})
    if security.get("allowPrivilegeEscalation") is not False or security.get("privileged"):
        yield f"{title}: may gain privileges"
    if not security.get("readOnlyRootFilesystem"):
        yield f"{title}: may write its root"
    if security.get("capabilities") != {"drop": ["ALL"]}:
        yield f"{title}: keeps capabilities"
    if security.get("runAsUser") == 0:
        yield f"{title}: runs as root"
    for port in container.get("ports", []):
        if not _PORT_NAME.fullmatch(port.get("name", "")):
            yield f"{title}: {port.get('name')!r} is not a port name"
        if not 0 < port["containerPort"] < 1 << 16:
            yield f"{title}: {port['containerPort']} is not a port"
    for name in _PROBES:
        if name in container:
            yield from _probe(f"{title}: {name}", container[name], container)
    yield from _resources(title, container.get("resources", {}))
    variables = [each["name"] for each in container.get("env", [])]
    yield from _unique(title, "variable", variables)
    words = " ".join([*container.get("command", []), *container.get("args", [])])
    for used in re.findall(r"(?<!\$)\$\(([^)]*)\)", words):
        if used not in variables:
            yield f"{title}: uses the variable {used}, which it does not have"


def _probe(title: str, probe: Manifest, container: Manifest) -> Iterator[str]:
    handlers = [name for name in _HANDLERS if name in probe]
    if len(handlers) != 1:
        yield f"{title}: has {len(handlers)} handlers, not one"
    known = {each[key] for each in container.get("ports", []) for key in ("name", "containerPort") if key in each}
    for name in handlers:
        if name == "exec":
            used = {int(word) for word in probe["exec"]["command"] if word.isdecimal()}
            if not used or not used <= known:
                yield f"{title}: asks at {sorted(used)}, where the container does not listen"
        elif probe[name]["port"] not in known:
            yield f"{title}: port {probe[name]['port']} is not the container's"


def _resources(title: str, resources: Manifest) -> Iterator[str]:
    amounts: dict[str, dict[str, Decimal]] = {"requests": {}, "limits": {}}
    for kind, read in amounts.items():
        for name, quantity in resources.get(kind, {}).items():
            if name not in _RESOURCES:
                yield f"{title}: {name} is not a resource"
            elif not (match := _QUANTITY.fullmatch(str(quantity))):
                yield f"{title}: {quantity} is not a quantity"
            else:
                read[name] = Decimal(match[1]) * _UNITS[match[2] or ""]
        for name in ("cpu", "memory"):
            if name not in resources.get(kind, {}):
                yield f"{title}: {kind} name no {name}"
    for name, requested in amounts["requests"].items():
        if requested > amounts["limits"].get(name, requested):
            yield f"{title}: requests more {name} than its limit"


def _volumes(  # noqa: C901 (one plain check after another)
    title: str, volumes: Sequence[Manifest], containers: Sequence[Manifest], objects: Sequence[Manifest]
) -> Iterator[str]:
    names = [each["name"] for each in volumes]
    yield from _unique(title, "volume", names)
    mounts = [(each["name"], mount) for each in containers for mount in each.get("volumeMounts", [])]
    for name in set(names).difference(mount["name"] for _, mount in mounts):
        yield f"{title}: nobody mounts volume {name}"
    contents = {
        (each["kind"], each["metadata"]["name"]): {**each.get("data", {}), **each.get("stringData", {})}
        for each in _of(objects, "ConfigMap", "Secret")
    }
    keys: dict[str, set[str] | None] = dict.fromkeys(names)
    for volume in volumes:
        for field, kind, key in (("configMap", "ConfigMap", "name"), ("secret", "Secret", "secretName")):
            if field in volume:
                source = contents.get((kind, volume[field][key]))
                if source is None:
                    yield f"{title}: volume {volume['name']}: no {kind} {volume[field][key]}"
                    continue
                for item in volume[field].get("items", []):
                    if item["key"] not in source:
                        yield f"{title}: volume {volume['name']}: no key {item['key']}"
                keys[volume["name"]] = set(source)
    for container in containers:
        paths = [mount["mountPath"] for mount in container.get("volumeMounts", [])]
        yield from _unique(f"{title}: {container['name']}", "mount", paths)
    for container_name, mount in mounts:
        if not mount["mountPath"].startswith("/") or ":" in mount["mountPath"]:
            yield f"{title}: {container_name}: {mount['mountPath']} is not an absolute path"
        if mount["name"] not in names:
            yield f"{title}: {container_name} mounts {mount['name']}, which is not a volume"
        elif "subPath" in mount and mount["subPath"] not in (keys[mount["name"]] or ()):
            yield f"{title}: {container_name} mounts {mount['subPath']}, which is not in {mount['name']}"


# -- between objects ---------------------------------------------------------------------------------------------


def _selects(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    return bool(selector) and selector.items() <= labels.items()


def _pods(objects: Sequence[Manifest], selector: Mapping[str, str]) -> list[Manifest]:
    templates = [workload["spec"]["template"] for workload in _of(objects, *_WORKLOADS)]
    return [each["spec"] for each in templates if _selects(selector, each["metadata"].get("labels", {}))]


def _ports_of(pod: Manifest) -> dict[str, int]:
    containers = [*pod.get("initContainers", []), *pod["containers"]]
    return {port.get("name", ""): port["containerPort"] for each in containers for port in each.get("ports", [])}


def _services(objects: Sequence[Manifest]) -> Iterator[str]:
    for service in _of(objects, "Service"):
        title, ports = _title(service), service["spec"]["ports"]
        if service["spec"].get("type", "ClusterIP") != "ClusterIP":
            yield f"{title}: a cluster without a cloud gives it no address"
        pods = _pods(objects, service["spec"].get("selector", {}))
        if not pods:
            yield f"{title}: selects no pod"
        yield from _unique(title, "port", [port.get("name", "") for port in ports])
        for port in ports:
            if len(ports) > 1 and not port.get("name"):
                yield f"{title}: a port without a name, among several"
            if not 0 < port["port"] < 1 << 16:
                yield f"{title}: {port['port']} is not a port"
            target = port.get("targetPort", port["port"])
            for pod in pods:
                known = _ports_of(pod)
                if target not in known and target not in known.values():
                    yield f"{title}: port {target} is not one of {pod['containers'][0]['name']}"
                elif service["spec"].get("clusterIP") == "None" and known.get(target, target) != port["port"]:
                    yield f"{title}: headless, so port {port['port']} is not turned into {target}"


def _selectors(objects: Sequence[Manifest]) -> Iterator[str]:
    for budget in _of(objects, "PodDisruptionBudget"):
        pods = _pods(objects, budget["spec"]["selector"]["matchLabels"])
        if len(pods) < 2:
            yield f"{_title(budget)}: selects {len(pods)} pods"


def _policies(objects: Sequence[Manifest]) -> Iterator[str]:  # noqa: C901, PLR0912 (the same)
    guarded: set[int] = set()
    for policy in _of(objects, "NetworkPolicy"):
        spec, title = policy["spec"], _title(policy)
        pods = _pods(objects, spec["podSelector"].get("matchLabels", {}))
        if not pods:
            yield f"{title}: selects no pod"
        if set(spec["policyTypes"]) == {"Ingress", "Egress"} and not spec.get("ingress") and not spec.get("egress"):
            guarded.update(id(pod) for pod in pods)
        for direction, peers, types in (("ingress", "from", "Ingress"), ("egress", "to", "Egress")):
            for rule in spec.get(direction, []):
                if types not in spec["policyTypes"]:
                    yield f"{title}: has rules for {types}, and is not of that type"
                served = pods if direction == "ingress" else []
                for peer in rule.get(peers, []):
                    if "namespaceSelector" in peer or "ipBlock" in peer:
                        if any(port["port"] not in _OF_NAMES for port in rule["ports"]) or not _is_narrow(peer):
                            yield f"{title}: {direction} reaches beyond the lab, and not only for names"
                        continue
                    found = _pods(objects, peer["podSelector"].get("matchLabels", {}))
                    if not found:
                        yield f"{title}: {direction} selects no pod"
                    served = served if direction == "ingress" else [*served, *found]
                for port in rule.get("ports", []):
                    if served and not any(port["port"] in _ports_of(pod).values() for pod in served):
                        yield f"{title}: {direction} allows port {port['port']}, where nobody listens"
    for workload in _of(objects, *_WORKLOADS):
        if id(workload["spec"]["template"]["spec"]) not in guarded:
            yield f"{_title(workload)}: no policy denies what is not allowed"


def _is_narrow(peer: Manifest) -> bool:
    """Whether it is one namespace, or one address."""
    if "ipBlock" in peer:
        return str(peer["ipBlock"]["cidr"]).endswith("/32")
    return bool(peer["namespaceSelector"].get("matchLabels")) and bool(peer["podSelector"].get("matchLabels"))


def _escalations(role: Manifest) -> Iterator[str]:
    for rule in role["rules"]:
        for resource in rule["resources"]:
            if too_much := sorted(set(rule["verbs"]) & _NOT_FOR.get(resource, set())):
                yield f"{_title(role)}: may {', '.join(too_much)} {resource}"


def _rights(objects: Sequence[Manifest]) -> Iterator[str]:
    roles = {each["metadata"]["name"]: each for each in _of(objects, "Role")}
    for role in roles.values():
        if any("*" in rule[field] for rule in role["rules"] for field in ("apiGroups", "resources", "verbs")):
            yield f"{_title(role)}: grants everything of a kind"
        yield from _escalations(role)
    running = {pod["spec"]["template"]["spec"].get("serviceAccountName") for pod in _of(objects, *_WORKLOADS)}
    for binding in _of(objects, "RoleBinding"):
        if binding["roleRef"]["name"] not in roles:
            yield f"{_title(binding)}: no role {binding['roleRef']['name']}"
        for subject in binding["subjects"]:
            if subject["name"] not in _names(objects, "ServiceAccount"):
                yield f"{_title(binding)}: no service account {subject['name']}"
            if subject["name"] in running:
                yield f"{_title(binding)}: gives rights to pods, which need none"
    for kind in ("ClusterRole", "ClusterRoleBinding"):
        for each in _of(objects, kind):
            yield f"{_title(each)}: reaches beyond the namespace"
