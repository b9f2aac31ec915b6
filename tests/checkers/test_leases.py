"""Callers ask their resolver as their topology does: each time, only without a lease, or never."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from lab.checkers import Abilities, FaultWindow, RevisionInForce
from lab.checkers.kinds import leases
from lab.history.questions import Question, Questions
from tests.checkers.builders import START_NS, arrivals_of, make_evidence, make_record, make_table

if TYPE_CHECKING:
    from lab.checkers import Verdict

OWN, MS = "homepage-resolver", 1_000_000
EVERY_NS = 50 * MS
# One user, 60 requests, 3 s.
RECORDS = [
    make_record(number, user_id="u0", sent_ns=START_NS + number * EVERY_NS, done_ns=START_NS + number * EVERY_NS + MS)
    for number in range(60)
]
LEASED = Abilities(asks=("resolver",), leases=True, lease_s=1.0, stale_s=2.0)
UNLEASED, NEVER = replace(LEASED, leases=False), Abilities()
FIRST_OF_EACH_SECOND = (0, 20, 40)
ASKED = [Question(RECORDS[number].request_id, OWN, RECORDS[number].sent_ns) for number in FIRST_OF_EACH_SECOND]


def judge(
    asking: Iterable[int], can: Abilities = LEASED, resolver: str = OWN, since: int | None = 0, **changes: Any
) -> Verdict | None:
    """The verdict where these requests asked this resolver, which knows all since then."""
    asked = [Question(RECORDS[number].request_id, resolver, RECORDS[number].sent_ns) for number in asking]
    units = {"resolver": [OWN]} if can.asks else {}
    evidence = make_evidence(RECORDS, abilities=can, path_units=units, questions=Questions(asked, {OWN: since}))
    return leases.check(replace(evidence, **changes))


def outcome(verdict: Verdict | None) -> str:
    return verdict.outcome if verdict else "nothing"


@pytest.mark.parametrize(
    ("can", "asking", "expected"),
    [
        (LEASED, FIRST_OF_EACH_SECOND, "valid"),
        (LEASED, range(60), "invalid"),  # it asks each time, as another topology does
        (LEASED, range(0, 60, 2), "invalid"),
        (LEASED, range(0, 60, 6), "valid"),
        (LEASED, (), "invalid"),  # it decides by itself
        (LEASED, (0,), "nothing"),  # 3 s: a lease may be used for 2 s, and 2 s more until the caller has noticed
        (UNLEASED, range(60), "valid"),
        (UNLEASED, range(59), "invalid"),
        (UNLEASED, FIRST_OF_EACH_SECOND, "invalid"),
        (NEVER, (), "valid"),
        (NEVER, (7,), "invalid"),
    ],
)
def test_each_asks_as_often_as_its_topology_does(can: Abilities, asking: Iterable[int], expected: str) -> None:
    assert outcome(judge(asking, can)) == expected


def test_another_callers_resolver_is_a_violation() -> None:
    verdict = judge([0], resolver="search-resolver")
    assert verdict
    assert [each.message for each in verdict.violations] == [
        "request #0 (r0) asked search-resolver, which its topology does not ask"
    ]


def test_a_question_without_an_id_is_of_no_request_that_was_never_sent() -> None:
    unsent = replace(RECORDS[-1], request_id="", status="UNSENT", sent_ns=0)
    questions = Questions([Question("", "search-resolver", START_NS), *ASKED], {OWN: 0})
    evidence = make_evidence([*RECORDS, unsent], abilities=LEASED, path_units={"resolver": [OWN]}, questions=questions)

    assert outcome(leases.check(evidence)) == "valid"


def test_one_decision_may_come_from_a_request_without_a_record() -> None:
    asked = [Question("warm-up-0", OWN, 0)]
    assert outcome(judge((), questions=Questions(asked, {OWN: 0}))) == "nothing"
    users = [make_record(number, user_id=f"u{number % 2}") for number in range(60)]
    table = make_table()
    assert (
        outcome(
            judge((), questions=Questions(asked, {OWN: 0}), records=users, revisions=[RevisionInForce(1, table, 0)])
        )
        == "invalid"
    )


def test_decisions_of_other_users_are_other_leases() -> None:
    assert outcome(judge(range(60), records=list(map(make_record, range(60))))) == "nothing"


def test_a_tear_or_a_fault_may_end_a_lease() -> None:
    torn = [each._replace(status="FAILED_PRECONDITION") for each in arrivals_of(RECORDS)]
    assert outcome(judge(range(60), arrivals=torn)) == "nothing"
    fault = FaultWindow("resolver paused", OWN, 0, None)
    assert outcome(judge(range(60), fault_windows=[fault])) == "nothing"


def test_a_resolver_that_does_not_know_is_no_pass() -> None:
    assert outcome(judge(FIRST_OF_EACH_SECOND, since=None)) == "unknown"
    assert outcome(judge(FIRST_OF_EACH_SECOND, since=RECORDS[5].sent_ns)) == "unknown"
    assert outcome(judge(range(60), UNLEASED, since=RECORDS[5].sent_ns)) == "valid"
    assert outcome(judge(range(5, 60), UNLEASED, since=RECORDS[5].sent_ns)) == "valid"
    assert outcome(judge(range(6, 60), UNLEASED, since=RECORDS[5].sent_ns)) == "invalid"
    assert outcome(judge(range(60), UNLEASED, since=RECORDS[-1].sent_ns + 1)) == "unknown"
    fault = FaultWindow("resolver killed", OWN, RECORDS[5].sent_ns, None, kills=True)
    assert outcome(judge(FIRST_OF_EACH_SECOND, since=RECORDS[5].sent_ns, fault_windows=[fault])) == "nothing"
    cut_off = replace(fault, target="homepage")
    assert outcome(judge((), since=None, fault_windows=[cut_off], caller="homepage")) == "nothing"


def test_runs_without_this_evidence_are_not_judged() -> None:
    assert judge(range(60), questions=None) is None
    assert judge(range(60), Abilities(follows_rules=False)) is None
