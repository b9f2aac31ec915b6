"""The whole story, as the command tells it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lab.lab import Lab
from lab.runtime.state import LabState
from tests.lab_command import run_lab


@pytest.mark.timeout(300)
def test_it_shows_what_it_claims_and_leaves_a_report_and_no_lab(own_lab: Lab) -> None:
    done = run_lab(own_lab, "demo", "--name", own_lab.name, "--json", within_s=280)

    shown = json.loads(done.stdout)
    # How long things take is not a test's business; on a busy machine that act may say that it did not show it.
    in_time = shown["acts"].pop("keep the path thin")
    assert shown["acts"] == {"name the use case": True, "break things": True, "roll a version": True}
    assert done.returncode == (0 if in_time else 1)
    assert Path(shown["report"]).stat().st_size > 100_000
    assert len(shown["pictures"]) > 3
    assert LabState.load(own_lab.folder / "state.json") is None
