"""A whole run, small: real control plane, Envoys and host, traffic under churn, a stuck node, a restart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.checkers import Outcome
from lab.scale.run import ScaleOptions, run

if TYPE_CHECKING:
    import pytest


def test_fifty_clusters_answer_three_callers_rightly_whatever_is_changed(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    options = ScaleOptions(clusters=50, callers=3, use_cases=30, seconds=4, rate=60, changes=40, moves=5)

    result = run(options, lambda _: None, tmp_path_factory.mktemp("h"))

    assert result.traffic is not None
    assert Outcome.VALID is result.traffic.outcome, [each.summary for each in result.traffic.verdicts]
    assert (0, 3) == (result.traffic.misrouted, result.traffic.callers)
    assert [] == result.figures["churn"]["failures"]
    assert all(count > 0 for count in result.figures["churn"]["changes"].values())
    # A frozen sidecar keeps nobody waiting but the one publish that finds out.
    assert result.figures["stuck"]["move_ms"]["n"] == 20
    # Whoever comes back is not told again what it has.
    assert result.figures["restart"]["xds_kb"]["most"] < result.figures["warm_xds_kb"]["median"] / 4
