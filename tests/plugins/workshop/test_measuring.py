"""A notebook's measurement leaves out rounds with a failure, and says so if nothing is left."""

import math
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest

from lab.errors import UnitError
from lab.plugins.bench.harness.environment import Environment
from lab.plugins.bench.harness.variant import LoadPoint
from lab.plugins.workshop import measuring
from lab.runtime.state import LabState


@pytest.mark.parametrize(
    ("gateway", "mesh", "kept"),
    [
        ([1.0, 2.0, 3.0], [4.0, 5.0, 6.0], {"gateway": [1.0, 2.0, 3.0], "mesh": [4.0, 5.0, 6.0]}),
        ([math.nan, 2.0, 3.0], [4.0, 5.0, math.nan], {"gateway": [2.0], "mesh": [5.0]}),
    ],
)
def test_a_round_in_which_a_topology_failed_is_left_out(
    gateway: list[float], mesh: list[float], kept: dict[str, list[float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert measured_with(gateway, mesh, monkeypatch) == kept


def test_without_a_whole_round_the_first_failure_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnitError, match=r"run this cell again\. First: round 1, gateway: 3 of 24 failed"):
        measured_with([math.nan, 1.0], [1.0, math.nan], monkeypatch)


def measured_with(gateway: list[float], mesh: list[float], monkeypatch: pytest.MonkeyPatch) -> dict[str, list[float]]:
    """What a notebook gets of rounds with these medians, NaN where a trial failed."""

    def measure(environment: Environment, _variants: object, points: list[LoadPoint], _rounds: int) -> object:
        environment.missing.append("round 1, gateway: 3 of 24 failed")
        return SimpleNamespace(p50_ms={("gateway", points[0]): gateway, ("mesh", points[0]): mesh})

    monkeypatch.setattr(measuring, "measure", measure)
    monkeypatch.setattr(LabState, "of", lambda _: MagicMock())
    return measuring.p50s(MagicMock(), ["gateway", "mesh"], 400)
