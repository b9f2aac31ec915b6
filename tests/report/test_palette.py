"""Colours: every topology has its own, also one from outside, and each can be seen on a dark page."""

from pathlib import Path

import pytest

from lab.registry import PLUGINS
from lab.report import read_run, render
from lab.report.cost import columns
from lab.report.palette import (
    FAILED,
    SERIES,
    colour_of,
    dark_variants,
    dashes_of,
    light_only,
    style_of,
    topology_style,
)
from lab.topologies import TOPOLOGIES
from tests.report.builders import write_run

COURIER = """
from dataclasses import replace
from lab.topologies import direct

TOPOLOGY = replace(direct.TOPOLOGY, name="courier", colour="#101010")
"""


@pytest.fixture
def courier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A topology from outside, in a colour that cannot be seen on a dark page."""
    plugin = tmp_path / "courier.py"
    plugin.write_text(COURIER)
    monkeypatch.setenv(PLUGINS, str(plugin))


def test_each_topology_has_a_colour_of_its_own() -> None:
    colours = [topology_style(name) for name in TOPOLOGIES]

    assert len(set(colours)) == len(colours)


@pytest.mark.usefixtures("courier")
def test_a_topology_from_outside_has_its_column_and_its_colour(tmp_path: Path) -> None:
    html = render([read_run(write_run(tmp_path, topology="courier"))])

    assert "courier" in columns()
    assert topology_style("courier") == "#101010"
    assert colour_of("#101010") == "var(--c101010, #101010)"
    assert f"--c101010: {dark_variants()['#101010']};" in html
    assert 'background: var(--c101010, #101010)"></i><b>1 courier</b>' in html


def test_a_topology_that_is_not_known_here_is_grey() -> None:
    assert topology_style("courier") == SERIES[-1]


@pytest.mark.usefixtures("courier")
def test_colours_too_dark_for_a_dark_page_are_lightened_and_keep_their_hue() -> None:
    for colour, lighter in dark_variants().items():
        before, after = ([int(each[place : place + 2], 16) for place in (1, 3, 5)] for each in (colour, lighter))
        assert sum(before) < sum(after)
        assert sorted(range(3), key=before.__getitem__) == sorted(range(3), key=after.__getitem__)


def test_styles_repeat_after_seven_and_failures_are_dashed() -> None:
    assert [style_of(number) for number in (1, 7, 8)] == ["run-1", "run-7", "run-1"]
    assert dashes_of(FAILED) != dashes_of("run-1") == [1, 0]
    assert light_only(colour_of(FAILED)) == "#1b1f23"
