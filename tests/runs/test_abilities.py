"""What checkers ask of a topology is its data; notes are for people."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from lab.runs import evidence
from lab.topologies import TOPOLOGIES, Capabilities, Support
from tests.load.builders import load_plan


def _noted(capabilities: Capabilities, note: str) -> Capabilities:
    values = ((each.name, getattr(capabilities, each.name)) for each in fields(capabilities))
    noted: dict[str, Any] = {name: replace(its, note=note) for name, its in values if isinstance(its, Support)}
    return replace(capabilities, **noted)


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_a_note_turns_no_checker_off(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    topology, plan = TOPOLOGIES[name], load_plan(tmp_path, topology=name)

    found = []
    for note in ("", "at most half"):
        noted = {name: replace(topology, capabilities=_noted(topology.capabilities, note))}
        monkeypatch.setattr(evidence, "TOPOLOGIES", noted)
        found.append(evidence.abilities_of(plan, {}))

    assert found[0] == found[1]
