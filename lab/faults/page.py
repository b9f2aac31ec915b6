"""The kinds of faults in words: as documents for scripts, and as the table of ``docs/faults.md``.

``python -m lab.faults`` prints the table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lab.faults.registry import KINDS
from lab.faults.settings import Number

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lab.faults.kind import Kind
    from lab.faults.settings import Value


def document_of(kind: Kind) -> dict[str, Any]:
    """A kind as a JSON object."""
    return {
        "kind": kind.name,
        "what": kind.what,
        "targets": kind.targets,
        "default_target": kind.default_target,
        "runtimes": list(kind.runtimes),
        "levels": {level: dict(values) for level, values in kind.levels.items()},
        "default_level": kind.default_level,
        "settings": {each.name: each.what for each in kind.settings},
    }


def levels_in_words(kind: Kind) -> str:
    """``light: ms 20; medium (default): ms 100; …``."""
    return "; ".join(
        f"{level}{' (default)' if level == kind.default_level else ''}: {_values(values)}"
        for level, values in kind.levels.items()
    )


def table() -> str:
    """All kinds, as the page has them."""
    lines = ["| kind | does | at | levels | settings |", "|---|---|---|---|---|"]
    for kind in KINDS.values():
        settings = "; ".join(
            f"`{each.name}`: {each.what}" + (f" ({each.least:g} to {each.most:g})" if isinstance(each, Number) else "")
            for each in kind.settings
        )
        only = f" (on the {kind.runtimes[0]} runtime only)" if len(kind.runtimes) == 1 else ""
        cells = (f"`{kind.name}`", kind.what + only, kind.targets, levels_in_words(kind), settings)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _values(values: Mapping[str, Value]) -> str:
    return ", ".join(
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items()
    )
