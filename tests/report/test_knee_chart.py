"""The chart of a search for the highest rate that holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.report.knee import chart_of, draw
from lab.runs.knee import Broken, Knee, Step


def step(rate: float, p99_ms: float, broken: Broken) -> Step:
    return Step(
        rate=rate,
        achieved_rate=rate,
        answered=1.0,
        p50_ms=1.0,
        p99_ms=p99_ms,
        schedule_delay_p99_ms=0.1,
        broken=broken,
        because="",
        run_dir=Path("run"),
    )


@pytest.mark.parametrize("broken", [[], [100.0], [200.0, 150.0]])
def test_it_has_the_p99_of_each_rate_in_order(broken: list[float], tmp_path: Path) -> None:
    rates = [100.0, 200.0, 150.0]
    found = Knee([step(rate, rate / 10, Broken.SLO if rate in broken else Broken.NOTHING) for rate in rates])

    lines = {line.label: list(line.points) for line in chart_of(found).lines}

    assert sorted(point for points in lines.values() for point in points) == [(100, 10), (150, 15), (200, 20)]
    assert [x for x, _ in lines.get("breaks", [])] == sorted(broken)
    assert [path.suffix for path in draw(found, "mesh", tmp_path / "knee")] == [".svg", ".png"]
