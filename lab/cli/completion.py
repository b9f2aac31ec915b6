"""Shell completion of values: names from the lab that is up, else from the default spec and route table.

A shell shows no errors during completion, so an error here yields no suggestions.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from lab import CHECKOUT
from lab.errors import LabError
from lab.faults import FAULTS
from lab.lab import DEFAULT_SPEC, Lab
from lab.routing.document import read_path
from lab.runtime.state import LabState
from lab.spec import read_spec
from lab.topologies import TOPOLOGIES

if TYPE_CHECKING:
    from collections.abc import Iterable


def topologies(incomplete: str) -> list[str]:
    """Names of topologies."""
    return _beginning(incomplete, TOPOLOGIES)


def callers(incomplete: str) -> list[str]:
    """Callers of the lab."""
    with suppress(LabError, OSError):
        state = _state()
        return _beginning(incomplete, state.plan.callers if state else read_spec(DEFAULT_SPEC).callers)
    return []


def targets(incomplete: str) -> list[str]:
    """Targets of most faults: clusters and units of the lab, if it is up."""
    with suppress(LabError, OSError):
        units = state.plan.units if (state := _state()) else ()
        clusters = [unit.cluster for unit in units if unit.cluster]
        return _beginning(incomplete, dict.fromkeys([*clusters, *(unit.name for unit in units)]))
    return []


def faults(incomplete: str) -> list[str]:
    """Names of fault kinds."""
    return _beginning(incomplete, FAULTS)


def injected(incomplete: str) -> list[str]:
    """Ids of the active faults."""
    with suppress(LabError, OSError):
        lab = Lab(os.environ.get("LAB_NAME", "default"))
        return _beginning(incomplete, ["all", *(fault.id for fault in lab.faults.active())])
    return []


def use_cases(incomplete: str) -> list[str]:
    """Use cases of the default route table; reading the one in force would be slow if the control plane is down."""
    with suppress(LabError, OSError):
        return _beginning(incomplete, read_path(CHECKOUT / "routes.yaml").document["use_cases"])
    return []


def _state() -> LabState | None:
    folder = Lab(os.environ.get("LAB_NAME", "default")).folder
    return LabState.of(folder) if folder.exists() else None


def _beginning(incomplete: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]
