"""What this machine has and lacks for labs of containers; measures everything, changes nothing."""

from __future__ import annotations

from collections.abc import Iterator

from docker.errors import DockerException

from lab.errors import LabError
from lab.runtime.compose import engine, image, subnets
from lab.runtime.doctor_finding import Finding, finding, first_line


def findings() -> Iterator[Finding]:
    """Whether an engine answers, has the image, and a network is free."""
    try:
        client = engine.connect()
    except LabError as error:
        reason, _, remedy = str(error).partition(": ")
        yield Finding(name="Docker engine", state="lacks", found=reason, remedy=remedy)
        return
    try:
        yield Finding(name="Docker engine", state="ok", found=str(client.version()["Version"]))
        plugin = first_line(["docker", "compose", "version", "--short"])
        yield finding(
            "compose plugin",
            plugin or "is missing",
            lacks=plugin is None,
            remedy="install Docker's compose plugin, or run `make engine`",
        )
        name, base = image.wanted(client)
        if image.is_here(client, name):
            yield Finding(name="image", state="ok", found=f"{name}, built")
        else:
            here = image.is_here(client, base)
            yield finding(
                "image",
                f"not built yet; its base {base} is {'here' if here else 'not here'}",
                hint=not here,
                remedy="`lab up` pulls it; if no registry can be reached, `make engine` builds one",
            )
        free = subnets.count_free(engine.networks(client))
        yield finding(
            "free networks",
            f"{free} of {len(subnets.SUBNETS)} in {subnets.RANGE}",
            lacks=not free,
            remedy="take other labs down; `docker network ls` lists them",
        )
    except (DockerException, OSError) as error:
        yield Finding(name="Docker engine", state="lacks", found=str(error), remedy=engine.REMEDY)
