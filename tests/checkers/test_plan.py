"""The plan of the driver is what the options and the words of the command ask for."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest

from lab.checkers import Evidence
from lab.checkers.kinds import plan
from lab.checkers.revision_timeline import RevisionInForce
from tests.checkers.builders import make_evidence, make_record, make_table
from tests.checkers.whole_run import ASKED, PLANNED

EVIDENCE = make_evidence([make_record()], table=make_table(), asked_for=ASKED, plan_document=PLANNED)


def messages(evidence: Evidence) -> list[str]:
    verdict = plan.check(evidence)
    assert verdict is not None
    assert (verdict.outcome == "invalid") == bool(verdict.violations)
    return [each.message for each in verdict.violations]


def test_a_plan_as_it_was_asked_for_is_valid() -> None:
    assert messages(EVIDENCE) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"arrivals": {**PLANNED["arrivals"], "rate": 25.0}}, "rate of arrivals: 50.0 was asked for, and 25.0"),
        ({"arrivals": {**PLANNED["arrivals"], "seed": 1}}, "seed of arrivals: 0 was asked for, and 1"),
        ({"arrivals": {**PLANNED["arrivals"], "kind": "constant"}}, "arrivals: 'poisson' was asked for"),
        ({"users": 1}, "users: 1000 was asked for, and 1 was planned"),
        ({"seed": 3}, "seed: 0 was asked for, and 3 was planned"),
        ({"streams": 0}, "streams: 10 was asked for, and 0 was planned"),
        ({"contexts": {}}, "contexts: {'device': ['tv', 'phone']} was asked for, and {} was planned"),
        ({"edge_every": 0}, "edge_every: 10 was asked for, and 0 was planned"),
        ({"edge_cases": []}, "edge cases were asked for, the table has some, and none was planned"),
        ({"use_cases": []}, "use_cases: ['Rows'] was asked for, and [] was planned"),
        ({"caller": "search"}, "caller: 'homepage' was asked for, and 'search' was planned"),
    ],
)
def test_a_plan_that_is_not_what_was_asked_for_is_wrong(changes: dict[str, Any], said: str) -> None:
    [message] = messages(replace(EVIDENCE, plan_document={**PLANNED, **changes}))

    assert message.startswith(said)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["load", "--rate", "100"], ["rate: the command says 100, and 50.0 was taken"]),
        (["load", "--users=7"], ["users: the command says 7, and 1000 was taken"]),
        (["load", "--streams", "0", "--seed=2"], ["seed: the command", "streams: the command"]),
        (["load", "--rate", "100", "--find-knee"], []),
        (["load", "--seed", "2", "--caller", "all"], []),
        (["load", "--rate", "20", "--rate", "50"], []),
        (["roll", "--rate", "100"], []),
        ([], []),
    ],
)
def test_the_options_are_what_the_command_says(words: list[str], said: list[str]) -> None:
    found = messages(replace(EVIDENCE, asked_for={**ASKED, "words": words}))

    assert [each[: len(begin)] for each, begin in zip(sorted(found), said, strict=True)] == said


@pytest.mark.parametrize(("name", "value"), [("users", 5), ("streams", 0), ("edge_every", 0), ("tear_every", 9)])
def test_what_no_word_gives_has_its_default(name: str, value: int) -> None:
    asked, planned = copy.deepcopy(ASKED), {**PLANNED, name: value}
    asked["options"][name] = value

    [message] = messages(replace(EVIDENCE, asked_for=asked, plan_document=planned))
    assert message.startswith(f"{name}: the command says ")


def test_a_run_from_before_has_nothing_to_compare_with() -> None:
    assert plan.check(replace(EVIDENCE, asked_for=None)) is None


@pytest.mark.parametrize(
    ("began_ns", "said"),
    [(15, []), (50, []), (5, ["use_cases: ['Rows'] was asked for, and ['Rows', 'UpNext'] was planned"])],
    ids=["during the publish", "after it", "before it"],
)
def test_the_table_of_a_plan_is_the_one_in_force_when_the_run_began(began_ns: int, said: list[str]) -> None:
    table = make_table()
    added = {**table, "use_cases": {**table["use_cases"], "UpNext": {**table["use_cases"]["Rows"], "rules": []}}}
    revisions = [RevisionInForce(1, table, 0, 30, 3), RevisionInForce(2, added, 10, None, 20)]
    planned = {**PLANNED, "use_cases": [*PLANNED["use_cases"], {"name": "UpNext", "api": "ranking.v1"}]}
    evidence = replace(EVIDENCE, revisions=revisions, window_ns=(began_ns, 90), plan_document=planned)

    assert messages(evidence) == said
