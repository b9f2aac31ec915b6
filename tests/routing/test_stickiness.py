"""Users keep their cells and shares, and none moves without need; by way of the router, as services ask it."""

import json
import os
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from math import sqrt
from typing import Any

import numpy as np
import pytest

from lab.routing.compiled import Router

N = 20_000
USERS = [f"user-{number}" for number in range(N)]
CHI_SQUARE_99_9 = {1: 10.828, 2: 13.816, 4: 18.467}
"""Critical values at 0.1 % by degrees of freedom (NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.6.7.4)."""


def document(*rules: dict[str, Any]) -> dict[str, Any]:
    use_case = {"callers": ["homepage"], "api": "ranking.v1", "timeout": "1s", "default": "m@v1", "rules": list(rules)}
    versions = {f"v{number}": {"cluster": "c"} for number in range(1, 11)}
    return {"use_cases": {"A": use_case, "B": use_case}, "models": {"m": {"versions": versions}}, "clusters": {}}


def experiment(identity: int | str, **weights: int) -> dict[str, Any]:
    cells = {cell: {"weight": weight, "use": f"m@{cell}"} for cell, weight in weights.items()}
    return {"name": f"ab-{identity}", "experiment": {"id": identity, "unit": "user_id", "cells": cells}}


def split(name: str = "canary", **weights: int) -> dict[str, Any]:
    return {
        "name": name,
        "split": {"unit": "user_id", "weights": {f"m@{each}": part for each, part in weights.items()}},
    }


def versions(*rules: dict[str, Any], use_case: str = "A") -> list[str]:
    """Which version each user gets."""
    router = Router.of_document(document(*rules))
    return [router.resolve(use_case, {"caller": "homepage", "user_id": user}).version for user in USERS]


def chi_square(a: list[str], b: list[str]) -> tuple[float, int]:
    """Pearson's statistic of independence, and its degrees of freedom."""
    rows, columns = sorted(set(a)), sorted(set(b))
    counts = Counter(zip(a, b, strict=True))
    seen = np.array([[counts[row, column] for column in columns] for row in rows], dtype=float)
    wanted = np.outer(seen.sum(axis=1), seen.sum(axis=0)) / seen.sum()
    return float(((seen - wanted) ** 2 / wanted).sum()), (len(rows) - 1) * (len(columns) - 1)


PROGRAM = """
import json, sys
from lab.routing.compiled import Router
given = json.load(sys.stdin)
router = Router.of_document(given["document"])
print(json.dumps([router.resolve("A", {"caller": "homepage", "user_id": user}).version for user in given["users"]]))
"""


@pytest.mark.parametrize("rule", [experiment(12345, v1=50, v2=30, v3=20), split(v1=50, v2=30, v10=20)])
def test_a_user_has_the_same_cell_in_every_process(rule: dict[str, Any]) -> None:
    here = versions(rule)
    for hash_seed in ("1", "2", "random"):
        elsewhere = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            input=json.dumps({"document": document(rule), "users": USERS}),
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert here == json.loads(elsewhere.stdout)


def test_a_user_has_the_same_cell_of_an_experiment_in_every_use_case_and_a_share_of_its_own_in_each_split() -> None:
    rule = experiment(7, v1=50, v2=50)
    assert versions(rule, use_case="A") == versions(rule, use_case="B")
    rule = split(v1=50, v2=50)
    statistic, freedom = chi_square(versions(rule, use_case="A"), versions(rule, use_case="B"))
    assert statistic < CHI_SQUARE_99_9[freedom]


@pytest.mark.parametrize("kind", [split, lambda **weights: experiment(7, **weights)], ids=["split", "experiment"])
def test_a_ramp_moves_exactly_the_users_of_the_new_share(kind: Any) -> None:
    steps = (0, 1, 10, 50, 100)
    has = {weight: versions(kind(v1=100 - weight, v2=weight)) for weight in steps}
    router = Router.of_document(document(kind(v1=50, v2=50)))
    buckets = [router.resolve("A", {"caller": "homepage", "user_id": user}).bucket for user in USERS]
    for before, after in pairwise(steps):
        moved = {place for place, (old, new) in enumerate(zip(has[before], has[after], strict=True)) if old != new}
        # v2's run ends at the last bucket and grows downwards: the new share is the run between both beginnings.
        new_share = range(10_000 - after * 100, 10_000 - before * 100)
        assert {place for place, bucket in enumerate(buckets) if bucket in new_share} == moved
        assert {has[after][place] for place in moved} == {"v2"}
        p = (after - before) / 100
        assert abs(len(moved) - N * p) <= 5 * sqrt(N * p * (1 - p))
    assert set(has[0]) == {"v1"}
    assert set(has[100]) == {"v2"}


def test_taking_a_step_back_gives_back_just_what_it_took() -> None:
    assert versions(split(v1=90, v2=10)) == versions(split(v2=10, v1=90))
    back = zip(versions(split(v1=99, v2=1)), versions(split(v1=90, v2=10)), strict=True)
    assert set(back) == {("v1", "v1"), ("v1", "v2"), ("v2", "v2")}


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (experiment(1, v1=50, v2=50), experiment(2, v1=50, v2=50)),
        (experiment(12345, v1=80, v2=20), experiment(12346, v1=90, v2=10)),
        (experiment("a", v1=40, v2=30, v3=30), experiment("b", v1=20, v2=40, v3=40)),
        (experiment(7, v1=50, v2=50), split("7", v1=50, v2=50)),
        (split("canary", v1=50, v2=50), split("canary-2", v1=50, v2=50)),
    ],
)
def test_independent_draws_are_uncorrelated(a: dict[str, Any], b: dict[str, Any]) -> None:
    # n = 20,000 fixed users: nothing is drawn anew, so that this holds always or never.
    statistic, freedom = chi_square(versions(a), versions(b))
    assert statistic < CHI_SQUARE_99_9[freedom]


def test_a_correlation_of_a_twentieth_would_be_caught() -> None:
    a, b = (versions(experiment(identity, v1=50, v2=50)) for identity in (1, 2))
    following = [one if place % 20 == 0 else other for place, (one, other) in enumerate(zip(a, b, strict=True))]
    statistic, freedom = chi_square(a, following)
    assert statistic > CHI_SQUARE_99_9[freedom]


@pytest.mark.parametrize("kind", [split, lambda **weights: experiment(99, **weights)], ids=["split", "experiment"])
def test_a_tenth_of_the_users_is_a_tenth(kind: Any) -> None:
    count = Counter(versions(kind(v1=90, v2=10)))["v2"]
    assert abs(count - N * 0.1) <= 5 * sqrt(N * 0.1 * 0.9)
