from __future__ import annotations

from collections import Counter
from math import sqrt
from typing import Any

import pytest

from lab.checkers.plain import Expected, decide, fields_read


@pytest.fixture
def table() -> dict[str, Any]:
    rules = [
        {"name": "tv", "when": {"device": ["tv"], "country": ["US", "CA"]}, "use": "cw@v2"},
        {
            "name": "grown-ups",
            "when": {"tenant": ["t"], "not": {"segment": ["kids"], "country": ["FR"]}},
            "use": "cw@v3",
        },
        {
            "name": "ab",
            "when": {"country": ["DE"]},
            "experiment": {
                "id": 5,
                "unit": "user_id",
                "cells": {"2": {"weight": 100, "use": "cw@v4"}, "10": {"weight": 0, "use": "cw@v5"}},
            },
        },
        {"name": "canary", "split": {"unit": "user_id", "weights": {"cw@v10": 5, "cw@v9": 95}}},
    ]
    versions = {f"v{number}": {"cluster": f"cluster-{number}"} for number in range(1, 11)}
    use_case = {"callers": ["homepage"], "api": "ranking.v1", "timeout": "1s", "default": "cw@v1", "rules": rules}
    return {"use_cases": {"CW": use_case}, "models": {"cw": {"versions": versions}}, "clusters": {}}


@pytest.mark.parametrize(
    ("context", "version"),
    [
        ({}, "v1"),
        ({"device": "tv", "country": "US"}, "v2"),
        ({"device": "tv", "country": "CA"}, "v2"),
        ({"device": "tv", "country": "us"}, "v1"),
        ({"device": "tv", "country": ""}, "v1"),
        ({"tenant": "t"}, "v3"),
        ({"tenant": "t", "segment": "kids"}, "v3"),
        ({"tenant": "t", "segment": "kids", "country": "FR"}, "v1"),
        ({"country": "DE", "user_id": "u1"}, "v4"),
        ({"country": "DE", "user_id": ""}, "v1"),
    ],
)
def test_rules_are_read_as_described(table: dict[str, Any], context: dict[str, str], version: str) -> None:
    expected = Expected("OK", "cw", version, f"cluster-{version[1:]}")
    assert decide(table, "CW", {"caller": "homepage", **context}) == expected


def test_refusals_have_the_names_of_their_statuses(table: dict[str, Any]) -> None:
    assert Expected("NOT_FOUND") == decide(table, "Nope", {"caller": "homepage"})
    assert Expected("PERMISSION_DENIED") == decide(table, "CW", {"caller": "search"})
    assert Expected("PERMISSION_DENIED") == decide(table, "CW", {})


def test_a_split_gives_each_its_share(table: dict[str, Any]) -> None:
    n = 20_000
    contexts = ({"caller": "homepage", "user_id": f"u{number}"} for number in range(n))
    count = Counter(decide(table, "CW", context).version for context in contexts)
    assert count.keys() == {"v9", "v10"}
    assert abs(count["v10"] - n * 0.05) <= 5 * sqrt(n * 0.05 * 0.95)


def test_the_fields_that_are_read_are_all_found(table: dict[str, Any]) -> None:
    assert fields_read(table, "CW") == ["caller", "country", "device", "override", "segment", "tenant", "user_id"]
    assert fields_read(table, "Nope") == ["caller"]
