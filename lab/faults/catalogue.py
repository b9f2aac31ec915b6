"""The catalogue of fault kinds: as JSON documents, and as the table in ``docs/faults.md``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lab.faults.kinds import FAULTS
from lab.faults.settings import Number, Value
from lab.runtime import RUNTIMES

if TYPE_CHECKING:
    from lab.faults.fault_kind import FaultKind


def document_of(kind: FaultKind) -> dict[str, Any]:
    """Returns a kind as a JSON object."""
    return {
        "kind": kind.name,
        "what": kind.summary,
        "targets": kind.targets,
        "default_target": kind.default_target,
        "runtimes": list(kind.runtimes or RUNTIMES),
        "levels": {level: dict(values) for level, values in kind.levels.items()},
        "default_level": kind.default_level,
        "settings": {each.name: each.meaning for each in kind.settings},
    }


def levels_in_words(kind: FaultKind) -> str:
    """Returns the levels' values: ``light: ms 20; medium (default): ms 100; …``."""
    return "; ".join(
        f"{level}{' (default)' if level == kind.default_level else ''}: {_values(values)}"
        for level, values in kind.levels.items()
    )


def table() -> str:
    """Returns the table of the kinds in Markdown."""
    lines = ["| kind | effect | targets | levels | settings |", "|---|---|---|---|---|"]
    for kind in FAULTS.values():
        settings = "; ".join(
            f"`{each.name}`: {each.meaning}"
            + (f" ({each.least:g} to {each.most:g})" if isinstance(each, Number) else "")
            for each in kind.settings
        )
        only = f" (on the {kind.runtimes[0]} runtime only)" if kind.runtimes else ""
        cells = (f"`{kind.name}`", kind.summary + only, kind.targets, levels_in_words(kind), settings)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _values(values: Mapping[str, Value]) -> str:
    return ", ".join(
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items()
    )
