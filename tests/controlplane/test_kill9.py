from __future__ import annotations

from pathlib import Path

from tests.controlplane.kill9 import kill_at_steps

POINTS = 24


async def test_kill_9_at_any_step_of_a_publish_loses_no_acknowledged_revision(tmp_path: Path) -> None:
    """`make kill9` does the same at 200 steps."""
    toll = await kill_at_steps(POINTS, tmp_path)

    assert toll.deaths == POINTS
    assert toll.reached.keys() >= {"nothing", "stored", "converged"}, "steps are spread over the whole of it"
