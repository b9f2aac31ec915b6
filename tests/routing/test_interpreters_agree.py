"""The compiled router and the plain interpreter, written from one description, decide alike."""

from __future__ import annotations

import random
from itertools import count
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lab.checkers.plain import Expected, decide, fields_read
from lab.errors import CallerNotAllowedError, UnknownUseCaseError
from lab.routing.buckets import bucket_of, salted, split_salt
from lab.routing.compiled import Router
from lab.routing.document import RouteTable
from lab.routing.schema import CONTEXT_FIELDS

PAIRS = 20_000
EXAMPLES = 120
REQUESTS_PER_TABLE = 200

# Few values each, so that conditions often hold.
VALUES = {field: ["a", "b", "c"] for field in CONTEXT_FIELDS}
VALUES |= {"caller": ["homepage", "search"], "traffic_origin": ["real", "artificial"]}
USE_CASES = ["Rows", "Search", "UpNext"]
VERSIONS = ["v1", "v2", "v10", "v02"]
MODELS = ["m", "m-2"]

references = st.builds("{}@{}".format, st.sampled_from(MODELS), st.sampled_from(VERSIONS))
units = st.sampled_from([*CONTEXT_FIELDS, "user_id", "user_id"])


@st.composite
def conditions(draw: st.DrawFn, depth: int = 0) -> dict[str, Any]:
    fields = draw(st.lists(st.sampled_from(CONTEXT_FIELDS), unique=True, max_size=2))
    when: dict[str, Any] = {
        field: draw(st.lists(st.sampled_from(VALUES[field]), unique=True, min_size=1, max_size=2)) for field in fields
    }
    if not when or (depth < 3 and draw(st.integers(0, 3)) == 0):
        when["not"] = draw(conditions(depth + 1)) if depth < 3 else {"device": ["a"]}
    return when


@st.composite
def weights(draw: st.DrawFn, names: st.SearchStrategy[str]) -> dict[str, int]:
    chosen = draw(st.lists(names, unique=True, min_size=1, max_size=4))
    cuts = sorted(draw(st.lists(st.integers(0, 100), min_size=len(chosen) - 1, max_size=len(chosen) - 1)))
    return {name: high - low for name, low, high in zip(chosen, [0, *cuts], [*cuts, 100], strict=True)}


@st.composite
def rules(draw: st.DrawFn, name: str) -> dict[str, Any]:
    rule: dict[str, Any] = {"name": name}
    if draw(st.booleans()):
        rule["when"] = draw(conditions())
    match draw(st.sampled_from(["use", "split", "experiment"])):
        case "use":
            rule["use"] = draw(references)
        case "split":
            rule["split"] = {"unit": draw(units), "weights": draw(weights(references))}
        case _:
            cells = draw(weights(st.sampled_from(["1", "2", "10", "02", "control"])))
            rule["experiment"] = {
                "id": draw(st.sampled_from([7, "7", 12345, "exp-1"])),
                "unit": draw(units),
                "cells": {cell: {"weight": weight, "use": draw(references)} for cell, weight in cells.items()},
            }
    return rule


@st.composite
def tables(draw: st.DrawFn) -> dict[str, Any]:
    use_cases = {}
    for name in draw(st.lists(st.sampled_from(USE_CASES), unique=True, min_size=1)):
        use_cases[name] = {
            "callers": draw(st.sampled_from([["homepage"], ["search", "homepage"]])),
            "api": "ranking.v1",
            "timeout": "250ms",
            "default": draw(references),
            "rules": [draw(rules(f"rule-{number}")) for number in range(draw(st.integers(0, 4)))],
        }
    versions = {version: {"cluster": f"c-{version}"} for version in VERSIONS}
    clusters = {f"c-{version}": {"replicas": 1} for version in VERSIONS}
    return {"use_cases": use_cases, "models": {model: {"versions": versions} for model in MODELS}, "clusters": clusters}


def requests(seed: int) -> list[tuple[str, dict[str, str]]]:
    rng = random.Random(seed)  # noqa: S311 (test data)
    made = []
    for number in range(REQUESTS_PER_TABLE):
        context = {field: rng.choice([*VALUES[field], ""]) for field in CONTEXT_FIELDS if rng.random() < 0.8}
        if rng.random() < 0.9:
            context["caller"] = "homepage"
        if rng.random() < 0.7:
            context["user_id"] = f"user-{seed}-{number}"
        made.append((rng.choice([*USE_CASES, *USE_CASES, "Unknown"]), context))
    return made


def compiled(router: Router, table: RouteTable, use_case: str, context: dict[str, str]) -> Expected:
    try:
        choice = router.resolve(use_case, context)
    except UnknownUseCaseError:
        return Expected("NOT_FOUND")
    except CallerNotAllowedError:
        return Expected("PERMISSION_DENIED")
    cluster = table.versions[choice.routing_key].cluster
    return Expected("OK", choice.model, choice.version, cluster)


def test_both_interpreters_decide_alike() -> None:
    compared = 0
    drawn = 0

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)
    @given(tables(), st.integers(0, 1 << 32))
    def agree(document: dict[str, Any], seed: int) -> None:
        nonlocal compared, drawn
        table = RouteTable.from_document(document)
        router = Router.of_document(table.document, revision=1)
        for use_case, context in requests(seed):
            answer = compiled(router, table, use_case, context)
            assert decide(document, use_case, context) == answer
            compared += 1
            drawn += answer.status == "OK" and router.resolve(use_case, context).bucket is not None

    agree()
    assert compared >= PAIRS
    assert drawn >= PAIRS / 20  # else the hash would hardly have been compared


def test_both_interpreters_put_the_edges_of_shares_alike() -> None:
    salt = split_salt("Rows", "canary")
    split = {"unit": "user_id", "weights": {"m@v1": 95, "m@v2": 0, "m@v10": 5}}
    use_case = {"callers": ["homepage"], "api": "ranking.v1", "timeout": "1s", "default": "m@v2"}
    document = {
        "use_cases": {"Rows": {**use_case, "rules": [{"name": "canary", "split": split}]}},
        "models": {"m": {"versions": {version: {"cluster": "c"} for version in VERSIONS}}},
        "clusters": {"c": {"replicas": 1}},
    }
    router = Router.of_document(document)
    edges = {0: "v1", 1: "v1", 9_498: "v1", 9_499: "v1", 9_500: "v10", 9_501: "v10", 9_999: "v10"}
    hashed = salted(salt)
    for at, version in edges.items():
        user = next(user for user in map("u{}".format, count()) if bucket_of(hashed, user) == at)
        context = {"caller": "homepage", "user_id": user}
        assert (version, at) == (router.resolve("Rows", context).version, router.resolve("Rows", context).bucket)
        assert version == decide(document, "Rows", context).version


def test_both_interpreters_hold_an_empty_value_for_a_missing_one_even_if_a_list_has_it() -> None:
    # The schema refuses such a list; a document that never passed it must not set the two at odds.
    rule = {"name": "r", "when": {"device": ["", "tv"]}, "use": "m@v2"}
    use_case = {"callers": ["homepage"], "api": "ranking.v1", "timeout": "1s", "default": "m@v1", "rules": [rule]}
    models = {"m": {"versions": {version: {"cluster": "c"} for version in VERSIONS}}}
    document = {"use_cases": {"Rows": use_case}, "models": models, "clusters": {}}
    router = Router.of_document(document)
    for context, version in (({}, "v1"), ({"device": ""}, "v1"), ({"device": "tv"}, "v2")):
        asked = {"caller": "homepage", **context}
        assert [version, version] == [router.resolve("Rows", asked).version, decide(document, "Rows", asked).version]


@settings(max_examples=60, deadline=None)
@given(tables(), st.integers(0, 1 << 32))
def test_a_decision_depends_on_nothing_but_the_fields_that_are_said_to_be_read(
    document: dict[str, Any], seed: int
) -> None:
    router = Router.of_document(document, revision=1)
    for use_case, context in requests(seed)[:40]:
        wanted = decide(document, use_case, context)
        only_read = {field: context[field] for field in fields_read(document, use_case) if field in context}
        assert wanted == decide(document, use_case, only_read)
        if wanted.status == "OK":
            choice = router.resolve(use_case, context)
            leased = {field: value for field, value in context.items() if field in (*choice.reads, "caller")}
            assert choice == router.resolve(use_case, leased)


@settings(max_examples=60, deadline=None)
@given(tables(), tables(), st.integers(0, 1 << 32))
def test_a_router_updated_by_changes_equals_one_made_anew(
    before: dict[str, Any], after: dict[str, Any], seed: int
) -> None:
    anew = Router.of_document(after, revision=2)
    old, new = before["use_cases"], after["use_cases"]
    updated = Router.of_document(before, revision=1).updated(
        revision=2,
        use_cases={name: use_case for name, use_case in new.items() if use_case != old.get(name)},
        removed_use_cases=old.keys() - new.keys(),
    )
    table = RouteTable.from_document(after)
    for use_case, context in requests(seed)[:40]:
        assert compiled(anew, table, use_case, context) == compiled(updated, table, use_case, context)
