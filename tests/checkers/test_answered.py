"""A failure counts unless the rules, a limit or a marked fault says why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from lab.checkers import Abilities, FaultWindow, Outcome, Registration, Registrations, Verdict
from lab.checkers.evidence import RECOVERY_NS
from lab.checkers.kinds import answered
from lab.history.arrivals import Arrival
from tests.checkers.builders import START_NS, STEP_NS, make_evidence, make_record, make_table, obey, two_versions

if TYPE_CHECKING:
    from lab.history import Record

FIRST_NS = START_NS + 100 * STEP_NS
"""When request 100 is due."""
KILLED = FaultWindow("a-0 killed", "a-0", FIRST_NS, FIRST_NS + 50 * STEP_NS)


def _judge(records: list[Record], **changes: Any) -> Verdict:
    return answered.check(make_evidence(records, **changes))


def _good(count: int = 200, **changes: Any) -> list[Record]:
    return [make_record(number, **changes) for number in range(count)]


def _with_failures(numbers: range, status: str = "UNAVAILABLE", **changes: Any) -> list[Record]:
    return [
        make_record(each, status=status, **changes) if each in numbers else make_record(each) for each in range(200)
    ]


def test_a_run_in_which_all_were_answered_is_valid() -> None:
    verdict = _judge(_good())
    assert (verdict.outcome, verdict.summary) == ("valid", "200 answered, 0 failed")


@pytest.mark.parametrize(
    "status",
    ["UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL", "UNKNOWN", "CANCELLED", "RESOURCE_EXHAUSTED", "NOT_FOUND"],
)
def test_one_failure_that_nothing_explains_is_invalid(status: str) -> None:
    verdict = _judge(_with_failures(range(77, 78), status))
    assert (verdict.outcome, [each.sequence for each in verdict.violations]) == ("invalid", [77])


def test_failures_of_one_device_are_invalid() -> None:
    """Every request of televisions failed, as their cluster is mapped wrongly: the others prove nothing about them."""
    table = two_versions()
    records = [obey(table, each, device="phone") for each in range(0, 200, 2)]
    records += [make_record(each, device="tv", status="UNAVAILABLE") for each in range(1, 200, 2)]
    assert (_judge(records).outcome, len(_judge(records).violations)) == ("invalid", 100)


def test_a_refusal_that_the_rules_expect_is_an_answer() -> None:
    verdict = _judge([make_record(0, use_case="Nope", status="NOT_FOUND")])
    assert (verdict.outcome, verdict.summary) == ("valid", "0 answered, 0 failed, 1 refused as the table says")


@pytest.mark.parametrize(
    ("tenants", "outcome"),
    [
        ({}, "invalid"),
        ({"ads": {"rate": 5}}, "valid"),
        ({"ads": {"concurrent": 5}}, "valid"),
        ({"ads": {"callers": ["homepage"]}}, "invalid"),
        ({"kids": {"rate": 5}}, "invalid"),
        ({"default": {"rate": 5}}, "valid"),
    ],
)
def test_a_limit_of_the_table_explains_an_exhausted_resource(tenants: dict[str, Any], outcome: str) -> None:
    records = _with_failures(range(10), "RESOURCE_EXHAUSTED", tenant="ads")
    table = {**two_versions(), "tenants": tenants}
    can = Abilities(limits_rates=True, limits_concurrency=True)
    assert _judge(records, table=table, abilities=can).outcome == outcome
    assert _judge(records, table=table).outcome == "invalid", "the topology does not follow it"


def test_a_limit_that_was_not_reached_explains_nothing() -> None:
    table = {**two_versions(), "tenants": {"ads": {"rate": 5, "burst": 8}}}
    known: dict[str, Any] = {
        "table": table,
        "abilities": Abilities(limits_rates=True, limiters=2, between=("gateway",)),
        "window_ns": (START_NS - 10_000_000_000, START_NS + 10_000_000_000),
    }
    refused = [make_record(0, tenant="ads", status="RESOURCE_EXHAUSTED", message="over its rate (gateway gateway-1)")]
    verdict = _judge(refused, arrivals=[], **known)
    assert verdict.outcome == "invalid"
    assert "was refused by gateway-1" in verdict.violations[0].message

    [fallen] = [replace(make_record(0, tenant="ads"), source="fallback", model="rows", version="v2", cluster="b")]
    arrivals = [Arrival(fallen.request_id, "b-0", "rows.v2", False, "ads", "", fallen.sent_ns, fallen.done_ns, "OK")]  # noqa: FBT003
    assert _judge([fallen], arrivals=arrivals, **known).outcome == "invalid"
    assert _judge([fallen], arrivals=None, **known).outcome == "valid"


def test_a_breaker_explains_an_exhausted_resource() -> None:
    table = two_versions()
    table["use_cases"]["Rows"]["breaker"] = {"requests": 10}
    failed = _with_failures(range(10), "RESOURCE_EXHAUSTED")
    assert _judge(failed, table=table, abilities=Abilities(breaks=True)).outcome == "valid"
    assert _judge(failed, table=table).outcome == "invalid"


def test_failures_during_a_marked_fault_are_counted_and_named() -> None:
    verdict = _judge(_with_failures(range(100, 110)), fault_windows=[KILLED])
    assert (verdict.outcome, verdict.summary) == (
        "valid",
        "190 answered, 10 failed; 10 failed while a-0 was killed",
    )


@pytest.mark.parametrize(("target", "reached"), [("a", False), ("b-0", True), ("gateway-1", True)])
def test_a_fault_of_one_models_cluster_is_no_reason_for_anothers_failures(target: str, *, reached: bool) -> None:
    marked = FaultWindow(f"{target} killed", target, START_NS, None)
    verdict = _judge(_with_failures(range(100, 110), device="tv"), fault_windows=[marked], table=two_versions())
    assert [each.sequence for each in verdict.violations] == ([] if reached else list(range(100, 110)))


def test_a_failure_before_the_fault_or_long_after_it_is_invalid() -> None:
    early = _judge(_with_failures(range(98, 110)), fault_windows=[KILLED])
    assert [each.sequence for each in early.violations] == [98, 99]
    ended = FaultWindow("a-0 killed", "a-0", START_NS - 2 * RECOVERY_NS, START_NS - RECOVERY_NS)
    late = _judge(_with_failures(range(3)), fault_windows=[ended])
    assert [each.sequence for each in late.violations] == [0, 1, 2]


def test_a_unit_that_was_killed_starts_before_it_serves_again() -> None:
    ended = START_NS - 2 * RECOVERY_NS
    outcomes = {}
    for kills, recovers_ns in ((True, 3 * RECOVERY_NS), (True, RECOVERY_NS), (False, 3 * RECOVERY_NS)):
        started = FaultWindow("a-0 hit", "a-0", ended - 1, ended, kills=kills, recovers_ns=recovers_ns)
        outcomes[kills, recovers_ns] = _judge(_with_failures(range(3)), fault_windows=[started]).outcome
    assert [str(each) for each in outcomes.values()] == ["valid", "invalid", "invalid"]


def test_a_fault_that_is_not_undone_lasts() -> None:
    lasting = FaultWindow("a-0 killed", "a-0", START_NS - 3_600_000_000_000, None)
    assert _judge(_with_failures(range(3)), fault_windows=[lasting]).outcome == "valid"


@pytest.mark.parametrize(
    ("dead", "replicas", "gateways", "explained"),
    [
        (["a-0"], 1, 1, True),
        (["a-0"], 2, 1, False),
        (["a-0", "a-1"], 2, 1, True),
        (["a"], 2, 1, True),
        (["gateway-1"], 1, 1, True),
        (["gateway-1"], 1, 2, False),
        (["gateway-1", "gateway-2"], 1, 2, True),
        (["control-plane"], 1, 2, True),
    ],
)
@pytest.mark.parametrize(("how", "left_ns"), [("kills", answered.FAILOVER_NS), ("freezes", answered.FROZEN_NS)])
def test_what_is_dead_or_frozen_explains_no_failure_once_others_like_it_are_asked(
    how: str, left_ns: int, dead: list[str], replicas: int, gateways: int, *, explained: bool
) -> None:
    table = two_versions()
    table["clusters"]["a"]["replicas"] = replicas

    def failing(killed_ns: int) -> Outcome:
        marked = [
            FaultWindow(
                *(each, each, killed_ns, None),
                kills=how == "kills",
                freezes=how == "freezes",
                role=each.rstrip("-12"),
            )
            for each in dead
        ]
        can = Abilities(between=("gateway",), limiters=gateways)
        return _judge(_with_failures(range(3)), table=table, fault_windows=marked, abilities=can).outcome

    assert failing(START_NS) == "valid"
    assert failing(START_NS - left_ns + 1_000_000_000) == "valid"
    assert failing(START_NS - left_ns - 1) == ("valid" if explained else "invalid")


def _with_fallback(**clusters: Any) -> dict[str, Any]:
    table = two_versions()
    table["use_cases"]["Rows"]["fallback"] = ["rows@v2"]
    table["clusters"].update(clusters)
    return table


@pytest.mark.parametrize(
    ("targets", "status", "outcome"),
    [
        (["a"], "UNAVAILABLE", "invalid"),
        (["a-0"], "INTERNAL", "invalid"),
        (["a", "b"], "UNAVAILABLE", "valid"),
        (["a"], "DEADLINE_EXCEEDED", "valid"),  # no time was left for the fallback
        (["homepage-sidecar"], "UNAVAILABLE", "valid"),  # the way to the fallback was cut off, too
    ],
)
def test_a_fallback_that_the_table_promises_must_answer(targets: list[str], status: str, outcome: str) -> None:
    marked = [FaultWindow(f"{each} killed", each, FIRST_NS, FIRST_NS + 50 * STEP_NS) for each in targets]
    verdict = _judge(_with_failures(range(100, 110), status), table=_with_fallback(), fault_windows=marked)
    assert verdict.outcome == outcome


@pytest.mark.parametrize(
    ("marked", "breaker", "fell_back"),
    [([], {}, [105]), ([KILLED], {}, []), ([], {"breaker": {"requests": 10}}, [])],
)
def test_a_fallback_needs_a_fault_or_a_limit(
    marked: list[FaultWindow], breaker: dict[str, Any], fell_back: list[int]
) -> None:
    """A gateway that keeps a moved key's old endpoints gets answers from the fallback: no request fails."""
    table = _with_fallback()
    table["use_cases"]["Rows"].update(breaker)
    records = _good()
    records[105] = replace(records[105], source="fallback", version="v2", cluster="b", replica="b-0")
    verdict = _judge(records, table=table, fault_windows=marked, abilities=Abilities(breaks=True))
    assert [each.sequence for each in verdict.violations] == fell_back


@pytest.mark.parametrize(("fails_over", "outcome"), [(True, "invalid"), (False, "valid")])
def test_a_failover_cluster_must_take_over_where_the_topology_has_it(*, fails_over: bool, outcome: str) -> None:
    table = two_versions()
    table["clusters"]["a"]["failover"] = "b"
    began_ns = START_NS - answered.FAILOVER_NS - 1
    killed = FaultWindow("a killed", "a", began_ns, None)
    verdict = _judge(
        _with_failures(range(3)), table=table, fault_windows=[killed], abilities=Abilities(fails_over=fails_over)
    )
    assert verdict.outcome == outcome
    at_once = FaultWindow("a killed", "a", START_NS, None)
    assert (
        _judge(
            _with_failures(range(3)), table=table, fault_windows=[at_once], abilities=Abilities(fails_over=True)
        ).outcome
        == "valid"
    )


def _answered_by_failover_cluster(numbers: range, settings: Mapping[str, Any] | None = None, **changes: Any) -> Verdict:
    """Judges 200 answers of versions on cluster a, of which b, its failover cluster, gave some."""
    table = two_versions()
    table["clusters"]["a"]["failover"] = "b"
    table["use_cases"]["Rows"] |= settings or {}
    records = [make_record(each, cluster="b" if each in numbers else "a") for each in range(200)]
    return _judge(records, table=table, **changes)


def test_a_failover_cluster_may_not_answer_while_the_own_cluster_can() -> None:
    verdict = _answered_by_failover_cluster(range(100, 103))
    assert (verdict.outcome, [each.sequence for each in verdict.violations]) == ("invalid", [100, 101, 102])
    assert "Rows answered by b, which is for when a cannot answer" in verdict.violations[0].message


@pytest.mark.parametrize(
    ("target", "from_ns", "outcome"),
    [
        ("a-0", START_NS, "valid"),  # it is used again a while after the fault
        ("gateway-1", START_NS, "valid"),
        ("b-0", START_NS, "invalid"),
        ("a-0", FIRST_NS + 50 * STEP_NS, "invalid"),  # later
    ],
)
def test_a_fault_explains_that_a_failover_cluster_answers(target: str, from_ns: int, outcome: str) -> None:
    killed = FaultWindow(f"{target} killed", target, from_ns, from_ns + STEP_NS)
    assert _answered_by_failover_cluster(range(100, 103), fault_windows=[killed]).outcome == outcome


@pytest.mark.parametrize(
    ("status", "settings", "marked", "outcome"),
    [
        ("DEADLINE_EXCEEDED", {}, [], "valid"),
        ("UNAVAILABLE", {}, [], "invalid"),
        ("UNAVAILABLE", {}, [KILLED], "valid"),
        ("UNAVAILABLE", {"outliers": {}}, [], "valid"),  # the only replica may be ejected
        ("UNAVAILABLE", {"health": {}}, [], "valid"),
    ],
)
def test_a_fault_that_has_a_status_explains_no_other(
    status: str, settings: dict[str, Any], marked: list[FaultWindow], outcome: str
) -> None:
    table = two_versions()
    table["use_cases"]["Rows"] |= settings
    slow = FaultWindow("a slowed down", "a", START_NS, None, statuses=frozenset({"DEADLINE_EXCEEDED"}))
    records = [*_good(), make_record(200, status=status)]
    assert _judge(records, table=table, fault_windows=[slow, *marked]).outcome == outcome


@pytest.mark.parametrize(
    ("settings", "statuses", "outcome"),
    [
        ({}, [], "valid"),
        ({}, ["INTERNAL"], "valid"),
        ({}, ["DEADLINE_EXCEEDED"], "invalid"),
        ({"retries": {"per_try": "10ms"}}, ["DEADLINE_EXCEEDED"], "valid"),
        ({"outliers": {}}, ["DEADLINE_EXCEEDED"], "valid"),
    ],
)
def test_a_slow_cluster_is_no_reason_for_a_fallback(
    settings: dict[str, Any], statuses: list[str], outcome: str
) -> None:
    table = two_versions()
    table["use_cases"]["Rows"] |= {"fallback": ["rows@v2"], **settings}
    slow = FaultWindow("a slowed down", "a", START_NS, None, statuses=frozenset(statuses))
    records = [*_good(), make_record(200, source="fallback", version="v2", cluster="b")]
    assert _judge(records, table=table, fault_windows=[slow]).outcome == outcome
    assert _judge(records, table=table).outcome == "invalid"


@pytest.mark.parametrize(
    ("settings", "since_s", "outcome"),
    [
        ({}, 4, "valid"),
        ({}, 6, "invalid"),
        ({"outliers": {"eject": "3s"}}, 7, "valid"),
        ({"outliers": {"eject": "3s"}}, 9, "invalid"),
        ({"health": {"every": "2s"}}, 8, "valid"),
        ({"health": {}}, 8, "invalid"),
    ],
)
def test_the_own_cluster_must_be_used_again_once_it_can_answer(
    settings: dict[str, Any], since_s: int, outcome: str
) -> None:
    healed_ns = START_NS - since_s * 1_000_000_000
    killed = FaultWindow("a killed", "a", healed_ns - 1, healed_ns)
    assert _answered_by_failover_cluster(range(3), settings, fault_windows=[killed]).outcome == outcome


@pytest.mark.parametrize(("until_ns", "outcome"), [(FIRST_NS, "valid"), (None, "invalid")])
def test_a_failover_cluster_may_answer_while_a_replica_is_not_registered(until_ns: int | None, outcome: str) -> None:
    registered = [Registration("a", "a-0", 0, until_ns), Registration("b", "b-0", 0, None)]
    verdict = _answered_by_failover_cluster(range(100, 103), registrations=Registrations(registered))
    assert verdict.outcome == outcome
    assert _answered_by_failover_cluster(range(100, 103), registrations=None).outcome == "valid"


@pytest.mark.parametrize(("slo", "outcome"), [(None, "valid"), (0.95, "valid"), (0.951, "invalid")])
def test_an_objective_bounds_what_a_fault_may_cost(slo: float | None, outcome: str) -> None:
    verdict = _judge(_with_failures(range(100, 110)), fault_windows=[KILLED], availability_slo=slo)
    assert (verdict.outcome, len(verdict.violations)) == (outcome, 10 if outcome == "invalid" else 0)


def test_an_objective_holds_for_each_use_case() -> None:
    table = make_table({"rows@v1": 50, "rows@v2": 50})
    table["use_cases"]["Others"] = table["use_cases"]["Rows"]
    records = [obey(table, each) for each in range(190)]
    records += [make_record(each, use_case="Others", status="UNAVAILABLE") for each in range(190, 200)]
    records += [obey(table, each, use_case="Others") for each in range(200, 210)]
    marked = [FaultWindow("homepage-sidecar killed", "homepage-sidecar", START_NS, None)]
    assert _judge(records, table=table, fault_windows=marked, availability_slo=0.9).violations[0].message == (
        "Others failed with UNAVAILABLE; Others: 50.000% answered, 90.000% asked for"
    )
    assert _judge(records, table=table, fault_windows=marked, availability_slo=0.5).outcome == "valid"


def test_requests_cut_off_by_the_drivers_stop_are_no_failures() -> None:
    records = _good()
    records.append(make_record(200, status="CANCELLED"))
    assert _judge(records).outcome == "valid"
    assert _judge([*records, make_record(201)]).outcome == "invalid"  # others were sent after it


def test_a_callers_own_default_is_no_answer() -> None:
    assert _judge([*_good(), make_record(200, source="default")]).outcome == "invalid"


def test_nothing_answered_is_unknown() -> None:
    assert _judge([]).outcome is Outcome.UNKNOWN
    assert _judge([make_record(0, status="UNSENT")]).outcome is Outcome.UNKNOWN
    lasting = FaultWindow("a-0 killed", "a-0", START_NS, None)
    assert _judge([make_record(0, status="UNAVAILABLE")], fault_windows=[lasting]).outcome is Outcome.UNKNOWN


def test_no_fault_explains_a_status_that_blames_the_request() -> None:
    for status, outcome in (("UNAVAILABLE", "valid"), ("NOT_FOUND", "invalid"), ("INVALID_ARGUMENT", "invalid")):
        records = [replace(each, status=status) if each.status != "OK" else each for each in _with_failures(range(3))]
        marked = FaultWindow("a-0 killed", "a-0", START_NS - 1, None, kills=True)
        assert _judge(records, fault_windows=[marked]).outcome == outcome
