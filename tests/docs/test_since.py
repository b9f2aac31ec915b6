"""The page of figures shows the latest comparison of commits, and draws all of them."""

from pathlib import Path
from typing import Any

import pytest

from docs.site.since import NOTHING, block, costs, draw, history
from lab.bench.since.accepted import keep
from lab.bench.since.rounds import Result

COMMITS = (("a", "b"), ("b", "c"))


@pytest.fixture(name="kept")
def kept_fixture(tmp_path: Path) -> list[dict[str, Any]]:
    """Two comparisons, one after the other: what takes long doubles each time, what has a rate halves."""
    for old, new in COMMITS:
        rounds: dict[str, list[tuple[float, ...]]] = {
            "call": [(1.0, 2.0, 1.0)] * 2,
            "driver-per-core": [(2.0, 1.0, 2.0)] * 2,
            "check": [],
        }
        keep(
            Result(old * 40, new * 40, {"cpus": "2"}, rounds=rounds, absent={"check": "old: none"}),
            tmp_path / "history",
        )
    return history(tmp_path / "history")


def test_the_block_has_the_latest_and_says_what_is_not_comparable(kept: list[dict[str, Any]]) -> None:
    shown = block(kept)
    assert "| call, s | 1 | 2 | 2.000 [2, 2] | slower |" in shown
    assert "| check, s | – | – | – | not comparable |" in shown
    assert "*bbbbbbbbbbbb → cccccccccccc" in shown
    assert block([]) == NOTHING


def test_ratios_are_chained_from_commit_to_commit(kept: list[dict[str, Any]]) -> None:
    assert costs(kept) == {name: [(0, 1.0), (1, 2.0), (2, 4.0)] for name in ("call", "driver-per-core")}


def test_the_chart_names_each_figure(kept: list[dict[str, Any]], tmp_path: Path) -> None:
    draw(kept, tmp_path / "chart.svg")
    drawn = (tmp_path / "chart.svg").read_text()
    assert "driver-per-core" in drawn
    draw([], tmp_path / "none.svg")
    assert not (tmp_path / "none.svg").exists()
