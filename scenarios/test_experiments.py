"""Users keep what they were given, and only those move who must."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from lab.history import read_parquet
from lab.routing.document import read_path
from lab.runs import LoadOptions
from scenarios.steps import assert_all_answered_rightly, under_load

if TYPE_CHECKING:
    from pathlib import Path

    from lab.lab import Lab

USE_CASE = "ContinueWatchingRanking"
RAMP = (1, 10, 50, 100)
USERS, MANY_USERS = 200, 1_000_000


def _split(routes: Path, folder: Path, percent: int) -> Path:
    """The default table with so much of the use case's traffic on v2."""
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


def test_a_ramp_moves_exactly_the_users_of_the_new_share_and_each_of_them_once(
    lab: Lab, topology: str, routes: Path, tmp_path: Path
) -> None:
    lab.publish(_split(routes, tmp_path, 0))
    with under_load(lab, _load(topology, rate=300, duration_s=8, users=USERS)) as run:
        for percent in RAMP:
            lab.publish(_split(routes, tmp_path, percent), comment=f"{percent} %")

    result = run.result()
    outcomes = {verdict.checker: str(verdict.outcome) for verdict in result.verdicts}
    assert (outcomes["routing"], outcomes["churn"], outcomes["stickiness"]) == ("valid", "valid", "valid"), outcomes
    assert result.summary.failed == 0
    versions: dict[str, list[str]] = {}
    for record in sorted(read_parquet(result.folder / "history.parquet"), key=lambda each: each.revision):
        versions.setdefault(record.user_id, []).append(record.version)
    # Sorted by the revision that decided, each user's versions are some v1, then only v2.
    assert all(each == sorted(each) for each in versions.values())
    assert {version for each in versions.values() for version in each} == {"v1", "v2"}


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_split_of_ten_percent_is_within_five_sigma_over_twenty_thousand_users(
    lab: Lab, topology: str, routes: Path, tmp_path: Path
) -> None:
    lab.publish(_split(routes, tmp_path, 10))

    result = lab.load(_load(topology, rate=600, duration_s=40, users=MANY_USERS))

    assert_all_answered_rightly(result)
    [split] = [verdict for verdict in result.verdicts if verdict.checker == "split"]
    assert split.outcome == "valid", split.summary
    assert len({record.user_id for record in read_parquet(result.folder / "history.parquet")}) >= 20_000
