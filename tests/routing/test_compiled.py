import copy
import gc
import subprocess
import sys
from typing import Any

import pytest

from lab.errors import CallerNotAllowedError, NoDecisionError, RouteTableError, UnknownUseCaseError
from lab.routing.compiled import Choice, Router, Version
from lab.routing.document import RouteTable

CW = "ContinueWatchingRanking"
HOMEPAGE = {"caller": "homepage"}
CELLS = {"1": {"weight": 100, "use": "cw-ranker@v1", "mirror": 1}}
MIRRORED = {"id": 1, "unit": "user_id", "cells": CELLS}
TV_US = {**HOMEPAGE, "device": "tv", "country": "US", "user_id": "u1"}


def rule(**parts: Any) -> dict[str, Any]:
    """A change to a use case: one rule."""
    return {"rules": [{"name": "r", **parts}]}


def test_a_choice_carries_all_that_a_decision_needs(sample_router: Router) -> None:
    expected = Choice(
        model="cw-ranker",
        version="v2",
        routing_key="cw-ranker.v2",
        parameters={"diversity": 0.2, "exploring": True, "label": "x"},
        rule="tv-north-america",
        bucket=None,
        share="",
        reads=("country", "device", "override", "segment", "user_id"),
        timeout_s=0.25,
        api="ranking.v1",
        revision=7,
    )
    assert sample_router.resolve(CW, TV_US) == expected
    fraud = sample_router.resolve("FraudDetection", {"caller": "payments"})
    assert (
        fraud.routing_key,
        fraud.rule,
        fraud.reads,
        fraud.timeout_s,
        fraud.parameters,
    ) == ("fraud.v1", "default", ("override",), 2.0, {})


@pytest.mark.parametrize(
    ("context", "rule"),
    [
        ({}, "default"),
        ({"user_id": ""}, "default"),
        ({"user_id": "u1"}, "canary"),
        ({"device": "tv", "country": "US"}, "tv-north-america"),
        ({"device": "tv", "country": "US", "segment": ""}, "tv-north-america"),
        ({"device": "tv", "country": "US", "segment": "kids"}, "default"),
        ({"device": "TV", "country": "US"}, "default"),
        ({"device": "tv", "country": "US "}, "default"),
        ({"device": "tv"}, "default"),
        ({"device": "tv", "country": "NO", "user_id": "u1"}, "ab-12345"),
        ({"device": "tv", "country": "NO"}, "default"),
    ],
)
def test_the_first_rule_that_matches_decides(sample_router: Router, context: dict[str, str], rule: str) -> None:
    assert sample_router.resolve(CW, HOMEPAGE | context).rule == rule


def test_a_drawn_choice_says_its_bucket(sample_router: Router) -> None:
    choice = sample_router.resolve(CW, {**HOMEPAGE, "country": "NO", "user_id": "u1"})
    assert (choice.rule, choice.bucket, choice.routing_key) == ("ab-12345", 1081, "cw-ranker.v1")


def test_an_unknown_use_case_is_named(sample_router: Router) -> None:
    with pytest.raises(UnknownUseCaseError, match=r"^use case 'Nope' is not in the route table \(revision 7\)$"):
        sample_router.resolve("Nope", TV_US)
    with pytest.raises(NoDecisionError) as caught:
        sample_router.resolve("N\n" * 5000, TV_US)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("context", [{}, {"caller": ""}, {"caller": "search"}])
def test_a_refused_caller_reads_which_callers_may(sample_router: Router, context: dict[str, str]) -> None:
    message = rf"^caller '{context.get('caller', '')}' may not ask for use case '{CW}'; these may: homepage, recomm"
    with pytest.raises(CallerNotAllowedError, match=message):
        sample_router.resolve(CW, context)


def test_an_empty_router_knows_no_use_case() -> None:
    with pytest.raises(UnknownUseCaseError):
        Router.empty().resolve(CW, TV_US)
    assert Router.empty().revision == 0


class TestUpdates:
    def test_an_update_leaves_the_router_before_it_alone(self, sample_router: Router, sample_table: RouteTable) -> None:
        changed = copy.deepcopy(sample_table.document["use_cases"][CW])
        changed["rules"] = []
        after = sample_router.updated(revision=8, use_cases={CW: changed})
        assert (after.resolve(CW, TV_US).rule, after.resolve(CW, TV_US).revision) == ("default", 8)
        assert (
            sample_router.resolve(CW, TV_US).rule,
            sample_router.resolve(CW, TV_US).revision,
        ) == ("tv-north-america", 7)

    def test_unchanged_use_cases_are_shared(self, sample_router: Router, sample_table: RouteTable) -> None:
        after = sample_router.updated(revision=8, use_cases={CW: sample_table.document["use_cases"][CW]})
        assert sample_router.use_cases["FraudDetection"] is after.use_cases["FraudDetection"]
        assert sample_router.use_cases[CW] is not after.use_cases[CW]

    def test_a_changed_version_reaches_use_cases_that_did_not_change(self, sample_router: Router) -> None:
        version = Version("cw-ranker", "v2", {"diversity": 0.9})
        after = sample_router.updated(revision=8, versions={version.routing_key: version})
        assert after.resolve(CW, TV_US).parameters == {"diversity": 0.9}
        assert sample_router.use_cases[CW] is after.use_cases[CW]

    def test_removing_takes_away(self, sample_router: Router) -> None:
        after = sample_router.updated(revision=8, removed_use_cases=[CW, "Nope"], removed_versions=["cw-ranker.v1"])
        assert list(after.use_cases) == ["FraudDetection"]
        assert list(after.versions) == ["cw-ranker.v2", "fraud.v1"]

    def test_a_full_update_forgets_what_it_does_not_name(self, sample_router: Router) -> None:
        after = sample_router.updated(revision=8, full=True)
        assert (len(after.use_cases), len(after.versions)) == (0, 0)

    def test_the_collector_is_back_at_work_even_after_a_failure(self, sample_router: Router) -> None:
        assert gc.isenabled()
        sample_router.updated(revision=8)
        assert gc.isenabled()
        with pytest.raises(RouteTableError):
            sample_router.updated(revision=8, use_cases={CW: {}})
        assert gc.isenabled()

    def test_a_version_that_goes_and_comes_in_one_update_is_there(self, sample_router: Router) -> None:
        version = Version("cw-ranker", "v2", {"diversity": 0.9})
        after = sample_router.updated(
            revision=8, versions={version.routing_key: version}, removed_versions=[version.routing_key]
        )
        assert after.resolve(CW, TV_US).parameters == {"diversity": 0.9}

    def test_a_version_in_use_cannot_be_removed(self, sample_router: Router) -> None:
        with pytest.raises(RouteTableError, match=rf"use_cases\.{CW}: refers to cw-ranker\.v2, which no model version"):
            sample_router.updated(revision=8, removed_versions=["cw-ranker.v2"])

    def test_a_use_case_cannot_come_before_its_versions(self, sample_table: RouteTable) -> None:
        with pytest.raises(RouteTableError, match=r"refers to cw-ranker\.v1, cw-ranker\.v2"):
            Router.empty().updated(revision=1, full=True, use_cases=sample_table.document["use_cases"])

    @pytest.mark.parametrize(
        ("change", "problem"),
        [
            ({"mirror": {"use": "cw-ranker@v2"}}, "it has a field 'mirror' that this version does not"),
            ({"shadow": {"use": "cw-ranker@v2", "percent": 1, "by": 2}}, "its shadow has a field 'by' that this"),
            ({"shadow": {"use": "cw-ranker@v2"}}, "'percent' is missing"),
            (rule(use="cw-ranker@v1", mirror=1), "rule 'r' has a field 'mirror' that"),
            (
                rule(experiment=MIRRORED),
                "cell '1' of rule 'r' has a field 'mirror' that",
            ),
            (rule(split={"unit": "user_id", "weights": {"m@v1": 9}}), "add up to 100"),
            (rule(), "'experiment' is missing"),
            ({"rules": 7}, "cannot be compiled"),
            ({"timeout": "soon"}, "cannot be compiled"),
        ],
    )
    def test_a_use_case_with_unknown_parts_is_refused(
        self, sample_router: Router, sample_table: RouteTable, change: dict[str, Any], problem: str
    ) -> None:
        with pytest.raises(RouteTableError, match=rf"use_cases\.{CW}: cannot be compiled: .*") as caught:
            sample_router.updated(revision=8, use_cases={CW: sample_table.document["use_cases"][CW] | change})
        assert problem in str(caught.value)


def test_services_load_neither_pydantic_nor_yaml() -> None:
    program = (
        "import sys, lab.routing.compiled; print({'pydantic', 'yaml', 'numpy', 'pyarrow', 'grpc'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
