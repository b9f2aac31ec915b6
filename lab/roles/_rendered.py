"""A proxy that follows no rules by itself: a renderer runs it, and configures it by the rules."""

from __future__ import annotations

from collections.abc import Iterator

from lab.roles._role import Follows, Layout, Placement, Probe, Role, python
from lab.roles._unit import Unit


def rendered(name: str, title: str) -> Role:
    """The role of the one proxy that all callers share; ``name`` is also the renderer's name for the program."""

    def units(lab: Layout, caller: str) -> Iterator[Unit]:
        if not caller:
            port = lab.site.port(name, "grpc")
            argv = python(
                "services.renderer",
                proxy=name,
                name=name,
                role=name,
                listen=port.bind,
                control_plane=lab.control_plane(name),
            )
            yield Unit(name, name, argv, port, pod=name)

    return Role(
        name=name,
        title=title,
        placement=Placement.ALONE,
        units=units,
        probe=Probe.CONNECTED,
        follows=Follows.RULES_AND_ENDPOINTS,
        calls_models=True,
        marks_path=True,
        stage="proxies",
        memory_mb=512,
    )
