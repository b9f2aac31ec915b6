"""A fake of Kubernetes for tests: an API server of one namespace's kinds, whose pods a kubelet runs, or nothing does.

It is no Kubernetes. It knows server-side apply (without fields' owners), list by labels, delete, logs, exec and
port-forward by websocket; it refuses what a real API server refuses of the lab's kinds; and it runs no pod that the
restricted standard forbids.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import re
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from copy import deepcopy
from pathlib import Path
from typing import Any, Protocol

import yaml
from aiohttp import WSMsgType, web

from tests.manifests import problems

Manifest = dict[str, Any]

KINDS = {
    "namespaces": ("", "Namespace"),
    "nodes": ("", "Node"),
    "pods": ("", "Pod"),
    "services": ("", "Service"),
    "secrets": ("", "Secret"),
    "configmaps": ("", "ConfigMap"),
    "serviceaccounts": ("", "ServiceAccount"),
    "persistentvolumeclaims": ("", "PersistentVolumeClaim"),
    "deployments": ("apps", "Deployment"),
    "statefulsets": ("apps", "StatefulSet"),
    "jobs": ("batch", "Job"),
    "networkpolicies": ("networking.k8s.io", "NetworkPolicy"),
    "poddisruptionbudgets": ("policy", "PodDisruptionBudget"),
    "roles": ("rbac.authorization.k8s.io", "Role"),
    "rolebindings": ("rbac.authorization.k8s.io", "RoleBinding"),
    "storageclasses": ("storage.k8s.io", "StorageClass"),
}
_GLOBAL = ("namespaces", "nodes", "storageclasses")
_CONTROLLERS = ("deployments", "statefulsets", "jobs")
_PATH = re.compile(
    r"/(?:api/v1|apis/(?P<group>[^/]+)/[^/]+)"
    r"(?:/namespaces/(?P<namespace>[^/]+)(?=/[a-z]+))?/(?P<resource>[a-z]+)(?:/(?P<name>[^/]+))?(?:/(?P<sub>[a-z]+))?"
)
# Of the checks of tests/manifests.py, those that a real API server makes when an object is applied.
_REFUSED = re.compile(
    r"not a name|is not one$|does not select its own pods|is there \d+ times|is no port name|is not a port$|no image$"
    r"|which is not a volume|handlers, not one|more \w+ than its limit|is not a quantity|"
    r"is not an absolute path|is not a host name"
    r"|among several|container's$|need restartPolicy|set by the cluster|needs completions|needs an indexed Job"
)
_FORBIDDEN = re.compile(r"may run as root|may gain privileges|keeps capabilities|no seccomp profile|is not restricted")


class Kubelet(Protocol):
    """Runs the pods."""

    def run(self, pod: Manifest, server: FakeServer) -> None:
        """Starts the containers of a pod; returns when all have started."""

    def remove(self, pod: Manifest) -> None:
        """Removes them."""

    def status(self, pod: Manifest) -> Manifest:
        """The pod's status."""

    def log(self, pod: Manifest, container: str) -> bytes:
        """What a container has printed."""

    def argv(self, pod: Manifest, container: str, command: list[str]) -> list[str]:
        """The command of this machine that executes a command in a container."""


class NoKubelet:
    """Runs no container: each pod counts as running as soon as it is there."""

    def run(self, pod: Manifest, server: FakeServer) -> None:
        del pod, server

    def remove(self, pod: Manifest) -> None:
        del pod

    def status(self, pod: Manifest) -> Manifest:
        spec = pod["spec"]
        return {"phase": "Running", "podIP": "127.0.0.1"} | {
            field: [
                {
                    "name": each["name"],
                    "image": each["image"],
                    "imageID": each["image"],
                    "containerID": f"fake://{each['name']}",
                    "ready": True,
                    "restartCount": 0,
                    "state": {"running": {}},
                }
                for each in spec.get(containers, [])
            ]
            for containers, field in (("initContainers", "initContainerStatuses"), ("containers", "containerStatuses"))
        }

    def log(self, pod: Manifest, container: str) -> bytes:
        return f"{container} of {pod['metadata']['name']} began\n".encode()

    def argv(self, pod: Manifest, container: str, command: list[str]) -> list[str]:
        del pod, container
        return command


class FakeServer:
    """The objects of the cluster, and what was asked of it.

    Attributes:
        url: of the API.
        objects: (resource, namespace, name) → object.
        calls: (verb, API group, resource or resource/subresource) of each request.
        unreachable: nodes whose kubelet the API server cannot reach.
        forbids: whether a call, as in ``calls``, is refused.
    """

    def __init__(self, kubelet: Kubelet) -> None:
        self.kubelet, self.url = kubelet, ""
        self.objects: dict[tuple[str, str, str], Manifest] = {}
        self.calls: set[tuple[str, str, str]] = set()
        self.unreachable: set[str] = set()
        self.forbids: Callable[[tuple[str, str, str]], bool] = lambda _: False
        self._lock = threading.RLock()
        self._threads: list[threading.Thread] = []
        self._seen_terminating: set[str] = set()
        for name in ("node-1", "node-2"):
            self.objects["nodes", "", name] = _with_metadata({"kind": "Node", "apiVersion": "v1", "spec": {}}, name, "")

    def kubeconfig(self, folder: Path) -> Path:
        """A file for ``KUBECONFIG`` with this server as its current context."""
        file = folder / "kubeconfig"
        file.write_text(
            yaml.safe_dump(
                {
                    "current-context": "fake",
                    "clusters": [{"name": "fake", "cluster": {"server": self.url}}],
                    "users": [{"name": "fake", "user": {"token": "fake"}}],
                    "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake"}}],
                }
            )
        )
        return file

    def of(self, resource: str) -> dict[str, Manifest]:
        """Name → object of a resource, in all namespaces."""
        with self._lock:
            return {name: each for (kind, _, name), each in self.objects.items() if kind == resource}

    # -- requests ------------------------------------------------------------------------------------------------

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/version":
            return _json({"gitVersion": "v1.37.0-fake", "major": "1", "minor": "37"})
        match = _PATH.fullmatch(request.path)
        if match is None or match["resource"] not in KINDS or (match["group"] or "") != KINDS[match["resource"]][0]:
            return _status(404, "the server could not find the requested resource")
        resource, namespace, name = match["resource"], match["namespace"] or "", match["name"] or ""
        verb = {"GET": "get" if name else "list", "PATCH": "patch", "DELETE": "delete", "POST": "create"}[
            request.method
        ]
        what = f"{resource}/{match['sub']}" if match["sub"] else resource
        call = verb, KINDS[resource][0], what
        self.calls.add(call)
        if self.forbids(call):
            return _status(403, f"{resource} is forbidden: may not {verb}")
        if match["sub"]:
            return await self._subresource(request, (resource, namespace, name), match["sub"])
        body = await request.read()
        return await asyncio.to_thread(self._answer, verb, (resource, namespace, name), request.query, body)

    def _answer(self, verb: str, key: tuple[str, str, str], query: Mapping[str, str], body: bytes) -> web.Response:
        resource, namespace, name = key
        selector = query.get("labelSelector", "")
        with self._lock:
            if verb == "list":
                found = [
                    self._current(each)
                    for (kind, where, _), each in self.objects.items()
                    if kind == resource and namespace in ("", where) and _matches(selector, each)
                ]
                group, kind = KINDS[resource]
                return _json(
                    {"kind": f"{kind}List", "apiVersion": f"{group}/v1".lstrip("/"), "metadata": {}, "items": found}
                )
            if verb == "get":
                if resource == "namespaces":
                    self._finish(name)
                there = self.objects.get(key)
                return _not_found(resource, name) if there is None else _json(self._current(there))
            if verb == "delete":
                orphans = resource == "jobs" and query.get("propagationPolicy", "Orphan") == "Orphan"
                return self._delete(key, orphans=orphans)
            if resource == "nodes":
                return self._merge(key, json.loads(body))
            return self._apply(key, yaml.safe_load(body))

    def _apply(self, key: tuple[str, str, str], wanted: Manifest) -> web.Response:
        resource, namespace, name = key
        where = self.objects.get(("namespaces", "", namespace))
        if resource not in _GLOBAL and where is None:
            return _not_found("namespaces", namespace)
        if where is not None and "deletionTimestamp" in where["metadata"]:
            return _status(403, f"namespace {namespace} is being terminated")
        before = self.objects.get(key)
        if reason := _refusal(wanted, before):
            return _status(422, f"{wanted['kind']} {name!r} is invalid: {reason}")
        made = _with_metadata(wanted, name, namespace)
        if before is not None:
            made["metadata"] |= {each: before["metadata"][each] for each in ("uid", "creationTimestamp")}
        self.objects[key] = made
        if resource in _CONTROLLERS:
            self._control(key, before)
        return _json(made, status=200 if before else 201)

    def _merge(self, key: tuple[str, str, str], patch: Manifest) -> web.Response:
        if key not in self.objects:
            return _not_found(key[0], key[2])
        self.objects[key]["spec"] |= patch["spec"]
        return _json(self.objects[key])

    def _delete(self, key: tuple[str, str, str], *, orphans: bool = False) -> web.Response:
        resource, _, name = key
        if key not in self.objects:
            return _not_found(resource, name)
        if resource == "namespaces":
            self.objects[key]["metadata"]["deletionTimestamp"] = _now()
            for other in [each for each in self.objects if each[1] == name]:
                if other in self.objects:
                    self._delete(other)
            return _json(self.objects[key])
        gone = self.objects.pop(key)
        if resource in _CONTROLLERS and not orphans:
            for pod in self._pods_of(name):
                self._delete(pod)
        if resource == "pods":
            self.kubelet.remove(gone)
            self._replace(gone)
        return _json(gone)

    def _replace(self, gone: Manifest) -> None:
        """Does what the controller of a pod that was deleted does."""
        owner = next((each for each in self.objects if each[0] in _CONTROLLERS and each[2] == _owner(gone)), None)
        if owner is not None and owner[0] != "jobs":
            self._control(owner, None)
        elif owner is not None and "backoffLimitPerIndex" not in self.objects[owner]["spec"]:
            for pod in self._pods_of(owner[2]):  # the Job has failed
                self._delete(pod)

    def _pods_of(self, owner: str) -> list[tuple[str, str, str]]:
        return [each for each, it in self.objects.items() if each[0] == "pods" and _owner(it) == owner]

    def _finish(self, namespace: str) -> None:
        """Ends a namespace that is being terminated, at the second look: a real one takes its time, too."""
        key = ("namespaces", "", namespace)
        if "deletionTimestamp" in self.objects.get(key, {"metadata": {}})["metadata"]:
            if namespace in self._seen_terminating:
                del self.objects[key]
                self._seen_terminating.discard(namespace)
            else:
                self._seen_terminating.add(namespace)

    # -- pods ----------------------------------------------------------------------------------------------------

    def _control(self, key: tuple[str, str, str], before: Manifest | None) -> None:
        """Makes the pods of a controller, unless the restricted standard forbids them."""
        owner = self.objects[key]
        if before is not None and before["spec"]["template"] == owner["spec"]["template"]:
            return
        for old in self._pods_of(key[2]):
            self.kubelet.remove(self.objects.pop(old))
        if any(_FORBIDDEN.search(each) for each in problems([owner], schemas=False)):
            return
        if key[0] != "jobs":
            self._make_pod(key, f"{key[2]}-0" if key[0] == "statefulsets" else f"{key[2]}-{uuid.uuid4().hex[:5]}")
            return
        for index in range(owner["spec"].get("completions", 1)):
            self._make_pod(key, f"{key[2]}-{index}-{uuid.uuid4().hex[:5]}", str(index))

    def _make_pod(self, key: tuple[str, str, str], name: str, index: str = "") -> None:
        owner, namespace = self.objects[key], key[1]
        template = deepcopy(owner["spec"]["template"])
        pod = _with_metadata({"apiVersion": "v1", "kind": "Pod", **template}, name, namespace)
        pod["spec"]["nodeName"] = self._node_for(pod)
        pod["metadata"]["ownerReferences"] = [{"kind": owner["kind"], "name": key[2], "apiVersion": "v1", "uid": "0"}]
        if key[0] == "jobs":
            pod["metadata"].setdefault("labels", {})["batch.kubernetes.io/job-name"] = key[2]
        if owner["spec"].get("completionMode") == "Indexed":
            pod["metadata"].setdefault("annotations", {})["batch.kubernetes.io/job-completion-index"] = index
            for container in pod["spec"]["containers"]:
                container.setdefault("env", []).append({"name": "JOB_COMPLETION_INDEX", "value": index})
        self.objects["pods", namespace, name] = pod
        thread = threading.Thread(target=self.kubelet.run, args=(pod, self), daemon=True)
        thread.start()
        self._threads.append(thread)

    def _node_for(self, pod: Manifest) -> str:
        """The node with the fewest pods that the new one is to be spread among; then the one with the fewest pods."""
        [spread] = pod["spec"].get("topologySpreadConstraints") or [{"labelSelector": {"matchLabels": {}}}]
        wanted = spread["labelSelector"]["matchLabels"].items()
        placed = self.of("pods").values()

        def load(node: str) -> tuple[int, int]:
            here = [each for each in placed if each["spec"]["nodeName"] == node]
            return sum(wanted <= each["metadata"]["labels"].items() for each in here), len(here)

        return min((name for name, each in self.of("nodes").items() if not each["spec"].get("unschedulable")), key=load)

    def _current(self, each: Manifest) -> Manifest:
        return {**each, "status": self.kubelet.status(each)} if each["kind"] == "Pod" else each

    def close(self) -> None:
        """Removes all pods."""
        for thread in self._threads:
            thread.join(60)
        for pod in self.of("pods").values():
            self.kubelet.remove(pod)

    async def _subresource(self, request: web.Request, key: tuple[str, str, str], sub: str) -> web.StreamResponse:
        pod = self.objects.get(key)
        if pod is None:
            return _not_found(key[0], key[2])
        names = [each["name"] for each in (*pod["spec"].get("initContainers", []), *pod["spec"]["containers"])]
        container = request.query.get("container", pod["spec"]["containers"][0]["name"])
        if container not in names:
            return _status(400, f"container {container} is not valid for pod {key[2]}")
        if (node := pod["spec"]["nodeName"]) in self.unreachable:
            return _status(500, f"error dialing backend: dial tcp: lookup {node}: no such host")
        if sub == "log":
            return web.Response(body=await asyncio.to_thread(self.kubelet.log, pod, container))
        if sub == "exec":
            return await self._exec(request, pod, container)
        return await self._forward(request, pod, container)

    async def _exec(self, request: web.Request, pod: Manifest, container: str) -> web.StreamResponse:
        socket = web.WebSocketResponse(protocols=["v5.channel.k8s.io"])
        await socket.prepare(request)
        argv = self.kubelet.argv(pod, container, request.query.getall("command"))
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*argv, stdin=pipe, stdout=pipe, stderr=pipe)

        async def write() -> None:
            async for message in socket:
                if message.type is WSMsgType.BINARY and process.stdin is not None:
                    if message.data[0] == 0xFF:
                        process.stdin.close()
                    else:
                        process.stdin.write(message.data[1:])

        writing = asyncio.ensure_future(write())
        await asyncio.gather(
            _copied(process.stdout, socket, b"\x01"), _copied(process.stderr, socket, b"\x02"), process.wait()
        )
        code = process.returncode or 0
        failure = {
            "status": "Failure",
            "reason": "NonZeroExitCode",
            "message": f"exit code {code}",
            "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
        }
        with suppress(ConnectionError):
            await socket.send_bytes(b"\x03" + json.dumps(failure if code else {"status": "Success"}).encode())
        writing.cancel()
        await socket.close()
        return socket

    async def _forward(self, request: web.Request, pod: Manifest, container: str) -> web.StreamResponse:
        socket = web.WebSocketResponse(protocols=["v4.channel.k8s.io"])
        await socket.prepare(request)
        port = int(request.query["ports"])
        for channel in (b"\x00", b"\x01"):
            await socket.send_bytes(channel + port.to_bytes(2, "little"))
        argv = self.kubelet.argv(pod, container, ["python", "-IS", "-c", _RELAY, str(port)])
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*argv, stdin=pipe, stdout=pipe)

        async def receive() -> None:
            async for message in socket:
                if message.type is WSMsgType.BINARY and process.stdin is not None:
                    process.stdin.write(message.data[1:])

        receiving = asyncio.ensure_future(receive())
        copying = asyncio.ensure_future(_copied(process.stdout, socket, b"\x00"))
        await asyncio.wait([receiving, copying], return_when=asyncio.FIRST_COMPLETED)
        for task in (receiving, copying):
            task.cancel()
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        await socket.close()
        return socket


# Connects from within a pod, as the kubelet does.
_RELAY = """
import os, socket, sys, threading
connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
def send():
    while chunk := os.read(0, 65536):
        connection.sendall(chunk)
threading.Thread(target=send, daemon=True).start()
while chunk := connection.recv(65536):
    os.write(1, chunk)
"""


async def _copied(stream: asyncio.StreamReader | None, socket: web.WebSocketResponse, channel: bytes) -> None:
    with suppress(ConnectionError):
        while stream is not None and (chunk := await stream.read(32 * 1024)):
            await socket.send_bytes(channel + chunk)


def _refusal(wanted: Manifest, before: Manifest | None) -> str:
    """Why an API server refuses an object; empty if it takes it."""
    found = [each for each in problems([wanted], schemas=False) if _REFUSED.search(each)]
    if found:
        return found[0]
    if before is not None and wanted["kind"] in ("Deployment", "StatefulSet"):
        if before["spec"]["selector"] != wanted["spec"]["selector"]:
            return "spec.selector: field is immutable"
        if before["spec"].get("volumeClaimTemplates") != wanted["spec"].get("volumeClaimTemplates"):
            return "spec: Forbidden: updates to volumeClaimTemplates"
    if before is not None and wanted["kind"] == "Job" and before["spec"]["template"] != wanted["spec"]["template"]:
        return "spec.template: field is immutable"
    return ""


def _with_metadata(wanted: Manifest, name: str, namespace: str) -> Manifest:
    metadata = {**wanted.get("metadata", {}), "name": name, "uid": uuid.uuid4().hex, "creationTimestamp": _now()}
    return {**wanted, "metadata": metadata | ({"namespace": namespace} if namespace else {})}


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _owner(pod: Manifest) -> str:
    return str(pod["metadata"]["ownerReferences"][0]["name"])


def _matches(selector: str, each: Manifest) -> bool:
    labels = each["metadata"].get("labels", {})
    wanted = dict(part.split("=", 1) for part in selector.split(",") if part)
    return bool(wanted.items() <= labels.items())


def _status(code: int, message: str) -> web.Response:
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": message, "metadata": {}}
    return _json(body, status=code)


def _json(document: Any, status: int = 200) -> web.Response:
    # Without a charset, as clients expect it.
    return web.Response(body=json.dumps(document).encode(), status=status, headers={"Content-Type": "application/json"})


def _not_found(resource: str, name: str) -> web.Response:
    return _status(404, f"{resource} {name!r} not found")


@contextmanager
def fake_cluster(kubelet: Kubelet | None = None) -> Iterator[FakeServer]:
    """A running fake on a port of the loopback, for the duration of the body."""
    server = FakeServer(kubelet or NoKubelet())
    loop = asyncio.new_event_loop()

    async def start() -> web.AppRunner:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", server.handle)
        runner = web.AppRunner(app, shutdown_timeout=1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        return runner

    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    runner = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
    try:
        yield server
    finally:
        server.close()
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def labels_of(each: Mapping[str, Any]) -> dict[str, str]:
    """The labels of an object."""
    return dict(each["metadata"].get("labels", {}))
