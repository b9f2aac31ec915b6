from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from random import Random
from typing import TYPE_CHECKING

import pytest

from lab.checkers.kinds import arrivals
from lab.checkers.plain_schedule import PlannedRun
from tests.checkers.builders import START_NS, make_evidence, make_record

if TYPE_CHECKING:
    from lab.checkers import Verdict

NS = 1_000_000_000
RATE = 100.0


def _judged(offsets: Sequence[float], kind: str = "poisson", rate: float = RATE) -> Verdict | None:
    records = [
        make_record(number, intended_ns=START_NS + round(offset * NS), received="", score=0.0)
        for number, offset in enumerate(sorted(offsets))
    ]
    # A run longer than its arrivals, so that all of them count.
    plan = PlannedRun([], kind, rate, round(2 * len(records) / rate * NS))
    return arrivals.check(make_evidence(records, plan=plan, arrivals=[]))


def _outcome(offsets: Sequence[float], kind: str = "poisson", rate: float = RATE) -> str:
    verdict = _judged(offsets, kind, rate)
    return "" if verdict is None else str(verdict.outcome)


def _poisson(seed: int, count: int = 1_000) -> list[float]:
    draw = Random(seed)  # noqa: S311 (no secret)
    return list(accumulate(draw.expovariate(RATE) for _ in range(count)))


def test_poisson_arrivals_are_valid_in_every_run_of_many() -> None:
    assert {_outcome(_poisson(seed)) for seed in range(200)} == {"valid"}


def test_evenly_spaced_arrivals_are_valid_also_between_nanoseconds() -> None:
    assert _outcome([number / 333.3 for number in range(100)], "constant", 333.3) == "valid"


@pytest.mark.parametrize(
    "offsets",
    [
        [number / RATE for number in range(500)],
        [each for each in _poisson(1, 500) for _ in (0, 1)],
        [each for number, each in enumerate(_poisson(2, 20_000)) if number % 20],
        [each * 1.1 for each in _poisson(3, 5_000)],
        [each / 1.1 for each in _poisson(4, 5_000)],
        [Random(number).random() * 2 / RATE + number / RATE for number in range(2_000)],  # noqa: S311
    ],
    ids=["evenly spaced", "in pairs", "one in twenty dropped", "slower", "faster", "jittered"],
)
def test_other_arrivals_are_not_poisson(offsets: list[float]) -> None:
    assert _outcome(offsets) == "invalid"


def test_gaps_that_depend_on_the_one_before_are_not_poisson() -> None:
    draw = Random(1)  # noqa: S311 (no secret)
    gaps = [draw.expovariate(RATE) for _ in range(2_000)]
    by_hundred = [each for start in range(0, 2_000, 100) for each in sorted(gaps[start : start + 100])]
    verdict = _judged(list(accumulate(by_hundred)))
    assert verdict
    assert verdict.outcome == "invalid"
    assert "correlation of neighbours +0.9" in verdict.summary


@pytest.mark.parametrize(
    "offsets", [_poisson(1), [number / 90 for number in range(100)], [*(n / RATE for n in range(99)), 0.9901]]
)
def test_arrivals_that_are_not_evenly_spaced_are_not_constant(offsets: list[float]) -> None:
    assert _outcome(offsets, "constant") == "invalid"


def test_too_few_gaps_a_trace_and_no_plan_claim_nothing() -> None:
    assert _outcome([number / RATE for number in range(20)]) == ""
    assert _outcome(_poisson(1), "trace") == ""
    assert arrivals.check(make_evidence([make_record()])) is None


def test_a_request_without_a_record_leaves_no_gap() -> None:
    records = [make_record(n, intended_ns=START_NS + round(n * NS / RATE)) for n in range(100) if n % 10]
    verdict = arrivals.check(make_evidence(records, plan=PlannedRun([], "constant", RATE, NS)))
    assert verdict
    assert (verdict.outcome, verdict.summary) == (
        "valid",
        "80 gaps of constant arrivals at 100 rps: evenly spaced to 0 ns",
    )
