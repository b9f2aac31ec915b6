"""Users keep their version; a changed weight moves only the users that it must."""

from __future__ import annotations

import json
from concurrent.futures import wait
from typing import TYPE_CHECKING

import pytest

from lab.routing.document import read_path
from lab.runs import LoadOptions
from scenarios.framework.steps import AT_MOST_S, assert_all_answered_rightly, records_of, seen_by, under_load

if TYPE_CHECKING:
    from pathlib import Path

    from lab.lab import Lab
    from scenarios.framework.scenario import Scenario

USE_CASE = "ContinueWatchingRanking"
RAMP = (1, 10, 50, 100)
PAUSE_S = 1.0
USERS, MANY_USERS = 200, 1_000_000


def _split(routes: Path, folder: Path, percent: int) -> Path:
    """The default table with ``percent`` of the use case's users on v2."""
    document = read_path(routes).document
    weights = {"cw-ranker@v1": 100 - percent, "cw-ranker@v2": percent}
    document["use_cases"][USE_CASE]["rules"] = [{"name": "canary", "split": {"unit": "user_id", "weights": weights}}]
    path = folder / f"split-{percent}.yaml"
    path.write_text(json.dumps(document))
    return path


def _load(topology: str, *, rate: float, duration_s: float, users: int) -> LoadOptions:
    return LoadOptions(
        topology=topology,
        caller="homepage",
        use_cases=(USE_CASE,),
        rate=rate,
        duration_s=duration_s,
        users=users,
        contexts={"device": ("phone",)},
    )


@pytest.mark.scenario(takes_s=7)
def test_a_ramp_moves_only_the_added_users(
    scenario: Scenario, lab: Lab, topology: str, routes: Path, tmp_path: Path
) -> None:
    """A share is raised to 1, 10, 50 and 100 % under load; each user that moves does so once, and never back."""
    with scenario.step("Publish a split that gives v2 nothing"):
        lab.routes.publish(_split(routes, tmp_path, 0))
    with under_load(lab, _load(topology, rate=300, duration_s=AT_MOST_S, users=USERS)) as run:
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
        result = lab.load(_load(topology, rate=500, duration_s=42.4, users=MANY_USERS))

    assert_all_answered_rightly(result)
    [split] = [verdict for verdict in result.verdicts if verdict.checker == "split"]
    assert split.outcome == "valid", split.summary
    assert len(seen_by(result, "user_id")) >= 20_000
