"""Runs load drivers as containers in the lab's network, so that no published port is part of a measured path."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from docker.errors import APIError, NotFound
from docker.types import Mount

from lab.load.plan import PLAN_FILE, UI_HOST_VARIABLE, read_plan
from lab.registry import PLUGINS
from lab.runtime.compose import copying, engine
from lab.runtime.driver_files import files_for, plugins_in
from lab.runtime.driver_process import coordinate_from_here
from lab.runtime.pod_site import IDENTITY
from lab.transport.security import ENVIRONMENT_VARIABLE, IDENTITY_VARIABLE, MTLS

if TYPE_CHECKING:
    from docker.models.containers import Container

    from lab.runtime.cancellation import CancelToken
    from lab.runtime.compose.project import Project

_DRIVER = "driver"
_RUNS = "/runs"
# Units have 1024. Where driver and lab share the processors, the driver goes first: a late driver measures itself.
# (Niceness counts only among the processes of one container.)
_CPU_SHARES = 16_384


def driver_services(count: int) -> list[str]:
    """Names of the drivers that share a run, by which their containers are found."""
    return [_DRIVER] if count == 1 else [f"{_DRIVER}-{number + 1}" for number in range(count)]


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverContainers:
    """The drivers of one run, each a container.

    Attributes:
        project: of the lab.
        run: folder with the plan; its files are copied into each container, and what a driver records back in the end.
        image: image of the containers.
        security: security mode, ``mtls`` or ``plaintext``.
        identity: folder of this machine with the caller's certificates.
        environment: the caller's own variables.
        errors: file that gets the drivers' standard error.
        cancel_token: cancels the drivers from another thread.
    """

    project: Project
    run: Path
    image: str
    security: str
    identity: Path
    environment: Mapping[str, str]
    errors: TextIO
    cancel_token: CancelToken

    def run_one(self, on_line: Callable[[str], None], pod: str) -> int:
        """Runs a driver in a caller's pod to its end, and returns its exit status.

        Ctrl-C is passed on to the driver, which then ends in its own way.

        Args:
            on_line: called with each line of progress.
            pod: id of the container whose network it shares.
        """
        with self._container(_DRIVER, "lab.load.driver", network_mode=f"container:{pod}") as container:
            engine.start(container)
            with self.cancel_token.notifying(lambda: _interrupt(container)):
                status = _follow(container, on_line)
            self.errors.write(container.logs(stdout=False, stderr=True).decode(errors="replace"))
            with suppress(NotFound):
                copying.bring_back(container, self._folder, self.run.parent)
        return status

    def run_several(self, on_line: Callable[[str], None], count: int) -> int:
        """Runs drivers that share the run, each with its own network; returns their coordinator's exit status.

        The coordinator is a process of this machine, which talks with each driver over its container's input and
        output.

        Args:
            on_line: called with each line of progress.
            count: number of drivers.
        """
        with ExitStack() as stack:
            containers = [
                stack.enter_context(
                    self._container(
                        service,
                        "lab.load.shard",
                        f"{number}/{count}",
                        network=self.project.network_name,
                        # The driver ends when its input does, which belongs to the one process that is attached.
                        stdin_open=True,
                    )
                )
                for number, service in enumerate(driver_services(count))
            ]
            drivers = [
                (
                    f"driver {number + 1} of {count} in container {each.name}",
                    ["docker", "start", "--attach", "--interactive", str(each.id)],
                )
                for number, each in enumerate(containers)
            ]
            status = coordinate_from_here(
                self.run, drivers, on_line, errors=self.errors, cancel_token=self.cancel_token
            )
            plan = read_plan(self.run / PLAN_FILE)
            for number, container in enumerate(containers):
                with suppress(NotFound):  # it has ended before it began
                    copying.bring_back(container, f"{self._folder}/{plan.spool_of(number).name}", self.run)
        return status

    @property
    def _folder(self) -> str:
        return f"{_RUNS}/{self.run.name}"

    @contextmanager
    def _container(self, service: str, module: str, *arguments: str, **network: Any) -> Iterator[Container]:
        """A container that has the plan, for a module that takes the plan's path first."""
        certificates = [Mount(IDENTITY, str(self.identity), "bind", read_only=True)] if self.security == MTLS else []
        with self.project.temporary(
            service,
            self.run.name,
            self.image,
            [module, f"{self._folder}/{PLAN_FILE}", *arguments],
            # The UI listens in the pod's own network; only a relay publishes it on this machine.
            environment={
                **self.environment,
                ENVIRONMENT_VARIABLE: self.security,
                IDENTITY_VARIABLE: IDENTITY,
                UI_HOST_VARIABLE: "0.0.0.0",
                PLUGINS: plugins_in(self._folder),
            },
            cpu_shares=_CPU_SHARES,
            # Its own volume, which is removed with the container: the records survive if this process is killed.
            mounts=[Mount(_RUNS, None), *certificates],
            **network,
        ) as container:
            copying.put(container, _RUNS, self.run.name, files_for(self.run))
            yield container


@contextmanager
def relayed(project: Project, run: str, image: str, host: str, port: int) -> Iterator[None]:
    """Forwards 127.0.0.1:port of this machine to the same port of a pod, for the duration of the body.

    Containers that share a pod's network cannot publish a port themselves. A small container beside the pod does;
    unlike the pod's own address, that port can be reached wherever the engine runs.

    Args:
        project: of the lab.
        run: name of the run.
        image: image of the container.
        host: the pod's address.
        port: of this machine and of the pod.
    """
    with project.temporary(
        "relay",
        run,
        image,
        ["lab.transport.relay", f"0.0.0.0:{port}", f"{host}:{port}"],
        network=project.network_name,
        ports={f"{port}/tcp": ("127.0.0.1", port)},
    ) as container:
        engine.start(container)
        yield


def _follow(container: Container, on_line: Callable[[str], None]) -> int:
    since = None
    while True:
        try:
            for line in _lines(container.logs(stderr=False, stream=True, follow=True, since=since)):
                on_line(line)
            return int(container.wait()["StatusCode"])
        except KeyboardInterrupt:
            since = time.time()  # noqa: TID251 (the engine's clock)
            _interrupt(container)


def _interrupt(container: Container) -> None:
    with suppress(APIError):  # it may just have ended
        container.kill("SIGINT")


def _lines(chunks: Iterator[bytes]) -> Iterator[str]:
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (line.decode() for line in lines)
