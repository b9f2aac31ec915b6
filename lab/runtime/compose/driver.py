"""Runs a load driver as a container in a caller's pod, so that no published port is part of a measured path."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from docker.errors import APIError, NotFound
from docker.models.containers import Container
from docker.types import Mount

from lab.load.plan import UI_HOST_VARIABLE
from lab.registry import PLUGINS, plugins
from lab.runtime.cancellation import CancelToken
from lab.runtime.compose import copying
from lab.runtime.compose.project import Project
from lab.runtime.compose.site import IDENTITY
from lab.transport.security import ENVIRONMENT_VARIABLE, IDENTITY_VARIABLE, MTLS

DRIVER = "driver"
_RUNS = "/runs"
# Units have 1024. Where driver and lab share the processors, the driver goes first: a late driver measures itself.
# (Niceness counts only among the processes of one container.)
_CPU_SHARES = 16_384


def run_driver(
    project: Project,
    run: Path,
    on_line: Callable[[str], None],
    *,
    image: str,
    pod: str,
    security: str,
    identity: Path,
    errors: TextIO,
    cancel_token: CancelToken,
) -> int:
    """Runs the driver to its end, copies what it recorded into the run's folder, and returns its exit status.

    Ctrl-C is passed on to the driver, which then ends in its own way.

    Args:
        project: of the lab.
        run: folder with the plan; its files are copied into the container, and the container's files back in the end.
        on_line: called with each line of progress.
        image: image of the container.
        pod: id of the container whose network it shares.
        security: security mode, ``mtls`` or ``plaintext``.
        identity: folder of this machine with the caller's certificates.
        errors: file that gets the driver's standard error.
        cancel_token: cancels the driver from another thread.
    """
    certificates = [Mount(IDENTITY, str(identity), "bind", read_only=True)] if security == MTLS else []
    with project.temporary(
        DRIVER,
        run.name,
        image,
        ["lab.load.driver", f"{_RUNS}/{run.name}/plan.json"],
        # The UI listens in the pod's own network; only a relay publishes it on this machine.
        environment={
            ENVIRONMENT_VARIABLE: security,
            IDENTITY_VARIABLE: IDENTITY,
            UI_HOST_VARIABLE: "0.0.0.0",
            PLUGINS: ":".join(f"{_RUNS}/{run.name}/{plugin.name}" for plugin in plugins()),
        },
        network_mode=f"container:{pod}",
        cpu_shares=_CPU_SHARES,
        # A volume of its own, which is removed with the container: the records survive if this process is killed.
        mounts=[Mount(_RUNS, None), *certificates],
    ) as container:
        copying.put(container, _RUNS, run.name, [*(path for path in run.iterdir() if path.is_file()), *plugins()])
        container.start()
        with cancel_token.notifying(lambda: _interrupt(container)):
            status = _follow(container, on_line)
        errors.write(container.logs(stdout=False, stderr=True).decode(errors="replace"))
        with suppress(NotFound):
            copying.bring_back(container, f"{_RUNS}/{run.name}", run.parent)
    return status


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
        container.start()
        yield


def _follow(container: Container, on_line: Callable[[str], None]) -> int:
    since = None
    while True:
        try:
            for line in _lines(container.logs(stderr=False, stream=True, follow=True, since=since)):
                on_line(line)
            return int(container.wait()["StatusCode"])
        except KeyboardInterrupt:
            since = time.time()
            _interrupt(container)


def _interrupt(container: Container) -> None:
    with suppress(APIError):  # it may just have ended
        container.kill("SIGINT")


def _lines(chunks: Iterator[bytes]) -> Iterator[str]:
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (line.decode() for line in lines)
