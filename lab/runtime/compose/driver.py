"""Runs a load driver as a container in a caller's pod, so that no published port is part of a measured path."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

from docker.errors import APIError, NotFound
from docker.types import Mount

from lab.load.plan import UI_HOST_VARIABLE
from lab.registry import PLUGINS, plugins
from lab.runtime.compose import copying
from lab.runtime.compose.copying import USER
from lab.runtime.compose.site import IDENTITY
from lab.transport.security import ENVIRONMENT_VARIABLE, IDENTITY_VARIABLE, MTLS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    import docker
    from docker.models.containers import Container

    from lab.runtime.cancellation import CancelToken

_RUNS = "/runs"
# Units have 1024. Where driver and lab share the processors, the driver goes first: a late driver measures itself.
# (Niceness counts only among the processes of one container.)
_CPU_SHARES = 16_384


def run_driver(
    client: docker.DockerClient,
    run: Path,
    on_line: Callable[[str], None],
    *,
    image: str,
    pod: str,
    name: str,
    labels: Mapping[str, str],
    security: str,
    identity: Path,
    errors: TextIO,
    cancel_token: CancelToken,
) -> int:
    """Runs the driver to its end, and copies what it recorded into the run's folder.

    Ctrl-C is passed on to the driver, which then ends in its own way.

    Args:
        client: the engine.
        run: folder with the plan; its files are copied into the container, and the container's files back in the end.
        on_line: called with each line of progress.
        image: image of the container.
        pod: id of the container whose network it shares.
        name: of the container.
        labels: of the container, by which the lab finds it.
        security: security mode, ``mtls`` or ``plaintext``.
        identity: folder of this machine with the caller's certificates.
        errors: file that gets the driver's standard error.
        cancel_token: cancels the driver from another thread.

    Returns:
        The driver's exit status.
    """
    certificates = [Mount(IDENTITY, str(identity), "bind", read_only=True)] if security == MTLS else []
    container = client.containers.create(
        image,
        ["python", "-m", "lab.load.driver", f"{_RUNS}/{run.name}/plan.json"],
        name=name,
        labels=dict(labels),
        # The UI listens in the pod's own network; only a relay publishes it on this machine.
        environment={
            ENVIRONMENT_VARIABLE: security,
            IDENTITY_VARIABLE: IDENTITY,
            UI_HOST_VARIABLE: "0.0.0.0",
            PLUGINS: ":".join(f"{_RUNS}/{run.name}/{plugin.name}" for plugin in plugins()),
        },
        network_mode=f"container:{pod}",
        init=True,
        user=USER,
        read_only=True,
        tmpfs={"/tmp": "mode=1777"},  # noqa: S108 (within the container)
        cap_drop=["ALL"],
        security_opt=["no-new-privileges:true"],
        cpu_shares=_CPU_SHARES,
        # A volume of its own, which is removed with the container: the records survive if this process is killed.
        mounts=[Mount(_RUNS, None), *certificates],
    )
    try:
        copying.put(container, _RUNS, run.name, [*(path for path in run.iterdir() if path.is_file()), *plugins()])
        container.start()
        with cancel_token.notifying(lambda: _interrupt(container)):
            status = _follow(container, on_line)
        errors.write(container.logs(stdout=False, stderr=True).decode(errors="replace"))
        with suppress(NotFound):
            copying.bring_back(container, f"{_RUNS}/{run.name}", run.parent)
    finally:
        with suppress(NotFound):
            container.remove(force=True, v=True)
    return status


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
