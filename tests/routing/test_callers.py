"""Which keys a caller may come to need."""

from lab.routing.document import RouteTable
from lab.routing.uses import keys_for

VERSIONS = {f"v{number}": {"cluster": "ml-cluster-1"} for number in range(1, 9)}


def table(**more: object) -> RouteTable:
    use_case = {"callers": ["homepage"], "api": "ranking.v1", "timeout": "1s", "default": "m@v1"}
    other = {"callers": ["search"], "api": "ranking.v1", "timeout": "1s", "default": "m@v8"}
    return RouteTable.from_document(
        {
            "use_cases": {"One": {**use_case, **more}, "Other": other},
            "models": {"m": {"versions": VERSIONS}},
            "clusters": {"ml-cluster-1": {"replicas": 1}},
        }
    )


def test_a_caller_needs_every_key_that_its_use_cases_name() -> None:
    cells = {1: {"weight": 50, "use": "m@v3"}, 2: {"weight": 50, "use": "m@v4"}}
    named = table(
        rules=[
            {"name": "tv", "when": {"device": ["tv"]}, "use": "m@v2"},
            {"name": "ab", "when": {"country": ["US"]}, "experiment": {"id": 7, "unit": "user_id", "cells": cells}},
            {"name": "canary", "split": {"unit": "user_id", "weights": {"m@v1": 90, "m@v5": 10}}},
        ],
        shadow={"use": "m@v6", "percent": 1},
        fallback=["m@v7"],
    )

    assert keys_for("homepage", named) == {f"m.v{number}" for number in range(1, 8)}
    assert keys_for("search", named) == {"m.v8"}
    assert keys_for("nobody", named) == set()


def test_who_may_pin_requests_needs_every_version() -> None:
    assert keys_for("homepage", table(override=["homepage"])) == {f"m.{version}" for version in VERSIONS}
    assert keys_for("search", table(override=["homepage"])) == {"m.v8"}
