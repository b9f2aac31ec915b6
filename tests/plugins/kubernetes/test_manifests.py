"""The objects of a lab on Kubernetes: sound by a cluster's own rules, and what was planned."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.errors import SpecError
from lab.plugins.kubernetes.manifests import manifests
from lab.plugins.kubernetes.naming import Setting
from lab.plugins.kubernetes.site import FileSite, number_of
from lab.roles import CALLER, CONTROL_PLANE, MODEL, ROLES, Plan, plan
from lab.routing.document import read_path
from lab.spec import SIZES, read_spec
from lab.topologies import TOPOLOGIES
from services.gateway.__main__ import _GRACE_S as GRACE_S
from tests.manifests import Manifest, problems

IMAGE = "registry.example/lab@sha256:" + "0" * 64
CERTIFICATE = dict.fromkeys(("cert.pem", "key.pem", "ca.pem", "term.json"), "…")
GOLDEN = Path(__file__).with_name("mini.yaml")


def planned(size: str = "mini", **changes: Any) -> Plan:
    spec = read_spec(SIZES[size]).model_copy(update=changes)
    return plan(spec, read_path(spec.routes), FileSite(Path(), {}))


def objects(layout: Plan | None = None, **changes: Any) -> list[Manifest]:
    layout = layout or planned()
    names = [unit.name for unit in layout.units] + ["operator"]
    chosen: dict[str, Any] = {
        "lab": "mini",
        "namespace": "lab",
        "image": IMAGE,
        "security": "mtls",
        "routes": {"routes.yaml": "models: {}"},
        **changes,
    }
    if chosen["security"] == "mtls":
        chosen["secrets"] = dict.fromkeys(names, CERTIFICATE)
    return manifests(layout, Setting(**chosen))


def found(made: list[Manifest], kind: str, name: str) -> Manifest:
    return next(each for each in made if (each["kind"], each["metadata"]["name"]) == (kind, name))


@pytest.mark.parametrize(
    "made",
    [
        pytest.param(objects, id="mini"),
        pytest.param(lambda: objects(planned("default"), lab="default"), id="default"),
        pytest.param(lambda: objects(attended=True, routes={}), id="as lab up makes it"),
        pytest.param(lambda: objects(storage_class="standard"), id="with a volume"),
        pytest.param(lambda: objects(security="plaintext"), id="plaintext"),
        pytest.param(
            lambda: objects(planned(store="postgresql://lab:secret@db/lab", control_planes=3)), id="on PostgreSQL"
        ),
        pytest.param(lambda: objects(planned(resolver="shared")), id="with a shared resolver"),
        pytest.param(lambda: objects(planned(metrics=True)), id="with metrics"),
    ],
)
def test_a_rendered_lab_has_no_problem(made: Callable[[], list[Manifest]]) -> None:
    assert problems(made()) == []


def test_the_mini_lab_is_rendered_as_before() -> None:
    """After a change on purpose: ``python -m tests.plugins.kubernetes.test_manifests`` writes the file."""
    assert golden() == GOLDEN.read_text()


def golden() -> str:
    made = objects()
    for each in made:  # other tests hold what the files contain
        if "data" in each:
            each["data"] = dict.fromkeys(each["data"], "…")
        each.get("spec", {}).get("template", {}).get("metadata", {}).pop("annotations", None)
    return yaml.safe_dump_all(made, sort_keys=False, width=120, allow_unicode=True)


def test_every_planned_unit_runs_in_one_container_with_its_own_certificate() -> None:
    layout = planned("default")
    made = objects(layout)

    ran = {}
    for workload in made:
        pod = workload.get("spec", {}).get("template", {}).get("spec", {})
        for container in [*pod.get("initContainers", []), *pod.get("containers", [])]:
            mounts = [each["name"] for each in container["volumeMounts"]]
            ran[container["name"]] = [name for name in mounts if name.endswith("-identity")]

    assert ran.pop("first-revision") == ["operator-identity"]
    assert ran == {unit.name: [f"{unit.name}-identity"] for unit in layout.units}


def test_a_caller_starts_after_its_resolver_and_its_envoy() -> None:
    pod = found(objects(), "Deployment", "homepage")["spec"]["template"]["spec"]

    beside = {each["name"]: each["restartPolicy"] for each in pod["initContainers"]}
    assert beside == {"homepage-resolver": "Always", "homepage-sidecar": "Always"}
    assert [each["name"] for each in pod["containers"]] == ["homepage"]


def test_replicas_are_reached_by_one_address_and_one_by_one() -> None:
    made = objects(planned("default"))

    services = [found(made, "Service", name)["spec"] for name in ("ml-cluster-1", "ml-cluster-1-replicas")]
    assert services[0]["selector"] == services[1]["selector"]
    assert [each.get("clusterIP") for each in services] == [None, "None"]


def test_a_password_is_in_a_secret_only() -> None:
    made = objects(planned(store="postgresql://lab:secret@db/lab", control_planes=2))

    assert {each["kind"] for each in made if "secret@db" in yaml.safe_dump(each)} == {"Secret"}


def test_a_control_plane_without_storage_class_keeps_its_revisions_in_its_pod() -> None:
    def kept(**changes: Any) -> tuple[int, bool]:
        spec = found(objects(**changes), "StatefulSet", "control-plane")["spec"]
        scratch = {each["name"] for each in spec["template"]["spec"]["volumes"] if "emptyDir" in each}
        return len(spec.get("volumeClaimTemplates", [])), "data" in scratch

    assert kept() == (0, True)
    assert kept(storage_class="standard") == (1, False)


def _allowed(made: list[Manifest], client: str, server: str, port: int) -> bool:
    """Whether the policies let pods of one component connect to a port of another's, at both ends."""
    egress = found(made, "NetworkPolicy", f"allow-{client}")["spec"].get("egress", [])
    ingress = found(made, "NetworkPolicy", f"allow-{server}")["spec"].get("ingress", [])

    def names(peers: list[Any], component: str) -> bool:
        labels = [each["podSelector"]["matchLabels"]["app.kubernetes.io/component"] for each in peers]
        return component in labels

    def opens(rule: Any) -> bool:
        return port in [each["port"] for each in rule["ports"]]

    return any(names(each["to"], server) and opens(each) for each in egress) and any(
        names(each["from"], client) and opens(each) for each in ingress
    )


def test_the_network_lets_units_reach_all_that_they_need() -> None:
    layout = planned("default")
    made = objects(layout, lab="default")
    component = {unit.name: layout.unit(unit.pod).role for unit in layout.units}
    needs = {(unit.role, CONTROL_PLANE) for unit in layout.units if ROLES[unit.role].follows or unit.role == MODEL}
    here = {unit.role for unit in layout.units}
    for topology in TOPOLOGIES.values():
        if here.issuperset(topology.roles):
            needs |= set(pairwise(topology.path)) | {(CALLER, role) for role in topology.asks}

    for client, server in needs:
        for one in layout.with_role(client)[:1]:
            for other in layout.with_role(server):
                if component[other.name] != other.role:  # it is beside its caller
                    continue
                port = number_of(other.port)
                assert _allowed(made, component[one.name], other.role, port), f"{client} → {server}"


def test_a_pod_has_ended_before_another_one_of_its_name_begins() -> None:
    deployments = [each for each in objects() if each["kind"] == "Deployment"]

    assert {each["spec"]["strategy"]["type"] for each in deployments} == {"Recreate"}


def test_a_drain_of_nodes_takes_one_replica_at_a_time() -> None:
    budgets = [each["spec"] for each in objects(planned("default"), lab="default") if "Budget" in each["kind"]]

    assert budgets
    assert {each["maxUnavailable"] for each in budgets} == {1}


def test_a_unit_may_end_its_requests_before_its_container_ends() -> None:
    for name in ("homepage", "gateway-1"):
        pod = _pod(objects(), name)
        leaves_s = float(pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][-1])
        assert pod["terminationGracePeriodSeconds"] > leaves_s + GRACE_S


def test_only_new_files_restart_their_pod() -> None:
    def digests(layout: Plan) -> dict[str, str]:
        made = [each for each in objects(layout) if each["kind"] in {"Deployment", "StatefulSet"}]
        return {
            each["metadata"]["name"]: each["spec"]["template"]["metadata"]["annotations"]["lab.internal/files"]
            for each in made
        }

    layout = planned()
    changed = {name: f"{text} " for name, text in layout.unit("homepage").files.items()}
    other = [replace(unit, files=changed) if unit.name == "homepage" else unit for unit in layout.units]
    before, after = digests(layout), digests(replace(layout, units=tuple(other)))

    assert layout.unit("homepage").files
    assert {name for name in before if before[name] != after[name]} == {"homepage"}


def test_a_unit_that_is_alive_and_not_ready_is_not_started_again() -> None:
    for container in (_caller(objects()), _pod(objects(), "gateway-1")["containers"][0]):
        ready = container["readinessProbe"]["exec"]["command"]
        assert container["livenessProbe"]["exec"]["command"] == ["env", "HEALTHCHECK_ANY=1", *ready]


def test_a_name_that_kubernetes_does_not_take_is_refused() -> None:
    layout = planned(idle_clusters={"c" * 53: 1})

    with pytest.raises(SpecError, match="cannot be a name on Kubernetes"):
        objects(layout)


# -- the checks themselves ---------------------------------------------------------------------------------------


def _pod(made: list[Manifest], name: str = "homepage") -> Any:
    return found(made, "Deployment", name)["spec"]["template"]["spec"]


def _caller(made: list[Manifest]) -> Any:
    return _pod(made)["containers"][0]


def _service(made: list[Manifest], name: str = "homepage") -> Any:
    return found(made, "Service", name)["spec"]


def _policy(made: list[Manifest], name: str) -> Any:
    return found(made, "NetworkPolicy", name)["spec"]


def _set(value: Any, key: Any, content: Any) -> None:
    value[key] = content


def _remove(made: list[Manifest], kind: str, name: str) -> None:
    made.remove(found(made, kind, name))


Break = Callable[[list[Manifest]], Any]
BROKEN: dict[str, tuple[Break, str]] = {
    "unknown field": (lambda m: _set(_pod(m), "hostnames", "x"), "hostnames"),
    "unknown resource": (
        lambda m: _set(_caller(m)["resources"]["limits"], "memroy", "1Gi"),
        "memroy is not a resource",
    ),
    "misspelt quantity": (
        lambda m: _set(_caller(m)["resources"]["limits"], "memory", "1 GB"),
        "1 GB is not a quantity",
    ),
    "request over limit": (lambda m: _set(_caller(m)["resources"]["requests"], "cpu", "2"), "more cpu than its limit"),
    "no memory limit": (lambda m: _caller(m)["resources"]["limits"].pop("memory"), "limits name no memory"),
    "no image": (lambda m: _caller(m).pop("image"), "no image"),
    "selector that misses": (
        lambda m: _set(found(m, "Deployment", "homepage")["spec"]["selector"]["matchLabels"], "lab.internal/pod", "x"),
        "does not select its own pods",
    ),
    "service that selects nothing": (
        lambda m: _set(_service(m)["selector"], "lab.internal/pod", "x"),
        "selects no pod",
    ),
    "service to a port that is not there": (
        lambda m: _set(_service(m)["ports"][0], "targetPort", "http"),
        "port http is not one of homepage",
    ),
    "unnamed port among several": (
        lambda m: _service(m, "gateway")["ports"][1].pop("name"),
        "a port without a name, among several",
    ),
    "load balancer": (lambda m: _set(_service(m), "type", "LoadBalancer"), "a cluster without a cloud"),
    "headless service that maps ports": (
        lambda m: _set(_service(m, "gateway-replicas")["ports"][0], "port", 80),
        "is not turned into grpc",
    ),
    "port 70000": (lambda m: _set(_caller(m)["ports"][0], "containerPort", 70_000), "70000 is not a port"),
    "port name with an underscore": (lambda m: _set(_caller(m)["ports"][0], "name", "g_rpc"), "is not a port name"),
    "port name of 16 letters": (lambda m: _set(_caller(m)["ports"][0], "name", "g" * 16), "is not a port name"),
    "same port twice": (
        lambda m: _pod(m)["initContainers"][0]["ports"].append(_caller(m)["ports"][0]),
        "port grpc is there 2 times",
    ),
    "label with a space": (
        lambda m: _set(found(m, "Deployment", "homepage")["metadata"]["labels"], "team", "a b"),
        "label team=a b",
    ),
    "name with an underscore": (
        lambda m: _set(found(m, "Service", "homepage")["metadata"], "name", "home_page"),
        "not a name",
    ),
    "missing recommended label": (
        lambda m: found(m, "Service", "homepage")["metadata"]["labels"].pop("app.kubernetes.io/part-of"),
        "lacks the label app.kubernetes.io/part-of",
    ),
    "other namespace": (
        lambda m: _set(found(m, "Service", "homepage")["metadata"], "namespace", "default"),
        "namespace default is not among the objects",
    ),
    "object twice": (lambda m: m.append(copy.deepcopy(m[-1])), "is there 2 times"),
    "old API version": (lambda m: _set(found(m, "Deployment", "homepage"), "apiVersion", "apps/v1beta1"), "apiVersion"),
    "mount of no volume": (
        lambda m: _set(_caller(m)["volumeMounts"][0], "name", "nothing"),
        "mounts nothing, which is not a volume",
    ),
    "volume that nobody mounts": (
        lambda m: _pod(m)["volumes"].append({"name": "idle", "emptyDir": {}}),
        "nobody mounts volume idle",
    ),
    "mount of a missing key": (
        lambda m: found(m, "ConfigMap", "homepage-files")["data"].pop("homepage.caller.json"),
        "mounts homepage.caller.json, which is not in files",
    ),
    "missing config map": (lambda m: _remove(m, "ConfigMap", "homepage-files"), "no ConfigMap homepage-files"),
    "missing secret": (lambda m: _remove(m, "Secret", "homepage-identity"), "no Secret homepage-identity"),
    "secret without the key": (
        lambda m: found(m, "Secret", "homepage-identity")["stringData"].pop("key.pem"),
        "no key key.pem",
    ),
    "two mounts at one path": (
        lambda m: _caller(m)["volumeMounts"].append(_caller(m)["volumeMounts"][0]),
        "is there 2 times",
    ),
    "container twice": (
        lambda m: _pod(m)["containers"].append({**_caller(m), "ports": []}),
        "container homepage is there 2 times",
    ),
    "probe with two handlers": (
        lambda m: _set(_caller(m)["startupProbe"], "httpGet", {"port": 9000}),
        "has 2 handlers, not one",
    ),
    "probe without handler": (lambda m: _caller(m)["startupProbe"].pop("tcpSocket"), "has 0 handlers, not one"),
    "probe of another port": (
        lambda m: _set(_caller(m)["startupProbe"]["tcpSocket"], "port", "http"),
        "port http is not the container's",
    ),
    "health check of another port": (
        lambda m: _set(_caller(m)["readinessProbe"]["exec"], "command", ["healthcheck", "grpc", "9999"]),
        "where the container does not listen",
    ),
    "sidecar that is none": (lambda m: _pod(m)["initContainers"][0].pop("restartPolicy"), "is not a sidecar"),
    "sidecar without startup probe": (
        lambda m: _pod(m)["initContainers"][0].pop("startupProbe"),
        "traffic would not wait",
    ),
    "root": (lambda m: _set(_pod(m)["securityContext"], "runAsUser", 0), "may run as root"),
    "no seccomp profile": (lambda m: _pod(m)["securityContext"].pop("seccompProfile"), "no seccomp profile"),
    "writable root": (
        lambda m: _set(_caller(m)["securityContext"], "readOnlyRootFilesystem", False),  # noqa: FBT003 (YAML's)
        "may write its root",
    ),
    "capability": (
        lambda m: _set(_caller(m)["securityContext"], "capabilities", {"drop": ["ALL"], "add": ["NET_ADMIN"]}),
        "keeps capabilities",
    ),
    "privilege escalation": (
        lambda m: _caller(m)["securityContext"].pop("allowPrivilegeEscalation"),
        "may gain privileges",
    ),
    "host network": (lambda m: _set(_pod(m), "hostNetwork", True), "hostNetwork is not restricted"),  # noqa: FBT003
    "token for the API": (lambda m: _pod(m).pop("automountServiceAccountToken"), "gets a token for the API"),
    "variables of Services": (lambda m: _pod(m).pop("enableServiceLinks"), "gets variables of other Services"),
    "missing service account": (lambda m: _remove(m, "ServiceAccount", "caller"), "service account caller is not"),
    "undefined variable": (lambda m: _caller(m)["args"].append("$(NODE)"), "uses the variable NODE"),
    "subdomain without service": (lambda m: _remove(m, "Service", "gateway-replicas"), "is not a headless Service"),
    "spread of other pods": (
        lambda m: _set(
            _pod(m)["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"], "lab.internal/group", "x"
        ),
        "does not count its own pods",
    ),
    "budget of nothing": (
        lambda m: _set(
            found(m, "PodDisruptionBudget", "gateway")["spec"]["selector"]["matchLabels"], "lab.internal/group", "x"
        ),
        "selects 0 pods",
    ),
    "policy for nobody": (
        lambda m: _set(_policy(m, "allow-gateway")["podSelector"]["matchLabels"], "app.kubernetes.io/component", "x"),
        "selects no pod",
    ),
    "policy for a port where nobody listens": (
        lambda m: _set(_policy(m, "allow-gateway")["ingress"][0]["ports"][0], "port", 80),
        "allows port 80, where nobody listens",
    ),
    "policy of another type": (
        lambda m: _set(_policy(m, "allow-gateway"), "policyTypes", ["Egress"]),
        "is not of that type",
    ),
    "nothing denied": (lambda m: _remove(m, "NetworkPolicy", "deny-all"), "no policy denies"),
    "names from everywhere": (
        lambda m: _set(found(m, "NetworkPolicy", "allow-names")["spec"]["egress"][0]["to"][0], "namespaceSelector", {}),
        "reaches beyond the lab",
    ),
    "any port of the resolvers": (
        lambda m: _set(found(m, "NetworkPolicy", "allow-names")["spec"]["egress"][0]["ports"][0], "port", 6443),
        "reaches beyond the lab",
    ),
    "secrets that can be read": (
        lambda m: found(m, "Role", "lab-operator")["rules"].append(
            {"apiGroups": [""], "resources": ["secrets"], "verbs": ["list"]}
        ),
        "may list secrets",
    ),
    "a role that writes roles": (
        lambda m: found(m, "Role", "lab-operator")["rules"].append(
            {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles"], "verbs": ["patch"]}
        ),
        "may patch roles",
    ),
    "no liveness probe": (lambda m: _caller(m).pop("livenessProbe"), "hang for ever"),
    "no preStop": (lambda m: _caller(m).pop("lifecycle"), "drain while clients"),
    "role that grants everything": (
        lambda m: _set(found(m, "Role", "lab-operator")["rules"][0], "verbs", ["*"]),
        "grants everything of a kind",
    ),
    "rights for pods": (
        lambda m: _set(found(m, "RoleBinding", "lab-operator")["subjects"][0], "name", "caller"),
        "gives rights to pods",
    ),
    "binding of no role": (
        lambda m: _set(found(m, "RoleBinding", "lab-operator")["roleRef"], "name", "x"),
        "no role x",
    ),
    "cluster role": (
        lambda m: m.append({**copy.deepcopy(found(m, "Role", "lab-operator")), "kind": "ClusterRole"}),
        "reaches beyond the namespace",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_rendering_is_noticed(name: str) -> None:
    made = objects(planned(gateway=read_spec(SIZES["mini"]).gateway.model_copy(update={"replicas": 2})))
    breaks, expected = BROKEN[name]

    breaks(made)

    assert [each for each in problems(made) if expected in each], problems(made)


if __name__ == "__main__":
    GOLDEN.write_text(golden())


def test_a_lab_with_links_is_refused_in_one_line() -> None:
    with pytest.raises(SpecError, match=r"labs with links run as processes and on Compose; leave \[links\] out"):
        objects(planned("links"))
