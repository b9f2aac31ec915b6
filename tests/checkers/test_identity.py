"""Replica, cluster and revision of an answer must have been registered and in force."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lab.checkers import Registration, Registrations, RevisionInForce, Verdict
from lab.checkers.kinds import identity
from tests.checkers.builders import START_NS, STEP_NS, make_evidence, make_record, two_versions

HALF_NS = START_NS + 5 * STEP_NS
ALWAYS = Registration("a", "a-0", 0, None)


def _judge(*registrations: Registration, gap_ns: tuple[int, int] | None = None, **changes: Any) -> Verdict:
    records = [replace(make_record(number), **changes) for number in range(10)]
    return identity.check(make_evidence(records, registrations=Registrations(registrations, gap_ns)))


def test_answers_by_registered_replicas_are_valid() -> None:
    verdict = _judge(ALWAYS)
    assert (verdict.outcome, verdict.summary) == (
        "valid",
        "10 answers by 1 replica, all registered then, by revisions in force",
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"replica": "z-9"}, "answered by z-9 of a, which was never registered"),
        ({"replica": ""}, "answered by a replica without a name of a, which was never registered"),
        ({"cluster": "b"}, "answered by a-0 of b, which was never registered there, but in a"),
        ({"revision": 99}, "decided by revision 99, which was not in force until then"),
        ({"served_revision": 99}, "answered by a version loaded for revision 99, which was never published"),
    ],
)
def test_what_was_never_registered_or_in_force_is_invalid(changes: dict[str, Any], message: str) -> None:
    verdict = _judge(ALWAYS, **changes)
    assert (verdict.outcome, verdict.violations[0].message) == ("invalid", message)


def test_a_replica_that_registers_later_cannot_have_answered_before() -> None:
    verdict = _judge(Registration("a", "a-0", HALF_NS, None))
    assert [each.sequence for each in verdict.violations] == [0, 1, 2, 3, 4]
    assert verdict.violations[0].message.endswith("which was not registered then")


def test_a_replica_that_left_may_answer_for_a_while() -> None:
    assert _judge(Registration("a", "a-0", 0, HALF_NS)).outcome == "valid"
    assert _judge(Registration("a", "a-0", 0, START_NS - identity.LEAVING_NS)).outcome == "invalid"


def test_a_replica_that_registered_again_is_registered() -> None:
    left = Registration("a", "a-0", 0, START_NS - identity.LEAVING_NS)
    assert _judge(left, Registration("a", "a-0", START_NS - 1, None)).outcome == "valid"


def test_a_stranger_while_the_control_plane_was_restarted_is_unknown() -> None:
    gap = (START_NS, HALF_NS)
    verdict = _judge(gap_ns=gap)
    assert [each.sequence for each in verdict.violations] == [5, 6, 7, 8, 9]
    assert _judge(gap_ns=(START_NS, HALF_NS + 10 * STEP_NS)).outcome == "unknown"
    assert _judge(ALWAYS, gap_ns=gap).outcome == "valid"


def test_a_revision_counts_from_when_it_went_out() -> None:
    records = [replace(make_record(number), revision=2) for number in range(10)]
    revisions = [RevisionInForce(1, two_versions(), 0), RevisionInForce(2, two_versions(), HALF_NS)]
    verdict = identity.check(make_evidence(records, revisions=revisions))
    assert [each.sequence for each in verdict.violations] == [0, 1, 2, 3, 4]


def test_without_registrations_or_answers_nothing_is_known() -> None:
    assert identity.check(make_evidence([make_record(0)], registrations=None)).outcome == "unknown"
    assert identity.check(make_evidence([])).outcome == "unknown"
    failed = [make_record(0, status="UNAVAILABLE")]
    assert identity.check(make_evidence(failed)).outcome == "unknown"
