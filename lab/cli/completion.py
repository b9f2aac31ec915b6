"""Shell completion of values: names from the lab that is up, else from the default spec and route table.

A shell shows no errors during completion, so an error here yields no suggestions.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress

from lab import FILES
from lab.errors import LabError
from lab.faults import FAULTS
from lab.lab import DEFAULT_SPEC, Lab
from lab.routing.document import read_path
from lab.runtime.state import LabState
from lab.spec import read_spec
from lab.topologies import TOPOLOGIES


def _completing(names: Callable[[], Iterable[str]]) -> Callable[[str], list[str]]:
    def complete(incomplete: str) -> list[str]:
        with suppress(LabError, OSError):
            return [name for name in names() if name.startswith(incomplete)]
        return []

    return complete


@_completing
def topologies() -> Iterable[str]:
    """Names of topologies."""
    return TOPOLOGIES


@_completing
def callers() -> Iterable[str]:
    """Callers of the lab."""
    state = _state()
    return state.plan.callers if state else read_spec(DEFAULT_SPEC).callers


@_completing
def targets() -> Iterable[str]:
    """Targets of most faults: clusters and units of the lab, if it is up."""
    units = state.plan.units if (state := _state()) else ()
    clusters = [unit.cluster for unit in units if unit.cluster]
    return dict.fromkeys([*clusters, *(unit.name for unit in units)])


@_completing
def faults() -> Iterable[str]:
    """Names of fault kinds."""
    return FAULTS


@_completing
def injected() -> Iterable[str]:
    """Ids of the active faults."""
    return ["all", *(fault.id for fault in _lab().faults.active())]


@_completing
def use_cases() -> Iterable[str]:
    """Use cases of the default route table; reading the one in force would be slow if the control plane is down."""
    return dict(read_path(FILES / "routes.yaml").document["use_cases"])


def _lab() -> Lab:
    return Lab(os.environ.get("LAB_NAME", "default"))


def _state() -> LabState | None:
    folder = _lab().folder
    return LabState.of(folder) if folder.exists() else None
