"""The page of figures shows the latest comparison of commits, and draws all of them."""

from pathlib import Path
from typing import Any

import pytest

from docs.site.since import GROUPS, NOTHING, block, costs, draw, history
from lab.plugins.bench.since.accepted import keep
from lab.plugins.bench.since.figures import FIGURES
from lab.plugins.bench.since.rounds import Result

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


def test_each_group_has_a_chart_that_names_its_figures(kept: list[dict[str, Any]], tmp_path: Path) -> None:
    draw(kept, tmp_path)
    assert [each.name for each in tmp_path.glob("*.svg")] == ["since-commands.svg"]
    assert "driver-per-core" in (tmp_path / "since-commands.svg").read_text()
    assert "(figures/since-commands.svg)" in block(kept)


def test_every_figure_is_in_one_group() -> None:
    assert sorted(visit.__name__ for of in GROUPS.values() for visit in of) == sorted(
        {figure.visit.__name__ for figure in FIGURES.values()}
    )
