"""Shadow, fallback, override and config, as the compiled router and the plain interpreter carry them out."""

from typing import Any

import pytest

from lab.checkers.plain import Expected, decide, fallbacks, fields_read, parameters_of, shadow_of
from lab.errors import CallerNotAllowedError, RouteTableError, UnknownVersionError
from lab.routing.buckets import is_shadowed
from lab.routing.compiled import Router, Shadow, Version
from lab.routing.document import Source, read_sources
from lab.routing.explanation import explain

HOMEPAGE = {"caller": "homepage", "user_id": "u1"}


TABLE = """
use_cases:
  CW:
    callers: [homepage, search]
    override: [homepage]
    api: ranking.v1
    timeout: 1s
    default: cw@v1
    rules:
      - {name: tv, when: {device: [tv]}, use: cw@v2, config: {beam: 9, tv: true}}
      - name: ab
        when: {country: [US]}
        config: {beam: 5, rows: 10}
        experiment:
          id: 7
          unit: user_id
          cells: {1: {weight: 50, use: cw@v2}, 2: {weight: 50, use: cw@v2, config: {rows: 20}}}
      - name: canary
        when: {country: [DE]}
        config: {beam: 6}
        split: {unit: user_id, weights: {cw@v1: 50, cw@v2: 50}}
    shadow: {use: cw@v3, percent: 10}
    fallback: [cw@v1, other@v1]
  Plain: {callers: [homepage, search], api: ranking.v1, timeout: 1s, default: cw@v1}
models:
  cw:
    versions:
      v1: {cluster: c}
      v2: {cluster: c, config: {beam: 4, nested: {a: 1}}}
      v3: {cluster: c, config: {beam: 3}}
  other: {versions: {v1: {cluster: c}}}
clusters:
  c: {replicas: 1}
"""


@pytest.fixture
def document() -> dict[str, Any]:
    return read_sources([Source("routes.yaml", TABLE)]).document


@pytest.fixture
def router(document: dict[str, Any]) -> Router:
    return Router.of_document(document, revision=7)


@pytest.mark.parametrize(
    ("context", "parameters"),
    [
        ({}, {}),
        ({"device": "tv"}, {"beam": 9, "tv": True, "nested": {"a": 1}}),
        ({"country": "US", "user_id": "u2"}, {"beam": 5, "rows": 10, "nested": {"a": 1}}),
        ({"country": "US", "user_id": "u1"}, {"beam": 5, "rows": 20, "nested": {"a": 1}}),
        ({"country": "DE", "user_id": "u0"}, {"beam": 6}),
        ({"country": "DE", "user_id": "u1"}, {"beam": 6, "nested": {"a": 1}}),
        ({"override": "cw@v2", "device": "tv"}, {"beam": 4, "nested": {"a": 1}}),
    ],
)
def test_a_rule_wins_over_the_version_and_a_cell_over_the_rule(
    document: dict[str, Any], router: Router, context: dict[str, str], parameters: dict[str, Any]
) -> None:
    asked = HOMEPAGE | context
    assert router.resolve("CW", asked).parameters == parameters
    assert parameters_of(document, "CW", asked) == parameters


def test_two_cells_of_one_version_have_two_shares(router: Router) -> None:
    shares = {router.resolve("CW", HOMEPAGE | {"country": "US", "user_id": f"u{n}"}).share for n in range(20)}
    assert shares == {"1", "2"}
    assert router.resolve("CW", HOMEPAGE).share == ""
    assert router.resolve("CW", HOMEPAGE | {"country": "DE"}).share == "cw@v2"


def test_a_version_that_changes_keeps_what_a_rule_adds(router: Router) -> None:
    after = router.updated(revision=8, versions={"cw.v2": Version("cw", "v2", {"beam": 1, "new": 2})})
    assert after.resolve("CW", HOMEPAGE | {"device": "tv"}).parameters == {"beam": 9, "tv": True, "new": 2}


def test_the_chosen_version_is_no_alternative_to_itself(document: dict[str, Any], router: Router) -> None:
    first = Version("cw", "v1", {})
    second = Version("other", "v1", {})
    assert router.resolve("CW", HOMEPAGE).alternatives == (second,)
    assert router.resolve("CW", HOMEPAGE | {"device": "tv"}).alternatives == (first, second)
    assert router.resolve("Plain", HOMEPAGE).alternatives == ()
    assert fallbacks(document, "CW", HOMEPAGE) == (Expected("OK", "other", "v1", "c"),)
    assert [each.model for each in fallbacks(document, "CW", HOMEPAGE | {"device": "tv"})] == ["cw", "other"]
    assert fallbacks(document, "CW", {"caller": "nobody"}) == ()
    assert fallbacks(document, "Plain", HOMEPAGE) == ()


def test_an_alternative_comes_with_its_own_parameters_only(document: dict[str, Any]) -> None:
    document["use_cases"]["CW"]["fallback"] = ["cw@v3"]
    [alternative] = Router.of_document(document).resolve("CW", HOMEPAGE | {"device": "tv"}).alternatives
    assert alternative.parameters == {"beam": 3}


def test_a_choice_says_who_gets_copies(document: dict[str, Any], router: Router) -> None:
    shadow = router.resolve("CW", HOMEPAGE).shadow
    assert shadow == Shadow("cw.v3", 10)
    ids = [f"r{number}" for number in range(2_000)]
    drawn = [request_id for request_id in ids if is_shadowed("CW", request_id, shadow.percent)]
    assert [request_id for request_id in ids if shadow_of(document, "CW", HOMEPAGE, request_id) == "cw.v3"] == drawn
    assert 100 < len(drawn) < 300
    assert router.resolve("Plain", HOMEPAGE).shadow is None
    assert {shadow_of(document, "Plain", HOMEPAGE, each) for each in ids} == {""}
    assert {shadow_of(document, "CW", {"caller": "nobody"}, each) for each in ids} == {""}


@pytest.mark.parametrize("percent", [0, 1, 100])
def test_a_larger_share_of_copies_contains_the_smaller(percent: int) -> None:
    ids = [f"r{number}" for number in range(2_000)]
    smaller = {each for each in ids if is_shadowed("CW", each, percent)}
    assert smaller <= {each for each in ids if is_shadowed("CW", each, min(percent + 1, 100))}
    assert len(smaller) == {0: 0, 100: 2_000}.get(percent, len(smaller))


class TestOverride:
    def test_it_wins_over_all_rules_and_stands_alone(self, document: dict[str, Any], router: Router) -> None:
        pinned = HOMEPAGE | {"device": "tv", "override": "cw@v3"}
        choice = router.resolve("CW", pinned)
        assert (choice.routing_key, choice.rule, choice.bucket, choice.share) == ("cw.v3", "override", None, "")
        assert (choice.alternatives, choice.shadow) == ((), None)
        assert decide(document, "CW", pinned) == Expected("OK", "cw", "v3", "c")
        assert fallbacks(document, "CW", pinned) == ()
        assert {shadow_of(document, "CW", pinned, f"r{number}") for number in range(100)} == {""}

    def test_an_empty_one_is_none(self, document: dict[str, Any], router: Router) -> None:
        asked = HOMEPAGE | {"device": "tv", "override": ""}
        assert router.resolve("CW", asked).rule == "tv"
        assert decide(document, "CW", asked).version == "v2"

    @pytest.mark.parametrize(("use_case", "caller"), [("CW", "search"), ("Plain", "homepage"), ("CW", "nobody")])
    def test_only_listed_callers_may(
        self, document: dict[str, Any], router: Router, use_case: str, caller: str
    ) -> None:
        asked = {"caller": caller, "override": "cw@v3"}
        with pytest.raises(CallerNotAllowedError):
            router.resolve(use_case, asked)
        assert decide(document, use_case, asked) == Expected("PERMISSION_DENIED")

    def test_a_refused_caller_reads_who_may_override(self, router: Router) -> None:
        message = r"^caller 'search' may not override the rules of use case 'CW'; these may: homepage$"
        with pytest.raises(CallerNotAllowedError, match=message):
            router.resolve("CW", {"caller": "search", "override": "cw@v3"})
        with pytest.raises(CallerNotAllowedError, match=r"of use case 'Plain'; these may: none$"):
            router.resolve("Plain", {"caller": "search", "override": "cw@v3"})

    @pytest.mark.parametrize("version", ["cw@v9", "cw.v3", "cw", "@", "cw@v3@v3", "x@v1", "\n", "cw@", " cw@v3"])
    def test_a_version_that_is_not_there_is_not_found(
        self, document: dict[str, Any], router: Router, version: str
    ) -> None:
        asked = HOMEPAGE | {"override": version}
        with pytest.raises(UnknownVersionError, match=r"is not a model version of the route table \(revision 7\)"):
            router.resolve("CW", asked)
        assert decide(document, "CW", asked) == Expected("NOT_FOUND")

    def test_every_use_case_is_said_to_read_it(self, document: dict[str, Any], router: Router) -> None:
        # Else a lease of an unpinned request would answer a pinned one that is to be refused.
        for name in ("CW", "Plain"):
            assert "override" in router.resolve(name, HOMEPAGE).reads
            assert "override" in fields_read(document, name)


@pytest.mark.parametrize("change", [{"shadow": {"use": "gone@v1", "percent": 1}}, {"fallback": ["gone@v1"]}])
def test_a_use_case_cannot_come_before_the_versions_of_its_shadow_and_fallback(
    document: dict[str, Any], router: Router, change: dict[str, Any]
) -> None:
    with pytest.raises(RouteTableError, match=r"use_cases\.CW: refers to gone\.v1, which no model version has"):
        router.updated(revision=8, use_cases={"CW": document["use_cases"]["CW"] | change})


@pytest.mark.parametrize("key", ["cw.v3", "other.v1"])
def test_the_version_of_a_shadow_or_fallback_cannot_be_removed(router: Router, key: str) -> None:
    with pytest.raises(RouteTableError, match="which no model version has"):
        router.updated(revision=8, removed_versions=[key])


class TestExplanation:
    def test_it_names_copies_and_alternatives(self, router: Router) -> None:
        assert explain(router, "CW", HOMEPAGE | {"device": "tv"}).beyond == (
            "10 % of these requests, by request id, are copied to cw.v3",
            "if cw.v2 fails: cw.v1, then other.v1",
        )
        assert explain(router, "Plain", HOMEPAGE).beyond == ()

    def test_it_says_where_each_parameter_comes_from(self, router: Router) -> None:
        found = explain(router, "CW", HOMEPAGE | {"country": "US", "user_id": "u1"}).parameters
        assert found == {"beam": "rule ab", "nested": "cw@v2", "rows": "rule ab"}

    def test_of_a_pinned_request_no_rule_was_tried(self, router: Router) -> None:
        explanation = explain(router, "CW", HOMEPAGE | {"device": "tv", "override": "cw@v2"})
        assert {(each.matched, each.reason) for each in explanation.rules} == {
            (False, "not tried, as the request is pinned to cw@v2")
        }
        assert explanation.parameters == {"beam": "cw@v2", "nested": "cw@v2"}
        assert explanation.beyond == ()
