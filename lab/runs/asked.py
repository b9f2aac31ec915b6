"""What was asked of a run, before anything was made of it: options, and the words of the command."""

from __future__ import annotations

import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

FORM = 1
"""Of what is kept here; another one if the command's defaults change, by which *plan* judges."""

_PROGRAMS = ("lab", "-c")  # the console calls the command without its script
_NOT_PLANNED = ("endpoints", "edge_cases", "engine", "objectives", "id_prefix")


def asked_of(options: Any) -> dict[str, Any]:
    """Returns :class:`lab.runs.LoadOptions` as JSON, with the words after ``lab`` if a command asked for the run."""
    kept = {each.name: getattr(options, each.name) for each in fields(options) if each.name not in _NOT_PLANNED}
    words = sys.argv[1:] if Path(sys.argv[0]).name in _PROGRAMS else []
    chosen = {"as_drawn": options.engine.as_drawn, "own_edge_cases": bool(options.edge_cases)}
    return {"form": FORM, "words": words, "options": {**kept, **chosen}}
