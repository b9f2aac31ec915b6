"""The template of a pod: its units as containers, their files, certificates, probes and limits."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from lab.plugins.kubernetes.naming import DRIVER, GROUP, POD, Pod, Setting, labels, selector
from lab.plugins.kubernetes.site import POD_IP, number_of
from lab.registry import PLUGINS
from lab.roles import CALLER, CONTROL_PLANE, ROLES, Unit
from lab.runtime.pod_site import HOME, IDENTITY
from lab.transport.security import ENVIRONMENT_VARIABLE, IDENTITY_VARIABLE, MTLS

USER = 10001
"""User and group of every process: the image's own, by number, as Kubernetes cannot look up a name."""
UNIT_VARIABLE = "LAB_UNIT"
"""Environment variable of a container: the unit's name."""
HELD = "/tmp/held"  # noqa: S108 (within the container)
"""File that keeps a unit from starting, in labs that ``lab`` attends to."""
STARTED_VARIABLE = "LAB_STARTED"
"""The same, of the unit's own processes only, by which they are found among all of the pod."""
# The unit is not the first process of its container: a kill would end the container, which the cluster restarts after a
# pause that doubles with each end. A unit that ends by itself ends its container, though. A signal interrupts `wait`.
ATTENDED = f"""
trap 'ending=1; [ -z "$unit" ] || kill -TERM "$unit"' TERM
until [ "$ending" ]; do
  if [ -e {HELD} ]; then sleep 0.2; continue; fi
  {STARTED_VARIABLE}="${UNIT_VARIABLE}" "$0" "$@" & unit=$!
  while wait "$unit"; status=$?; kill -0 "$unit" 2>/dev/null; do :; done
  unit=
  [ -e {HELD} ] || exit "$status"
done
"""
RUNS = "/runs"
"""Folder of the runs, in that container."""
VOLUME = "data"
"""The control plane's volume."""

_CERTIFICATE_FILES = ("cert.pem", "key.pem", "ca.pem", "term.json")
_READABLE = 0o440  # by the group of the pod's processes
_STARTED_WITHIN_S = 120
# A check is its own process, of 30 ms of a core, and thirty callers have ninety containers.
_CHECKED_EVERY_S = 10
# A unit that answers nothing for three minutes is started again: longer than a fault usually pauses it.
_ALIVE_EVERY_S, _ALIVE_FAILURES = 30, 6
# By then no Service names the pod any more, so that nobody connects to a unit that drains; then it has its ten seconds.
_LEAVES_S, _ENDS_WITHIN_S = 2, 15
_PORT_NAME = 15  # characters, at most
_MIB = "Mi"


def template(pod: Pod, setting: Setting) -> dict[str, Any]:
    """The template of a workload with this one pod."""
    beside = [container(unit, pod, setting) for unit in pod.units[1:]]
    for each in beside:
        each["restartPolicy"] = "Always"  # makes it a sidecar: it starts before the caller, and outlives it
    containers = [container(pod.main, pod, setting)]
    if setting.attended and pod.main.role == CALLER:
        containers.append(driver_container(pod.main, setting))
    return {
        "metadata": {
            "labels": {**labels(setting, pod.main.role), POD: pod.name, GROUP: pod.group},
            "annotations": {"lab.internal/files": _digest(pod, setting)},
        },
        "spec": {
            **pod_defaults(setting, pod.main.role),
            "hostname": pod.name,
            # With one process namespace, a unit is not an init process, which ignores signals that it does not handle.
            "shareProcessNamespace": True,
            "topologySpreadConstraints": [
                {
                    "maxSkew": 1,
                    "topologyKey": "kubernetes.io/hostname",
                    "whenUnsatisfiable": "ScheduleAnyway",
                    "labelSelector": {"matchLabels": selector(setting, group=pod.group)},
                }
            ],
            # A lost node's pods start elsewhere after 30 s; by default after five minutes.
            "tolerations": [
                {
                    "key": f"node.kubernetes.io/{lost}",
                    "operator": "Exists",
                    "effect": "NoExecute",
                    "tolerationSeconds": 30,
                }
                for lost in ("not-ready", "unreachable")
            ],
            **({"initContainers": beside} if beside else {}),
            "containers": containers,
            "volumes": _volumes(pod, setting),
        },
    }


def pod_defaults(setting: Setting, account: str) -> dict[str, Any]:
    """What each pod of the lab has: no rights at the API, no root, no variables of other Services."""
    del setting
    return {
        "serviceAccountName": account,
        "automountServiceAccountToken": False,
        # Otherwise a Service `load-web` would set LOAD_WEB_PORT to an address, and programs read such variables.
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": _ENDS_WITHIN_S,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,  # lets the processes read their Secrets
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }


def container_defaults(setting: Setting, *, cpus: float, memory_mb: int) -> dict[str, Any]:
    """What each container of the lab has: the image, no privileges, and bounds.

    It may use its limits; it is placed by what it usually needs, a fraction of them.
    """
    return {
        "image": setting.image,
        "imagePullPolicy": setting.pull_policy,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "resources": {
            "requests": {"cpu": f"{round(cpus * 25)}m", "memory": f"{memory_mb // 4}{_MIB}"},
            "limits": {"cpu": f"{cpus:g}", "memory": f"{memory_mb}{_MIB}"},
        },
    }


def container(unit: Unit, pod: Pod, setting: Setting) -> dict[str, Any]:
    """A unit's container."""
    role = ROLES[unit.role]
    made = container_defaults(setting, cpus=role.cpus, memory_mb=role.memory_mb)
    made["image"] = role.image_in(setting.image)
    prefix = "" if unit is pod.main else f"{unit.role[:9]}-"
    check = _health_check(unit)
    return {
        "name": unit.name,
        **made,
        **_command(unit, setting),
        "env": [*environment(unit.name, setting), *_variables(unit)],
        "ports": [
            {"name": (prefix + name)[:_PORT_NAME], "containerPort": number_of(port), "protocol": "TCP"}
            for name, port in unit.ports.items()
        ],
        # It accepts connections at once, and is healthy only when it has its rules, for which it must have started.
        "startupProbe": {
            "tcpSocket": {"port": f"{prefix}grpc"},
            "periodSeconds": 1,
            "timeoutSeconds": 3,
            "failureThreshold": _STARTED_WITHIN_S,
        },
        "readinessProbe": {
            "exec": {"command": check},
            "periodSeconds": _CHECKED_EVERY_S,
            "timeoutSeconds": 5,
            "failureThreshold": 2,
        },
        "livenessProbe": {
            "exec": {"command": _life_check(check, attended=setting.attended)},
            "periodSeconds": _ALIVE_EVERY_S,
            "timeoutSeconds": 5,
            "failureThreshold": _ALIVE_FAILURES,
        },
        "lifecycle": lifecycle(),
        "volumeMounts": _mounts(unit, setting),
    }


def lifecycle() -> dict[str, Any]:
    """Keeps a container that is to end until nobody is sent to it any more."""
    return {"preStop": {"exec": {"command": ["sleep", f"{_LEAVES_S}"]}}}


def _command(unit: Unit, setting: Setting) -> dict[str, list[str]]:
    if not setting.attended:
        return {"command": [unit.argv[0]], "args": list(unit.argv[1:])}
    return {"command": ["sh", "-c", ATTENDED], "args": list(unit.argv)}


def environment(unit: str, setting: Setting) -> list[dict[str, Any]]:
    """The environment of a container that acts as a unit."""
    variables = {UNIT_VARIABLE: unit, ENVIRONMENT_VARIABLE: setting.security}
    if setting.security == MTLS:
        variables[IDENTITY_VARIABLE] = IDENTITY
    address = {"name": POD_IP, "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
    return [address, *({"name": name, "value": value} for name, value in variables.items())]


def _variables(unit: Unit) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in unit.environment.items()]


def _health_check(unit: Unit) -> list[str]:
    # By a program of the image: the kubelet has no certificate, and an Envoy shows its page to its own pod only.
    how = ROLES[unit.role].probe.container
    if how == "http" and unit.admin is not None:
        return ["healthcheck", how, str(number_of(unit.admin)), "/ready"]
    return ["healthcheck", how, str(number_of(unit.port))]


def _life_check(check: list[str], *, attended: bool) -> list[str]:
    """Whether the unit answers at all, be it that it is not ready; a unit that is held down need not."""
    alive = ["env", "HEALTHCHECK_ANY=1", *check]
    return ["sh", "-c", f'[ -e {HELD} ] || exec "$0" "$@"', *alive] if attended else alive


def driver_container(caller: Unit, setting: Setting) -> dict[str, Any]:
    """The container in which load drivers run, in the caller's place; it sleeps until then."""
    made = container_defaults(setting, cpus=2, memory_mb=1024)
    made["resources"]["requests"] = {"cpu": "50m", "memory": f"16{_MIB}"}  # its weight, if the node is busy
    return {
        "name": DRIVER,
        **made,
        "command": ["sleep"],
        "args": ["infinity"],
        "env": [*environment(DRIVER, setting), *_variables(caller), {"name": PLUGINS, "value": ""}],
        "volumeMounts": [
            {"name": "runs", "mountPath": RUNS},
            {"name": f"{DRIVER}-tmp", "mountPath": "/tmp"},  # noqa: S108 (within the container)
            *identity_mounts(caller.name, setting),
        ],
    }


# -- files -------------------------------------------------------------------------------------------------------


def files_of(pod: Pod, *, secret: bool) -> dict[str, str]:
    """Key → content of a pod's files, in its ConfigMap, or in its Secret if they have a password in them."""
    return {
        _key(unit, name): content
        for unit in pod.units
        for name, content in unit.files.items()
        if (name == _STORE) is secret
    }


_STORE = "store"


def _key(unit: Unit, file: str) -> str:
    return f"{unit.name}.{file}"


def _digest(pod: Pod, setting: Setting) -> str:
    """Changes with the pod's files, so that a new version of them restarts it; certificates are read while it runs."""
    del setting
    content = {secret: files_of(pod, secret=secret) for secret in (False, True)}
    return hashlib.sha256(json.dumps(list(content.values()), sort_keys=True).encode()).hexdigest()[:16]


def _mounts(unit: Unit, setting: Setting) -> list[dict[str, Any]]:
    data = VOLUME if unit.role == CONTROL_PLANE else f"{unit.name}-home"
    mounts: list[dict[str, Any]] = [
        {"name": data, "mountPath": HOME},
        {"name": f"{unit.name}-tmp", "mountPath": "/tmp"},  # noqa: S108 (within the container)
    ]
    for name in unit.files:
        volume = "passwords" if name == _STORE else "files"
        mounts.append({"name": volume, "mountPath": f"{HOME}/{name}", "subPath": _key(unit, name), "readOnly": True})
    return [*mounts, *identity_mounts(unit.name, setting)]


def identity_mounts(unit: str, setting: Setting) -> list[dict[str, Any]]:
    """The mount of a unit's certificate, if connections are secured."""
    return [{"name": f"{unit}-identity", "mountPath": IDENTITY, "readOnly": True}] if setting.security == MTLS else []


def identity_volume(unit: str) -> dict[str, Any]:
    """The volume of a unit's certificate; its link ``current`` is as in a folder of the lab's authority."""
    items = [{"key": name, "path": f"current/{name}"} for name in _CERTIFICATE_FILES]
    return {
        "name": f"{unit}-identity",
        "secret": {"secretName": identity_secret(unit), "defaultMode": _READABLE, "items": items},
    }


def identity_secret(unit: str) -> str:
    """Name of the Secret with a unit's certificate."""
    return f"{unit}-identity"


def files_name(pod: str) -> str:
    """Name of the ConfigMap with a pod's files, and of the Secret with those that have a password in them."""
    return f"{pod}-files"


def _volumes(pod: Pod, setting: Setting) -> list[dict[str, Any]]:
    volumes: list[dict[str, Any]] = []
    for unit in pod.units:
        if unit.role != CONTROL_PLANE:
            volumes.append(scratch(f"{unit.name}-home", "1Gi"))
        elif not setting.storage_class:
            volumes.append(scratch(VOLUME, "1Gi"))
        volumes.append(scratch(f"{unit.name}-tmp", "64Mi"))
        if setting.security == MTLS:
            volumes.append(identity_volume(unit.name))
    if files_of(pod, secret=False):
        volumes.append({"name": "files", "configMap": {"name": files_name(pod.name)}})
    if files_of(pod, secret=True):
        volumes.append({"name": "passwords", "secret": {"secretName": files_name(pod.name), "defaultMode": _READABLE}})
    if setting.attended and pod.main.role == CALLER:
        volumes += _driver_scratch()
    return volumes


def driver_volumes(caller: Unit, setting: Setting) -> list[dict[str, Any]]:
    """The volumes of a pod that has only a driver's container."""
    return [*_driver_scratch(), *([identity_volume(caller.name)] if setting.security == MTLS else [])]


def _driver_scratch() -> list[dict[str, Any]]:
    return [scratch("runs", "4Gi"), scratch(f"{DRIVER}-tmp", "64Mi")]


def scratch(name: str, size: str) -> dict[str, Any]:
    """A folder that is empty at first, and gone with its pod."""
    return {"name": name, "emptyDir": {"sizeLimit": size}}


def secret_files(content: Mapping[str, str]) -> dict[str, str]:
    """The files of a certificate that a unit's volume shows."""
    return {name: content[name] for name in _CERTIFICATE_FILES}
