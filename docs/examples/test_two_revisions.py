"""A scenario of one's own. Its name is a claim; its body reads given, when, then."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.runs import LoadOptions
from scenarios.steps import assert_all_answered_rightly, under_load

if TYPE_CHECKING:
    from pathlib import Path

    from lab.lab import Lab


def test_publishing_the_same_table_again_under_load_disturbs_nobody(lab: Lab, topology: str, routes: Path) -> None:
    load = LoadOptions(topology=topology, caller="homepage", rate=100, duration_s=2)

    with under_load(lab, load) as run:
        lab.publish(routes, comment="the same again")

    assert_all_answered_rightly(run.result())
