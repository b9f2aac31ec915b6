"""A proxy that follows no rules by itself: a renderer runs it, and configures it by the rules."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace

from lab.roles._follows import Follows
from lab.roles._probe import Probe
from lab.roles._role import Layout, Placement, Program, Role, python
from lab.roles._unit import Unit
from lab.routing.headers import VIA


def rendered(
    name: str,
    title: str,
    stage: str = "",
    adds_headers: Collection[str] | None = None,
    program: Program | None = None,
) -> Role:
    """The role of the one proxy that all callers share, which the renderer of that name runs and configures.

    Args:
        name: of the role, of its one unit, and of its :class:`services.renderer.proxy.ProxyRenderer`.
        title: what people call it, e.g. ``NGINX``.
        stage: see :class:`Role`.
        program: see :class:`Role`.
        adds_headers: names of headers that the proxy adds by itself, besides ``via``; None if that is not known.
    """

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
            files, options = lab.plugin_files(name)
            yield Unit(name, name, (*argv, *options, *lab.picker_option), port, files=files, pod=name)

    return Role(
        name=name,
        title=title,
        placement=Placement.ALONE,
        units=units,
        probe=replace(Probe.CONNECTED, container="open"),
        follows=Follows.RULES_AND_ENDPOINTS,
        calls_models=True,
        marks_path=True,
        adds_headers=None if adds_headers is None else frozenset(adds_headers) | {VIA},
        stage=stage,
        memory_mb=512,
        program=program,
    )
