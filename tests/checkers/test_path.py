"""Whether requests passed the units of their topology, and no others."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from lab.checkers import Abilities, Outcome, Verdict
from lab.checkers.kinds import path
from lab.history import UNSENT
from lab.history.arrivals import NOT_RECORDED, Arrival
from tests.checkers.builders import arrivals_of, make_evidence, make_record

RECORDS = [make_record(number) for number in range(3)]


def judged(
    arrivals: Sequence[Arrival] | None, between: tuple[str, ...] = ("sidecar",), *, marks_path: bool = True
) -> Verdict | None:
    can = Abilities(between=between, marks_path=marks_path)
    return path.check(make_evidence(RECORDS, arrivals=arrivals, abilities=can))


@pytest.mark.parametrize(
    ("between", "via"),
    [
        (("sidecar",), "2 sidecar"),
        (("sidecar",), "2.0 sidecar"),
        (("sidecar",), "sidecar"),
        (("sidecar",), "2 sidecar (of a pod)"),
        (("edge", "sidecar"), "1.1 edge, 2 sidecar"),
        (("edge", "sidecar"), "1.1 edge,2 sidecar"),
        ((), ""),
    ],
)
def test_the_units_of_the_topology_are_right_and_no_others(between: tuple[str, ...], via: str) -> None:
    verdict = judged(arrivals_of(RECORDS, via), between)
    assert verdict
    assert (verdict.outcome, verdict.summary.split(" came ")[0]) == (Outcome.VALID, "3 of 3 attempts")


@pytest.mark.parametrize(
    ("between", "via", "said"),
    [
        (("sidecar",), "", "directly, not through sidecar"),
        (("sidecar",), "2 gateway", "through gateway, not through sidecar"),
        (("sidecar",), "2 sidecar, 2 gateway", "through sidecar and gateway, not through sidecar"),
        (("edge", "sidecar"), "2 sidecar, 2 edge", "through sidecar and edge, not through edge and sidecar"),
        ((), "2 sidecar", "through sidecar, not directly"),
    ],
)
def test_one_request_by_another_path_is_a_violation(between: tuple[str, ...], via: str, said: str) -> None:
    first, second, third = arrivals_of(RECORDS, ", ".join(f"2 {each}" for each in between))
    verdict = judged([first, second._replace(via=via), third], between)
    assert verdict
    assert verdict.outcome is Outcome.INVALID
    assert [each.message for each in verdict.violations] == [f"request #1 (r1) came to {second.replica} {said}"]


def hop(via: str, *, reads_payload: bool = False) -> list[str]:
    """What is objected to requests that passed this unit, on a path of two gateways."""
    units = {"gateway": ["gateway-1", "gateway-2"]}
    can = Abilities(between=("gateway",), marks_path=True, reads_payload=reads_payload)
    evidence = make_evidence(RECORDS[:1], arrivals=arrivals_of(RECORDS[:1], via), abilities=can, path_units=units)
    verdict = path.check(evidence)
    return [each.message.removeprefix("request #0 (r0) came to a-0 ") for each in verdict.violations] if verdict else []


def test_a_unit_of_the_same_role_that_is_not_on_the_path_is_a_violation() -> None:
    assert hop("2 gateway (gateway-2)") == []
    assert hop("2 gateway (gateway-3)") == ["through gateway-3, not through gateway-1 or gateway-2"]
    assert hop("2 gateway") == ["through a gateway without a name, not through gateway-1 or gateway-2"]


def test_a_body_is_parsed_where_the_topology_parses_it_and_only_there() -> None:
    said = {form: f"2 gateway (gateway-1{form})" for form in ("", "; parsed", "; passed on")}
    assert [hop(via, reads_payload=True) for via in said.values()] == [
        ["with a body that no unit says to have parsed; its topology parses bodies"],
        [],
        ["with a body that gateway-1 has passed on; its topology parses bodies"],
    ]
    assert hop(said["; passed on"]) == []
    assert hop(said["; parsed"]) == ["with a body that gateway-1 has parsed; its topology passes on bodies"]


def test_a_later_attempt_is_judged_as_the_first_one_is_and_a_copy_is_not() -> None:
    first, second, third = arrivals_of(RECORDS)
    copy, again = third._replace(is_copy=True, via=""), third._replace(via="2 gateway")
    verdict = judged([first, second, third, copy, again])
    assert verdict
    assert [each.request_id for each in verdict.violations] == ["r2"]


def test_a_request_that_was_never_sent_has_no_attempt_though_others_have_no_id_either() -> None:
    first, *others = arrivals_of(RECORDS)
    evidence = make_evidence(
        [*RECORDS, make_record(3, status=UNSENT, request_id="")],
        arrivals=[first, *others, first._replace(request_id="", via="")],
        abilities=Abilities(between=("sidecar",), marks_path=True),
    )
    verdict = path.check(evidence)
    assert verdict
    assert verdict.summary.startswith("3 of 3 attempts")


def test_what_is_not_known_is_no_pass() -> None:
    unknown = [judged(None), judged([])]
    assert [each and each.outcome for each in unknown] == [Outcome.UNKNOWN] * 2


def test_runs_of_earlier_releases_and_units_that_say_nothing_are_not_judged() -> None:
    old = [each._replace(via=NOT_RECORDED) for each in arrivals_of(RECORDS)]
    assert judged(old) is None
    mixed = judged([*old[:2], *arrivals_of(RECORDS)[2:]])
    assert mixed
    assert len(mixed.violations) == 2
    assert judged(arrivals_of(RECORDS, ""), marks_path=False) is None
