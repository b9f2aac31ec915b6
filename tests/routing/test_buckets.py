import os
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from math import sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.routing.buckets import BUCKETS, bucket, experiment_salt, layout, natural, split_salt


def owners(weights: dict[str, int]) -> list[str]:
    """Who has each bucket."""
    return [share.name for share in layout(weights) for _ in range(share.first, share.end)]


def test_buckets_are_the_same_for_ever() -> None:
    # Written down once: a change here moves every user of every running experiment.
    assert bucket(experiment_salt(12345), "u1") == 1081
    assert bucket(split_salt("UpNext", "canary"), "u1") == 544


def test_buckets_are_the_same_in_every_process() -> None:
    program = "from lab.routing.buckets import bucket; print([bucket('s', f'u{n}') for n in range(50)])"
    seen = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert seen == {str([bucket("s", f"u{number}") for number in range(50)])}


@given(st.text(), st.text())
def test_any_unit_has_a_bucket(salt: str, unit: str) -> None:
    assert bucket(salt, unit) in range(BUCKETS)


@pytest.mark.parametrize("weight", [1, 5, 20, 50, 99])
def test_a_share_gets_its_weight_of_the_users(weight: int) -> None:
    n = 40_000
    has = owners({"m@v1": 100 - weight, "m@v2": weight})
    count = Counter(has[bucket("split/A/canary", f"user-{number}")] for number in range(n))["m@v2"]
    p = weight / 100
    sigma = sqrt(n * p * (1 - p))
    assert abs(count - n * p) <= 5 * sigma


def test_different_salts_draw_independently() -> None:
    n = 40_000
    both = sum(bucket("a", f"u{number}") < 5_000 and bucket("b", f"u{number}") < 5_000 for number in range(n))
    sigma = sqrt(n * 0.25 * 0.75)
    assert abs(both - n / 4) <= 5 * sigma


@given(st.integers(0, 100), st.integers(0, 100))
def test_of_two_shares_only_the_difference_moves_and_only_one_way(before: int, after: int) -> None:
    old = owners({"m@v1": 100 - before, "m@v2": before})
    new = owners({"m@v1": 100 - after, "m@v2": after})
    moved = [(one, other) for one, other in zip(old, new, strict=True) if one != other]
    assert abs(after - before) * BUCKETS // 100 == len(moved)
    way = ("m@v1", "m@v2") if after > before else ("m@v2", "m@v1")
    assert {way} >= set(moved)


def test_a_user_once_on_the_new_version_stays_there_throughout_a_rollout() -> None:
    steps = [owners({"m@v9": 100 - weight, "m@v10": weight}) for weight in (1, 10, 50, 100)]
    for earlier, later in pairwise(steps):
        assert all(new == "m@v10" for old, new in zip(earlier, later, strict=True) if old == "m@v10")


@given(st.lists(st.integers(0, 20), min_size=3, max_size=5), st.data())
def test_neighbours_exchange_users_without_disturbing_others(parts: list[int], data: st.DataObject) -> None:
    weights = {f"m@v{number}": part for number, part in enumerate(parts, start=1)}
    weights["m@v0"] = 100 - sum(parts)
    names = sorted(weights, key=natural)
    at = data.draw(st.integers(0, len(names) - 2))
    amount = data.draw(st.integers(0, weights[names[at]]))
    changed = {**weights, names[at]: weights[names[at]] - amount, names[at + 1]: weights[names[at + 1]] + amount}
    moved = [pair for pair in zip(owners(weights), owners(changed), strict=True) if pair[0] != pair[1]]
    assert len(moved) == amount * BUCKETS // 100
    assert {(names[at], names[at + 1])} >= set(moved)


def test_the_layout_does_not_depend_on_the_order_of_writing() -> None:
    assert layout({"m@v2": 5, "m@v10": 95}) == layout({"m@v10": 95, "m@v2": 5})
    assert [share.name for share in layout({"m@v10": 95, "m@v2": 5})] == ["m@v2", "m@v10"]


def test_a_share_of_nothing_has_no_buckets() -> None:
    assert [tuple(share) for share in layout({"a": 0, "b": 100, "c": 0})] == [("b", 0, BUCKETS)]
