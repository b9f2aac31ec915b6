"""The control plane: keeps the revisions, and distributes rules and xDS resources to the nodes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lab.roles._probe import Probe
from lab.roles._role import Layout, Placement, Role, python, rotated
from lab.roles._unit import CONTROL_PLANE, Port, Unit

_SEEN = ("inside", "outside")


def _units(lab: Layout, caller: str) -> Iterator[Unit]:
    if caller:
        return
    spec, site = lab.spec, lab.site
    aliases = _aliases([site.port(name, "grpc") for name in lab.control_planes])
    for name in lab.control_planes:
        port = site.port(name, "grpc")
        argv, files = (
            python(
                "services.controlplane",
                listen=port.bind,
                **({"name": name} if aliases else {}),
                clusters_idle_after=f"{spec.clusters_idle_after_s:g}",
                clusters_unasked=str(spec.clusters_unasked),
                rules_for=lab.names_of(lambda role: role.follows.rules),
                xds_for=lab.names_of(lambda role: role.follows.xds or role.follows.xds_client),
                load_reports_from=lab.names_of(lambda role: role.follows.xds),
            ),
            {},
        )
        if spec.store:  # its password must appear in no list of processes
            argv, files = (*argv, f"@{site.path(name, 'store')}"), {"store": f"--registry\n{spec.store}"}
        else:
            argv = (*argv, "--registry", site.path(CONTROL_PLANE, "registry.sqlite"))
        plugins, options = lab.picker(name)
        yield Unit(name, CONTROL_PLANE, (*argv, *options), port, files=files | plugins, pod=name, aliases=aliases)


def _aliases(ports: Sequence[Port]) -> tuple[str, ...]:
    """All orders of several control planes' addresses, comma-separated; clients know all of them by such a name."""
    if len(ports) == 1:
        return ()
    orders = [rotated(ports, first) for first in range(len(ports))]
    return tuple(sorted({",".join(getattr(port, seen) for port in its) for its in orders for seen in _SEEN}))


ROLE = Role(
    name=CONTROL_PLANE,
    title="Control plane",
    placement=Placement.ALONE,
    units=_units,
    probe=Probe.ADMIN_API,
    cpus=2,
    memory_mb=512,
    accounted_as="control plane",
)
