from __future__ import annotations

from pathlib import Path

import pytest

from tests.controlplane.kill9 import kill_at_steps

POINTS = {"sqlite": 24, "postgresql": 20}


@pytest.mark.parametrize("store", ["sqlite", "postgresql"])
async def test_kill_9_at_any_step_of_a_publish_loses_no_acknowledged_revision(
    store: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """`make kill9` does the same at 200 steps."""
    registry = request.getfixturevalue("postgresql").new_database() if store == "postgresql" else ""

    toll = await kill_at_steps(POINTS[store], tmp_path, registry)

    assert toll.deaths == POINTS[store]
    assert toll.reached.keys() >= {"nothing", "stored", "converged"}, "steps are spread over the whole of it"
