"""The Kubernetes runtime: starts, stops and watches pods in a namespace of a cluster."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from lightkube.resources.core_v1 import Node
from lightkube.resources.storage_v1 import StorageClass

from lab.errors import InputError, LabError, UnitError
from lab.identity.folder import version
from lab.load.plan import PLAN_FILE, LoadPlan, read_plan
from lab.plugins.kubernetes import forwarding, processes
from lab.plugins.kubernetes.api import PASSING_ERRORS, Api, errors_in_one_line
from lab.plugins.kubernetes.driver_container import run_driver, send_signal
from lab.plugins.kubernetes.drivers import job_name, load_pods, run_drivers
from lab.plugins.kubernetes.load_job import load_job
from lab.plugins.kubernetes.manifests import certificate, manifests, namespace, secret_names, workload
from lab.plugins.kubernetes.naming import DRIVER, Manifest, Setting, pods_of
from lab.plugins.kubernetes.options import OPTIONS_FILE, Options
from lab.plugins.kubernetes.pod_status import container, is_running, statuses, waits_for
from lab.plugins.kubernetes.site import KubernetesSite, number_of
from lab.roles import ACCESS_LOG, Plan, Unit
from lab.runtime import ports
from lab.runtime._runtime import Runtime
from lab.runtime.cancellation import CancelToken
from lab.runtime.pod_site import HOME
from lab.runtime.state import STATE_FILE, LabState, Running
from lab.transport.security import MTLS
from lab.waiting import eventually

if TYPE_CHECKING:
    from lab.client import Endpoints

_AT_ONCE = 8
_PLACED_WITHIN = timedelta(minutes=5)  # nodes may have to pull the image
_REACHED_WITHIN = timedelta(seconds=20)
_GONE_WITHIN_S = 180.0
_ENDED_WITHIN_S = 20.0
_POLL_S = 0.2
_WORKLOADS = ("Deployment", "StatefulSet")
_CRASHES = 3
_MEMORY = (
    "cat /sys/fs/cgroup/memory.current /sys/fs/cgroup/memory.stat 2>/dev/null || "
    "cat /sys/fs/cgroup/memory/memory.usage_in_bytes /sys/fs/cgroup/memory/memory.stat"
)


class KubernetesRuntime(Runtime):
    """Starts, stops and watches pods; ``kubernetes.json`` in the lab's folder says in which cluster."""

    name = "kubernetes"

    def __init__(self, folder: Path, security: str) -> None:
        super().__init__(folder, security)
        self._options = Options.of(folder)
        self._api = Api(self._options.context, self._options.namespace, folder.name)
        self._plan: Plan | None = None

    # -- standing up ---------------------------------------------------------------------------------------------

    def site(self, layout: Plan | None = None) -> KubernetesSite:
        return KubernetesSite(self._folder, ports.ports_of(layout))

    def prepare(self, layout: Plan, say: Callable[[str], None]) -> None:
        """Applies all objects but the workloads, and says what the cluster lacks."""
        self._plan = layout
        self._options.save(self._folder)
        setting = self._setting(layout.units)
        made = manifests(layout, setting)
        with errors_in_one_line(f"namespace {setting.namespace}"):
            for line in self._about_cluster():
                say(line)
            self._api.provide_namespace(namespace(setting))
            self._api.apply([each for each in made if each["kind"] not in (*_WORKLOADS, "Namespace")])
        known = {unit.name: unit for unit in layout.units}
        forwards = {}
        for key, port in ports.ports_of(layout).items():
            unit, name = key.split("/")
            forwards[port] = (known[unit].pod, number_of(known[unit].ports[name]))
        forwarding.write(self._folder, forwards)

    def _about_cluster(self) -> Iterator[str]:
        nodes = self._api.count(Node)
        yield f"Kubernetes {self._api.version()}" + (f", {nodes} nodes" if nodes else "")
        if not self._options.storage_class:
            hint = "name one by --storage-class" if self._api.count(StorageClass) else "the cluster has none"
            yield f"without a StorageClass, revisions are lost with the control plane's pod: {hint}"

    def _setting(self, units: Iterable[Unit] = ()) -> Setting:
        return Setting(
            lab=self._folder.name,
            namespace=self._options.namespace,
            image=self._options.image,
            security=self._security,
            secrets={
                unit.name: self._certificate(unit.name) for unit in units if self._security == MTLS and unit.hosts
            },
            storage_class=self._options.storage_class,
            attended=True,
        )

    def _certificate(self, unit: str) -> dict[str, str]:
        """A unit's certificate as the files of a Secret."""
        folder = self._identities.of(unit)
        return {file.name: file.read_text() for file in (folder / version(folder)).iterdir()}

    def start(self, units: Sequence[Unit]) -> Iterator[tuple[str, Running]]:
        if self._security == MTLS:
            self._identities.provide(units)
        setting = self._setting()
        pods = {pod.name: pod for pod in pods_of(self._layout())}
        wanted = {unit.pod for unit in units}
        with errors_in_one_line("start"):
            if self._security == MTLS:
                self.deliver(units)
            there = self._api.controllers()
            self._api.apply([workload(pods[name], setting) for name in pods if name in wanted - there])
            held = [unit for unit in units if self._held(unit.name).exists()]
            self._each(held, self._let_go)
        for unit in units:
            yield unit.name, Running(container=f"{unit.pod}/{unit.name}")
        self._await_placed({unit.name for unit in units})
        self._await_reached(units)

    def deliver(self, units: Iterable[Unit]) -> None:
        """Gives units the certificates that this machine has for them; they load new ones while they run."""
        setting = self._setting()
        with errors_in_one_line("certificates"):
            self._api.apply(
                [certificate(unit.name, self._certificate(unit.name), setting) for unit in units if unit.hosts]
            )

    def watch(self) -> None:
        """Starts the process that forwards ports of this machine."""
        forwarding.ensure(self._folder)

    def _layout(self) -> Plan:
        return self._plan or LabState.of(self._folder).plan

    def _let_go(self, unit: Unit) -> None:
        def released() -> bool:
            found = self._api.pods().get(unit.pod)
            if found is None or found.metadata is None or found.metadata.name is None:
                return False
            with suppress(*PASSING_ERRORS):
                return processes.let_go(self._api, found.metadata.name, unit.name)
            return False

        eventually(f"{unit.name} starts again", released, within=_PLACED_WITHIN, until=lambda done: done)
        self._held(unit.name).unlink(missing_ok=True)

    def _await_placed(self, units: Collection[str]) -> None:
        """Waits until the containers run, or a reason says that they never will."""
        where = {unit.name: unit.pod for unit in self._layout().units if unit.name in units}

        def missing() -> list[str]:
            with errors_in_one_line("start"):
                pods = self._api.pods()
            found = {unit: waits_for(pods.get(pod), unit) for unit, pod in where.items()}
            return [f"{unit} ({reason})" for unit, reason in found.items() if reason]

        eventually("containers run (still missing)", missing, within=_PLACED_WITHIN, until=lambda names: not names)

    def _await_reached(self, units: Sequence[Unit]) -> None:
        """Waits until the API server reaches every node, by which it forwards ports and lets drivers run."""

        def unreached() -> list[str]:
            with errors_in_one_line("start"):
                pods = self._api.pods()
            on_node = {
                pod.spec.nodeName: (str(pod.metadata.name), unit.name)
                for unit in units
                if (pod := pods.get(unit.pod)) is not None and pod.spec is not None and pod.metadata is not None
            }
            reasons = []
            for node, (pod_name, unit_name) in on_node.items():
                try:
                    with errors_in_one_line(str(node)):
                        self._api.require_log(pod_name, unit_name)
                except UnitError as error:
                    reasons.append(str(error))
            return reasons

        what = "the API server reaches every node"
        eventually(what, unreached, within=_REACHED_WITHIN, until=lambda reasons: not reasons)

    # -- looking -------------------------------------------------------------------------------------------------

    def states(self, running: Mapping[str, Running]) -> dict[str, str]:
        with errors_in_one_line("states"):
            pods, controllers = self._api.pods(), self._api.controllers()

        def state(unit: str, pod: str) -> str:
            status = container(pods.get(pod), unit)
            if self._held(unit).exists() or pod not in controllers:
                return "exited"
            if status is not None and (status.restartCount >= _CRASHES and not is_running(status)):
                return "exited"
            if status is not None and self._paused(unit).exists():
                return "paused" if self._paused(unit).read_text() == status.containerID else "running"
            return "running"

        return {name: state(name, each.container.partition("/")[0]) for name, each in running.items()}

    def memory_bytes(self, running: Mapping[str, Running]) -> dict[str, int]:
        """Memory of each running unit's container, without page cache that the kernel can drop."""
        names = self._names()

        def look(unit: str) -> int:
            pod = names.get(running[unit].container.partition("/")[0])
            if pod is None:
                return 0
            with suppress(*PASSING_ERRORS, ValueError, IndexError):
                _, said = self._api.execute(pod, unit, ["sh", "-c", _MEMORY])
                used, *stats = said.decode().splitlines()
                fields = dict(line.split(" ", 1) for line in stats)
                inactive = fields.get("total_inactive_file", fields.get("inactive_file", "0"))
                return int(used) - int(inactive)
            return 0

        return dict(zip(running, self._each(list(running), look), strict=True))

    def log(self, unit: str) -> Path:
        with errors_in_one_line("log"):
            self._fetch_log(unit, self._names())
        return super().log(unit)

    def fetch_logs(self, units: Iterable[Unit]) -> None:
        with errors_in_one_line("logs"):
            names = self._names()

            def fetch(unit: Unit) -> None:
                self._fetch_log(unit.name, names)
                if unit.logs_requests:
                    self._bring_back(unit, ACCESS_LOG, names)

            self._each(list(units), fetch)

    def fetch_file(self, unit: Unit, name: str) -> None:
        with errors_in_one_line("files"):
            self._bring_back(unit, name, self._names())

    def _bring_back(self, unit: Unit, file: str, names: Mapping[str, str]) -> None:
        if unit.pod in names:
            with suppress(*PASSING_ERRORS):
                status, content = self._api.execute(names[unit.pod], unit.name, ["cat", f"{HOME}/{file}"])
                if status == 0:
                    (self._home(unit.name) / file).write_bytes(content)

    def _fetch_log(self, unit: str, names: Mapping[str, str]) -> None:
        pod = self._pod_of(unit)
        if pod in names and (text := self._api.log(names[pod], unit)):
            self._home(unit).mkdir(parents=True, exist_ok=True)
            (self._home(unit) / "log").write_text(text)

    def versions(self) -> dict[str, str]:
        """Versions of the cluster and of Python in its pods, and the name of the image."""
        with errors_in_one_line("versions"):
            python = ""
            for pod, name in self._names().items():
                _, said = self._api.execute(name, pod, ["python", "--version"])
                python = said.decode().strip().removeprefix("Python ")
                break
            return {
                "runtime": self.name,
                "python": python or "unknown",
                "kubernetes": self._api.version(),
                "image": self._options.image,
            }

    # -- ending --------------------------------------------------------------------------------------------------

    def kill(self, running: Running) -> None:
        self._end(running, signal.SIGKILL)

    def _end(self, running: Running, number: int) -> None:
        pod, _, unit = running.container.partition("/")
        with errors_in_one_line(f"kill {unit}"):
            name = self._names().get(pod)
            if name is None or self._held(unit).exists():
                return
            self._fetch_log(unit, {pod: name})
            processes.hold(self._api, name, unit)
            self._held(unit).parent.mkdir(parents=True, exist_ok=True)
            self._held(unit).touch()
            processes.send_signal(self._api, name, unit, number)
            give_up = time.monotonic() + _ENDED_WITHIN_S
            while time.monotonic() < give_up and processes.send_signal(self._api, name, unit, 0):
                time.sleep(_POLL_S)

    def stop(self, units: Iterable[Running], *, within_s: float = 6.0) -> None:
        def end(running: Running) -> None:
            self._end(running, signal.SIGTERM)

        del within_s  # the pod's own grace period counts
        self._each(list(units), end)

    def remove(self, running: Running) -> None:
        pod, _, unit = running.container.partition("/")
        with errors_in_one_line("remove"):
            self._api.delete_workload(pod)
        self._held(unit).unlink(missing_ok=True)

    def sweep(self) -> int:
        """Removes the lab's namespace, or its objects if the namespace was there before; returns how many units ran."""
        if not self._options.namespace:
            return 0
        forwarding.end(self._folder)
        with errors_in_one_line("down"):
            found = [each.name for pod in self._api.pods().values() for each in statuses(pod)]
            units = len(found) - found.count(DRIVER)
            give_up = time.monotonic() + _GONE_WITHIN_S
            secrets = self._secrets()
            while not self._api.delete_all(secrets):
                if time.monotonic() >= give_up:
                    raise LabError(
                        f"namespace {self._options.namespace}: not gone after {_GONE_WITHIN_S:.0f} s; see `kubectl get "
                        f"all --namespace {self._options.namespace}`, then `lab down` again"
                    )
                time.sleep(_POLL_S)
        (self._folder / OPTIONS_FILE).unlink(missing_ok=True)
        ports.release(self._folder)
        return units

    def _secrets(self) -> list[str]:
        """Names that the lab's Secrets have if they are there."""
        with suppress(LabError, OSError):
            return secret_names(self._layout())
        return []  # not as far as a plan, so without them

    # -- faults --------------------------------------------------------------------------------------------------

    def pause(self, running: Running) -> None:
        pod, _, unit = running.container.partition("/")
        with errors_in_one_line(f"pause {unit}"):
            name = self._name_of(pod)
            processes.send_signal(self._api, name, unit, signal.SIGSTOP)
            status = container(self._api.pods().get(pod), unit)
            self._paused(unit).parent.mkdir(parents=True, exist_ok=True)
            self._paused(unit).write_text(str(status.containerID) if status is not None else "")

    def resume(self, running: Running) -> None:
        pod, _, unit = running.container.partition("/")
        with errors_in_one_line(f"resume {unit}"):
            processes.send_signal(self._api, self._name_of(pod), unit, signal.SIGCONT)
        self._paused(unit).unlink(missing_ok=True)

    def partition(self, unit: Unit) -> NoReturn:
        raise InputError(
            f"partition {unit.name}: a cluster's network may accept policies without enforcing them; use `pause`, "
            "which also stops all answers, or bring the lab up with --runtime compose"
        )

    def rejoin(self, unit: Unit) -> NoReturn:
        self.partition(unit)

    def nodes(self) -> Mapping[str, list[str]]:
        """Node → the lab's units on it, in the order of the plan."""
        with errors_in_one_line("nodes"):
            placed = {pod: found.spec.nodeName for pod, found in self._api.pods().items() if found.spec is not None}
        nodes: dict[str, list[str]] = {}
        for unit in self._layout().units:
            if node := placed.get(unit.pod):
                nodes.setdefault(node, []).append(unit.name)
        return nodes

    def lose_node(self, node: str) -> None:
        """Cordons the node, and deletes the lab's pods on it without grace, so that the cluster replaces them."""
        with errors_in_one_line(f"node {node}"):
            self._api.cordon(node)
            self._api.kill(self._api.pods_on(node))

    def restore_node(self, node: str) -> None:
        with errors_in_one_line(f"node {node}"):
            self._api.cordon(node, closed=False)

    # -- load ----------------------------------------------------------------------------------------------------

    def run_driver(
        self,
        run: Path,
        caller: str,
        on_line: Callable[[str], None],
        ui_port: int | None = None,
        cancel_token: CancelToken | None = None,
        errors: TextIO | None = None,
    ) -> int:
        errors, cancel_token = errors or sys.stderr, cancel_token or CancelToken()
        plan = read_plan(run / PLAN_FILE)
        if plan.drivers > 1:
            job = self._job(run, plan)
            with errors_in_one_line("drivers"), load_pods(self._api, job_name(run), job) as pods:
                return run_drivers(
                    self._api, self._folder, pods, run, plan, on_line, errors=errors, cancel_token=cancel_token
                )
        with errors_in_one_line("driver"), self._forwarded(caller, ui_port):
            return run_driver(self._api, self._name_of(caller), run, on_line, errors=errors, cancel_token=cancel_token)

    def endpoints_of_drivers(self, caller: str, endpoints: Endpoints) -> Endpoints:
        """With the address of the caller's pod for its loopback, as each driver has its own pod."""
        with errors_in_one_line("drivers"):
            pod = self._api.pods().get(caller)
        address = pod.status.podIP if pod is not None and pod.status is not None else None
        if not address:
            raise UnitError(f"{caller} has no pod that runs: see `lab status`")
        return endpoints.from_another_pod(address)

    def kill_driver(self, run: Path) -> None:
        plan = read_plan(run / PLAN_FILE)
        with errors_in_one_line("driver"):
            if plan.drivers > 1:
                self._api.kill(self._api.pods_of_job(job_name(run)))
                self._api.delete(self._job(run, plan))
                return
            for name in self._names().values():
                with suppress(*PASSING_ERRORS):
                    send_signal(self._api, name, run, signal.SIGKILL)

    def _job(self, run: Path, plan: LoadPlan) -> list[Manifest]:
        """The objects of several drivers that share a run."""
        return load_job(job_name(run), plan.drivers, plan.caller, pods_of(self._layout()), self._setting())

    @contextmanager
    def _forwarded(self, pod: str, port: int | None) -> Iterator[None]:
        """Forwards a port of this machine to the same one of a pod, for the duration of the body."""
        if port is None:
            yield
            return
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()
        forwarder = forwarding.Forwarder(self._options, self._folder.name)
        asyncio.run_coroutine_threadsafe(forwarder.listen({port: (pod, port)}), loop).result()
        try:
            yield
        finally:
            asyncio.run_coroutine_threadsafe(forwarder.close(), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()

    # -- within --------------------------------------------------------------------------------------------------

    def _held(self, unit: str) -> Path:
        return self._home(unit) / "held"

    def _paused(self, unit: str) -> Path:
        return self._home(unit) / "paused"

    def _names(self) -> dict[str, str]:
        """The plan's name of each pod → the cluster's."""
        return {
            pod: found.metadata.name
            for pod, found in self._api.pods().items()
            if found.metadata is not None and found.metadata.name
        }

    def _name_of(self, pod: str) -> str:
        names = self._names()
        if pod not in names:
            raise UnitError(f"{pod} has no pod that runs: see `lab status`")
        return names[pod]

    @cached_property
    def _pods_of_units(self) -> dict[str, str]:
        return {unit.name: unit.pod for unit in self._layout().units}

    def _pod_of(self, unit: str) -> str:
        if not (self._plan or (self._folder / STATE_FILE).exists()):
            return ""
        return self._pods_of_units.get(unit, unit)

    def _each(self, items: Collection[Any], work: Callable[[Any], Any]) -> list[Any]:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return list(pool.map(work, items))
