"""The checkers' reading of policies and quotas says the same as that of the units that act by them."""

from __future__ import annotations

from dataclasses import astuple
from typing import Any

import pytest

from lab.checkers.plain_policy import Quota, policy_of, quota_of
from lab.routing.limits import limits_of
from lab.routing.resilience import Policy
from tests.checkers.builders import make_table

USE_CASES: list[dict[str, Any]] = [
    {},
    {"retries": {}},
    {
        "retries": {
            "attempts": 4,
            "on": ["internal", "resource-exhausted"],
            "budget": 50,
            "at_least": 3,
            "per_try": "2s",
        }
    },
    {"retries": {"per_try": "250ms"}, "health": {}},
    {"hedge": {"after": "30ms"}, "idempotent": True},
    {"hedge": {"after": "1s", "budget": 100, "at_least": 1}, "idempotent": True, "outliers": {}},
    {"breaker": {"requests": 3}},
]


@pytest.mark.parametrize("use_case", USE_CASES)
def test_policies_are_read_alike(use_case: dict[str, Any]) -> None:
    read = policy_of(make_table(**use_case), "Rows", "rows@v1")
    other = Policy.of(use_case) or Policy()
    extra = other.retries or other.hedge

    assert read.attempts == (other.retries.attempts if other.retries else 2 if other.hedge else 1)
    assert read.on == {on.upper().replace("-", "_") for on in (other.retries.on if other.retries else ())}
    assert read.per_try_s == (other.retries.per_try_s if other.retries else 0)
    assert read.hedge_after_s == (other.hedge.after_s if other.hedge else None)
    assert read.share == (extra.budget / (100 + extra.budget) if extra else 0)
    assert read.at_least == (extra.at_least if extra else 0)
    assert read.may_refuse == any((other.outliers, other.breaker, other.health))
    assert read.bound == (other.breaker.requests if other.breaker else 0)
    assert read.ejection == (astuple(other.outliers) if other.outliers else None)
    assert read.out_s == max(
        other.outliers.eject_s if other.outliers else 0, 2 * other.health.every_s if other.health else 0
    )


def test_a_pinned_version_follows_the_policy_of_the_use_case_that_it_answers() -> None:
    table = make_table(retries={"attempts": 5})
    table["use_cases"]["Other"] = {**make_table()["use_cases"]["Rows"], "default": "rows@v4", "rules": []}

    assert policy_of(table, "Other", "rows@v4").attempts == 1
    assert policy_of(table, "Other", "rows@v3").attempts == 5


@pytest.mark.parametrize("entry", [{"rate": 2.5}, {"rate": 9, "burst": 4, "concurrent": 3}, {"concurrent": 5}])
@pytest.mark.parametrize("limiters", [1, 2, 3])
def test_quotas_are_read_alike(entry: dict[str, Any], limiters: int) -> None:
    table = {"tenants": {"batch": entry}}
    share = limits_of(table["tenants"])["batch"].share(limiters)
    concurrent = None if share.concurrent is None else limiters * share.concurrent
    rate = None if share.rate is None else share.rate * limiters

    read = quota_of(table, "batch", limiters=limiters, proves_callers=True)
    assert read == Quota("batch", "batch", entry.get("rate"), limiters * share.burst, concurrent, frozenset())
    assert read.rate == pytest.approx(rate)
    assert quota_of(table, "kids", limiters=limiters, proves_callers=True) is None


@pytest.mark.parametrize(
    ("settings", "replicas", "all_of_them"),
    [
        ({}, 1, False),
        ({"outliers": {}}, 1, True),
        ({"outliers": {}}, 2, False),
        ({"outliers": {"at_most": 51}}, 2, True),
        ({"outliers": {"at_most": 67}}, 3, True),
        ({"outliers": {"at_most": 66}}, 3, False),
        ({"health": {}}, 2, True),
    ],
)
def test_a_proxy_may_take_out_all_replicas(settings: dict[str, Any], replicas: int, *, all_of_them: bool) -> None:
    table = make_table({"rows@v1": 100}, **settings)
    assert policy_of(table, "Rows", "rows@v1").may_take_out_all(replicas) == all_of_them
