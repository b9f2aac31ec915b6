"""What the engine has of one lab: a compose project's containers, network and volumes."""

from __future__ import annotations

from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any

from docker.errors import APIError, NotFound

from lab.runtime.compose import document, engine

if TYPE_CHECKING:
    from collections.abc import Mapping

    import docker
    from docker.models.containers import Container

    from lab.roles import Unit

# By image: to run something in a container takes twenty times as long as to ask for its log.
_PYTHONS: dict[str, str] = {}
_PROJECT_LABEL, _SERVICE_LABEL = "com.docker.compose.project", "com.docker.compose.service"


class Project:
    """Looks it up by its labels, which whatever is made for it has.

    Args:
        name: of the compose project.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    @cached_property
    def docker(self) -> docker.DockerClient:
        """The engine, from the first time that it is asked."""
        return engine.connect()

    @property
    def network_name(self) -> str:
        """What the engine calls its network."""
        return f"{self.name}_{document.NETWORK}"

    @property
    def network(self) -> Any:
        """Its network."""
        return self.docker.networks.get(self.network_name)

    def labels(self, service: str) -> dict[str, str]:
        """Of a container that comes and goes while the lab is up."""
        return {_PROJECT_LABEL: self.name, _SERVICE_LABEL: service, "com.docker.compose.oneoff": "True"}

    def listed(self) -> list[dict[str, Any]]:
        """Its containers, in whatever state, in the engine's words."""
        with engine.one_line("containers"):
            found: list[dict[str, Any]] = self.docker.api.containers(all=True, filters=self._mine)
            return found

    def containers(self, *services: str) -> dict[str, str]:
        """Service → id of its container; of all if none is named."""
        found = {service_of(each["Labels"]): each["Id"] for each in self.listed()}
        return {service: found[service] for service in services or found if service in found}

    def container(self, identity: str) -> Container:
        """A handle, without asking the engine whether there is such a one."""
        return self.docker.containers.prepare_model({"Id": identity})

    def owner_of_address(self, unit: Unit) -> Container:
        """The container that has the unit's address: it, or the holder of its pod."""
        there = self.containers()
        return self.docker.containers.get(there.get(f"{unit.pod}-pod") or there[unit.name])

    def python(self, image: str) -> str:
        """Version of the interpreter in the image, from the first container that lives long enough to say it."""
        if image not in _PYTHONS and (version := self._asked_python()):
            _PYTHONS[image] = version
        return _PYTHONS.get(image, "unknown")

    def _asked_python(self) -> str:
        for each in self.listed():
            if each["State"] == "running":
                with suppress(APIError):
                    said = self._said_by(each["Id"], "python", "--version")
                    if said.startswith("Python "):
                        return said.removeprefix("Python ")
        return ""

    def remove_ground(self) -> None:
        """Removes what containers stand on."""
        for network in self.docker.networks.list(filters=self._mine):
            network.remove()
        for volume in self.docker.volumes.list(filters=self._mine):
            volume.remove()

    def destroy(self, identity: str) -> None:
        """Ends a container at once, and removes it."""
        with suppress(NotFound):
            self.container(identity).remove(force=True, v=True)

    @property
    def _mine(self) -> dict[str, str]:
        return {"label": f"{_PROJECT_LABEL}={self.name}"}

    def _said_by(self, container: str, *command: str) -> str:
        run = self.docker.api.exec_create(container, list(command))
        said: bytes = self.docker.api.exec_start(run["Id"])
        return said.decode().strip()


def service_of(labels: Mapping[str, str]) -> str:
    """The service that a container with these labels is of."""
    return labels[_SERVICE_LABEL]
