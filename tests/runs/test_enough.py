"""How many requests a run needs for the smallest share of its table."""

from __future__ import annotations

from typing import Any

import pytest

from lab.measure.binomial import least_trials
from lab.runs import LoadOptions
from lab.runs.enough import requests_to_judge


def table(*, least: int, device: str = "") -> dict[str, Any]:
    split = {"unit": "user_id", "weights": {"rows@v1": 100 - least, "rows@v2": least}}
    rule = {"name": "canary", "split": split, **({"when": {"device": [device]}} if device else {})}
    entry = {"callers": ["homepage"], "api": "ranking.v1", "timeout": "2s", "default": "rows@v1"}
    models = {"rows": {"versions": {version: {"cluster": "c"} for version in ("v1", "v2")}}}
    return {"use_cases": {"Rows": {**entry, "rules": [rule]}, "Plain": entry}, "models": models}


def needed(document: dict[str, Any], *use_cases: str, **options: Any) -> tuple[int, str]:
    load = LoadOptions(topology="mesh", caller="homepage", **{"users": 100_000, **options})
    return requests_to_judge(document, load, use_cases)


def test_the_smallest_share_decides_and_what_seldom_meets_it_takes_longer() -> None:
    often, share = needed(table(least=5), "Rows")
    third, _ = needed(table(least=5, device="tv"), "Rows")
    half_of_third, _ = needed(table(least=5, device="tv"), "Rows", "Plain")

    assert share == "the 5 % arm of rule canary of Rows"
    assert least_trials(0.05, 5) < often < 1.5 * least_trials(0.05, 5)
    assert third == pytest.approx(3 * often, rel=0.2)
    assert half_of_third == pytest.approx(6 * often, rel=0.3)
    assert needed(table(least=1), "Rows")[0] > 4 * often


def test_edge_cases_and_users_that_come_again_do_not_count() -> None:
    drawn, _ = needed(table(least=5), "Rows")
    with_edges, _ = needed(table(least=5), "Rows", edge_every=2)
    of_few, _ = needed(table(least=5), "Rows", users=400)

    assert with_edges == pytest.approx(2 * drawn, rel=0.01)
    assert of_few > 1.5 * drawn


def test_without_a_split_no_run_is_too_short() -> None:
    assert needed(table(least=5), "Plain") == (0, "")
