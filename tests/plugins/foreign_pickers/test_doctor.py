"""The doctor names routers that are not installed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lab.ops.doctor import EXTRAS, examine
from lab.plugins.foreign_pickers.routers import ROUTERS


def test_the_doctor_names_each_router_that_is_missing_with_its_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    installed, missing = ROUTERS.values()
    installed.program.parent.mkdir(parents=True)
    installed.program.touch()

    found = {each.name: each for each in examine(tmp_path).parts[EXTRAS]}

    assert (found[installed.name].state, found[missing.name].state) == ("ok", "hint")
    assert "make .venv/with-foreign-pickers" in found[missing.name].remedy
