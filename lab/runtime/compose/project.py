"""The containers, network and volumes of one lab, as the engine lists them for a compose project."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any

from docker.errors import APIError, NotFound

from lab.runtime.compose import document, engine
from lab.runtime.compose.copying import USER

if TYPE_CHECKING:
    import docker
    from docker.models.containers import Container

    from lab.roles import Unit

# By image, as running a command in a container takes twenty times as long as reading its log.
_PYTHONS: dict[str, str] = {}
_PROJECT_LABEL, _SERVICE_LABEL = "com.docker.compose.project", "com.docker.compose.service"


class Project:
    """Finds everything of a lab by the labels that it has."""

    def __init__(self, name: str) -> None:
        self.name = name

    @cached_property
    def docker(self) -> docker.DockerClient:
        """A client of the engine, connected at the first use."""
        return engine.connect()

    @property
    def network_name(self) -> str:
        """Name of the lab's network."""
        return f"{self.name}_{document.NETWORK}"

    @property
    def network(self) -> Any:
        """The lab's network."""
        return self.docker.networks.get(self.network_name)

    def temporary_name(self, service: str, run: str) -> str:
        """Name of a container that helps with one run, such as a load driver."""
        return f"{self.name}-{service}-{run.lower()}"

    @contextmanager
    def temporary(
        self, service: str, run: str, image: str, command: Sequence[str], **options: Any
    ) -> Iterator[Container]:
        """Creates a container without privileges that helps with one run; removes it in the end.

        Args:
            service: what it is for, e.g. ``driver``.
            run: name of the run.
            image: its image.
            command: the module that it runs, with its arguments.
            options: of the engine, such as its network.
        """
        container = self.docker.containers.create(
            image,
            ["python", "-m", *command],
            name=self.temporary_name(service, run),
            labels={_PROJECT_LABEL: self.name, _SERVICE_LABEL: service, "com.docker.compose.oneoff": "True"},
            init=True,
            user=USER,
            read_only=True,
            tmpfs={"/tmp": "mode=1777"},  # noqa: S108 (within the container)
            cap_drop=["ALL"],
            security_opt=["no-new-privileges:true"],
            **options,
        )
        try:
            yield container
        finally:
            with suppress(NotFound):
                container.remove(force=True, v=True)

    def listed(self) -> list[dict[str, Any]]:
        """All containers of the lab, running or not, in the engine's own form."""
        with engine.errors_in_one_line("containers"):
            found: list[dict[str, Any]] = self.docker.api.containers(all=True, filters=self._mine)
            return found

    def containers(self, *services: str) -> dict[str, str]:
        """Service → id of its container, for these services, or for all if none is named."""
        found = {service_of(each["Labels"]): each["Id"] for each in self.listed()}
        return {service: found[service] for service in services or found if service in found}

    def container(self, identity: str) -> Container:
        """A handle for a container id, without a request to the engine."""
        return self.docker.containers.prepare_model({"Id": identity})

    def owner_of_address(self, unit: Unit) -> Container:
        """The container that has the unit's address: the unit's own, or the holder of its pod."""
        there = self.containers()
        return self.docker.containers.get(there.get(f"{unit.pod}-pod") or there[unit.name])

    def python(self, image: str) -> str:
        """Version of Python in the image, from the first running container that answers."""
        for each in self.listed() if image not in _PYTHONS else ():
            if each["State"] == "running":
                with suppress(APIError):
                    run = self.docker.api.exec_create(each["Id"], ["python", "--version"])
                    said = self.docker.api.exec_start(run["Id"]).decode().strip()
                    if said.startswith("Python "):
                        _PYTHONS[image] = said.removeprefix("Python ")
                        break
        return _PYTHONS.get(image, "unknown")

    def remove_network_and_volumes(self) -> None:
        """Removes the lab's network and volumes."""
        for network in self.docker.networks.list(filters=self._mine):
            network.remove()
        for volume in self.docker.volumes.list(filters=self._mine):
            volume.remove()

    def destroy(self, identity: str) -> None:
        """Kills a container and removes it."""
        with suppress(NotFound):
            self.container(identity).remove(force=True, v=True)

    @property
    def _mine(self) -> dict[str, str]:
        return {"label": f"{_PROJECT_LABEL}={self.name}"}


def service_of(labels: Mapping[str, str]) -> str:
    """The service of a container with these labels."""
    return labels[_SERVICE_LABEL]
