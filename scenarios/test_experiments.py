"""Users keep their version; a changed weight moves only the users that it must."""

from __future__ import annotations

from concurrent.futures import wait
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from scenarios.framework.steps import (
    PHONES,
    assert_all_answered_rightly,
    load_on,
    records_of,
    seen_by,
    table_with,
    under_load,
)

if TYPE_CHECKING:
    from lab.lab import Lab
    from scenarios.framework.scenario import Scenario

RAMP = (1, 10, 50, 100)
PAUSE_S = 1.0
USERS, MANY_USERS = 200, 1_000_000


def _split(routes: Path, folder: Path, percent: int) -> Path:
    """The default table with ``percent`` of the use case's users on v2."""
    weights = {"cw-ranker@v1": 100 - percent, "cw-ranker@v2": percent}
    return table_with(routes, folder, rules=[{"name": "canary", "split": {"unit": "user_id", "weights": weights}}])


@pytest.mark.scenario(takes_s=7)
def test_a_ramp_moves_only_the_added_users(
    scenario: Scenario, lab: Lab, topology: str, routes: Path, tmp_path: Path
) -> None:
    """A share is raised to 1, 10, 50 and 100 % under load; each user that moves does so once, and never back."""
    with scenario.step("Publish a split that gives v2 nothing"):
        lab.routes.publish(_split(routes, tmp_path, 0))
    with under_load(lab, load_on(topology, rate=300, users=USERS, contexts=PHONES)) as run:
        for percent in RAMP:
            with scenario.step(f"Give v2 {percent} % of the users"):
                lab.routes.publish(_split(routes, tmp_path, percent), comment=f"{percent} %")
            wait([run], timeout=PAUSE_S)
    with scenario.step("Judge who moved, and when"):
        result = run.result()
    outcomes = {verdict.checker: str(verdict.outcome) for verdict in result.verdicts}
    assert (outcomes["routing"], outcomes["churn"], outcomes["stickiness"]) == ("valid", "valid", "valid"), outcomes
    assert result.summary.failed == 0
    versions: dict[str, list[str]] = {}
    for record in sorted(records_of(result), key=lambda each: each.revision):
        versions.setdefault(record.user_id, []).append(record.version)
    # Sorted by revision, each user's versions are v1, then only v2.
    assert all(each == sorted(each) for each in versions.values())
    assert {version for each in versions.values() for version in each} == {"v1", "v2"}


@pytest.mark.long
@pytest.mark.scenario(takes_s=46)
@pytest.mark.timeout(300)
def test_a_ten_percent_split_is_within_five_sigma(
    scenario: Scenario, lab: Lab, topology: str, routes: Path, tmp_path: Path
) -> None:
    """Of twenty thousand users 10 % get v2, within the bounds of chance."""
    with scenario.step("Publish a split of 10 %"):
        lab.routes.publish(_split(routes, tmp_path, 10))
    with scenario.step("Ask for many users"):
        # Some 21,200 Poisson arrivals, never fewer than 20,400 (5 σ), at a rate that leaves room for another worker.
        result = lab.load(load_on(topology, rate=500, duration_s=42.4, users=MANY_USERS, contexts=PHONES))

    assert_all_answered_rightly(result)
    [split] = [verdict for verdict in result.verdicts if verdict.checker == "split"]
    assert split.outcome == "valid", split.summary
    assert len(seen_by(result, "user_id")) >= 20_000
