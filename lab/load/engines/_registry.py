"""All engines by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.errors import InputError
from lab.load.engines._engine import Engine
from lab.registry import Registry

if TYPE_CHECKING:
    from lab.load.plan import EnginePlan

ENGINES = Registry(Engine, package="lab.load.engines", group="routing_lab.engines", noun="engine")
"""All engines: the lab's, those of other distributions, and those of plugin files."""


def engine_before_names(document: Mapping[str, Any], folder: Path) -> EnginePlan:
    """Returns the engine's part of a plan from before plans named their engine; see ``read_plan``.

    Raises:
        InputError: no engine that is known here made it.
    """
    for engine in ENGINES.values():
        if engine.read_before_names and (part := engine.read_before_names(document, folder)):
            return part
    raise InputError("engine: is not known here; install the extra, or name the plugin, that it is part of")
