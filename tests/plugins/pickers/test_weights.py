"""Shares by the load that replicas report: against weights computed again, in runs that are made up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import cycle, islice
from typing import Any

import pytest

from lab.checkers import FaultWindow, Outcome, Registration, Registrations, Verdict
from lab.plugins.pickers import weights
from models.stub.load_report import WINDOW_S
from tests.checkers.builders import START_NS, make_evidence, make_record

MS = 1_000_000
EVERY_NS = 20 * MS
SERVICE_MS = {"a-0": 50, "a-1": 10, "a-2": 10}
BY_WEIGHT = ("a-1", "a-2") * 5 + ("a-0",)
IN_TURN = ("a-0", "a-1", "a-2")
INVERTED = ("a-0",) * 5 + ("a-1", "a-2")
ALL = tuple(Registration("a", name, 0, None) for name in SERVICE_MS)


def judge(
    came: Sequence[str],
    *,
    count: int = 400,
    registered: Sequence[Registration] = ALL,
    service_ms: dict[str, int] = SERVICE_MS,
    others: Sequence[str] = (),
    via: str = "",
    failed_ms: Sequence[int] = (),
    stalls_ms: Sequence[int] = (),
    **changes: Any,
) -> Verdict | None:
    """The verdict on requests, one each 20 ms, that came to these replicas over and over."""
    turns = list(islice(cycle(came), count))
    records = [
        replace(make_record(number, replica=name), sent_ns=START_NS + number * EVERY_NS)
        for number, name in enumerate(turns)
    ]
    evidence = make_evidence(records, registrations=Registrations(list(registered)))
    arrivals = [
        each._replace(
            arrived_ns=record.sent_ns, ended_ns=record.sent_ns + service_ms[record.replica] * MS, status="OK", via=via
        )
        for each, record in zip(evidence.arrivals or (), records, strict=True)
    ]
    # Of other callers, as often.
    theirs = [
        each._replace(request_id=f"other-{number}", replica=name, ended_ns=each.arrived_ns + service_ms[name] * MS)
        for number, (each, name) in enumerate(zip(arrivals, cycle(others), strict=False))
    ]
    for number, each in enumerate(arrivals):
        if any(began <= number * EVERY_NS // MS < began + 500 for began in stalls_ms):
            arrivals[number] = each._replace(ended_ns=each.ended_ns + 300 * MS)
    for number in (each * MS // EVERY_NS for each in failed_ms):
        arrivals[number] = arrivals[number]._replace(status="UNAVAILABLE")
    gathered = {weights.NAME: {"topologies": ["mesh"]}}
    changed = {"arrivals": [*arrivals, *theirs], "gathered": gathered, "topology": "mesh", **changes}
    return weights.check(replace(evidence, **changed))


def outcome(verdict: Verdict | None) -> Outcome | None:
    return verdict.outcome if verdict else None


@pytest.mark.parametrize(
    ("came", "expected"), [(BY_WEIGHT, Outcome.VALID), (IN_TURN, Outcome.INVALID), (INVERTED, Outcome.INVALID)]
)
def test_a_slow_replica_gets_its_smaller_share(came: Sequence[str], expected: Outcome) -> None:
    assert outcome(judge(came)) is expected


def test_a_violation_says_what_was_due() -> None:
    verdict = judge(IN_TURN)
    assert verdict is not None
    [violation] = verdict.violations
    assert violation.message == "a-0 received 67 of 200 attempts at rows.v1, and its weights give it 18 to 18"


@pytest.mark.parametrize(
    ("came", "count", "expected"),
    [(IN_TURN, 400, Outcome.UNKNOWN), (IN_TURN, 600, Outcome.INVALID), (BY_WEIGHT, 600, Outcome.VALID)],
)
def test_after_a_stall_any_share_would_do_so_it_is_not_judged(
    came: Sequence[str], count: int, expected: Outcome
) -> None:
    assert outcome(judge(came, count=count, stalls_ms=(4_000,))) is expected


def test_a_replica_that_nobody_asks_has_the_others_weight() -> None:
    verdict = judge(("a-1", "a-2"))
    assert verdict is not None
    assert [each.message.split()[:3] for each in verdict.violations] == [["a-0", "received", "0"]]


def test_equal_replicas_get_equal_shares() -> None:
    alike = dict.fromkeys(SERVICE_MS, 10)
    assert outcome(judge(IN_TURN, service_ms=alike)) is Outcome.VALID
    assert outcome(judge(BY_WEIGHT, service_ms=alike)) is Outcome.INVALID


def _closed() -> FaultWindow:
    return FaultWindow("a-0 killed", "a-0", START_NS, None, kills=True)


def _slowed() -> FaultWindow:
    return FaultWindow("a-0 slowed down", "a-0", START_NS, None, statuses=frozenset({"DEADLINE_EXCEEDED"}))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"count": 250}, Outcome.UNKNOWN),
        ({"arrivals": None}, Outcome.UNKNOWN),
        ({"registrations": None}, Outcome.UNKNOWN),
        ({"fault_windows": [_closed()]}, Outcome.UNKNOWN),
        ({"fault_windows": [_slowed()]}, Outcome.INVALID),
        ({"registered": [*ALL[:2], replace(ALL[2], from_ns=START_NS + 5_000 * MS)]}, Outcome.UNKNOWN),
        ({"registered": ALL[:1]}, None),
        ({"topology": "direct-vip"}, None),
        ({"gathered": {}}, None),
    ],
)
def test_what_says_nothing_of_weights_is_not_judged(changes: dict[str, Any], expected: Outcome | None) -> None:
    assert outcome(judge(IN_TURN, **changes)) is expected


@pytest.mark.parametrize(
    ("failed_ms", "expected"), [((), Outcome.INVALID), ((4_000,), Outcome.UNKNOWN), ((100,), Outcome.INVALID)]
)
def test_weights_do_not_decide_after_a_failure(failed_ms: Sequence[int], expected: Outcome) -> None:
    assert outcome(judge(IN_TURN, failed_ms=failed_ms)) is expected


@pytest.mark.parametrize(
    ("via", "expected"), [("2 central-envoy (central-envoy)", Outcome.VALID), ("", Outcome.INVALID)]
)
def test_several_callers_share_the_turns_of_one_envoy(via: str, expected: Outcome) -> None:
    # Of each two turns of one schedule, this caller has the first.
    schedule = list(islice(cycle(BY_WEIGHT), 22))
    schedule.sort(key=lambda name: name == "a-0")
    own, others = schedule[:11], schedule[11:]
    assert outcome(judge(own, others=others, via=via)) is expected


def test_reports_decay_as_those_of_models() -> None:
    assert weights.REPORTED_S == WINDOW_S
