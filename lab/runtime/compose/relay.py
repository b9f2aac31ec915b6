"""Publishes a port of a pod: containers that share a pod's network cannot publish one themselves.

A small container beside the pod publishes the port on this machine's 127.0.0.1 and forwards connections. Unlike the
pod's own address, that port can be reached wherever the engine runs.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from docker.errors import NotFound

from lab.runtime.compose.copying import USER

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import docker


@contextmanager
def published(
    client: docker.DockerClient,
    port: int,
    host: str,
    *,
    image: str,
    network: str,
    name: str,
    labels: Mapping[str, str],
) -> Iterator[None]:
    """Forwards 127.0.0.1:port of this machine to the same port of a pod, for the duration of the body.

    Args:
        client: the engine.
        port: of this machine and of the pod.
        host: the pod's address.
        image: image of the container.
        network: of the lab.
        name: of the container.
        labels: of the container, by which the lab finds it.
    """
    container = client.containers.create(
        image,
        ["python", "-m", "lab.transport.relay", f"0.0.0.0:{port}", f"{host}:{port}"],
        name=name,
        labels=dict(labels),
        network=network,
        ports={f"{port}/tcp": ("127.0.0.1", port)},
        init=True,
        user=USER,
        read_only=True,
        tmpfs={"/tmp": "mode=1777"},  # noqa: S108 (within the container)
        cap_drop=["ALL"],
        security_opt=["no-new-privileges:true"],
    )
    try:
        container.start()
        yield
    finally:
        with suppress(NotFound):
            container.remove(force=True, v=True)
