"""The compiled router and the plain interpreter, written from one description, decide alike."""

from collections import Counter
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lab.checkers.plain import Expected, decide, fallbacks, fields_read, parameters_of, shadow_of
from lab.routing.buckets import bucket_of, salted, split_salt
from lab.routing.compiled import Router
from tests.routing import fuzz
from tests.routing.generated import VERSIONS, Outcome, Request, by_plain, by_router, requests, tables

PAIRS = 20_000
EXAMPLES = 120
MORE = 3


def test_both_interpreters_decide_alike() -> None:
    seen: Counter[str] = Counter()

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)
    @given(tables(), st.integers(0, 1 << 32))
    def agree(document: dict[str, Any], seed: int) -> None:
        router = Router.of_document(document, revision=1)
        for request in requests(seed):
            outcome = by_router(router, document, request)
            assert by_plain(document, request) == outcome
            seen["pairs"] += 1
            seen[outcome.expected.status] += 1
            if outcome.expected.status == "OK":
                choice = router.resolve(request.use_case, request.context)
                seen["drawn"] += choice.bucket is not None
                seen["pinned"] += choice.rule == "override"
                seen["sharded"] += bool(outcome.expected.shard)
            seen["copied"] += bool(outcome.shadow)
            seen["with alternatives"] += bool(outcome.fallbacks)
            seen["with parameters"] += bool(outcome.parameters)

    agree()
    assert seen["pairs"] >= PAIRS
    # Else much of the language would hardly have been compared. What is drawn differs from run to run; what was drawn
    # too seldom is drawn for once more.
    common = dict.fromkeys(("drawn", "copied", "sharded", "with alternatives", "with parameters"), PAIRS / 20)
    rare = dict.fromkeys(("pinned", "NOT_FOUND", "PERMISSION_DENIED"), PAIRS / 200)
    for _ in range(MORE):
        if all(seen[part] >= least for part, least in (common | rare).items()):
            return
        agree()
    pytest.fail(f"the tables drawn say too little: {seen}")


def test_the_comparison_on_demand_compares_as_many_as_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    assert fuzz.main(["--pairs", "2000", "--workers", "1", "--seed", "1"]) == 0
    assert "2,000 pairs (table, request): both interpreters agree" in capsys.readouterr().out


@pytest.mark.parametrize(
    "mistake",
    [
        {"expected": Expected("OK", "m", "v1", "c-v1")},
        {"parameters": {}},
        {"fallbacks": ()},
        {"shadow": ""},
    ],
    ids=lambda mistake: str(*mistake),
)
def test_the_comparison_catches_a_mistake(monkeypatch: pytest.MonkeyPatch, mistake: dict[str, Any]) -> None:
    def mistaken(router: Router, document: dict[str, Any], request: Request) -> Outcome:
        outcome = by_router(router, document, request)
        return outcome._replace(**mistake) if outcome.expected.status == "OK" else outcome

    monkeypatch.setattr(fuzz, "by_router", mistaken)
    with pytest.raises(AssertionError):
        fuzz.compare((1, 20))


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
        assert decide(document, "Rows", context).version == version


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
    for use_case, context, request_id in requests(seed, 40):
        wanted = decide(document, use_case, context)
        only_read = {field: context[field] for field in fields_read(document, use_case) if field in context}
        assert decide(document, use_case, only_read) == wanted
        assert fallbacks(document, use_case, context) == fallbacks(document, use_case, only_read)
        assert shadow_of(document, use_case, context, request_id) == shadow_of(
            document, use_case, only_read, request_id
        )
        if wanted.status == "OK":
            assert parameters_of(document, use_case, context) == parameters_of(document, use_case, only_read)
            choice = router.resolve(use_case, context)
            leased = {field: value for field, value in context.items() if field in (*choice.reads, "caller")}
            assert router.resolve(use_case, leased) == choice


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
        versions=anew.versions,
    )
    for request in requests(seed, 40):
        assert by_router(anew, after, request) == by_router(updated, after, request)
