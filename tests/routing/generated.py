"""Route tables and requests at random, over the whole language, and what each interpreter makes of them."""

import random
from collections.abc import Mapping
from typing import Any, NamedTuple

from hypothesis import strategies as st

from lab.checkers.plain import Expected, decide, fallbacks, parameters_of, shadow_of
from lab.errors import CallerNotAllowedError, UnknownUseCaseError, UnknownVersionError
from lab.routing.buckets import is_shadowed
from lab.routing.compiled import Router
from lab.routing.schema import CONTEXT_FIELDS
from lab.routing.shards import clusters_of

REQUESTS_PER_TABLE = 200

# Few values each, so that conditions often hold; and most look alike, so that none passes for another: by case, blanks
# around, an accent, and the same accent as its own character.
VALUES = {field: ["a", "A", " a", "ä", "a\u0308", "b"] for field in CONTEXT_FIELDS}
USERS = [
    "user-{}",
    "User-{}",
    " user-{}",
    "user-{} ",
    "\tuser-{}",
    "üser-{}",
    "u\u0308ser-{}",
    "ÜSER-{}",
    "用户-{}",
    "ſer-{}",
]
VALUES |= {"caller": ["homepage", "search", "Homepage", "homepage "], "traffic_origin": ["real", "artificial"]}
USE_CASES = ["Rows", "Search", "UpNext"]
VERSIONS = ["v1", "v2", "v10", "v02"]
MODELS = ["m", "m-2"]
OVERRIDES = [f"{model}@{version}" for model in MODELS for version in VERSIONS]
WRONG_OVERRIDES = ["m@v9", "x@v1", "m.v1", "m", "@", "m@v1@v1", "m@"]

references = st.builds("{}@{}".format, st.sampled_from(MODELS), st.sampled_from(VERSIONS))
units = st.sampled_from([*CONTEXT_FIELDS, "user_id", "user_id"])
configs: st.SearchStrategy[dict[str, object]] = st.dictionaries(
    st.sampled_from(["beam", "rows", "nested"]),
    st.sampled_from([0, 1, True, None, 0.5, "x", [1, 2], {"a": 1}, {"b": {"c": []}}]),
    max_size=2,
)


@st.composite
def conditions(draw: st.DrawFn, depth: int = 0, fields: tuple[str, ...] = CONTEXT_FIELDS) -> dict[str, Any]:
    chosen = draw(st.lists(st.sampled_from(fields), unique=True, max_size=2))
    when: dict[str, Any] = {
        field: draw(st.lists(st.sampled_from(VALUES[field]), unique=True, min_size=1, max_size=2)) for field in chosen
    }
    if not when or (depth < 3 and draw(st.integers(0, 3)) == 0):
        when["not"] = draw(conditions(depth + 1, fields)) if depth < 3 else {"device": ["a"]}
    return when


@st.composite
def weights(draw: st.DrawFn, names: st.SearchStrategy[str]) -> dict[str, int]:
    chosen = draw(st.lists(names, unique=True, min_size=1, max_size=4))
    cuts = sorted(draw(st.lists(st.integers(0, 100), min_size=len(chosen) - 1, max_size=len(chosen) - 1)))
    return {name: high - low for name, low, high in zip(chosen, [0, *cuts], [*cuts, 100], strict=True)}


@st.composite
def cells(draw: st.DrawFn) -> dict[str, dict[str, Any]]:
    drawn = draw(weights(st.sampled_from(["1", "2", "10", "02", "control"])))
    return {name: draw(with_config({"weight": weight, "use": draw(references)})) for name, weight in drawn.items()}


@st.composite
def with_config(draw: st.DrawFn, part: dict[str, Any]) -> dict[str, Any]:
    return {**part, "config": draw(configs)} if draw(st.integers(0, 2)) == 0 else part


@st.composite
def rules(draw: st.DrawFn, name: str) -> dict[str, Any]:
    rule: dict[str, Any] = draw(with_config({"name": name}))
    if draw(st.booleans()):
        rule["when"] = draw(conditions())
    match draw(st.sampled_from(["use", "split", "experiment"])):
        case "use":
            rule["use"] = draw(references)
        case "split":
            rule["split"] = {"unit": draw(units), "weights": draw(weights(references))}
        case _:
            identity = draw(st.sampled_from([7, "7", 12345, "exp-1"]))
            rule["experiment"] = {"id": identity, "unit": draw(units), "cells": draw(cells())}
    return rule


@st.composite
def use_cases(draw: st.DrawFn) -> dict[str, Any]:
    use_case: dict[str, Any] = {
        "callers": draw(st.sampled_from([["homepage"], ["search", "homepage"]])),
        "api": "ranking.v1",
        "timeout": "250ms",
        "default": draw(references),
        "rules": [draw(rules(f"rule-{number}")) for number in range(draw(st.integers(0, 4)))],
    }
    if draw(st.booleans()):
        use_case["override"] = draw(st.sampled_from([["homepage"], ["search"], ["homepage", "search"]]))
    if draw(st.booleans()):
        use_case["shadow"] = {"use": draw(references), "percent": draw(st.integers(0, 100))}
    if draw(st.booleans()):
        use_case["fallback"] = draw(st.lists(references, unique=True, min_size=1, max_size=3))
    return use_case


@st.composite
def clusters(draw: st.DrawFn, name: str) -> str | dict[str, Any]:
    """One cluster, or shards of it by a hash of the user or by tenant."""
    kind, count = draw(st.sampled_from([*["one"] * 6, "hash", "tenants"])), draw(st.sampled_from([1, 2, 3, 7]))
    if kind == "one":
        return name
    shards = {"shards": [f"{name}-{number}" for number in range(count)]}
    if kind == "hash":
        return shards
    tenants = draw(st.lists(st.sampled_from(["a", "A", "b"]), unique=True, max_size=2))
    return {**shards, "tenants": {tenant: draw(st.integers(1, count)) for tenant in [*tenants, "default"]}}


@st.composite
def tables(draw: st.DrawFn) -> dict[str, Any]:
    """Tables of the right shape. What validation refuses besides (a rule that can never match) is compared as well."""
    names = draw(st.lists(st.sampled_from(USE_CASES), unique=True, min_size=1))
    versions = {version: draw(with_config({"cluster": draw(clusters(f"c-{version}"))})) for version in VERSIONS}
    return {
        "use_cases": {name: draw(use_cases()) for name in names},
        "models": {model: {"versions": versions} for model in MODELS},
        "clusters": {
            name: {"replicas": 1} for runs in versions.values() for name in clusters_of(runs["cluster"]).values()
        },
    }


class Request(NamedTuple):
    use_case: str
    context: dict[str, str]
    request_id: str


def requests(seed: int, count: int = REQUESTS_PER_TABLE) -> list[Request]:
    rng = random.Random(seed)  # noqa: S311 (test data)
    made = []
    for number in range(count):
        context = {field: rng.choice([*VALUES[field], ""]) for field in CONTEXT_FIELDS if rng.random() < 0.8}
        if rng.random() < 0.9:
            context["caller"] = "homepage"
        if rng.random() < 0.7:
            context["user_id"] = rng.choice(USERS).format(f"{seed}-{number}")
        if rng.random() < 0.15:
            context["override"] = rng.choice([*OVERRIDES, *WRONG_OVERRIDES, ""])
        made.append(Request(rng.choice([*USE_CASES, *USE_CASES, "Unknown"]), context, f"r-{seed}-{number}"))
    return made


class Outcome(NamedTuple):
    """All that an interpreter says of a request."""

    expected: Expected
    parameters: Mapping[str, Any] | None = None
    fallbacks: tuple[Expected, ...] = ()
    shadow: str = ""


def by_router(router: Router, document: Mapping[str, Any], request: Request) -> Outcome:
    def expected(model: str, version: str, key: str) -> Expected:
        cluster, shard = document["models"][model]["versions"][version]["cluster"], key.split(".")[2:]
        if shard:
            cluster = cluster["shards"][int(shard[0].removeprefix("s")) - 1]
        return Expected("OK", model, version, cluster, *shard)

    try:
        choice = router.resolve(request.use_case, request.context)
    except (UnknownUseCaseError, UnknownVersionError):
        return Outcome(Expected("NOT_FOUND"))
    except CallerNotAllowedError:
        return Outcome(Expected("PERMISSION_DENIED"))
    shadow = choice.shadow
    copied = shadow is not None and is_shadowed(request.use_case, request.request_id, shadow.percent)
    return Outcome(
        expected(choice.model, choice.version, choice.routing_key),
        choice.parameters,
        tuple(expected(each.model, each.version, each.routing_key) for each in choice.alternatives),
        shadow.routing_key if shadow is not None and copied else "",
    )


def by_plain(document: Mapping[str, Any], request: Request) -> Outcome:
    use_case, context, request_id = request
    expected = decide(document, use_case, context)
    return Outcome(
        expected,
        parameters_of(document, use_case, context) if expected.status == "OK" else None,
        fallbacks(document, use_case, context),
        shadow_of(document, use_case, context, request_id),
    )
