"""Every replica that could serve a version must get its share of the requests for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from lab.checkers import Abilities, ArrivalGap, FaultWindow, Registration, Registrations, RevisionInForce
from lab.checkers.kinds import balance
from tests.checkers.builders import START_NS, make_evidence, make_record, make_table

if TYPE_CHECKING:
    from lab.checkers import Verdict

EVERY_NS = 100_000_000
BOTH = [Registration("a", name, 0, None) for name in ("a-0", "a-1")]


def judge(
    turns: str,
    registered: list[Registration] | None = None,
    every_ns: int = EVERY_NS,
    statuses: Sequence[str] = (),
    **changes: Any,
) -> Verdict | None:
    """The verdict on requests, each at the replica of this number; the last attempts end with these statuses."""
    records = [
        replace(
            make_record(number, replica=f"a-{turn}"),
            sent_ns=START_NS + number * every_ns,
            done_ns=START_NS + number * every_ns + 1_000_000,
        )
        for number, turn in enumerate(turns)
    ]
    registrations = Registrations(BOTH if registered is None else registered)
    evidence = make_evidence(records, registrations=registrations)
    received = list(evidence.arrivals or ())
    kept = len(received) - len(statuses)
    ended = [each._replace(status=status) for each, status in zip(received[kept:], statuses, strict=True)]
    return balance.check(replace(evidence, **{"arrivals": received[:kept] + ended, **changes}))


def outcome(verdict: Verdict | None) -> str:
    return verdict.outcome if verdict else "nothing"


def test_a_replica_without_its_share_is_wrong() -> None:
    verdict = judge("0" * 40)
    assert verdict
    assert [each.message for each in verdict.violations] == [
        "a-1 received 0 of 40 attempts at rows.v1, though a has 2 replicas"
    ]
    assert outcome(judge("0" * 36 + "1" * 4)) == "invalid"
    assert outcome(judge("0" * 35 + "1" * 5)) == "valid"
    assert outcome(judge("01" * 20)) == "valid"


@pytest.mark.parametrize(
    ("via", "others", "expected"),
    [
        ("2 gateway (gateway-1; passed on)", "1" * 50, "valid"),
        ("2 gateway (gateway-1; passed on)", "0" * 50, "invalid"),
        ("2 gateway (gateway-2; parsed)", "1" * 50, "invalid"),
        ("", "1" * 50, "invalid"),
    ],
    ids=["in turn", "neither gets it", "another gateway", "no gateway"],
)
def test_a_unit_takes_turns_over_all_that_passes_it(via: str, others: str, expected: str) -> None:
    records = [make_record(number, replica="a-0") for number in range(50)]
    own = [
        each._replace(via="2 gateway (gateway-1; parsed)", arrived_ns=START_NS + number * EVERY_NS)
        for number, each in enumerate(make_evidence(records).arrivals or ())
    ]
    theirs = [
        each._replace(request_id=f"other-{number}", replica=f"a-{turn}", via=via)
        for number, (each, turn) in enumerate(zip(own, others, strict=True))
    ]
    evidence = make_evidence(records, registrations=Registrations(BOTH), arrivals=own + theirs)
    assert outcome(balance.check(evidence)) == expected


def test_a_picker_says_which_shares_are_right() -> None:
    def mostly_one(replicas: int) -> list[float]:
        return [0.9, *[0.1 / (replicas - 1)] * (replicas - 1)]

    assert outcome(judge("0" * 190 + "1" * 10, shares=mostly_one)) == "valid"
    assert outcome(judge("0" * 190 + "1" * 10)) == "invalid"
    verdict = judge("0" * 196 + "1" * 4, shares=mostly_one)
    assert verdict
    assert [each.message for each in verdict.violations] == [
        "a-1 received 4 of 200 attempts at rows.v1, though a has 2 replicas and the picker gives it 10 % of them"
    ]
    assert outcome(judge("0" * 190 + "1" * 10, shares=None)) == "unknown"


def test_a_replica_that_is_to_get_less_than_others_may_not_get_as_much() -> None:
    def mostly_one(replicas: int) -> list[float]:
        return [0.75, *[0.25 / (replicas - 1)] * (replicas - 1)]

    verdict = judge("01" * 200, shares=mostly_one)
    assert verdict
    assert [each.message for each in verdict.violations] == [
        "a-1 received 200 of 400 attempts at rows.v1, though a has 2 replicas and the picker gives it 25 % of them"
    ]
    assert outcome(judge("0001" * 100, shares=mostly_one)) == "valid"
    assert outcome(judge("001" * 130, shares=mostly_one)) == "valid", "the bound leaves room for chance"
    assert outcome(judge("01" * 200, shares=mostly_one, statuses=["UNAVAILABLE"])) == "valid", "one was left"


def test_a_replica_may_have_been_left_for_its_failures_but_not_from_the_start() -> None:
    failing = ["UNAVAILABLE"] * 2
    assert outcome(judge("0" * 38 + "11", statuses=failing)) == "valid"
    assert outcome(judge("0" * 40, statuses=failing)) == "invalid"


@pytest.mark.parametrize(
    ("turns", "every_ns"), [("0" * 39, EVERY_NS), ("0" * 40, EVERY_NS // 2)], ids=["few", "in a short time"]
)
def test_too_few_requests_show_nothing(turns: str, every_ns: int) -> None:
    assert outcome(judge(turns, every_ns=every_ns)) == "nothing"


@pytest.mark.parametrize(
    "second",
    [
        Registration("a", "a-1", 0, START_NS + EVERY_NS),
        Registration("b", "b-1", 0, None),
    ],
    ids=["left", "of another cluster"],
)
def test_a_replica_that_was_not_there_at_the_end_needs_none(second: Registration) -> None:
    assert outcome(judge("0" * 60, [BOTH[0], second])) == "nothing"


def test_a_replica_that_came_later_must_get_its_share_from_then_on() -> None:
    came = [BOTH[0], Registration("a", "a-1", START_NS + 1_000_000_000, None)]
    assert outcome(judge("0" * 101, came)) == "invalid"
    assert outcome(judge("0" * 61 + "01" * 20, came)) == "valid"
    assert outcome(judge("0" * 99, came)) == "nothing", "too few since"
    assert outcome(judge("0" * 101, came, abilities=Abilities(follows_rules=False))) == "nothing"


@pytest.mark.parametrize("target", ["a-1", "a"])
def test_a_replica_that_a_fault_hit_needs_none(target: str) -> None:
    fault = FaultWindow(f"{target} frozen", target, START_NS, None)
    assert outcome(judge("0" * 60, fault_windows=[fault])) == "nothing"
    elsewhere = replace(fault, target="b-1")
    assert outcome(judge("0" * 60, fault_windows=[elsewhere])) == "invalid"


def test_a_replica_that_cannot_say_what_it_received_shows_nothing() -> None:
    assert outcome(judge("0" * 60, arrival_gaps=[ArrivalGap("a-1", None, "no answer")])) == "nothing"
    assert outcome(judge("0" * 60, arrivals=None)) == "nothing"


def passed(turns: str, target: str = "", *, takes_turns: bool = True, **changes: Any) -> Verdict | None:
    """The verdict on requests, each through the gateway of this number."""
    records = [replace(make_record(number), sent_ns=START_NS + number * EVERY_NS) for number, _ in enumerate(turns)]
    vias = [f"2 gateway (gateway-{turn}; parsed)" for turn in turns]
    received = [each._replace(via=via) for each, via in zip(make_evidence(records).arrivals or (), vias, strict=True)]
    faults = [FaultWindow("", target, 0, None, role="gateway" if target else "")] if target else []
    units = {"gateway": ["gateway-1", "gateway-2"]}
    can = Abilities(between=("gateway",), takes_turns=takes_turns)
    evidence = make_evidence(records, arrivals=received, abilities=can, path_units=units, fault_windows=faults)
    return balance.check(replace(evidence, **changes))


def test_a_gateway_without_its_share_is_wrong() -> None:
    verdict = passed("1" * 40)
    assert verdict
    assert [each.message for each in verdict.violations] == [
        "gateway-2 passed on 0 of 40 attempts, though there are 2 of its role"
    ]
    assert outcome(passed("12" * 20)) == "valid"
    assert outcome(passed("1" * 36 + "2" * 4)) == "invalid"
    assert outcome(passed("1" * 35 + "2" * 5)) == "valid"


def test_a_gateway_may_be_left_for_a_fault_and_few_requests_show_nothing() -> None:
    assert outcome(passed("1" * 40, target="gateway-2")) == "nothing"
    assert outcome(passed("1" * 39)) == "nothing"
    assert outcome(passed("1" * 40, path_units={})) == "nothing"
    assert outcome(passed("1" * 40, takes_turns=False)) == "nothing"


S = 1_000_000_000
HEALED = FaultWindow("a-1 killed", "a-1", START_NS + S, START_NS + 2 * S, recovers_ns=S)


@pytest.mark.parametrize("target", ["a-1", "a", "model"])
def test_a_replica_is_judged_again_once_it_must_be_as_before(target: str) -> None:
    healed = replace(HEALED, target=target)
    assert outcome(judge("0" * 80, fault_windows=[healed])) == "invalid"
    assert outcome(judge("0" * 35 + "01" * 23, fault_windows=[healed])) == "valid"
    assert outcome(judge("0" * 60, fault_windows=[healed])) == "nothing", "too few since"
    assert outcome(judge("0" * 80, fault_windows=[replace(healed, recovers_ns=None)])) == "nothing", "an old run"
    again = replace(healed, from_ns=START_NS + 5 * S, until_ns=None)
    assert outcome(judge("0" * 80, fault_windows=[healed, again])) == "nothing"


def test_an_ejected_replica_may_stay_out_for_as_long_as_it_may_be_ejected() -> None:
    table = make_table({"rows@v1": 100}, outliers={"errors": 2, "eject": "1s"})
    known: dict[str, Any] = {"fault_windows": [HEALED], "revisions": [RevisionInForce(1, table, 0)]}
    # Undone after 2 s, and ejected for the second time, for 2 s, by then; and one second more.
    assert outcome(judge("0" * 80, **known)) == "nothing"
    assert outcome(judge("0" * 120, **known)) == "invalid"


def test_a_replica_that_lost_what_it_received_is_judged_by_what_came_later() -> None:
    gap = ArrivalGap("a-1", START_NS + S, "killed", START_NS)
    assert outcome(judge("0" * 101, arrival_gaps=[gap])) == "invalid"
    assert outcome(judge("0" * 95, arrival_gaps=[gap])) == "nothing"
