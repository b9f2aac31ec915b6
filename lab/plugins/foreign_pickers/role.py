"""One router for each cluster, with doors of its replicas behind it and a front before it, in one unit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from lab.errors import SpecError
from lab.pickers import PICKERS
from lab.plugins.foreign_pickers.routers import CARRIED, NEUTRAL, ROUTERS
from lab.roles import Placement, Probe, Program, Role, Unit, python
from lab.routing.headers import VIA

if TYPE_CHECKING:
    from lab.roles import Layout


def _role_of(name: str) -> Role:
    router = ROUTERS[name.removesuffix(NEUTRAL)]

    def units(lab: Layout, caller: str) -> Iterator[Unit]:
        """A unit for each cluster with a hard-coded address, in the order of their names, as for a VIP."""
        targets = {} if caller else lab.hard_coded(lambda port: port.inside)
        for use_case in targets:
            if (api := lab.apis[use_case]) not in CARRIED:
                raise SpecError(f"topology {name}: {use_case} is of {api}, and this router carries {CARRIED[0]} alone")
        use_cases: dict[str, list[str]] = {}
        for use_case, each in targets.items():
            use_cases.setdefault(each.cluster, []).append(use_case)
        replicas = {each.cluster: each.addresses for each in targets.values()}
        for cluster, addresses in sorted(replicas.items()):
            unit = f"{cluster}-{name}"
            port = lab.site.port(unit, "grpc")
            argv = python(
                "lab.plugins.foreign_pickers",
                name=unit,
                role=name,
                listen=port.bind,
                cluster=cluster,
                replicas=",".join(addresses),
                use_cases=",".join(use_cases[cluster]),
                policy=PICKERS[lab.spec.picker].at(router.name),
            )
            yield Unit(unit, name, argv, port, pod=unit)

    return Role(
        name=name,
        title=f"Routers {name}",
        placement=Placement.REPLICATED,
        units=units,
        probe=Probe.GRPC_HEALTH,
        calls_models=True,
        marks_path=True,
        adds_headers=frozenset({VIA}),
        checked_by=("path",),
        memory_mb=512,
        program=Program(name=router.name, installed=router.installed, remedy=router.remedy),
    )


VLLM, VLLM_NEUTRAL, SMG, SMG_NEUTRAL = (_role_of(name + suffix) for name in ROUTERS for suffix in ("", NEUTRAL))
