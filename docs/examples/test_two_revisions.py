"""A custom scenario. Its name is a claim; its body reads given, when, then."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lab.runs import LoadOptions
from scenarios.framework.steps import AT_MOST_S, assert_all_answered_rightly, under_load

if TYPE_CHECKING:
    from lab.lab import Lab
    from scenarios.framework.scenario import Scenario


@pytest.mark.scenario(takes_s=3)
def test_publishing_the_same_table_disturbs_nobody(scenario: Scenario, lab: Lab, topology: str, routes: Path) -> None:
    """A revision that changes nothing goes out under load, and every request is answered as before."""
    load = LoadOptions(topology=topology, caller="homepage", rate=100, duration_s=AT_MOST_S)

    with under_load(lab, load) as run, scenario.step("Publish the table that is in force"):
        lab.routes.publish(routes, comment="the same again")

    with scenario.step("Judge every answer"):
        assert_all_answered_rightly(run.result())
