"""The state machine of one request's attempts, without anything that sends."""

from dataclasses import replace
from typing import Any

import pytest

from lab.routing.attempts import AnswerMetadata, Decision, RequestAttempts, Target
from lab.routing.buckets import is_shadowed
from lab.routing.headers import retries_left
from lab.routing.keys import HEADER
from lab.routing.resilience import FALLS_BACK, Hedge, Policy, Retries, RetryBudget
from lab.routing.rules import Shadow

KEYS = ("rows.v1", "rows.v2", "rows.v3")
CHAIN = Decision(
    targets=tuple(Target(routing_key=key, answer_headers=((HEADER, key), ("x-revision", "7"))) for key in KEYS),
    timeout_s=1.0,
    revision=7,
    falls_back=True,
    renewable=True,
)
RETRIES = Retries(attempts=3, on=("unavailable",), budget=20, at_least=1, backoff_s=0.0, per_try_s=0.0)
NO_REASON = ("INVALID_ARGUMENT", "NOT_FOUND", "PERMISSION_DENIED", "DEADLINE_EXCEEDED", "CANCELLED")


def begun(decision: Decision = CHAIN, request_id: str = "r1", patience_s: float | None = None) -> RequestAttempts:
    """A request that began at second 100 and has sent its first attempt."""
    attempts = RequestAttempts("HomepageRows", request_id, now=100.0, patience_s=patience_s)
    attempts.decided(decision)
    attempts.begin()
    return attempts


def after(attempts: RequestAttempts, *statuses: str, budget: RetryBudget | None = None) -> str:
    """What follows when attempts fail with these statuses: a routing key, ``decide`` or ``failed``."""
    for status in statuses:
        if attempts.failed(status, 100.5, budget=budget, connection="c1") is None:
            return "failed"
        if attempts.undecided:
            return "decide"
        attempts.begin()
    return attempts.target.routing_key


def test_a_caller_may_allow_fewer_retries_than_the_table() -> None:
    attempts = RequestAttempts("HomepageRows", "r1", 100.0, retries_left=1)
    attempts.decided(replace(CHAIN, repeats=2))
    attempts.begin()
    budget = RetryBudget(Policy(retries=replace(RETRIES, at_least=9)))
    assert attempts.retry_headers == (("x-retries-left", "0"),)  # Envoy makes all of the table's retries, or none
    assert after(attempts, "UNAVAILABLE", budget=budget) == "rows.v1"
    assert after(attempts, "UNAVAILABLE", budget=budget) == "rows.v2"  # a fallback is not a retry
    assert not attempts.may_repeat


@pytest.mark.parametrize(("left", "header"), [(None, ()), (0, "0"), (1, "0"), (2, ()), (7, ())])
def test_a_path_hears_that_too_few_retries_are_left_for_all(left: int | None, header: Any) -> None:
    attempts = RequestAttempts("HomepageRows", "r1", 100.0, retries_left=left)
    attempts.decided(replace(CHAIN, repeats=2))
    assert attempts.retry_headers == (header and (("x-retries-left", header),))
    gateway = RequestAttempts("HomepageRows", "r1", 100.0, retries_left=left)
    assert gateway.retry_headers == (() if left is None else (("x-retries-left", str(left)),))


@pytest.mark.parametrize("value", ["", "-1", "1.5", "١", "10000", b"1", "many"])
def test_a_header_of_retries_that_is_not_a_number_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="is not a whole number"):
        retries_left([("te", "trailers"), ("x-retries-left", value)])


def test_a_request_needs_a_decision_and_begins_with_its_first_target() -> None:
    attempts = RequestAttempts("HomepageRows", "r1", now=100.0)
    assert attempts.undecided
    assert attempts.answer_headers() == ()
    attempts.decided(CHAIN)
    assert (attempts.undecided, attempts.target.routing_key, attempts.made) == (False, "rows.v1", 0)


@pytest.mark.parametrize("status", sorted(FALLS_BACK))
def test_targets_are_tried_in_order_until_none_is_left(status: str) -> None:
    assert after(begun(), status) == "rows.v2"
    assert after(begun(), status, status) == "rows.v3"
    attempts = begun()
    assert after(attempts, status, status, status) == "failed"
    assert attempts.failures == f"; before that rows.v1: {status}; before that rows.v2: {status}"
    assert attempts.answer_metadata(status) == AnswerMetadata("default", "rows.v3", 7, 3, "")


@pytest.mark.parametrize("status", NO_REASON)
def test_a_refusal_is_final(status: str) -> None:
    assert after(begun(), status) == "failed"


def test_a_tear_is_mended_once_by_a_new_decision() -> None:
    attempts = begun()
    assert after(attempts, "FAILED_PRECONDITION") == "decide"
    attempts.decided(CHAIN)
    attempts.begin()
    assert (attempts.torn, attempts.made, attempts.target.routing_key) == (True, 2, "rows.v1")
    assert after(attempts, "FAILED_PRECONDITION") == "failed"


def test_a_tear_is_final_where_another_decision_cannot_be_had() -> None:
    assert after(begun(replace(CHAIN, renewable=False)), "FAILED_PRECONDITION") == "failed"


def test_a_new_decision_begins_the_chain_anew() -> None:
    attempts = begun()
    assert after(attempts, "UNAVAILABLE", "FAILED_PRECONDITION") == "decide"
    attempts.decided(CHAIN)
    assert (attempts.target.routing_key, attempts.answer_metadata().source) == ("rows.v1", "model")


def test_all_attempts_share_one_deadline_and_the_nearer_one_counts() -> None:
    assert begun().remaining_s(100.25) == 0.75
    assert begun(patience_s=0.5).remaining_s(100.25) == 0.25
    assert begun(patience_s=5.0).remaining_s(100.25) == 0.75
    assert begun().remaining_s(102.0) == 0.0


def test_without_time_left_no_target_is_tried() -> None:
    assert begun().failed("UNAVAILABLE", 100.9) == 0.0
    assert begun().failed("UNAVAILABLE", 101.0) is None
    assert begun(patience_s=0.5).failed("UNAVAILABLE", 100.5) is None


def test_only_the_first_attempt_draws_a_shadow() -> None:
    decision = replace(CHAIN, shadow=Shadow("rows.v9", 30))
    drawn = {number for number in range(100) if is_shadowed("HomepageRows", f"r{number}", 30)}
    assert 10 < len(drawn) < 60
    for number in range(100):
        attempts = RequestAttempts("HomepageRows", f"r{number}", now=100.0)
        attempts.decided(decision)
        assert [attempts.begin(), attempts.begin()] == [number in drawn, False]
        assert attempts.shadow == ("rows.v9" if number in drawn else "")


def test_a_version_is_retried_until_its_attempts_are_used_up() -> None:
    budget = RetryBudget(Policy(retries=RETRIES))
    assert after(begun(), "UNAVAILABLE", "UNAVAILABLE", budget=budget) == "rows.v1"
    assert after(begun(), "UNAVAILABLE", "UNAVAILABLE", "UNAVAILABLE", budget=RetryBudget(Policy(retries=RETRIES))) == (
        "rows.v2"
    )


def test_each_target_has_its_own_number_of_attempts_and_tried_connections() -> None:
    budget, attempts = RetryBudget(Policy(retries=RETRIES)), begun()
    assert after(attempts, "UNAVAILABLE", "UNAVAILABLE", budget=budget) == "rows.v1"
    assert list(attempts.tried) == ["c1", "c1"]
    assert after(attempts, "UNAVAILABLE", budget=budget) == "rows.v2"
    assert list(attempts.tried) == []
    assert after(attempts, "UNAVAILABLE", "UNAVAILABLE", budget=budget) == "rows.v2"
    assert attempts.made == 6


def test_a_retry_holds_its_budget_until_it_is_over() -> None:
    budget = RetryBudget(Policy(retries=RETRIES))
    first, second = begun(), begun()
    assert after(first, "UNAVAILABLE", budget=budget) == "rows.v1"
    assert after(second, "UNAVAILABLE", budget=budget) == "rows.v2"
    first.end_retry()
    first.end_retry()
    assert after(begun(), "UNAVAILABLE", budget=budget) == "rows.v1"
    assert after(begun(), "UNAVAILABLE", budget=budget) == "rows.v2"


@pytest.mark.parametrize(("in_flight", "granted"), [(0, 0), (5, 0), (6, 1), (12, 2), (60, 10)])
def test_retries_are_a_share_of_the_attempts_in_flight(in_flight: int, granted: int) -> None:
    budget = RetryBudget(Policy(retries=replace(RETRIES, at_least=0)))
    budget.in_flight = in_flight
    pauses = [budget.pause_before_retry("UNAVAILABLE", 1, 1.0) for _ in range(in_flight)]
    assert sum(pause is not None for pause in pauses) == granted


@pytest.mark.parametrize(
    ("status", "per_try_s", "left_s", "retried"),
    [
        ("UNAVAILABLE", 0.0, 1.0, True),
        ("INTERNAL", 0.0, 1.0, False),
        ("DEADLINE_EXCEEDED", 0.0, 1.0, False),
        ("DEADLINE_EXCEEDED", 0.2, 1.0, True),
        ("UNAVAILABLE", 0.0, 0.0, False),
    ],
)
def test_statuses_are_retried_as_the_policy_says(status: str, per_try_s: float, left_s: float, retried: bool) -> None:  # noqa: FBT001 (a parameter)
    budget = RetryBudget(Policy(retries=replace(RETRIES, per_try_s=per_try_s)))
    assert (budget.pause_before_retry(status, 1, left_s) is not None) is retried


def test_a_pause_doubles_at_most_and_never_outlasts_the_request() -> None:
    budget = RetryBudget(Policy(retries=replace(RETRIES, backoff_s=0.1, at_least=1_000)))
    pauses = [budget.pause_before_retry("UNAVAILABLE", 2, 1.0) for _ in range(200)]
    assert all(pause is not None and 0 <= pause <= 0.2 for pause in pauses)
    assert max(pause for pause in pauses if pause is not None) > 0.1
    assert all(budget.pause_before_retry("UNAVAILABLE", 2, 0.001) <= 0.001 for _ in range(20))  # type: ignore[operator]


@pytest.mark.parametrize(("status", "granted"), [("", True), ("UNAVAILABLE", True), ("NOT_FOUND", False)])
def test_a_hedge_is_for_what_is_slow_or_failed_and_not_for_a_refusal(status: str, granted: bool) -> None:  # noqa: FBT001 (a parameter)
    budget = RetryBudget(Policy(hedge=Hedge(after_s=0.1, budget=20, at_least=1)))
    assert budget.grant_hedge(status) is granted
    assert not RetryBudget(Policy()).grant_hedge("")


def test_one_attempt_has_its_own_time_limit_within_the_requests() -> None:
    budget = RetryBudget(Policy(retries=replace(RETRIES, per_try_s=0.2)))
    assert (budget.attempt_timeout_s(1.0), budget.attempt_timeout_s(0.1)) == (0.2, 0.1)
    assert RetryBudget(Policy()).attempt_timeout_s(1.0) == 1.0


@pytest.mark.parametrize("failure", ["", "UNAVAILABLE", "DEADLINE_EXCEEDED", "NOT_FOUND"])
@pytest.mark.parametrize("statuses", [(), ("UNAVAILABLE",), ("INTERNAL", "UNKNOWN")])
@pytest.mark.parametrize("shadow", [None, Shadow("rows.v9", 100)])
def test_a_client_reads_what_a_gateway_reports(shadow: Shadow | None, statuses: tuple[str, ...], failure: str) -> None:
    attempts = begun(replace(CHAIN, shadow=shadow))
    after(attempts, *statuses)
    metadata = attempts.answer_metadata(failure)
    assert AnswerMetadata.of_headers(attempts.answer_headers(failure)) == metadata
    assert metadata.attempts == 1 + len(statuses)
    assert metadata.shadow == ("rows.v9" if shadow else "")
    ends = failure in ("UNAVAILABLE", "DEADLINE_EXCEEDED")
    assert metadata.source == ("default" if ends else "fallback" if statuses else "model")


def test_without_a_chain_of_fallbacks_no_default_answer_follows() -> None:
    assert begun(replace(CHAIN, falls_back=False)).answer_metadata("UNAVAILABLE").source == "model"
