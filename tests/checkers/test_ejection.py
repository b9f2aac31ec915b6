"""A replica that failed in a row must be ejected, and further attempts must go to another one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from lab.checkers import Abilities, FaultWindow, Registration, Registrations
from lab.checkers.kinds import ejection
from tests.checkers.attempts import MS, arrival, asked
from tests.checkers.builders import make_evidence, make_table

if TYPE_CHECKING:
    from lab.history.arrivals import Arrival

CAN = Abilities(ejects=True, between=("sidecar",))
OUTLIERS = {"outliers": {"errors": 3, "eject": "2s"}}
BOTH = Registrations([Registration("v1", name, 0, None) for name in ("v1-a", "v1-b")])
EVERY_MS = 100


def judge(turns: str, use_case: dict[str, Any] | None = None, others: Sequence[Arrival] = (), **changes: Any) -> str:
    """The outcome for requests every 100 ms, each at replica a or b; in capitals, it fails there."""
    records, arrivals = [], []
    for number, turn in enumerate(turns):
        sent_ns = asked(0).sent_ns + number * EVERY_MS * MS
        status = "OK" if turn.islower() else "INTERNAL"
        record = replace(asked(number, status=status), sent_ns=sent_ns, done_ns=sent_ns + 2 * MS)
        records.append(record)
        arrivals.append(arrival(record, replica=f"v1-{turn.lower()}", status=status))
    table = make_table({"rows@v1": 100}, **(OUTLIERS if use_case is None else use_case))
    table["clusters"]["v1"] = {"replicas": 2}
    evidence = make_evidence(records, table=table, **{"abilities": CAN, "arrivals": [*arrivals, *others], **changes})
    verdict = ejection.check(evidence)
    return verdict.outcome if verdict else "nothing"


def test_a_replica_that_keeps_failing_must_be_left_alone() -> None:
    assert judge("bA" * 3 + "b" * 20) == "valid"
    assert judge("bA" * 10) == "invalid"
    assert judge("bA" * 3 + "b" * 6 + "A" * 6) == "invalid", "too soon again"
    assert judge("bA" * 3 + "b" * 25 + "A" * 3) == "valid", "its time had passed"


def test_failures_that_are_not_in_a_row_eject_nobody() -> None:
    assert judge("bAbAba" * 5) == "nothing"
    assert judge("ab" * 20) == "nothing"


def test_what_arrives_just_after_the_last_failure_passes() -> None:
    assert judge("A" * 8 + "b" * 20) == "valid"
    assert judge("A" * 9 + "b" * 20) == "invalid"


def test_nothing_is_due_while_another_replica_fails_too() -> None:
    assert judge("BA" * 10) == "nothing"


def test_of_one_replica_nothing_may_be_ejected() -> None:
    assert judge("A" * 20, {"outliers": {"errors": 3, "eject": "2s", "at_most": 40}}) == "nothing"


def test_each_of_several_limiters_counts_for_itself() -> None:
    two = replace(CAN, limiters=2)
    assert judge("A" * 17, abilities=two) == "valid"
    assert judge("A" * 22, {"outliers": {"errors": 3, "eject": "9s"}}, abilities=two) == "invalid"


def test_an_answer_to_somebody_else_ends_a_row_and_their_failure_does_not_make_one() -> None:
    after_five = asked(0).sent_ns + 4 * EVERY_MS * MS + 50 * MS
    answered = arrival(asked(99), request_id="theirs", arrived_ns=after_five, ended_ns=after_five)
    assert judge("A" * 10 + "b" * 20) == "invalid"
    assert judge("A" * 10 + "b" * 20, others=[answered]) == "valid"
    failed = [answered._replace(status="INTERNAL", request_id=f"theirs{number}") for number in range(9)]
    assert judge("bAbAb" + "a" * 5, others=failed) == "nothing"


def test_a_proxy_that_was_hit_counts_anew() -> None:
    hit = FaultWindow("sidecar killed", "homepage-sidecar", 0, 1, role="sidecar")
    assert judge("A" * 20, fault_windows=[hit]) == "nothing"
    assert judge("A" * 20, abilities=Abilities()) == "nothing"
    assert judge("A" * 20, arrivals=None) == "nothing"


def retried(second: str, number: int = 12, **changes: Any) -> str:
    """The outcome for requests that failed at the first replica, and were sent again to this one."""
    records = [asked(each) for each in range(number)]
    both = (("v1-a", "INTERNAL", 1), (second, "OK", 2))
    arrivals = [
        arrival(each, after_ms, replica=replica, status=status)
        for each in records
        for replica, status, after_ms in both
    ]
    table = make_table({"rows@v1": 100}, **changes.pop("use_case", {"retries": {"on": ["internal"]}}))
    changes = {"abilities": CAN, "arrivals": arrivals, "registrations": BOTH, **changes}
    verdict = ejection.check(make_evidence(records, table=table, **changes))
    return verdict.outcome if verdict else "nothing"


def test_a_further_attempt_must_go_to_another_replica() -> None:
    assert retried("v1-b") == "valid"
    assert retried("v1-a") == "invalid"
    assert retried("v1-a", 9) == "valid", "too few to say"


@pytest.mark.parametrize(
    "changes",
    [
        {"registrations": Registrations([BOTH.replicas[0]])},
        {"registrations": None},
        {"fault_windows": [FaultWindow("b killed", "v1-b", 0, None)]},
        {"abilities": Abilities()},
        {"use_case": {"retries": {"on": ["internal"]}, "health": {}}},
    ],
)
def test_it_may_go_there_again_if_no_other_can_take_it(changes: dict[str, Any]) -> None:
    assert retried("v1-a", **changes) == "nothing"


def test_a_slow_replica_can_take_it() -> None:
    slow = FaultWindow("b slow", "v1-b", 0, None, statuses=frozenset({"DEADLINE_EXCEEDED"}))
    assert retried("v1-a", fault_windows=[slow]) == "invalid"
