"""The search for the highest rate that holds, on made-up runs: which rates it tries, and what it says broke."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from lab.checkers import Claim, Outcome, Verdict
from lab.runs import RunResult
from lab.runs.knee import Broken, Knee, Objective, Step, find_knee


@dataclass(frozen=True)
class Made:
    """A lab and its driver, each of which does well up to a rate."""

    fast_to: float = 1e9
    answers_to: float = 1e9
    punctual_to: float = 1e9
    right_to: float = 1e9

    def run(self, rate: float) -> RunResult:
        failed = 0 if rate <= self.answers_to else 10
        p99_ms = 10.0 if rate <= self.fast_to else 200.0
        summary = SimpleNamespace(
            ok=1_000 - failed,
            failed=failed,
            offered=rate,
            achieved_rate=rate,
            p50_ms=5.0,
            p99_ms=p99_ms,
            schedule_delay_p99_ms=0.1,
        )
        timing = Outcome.VALID if rate <= self.punctual_to else Outcome.UNKNOWN
        verdicts = [Verdict("driver", timing, "the driver missed its rate; and more", claim=Claim.TIMING)]
        verdicts.append(Verdict("answered", Outcome.VALID, "", claim=Claim.AVAILABILITY))
        wrong = () if rate <= self.right_to else (cast("Any", "a violation"),)
        verdicts.append(Verdict("routing", Outcome.INVALID if wrong else Outcome.VALID, "3 misrouted; x", wrong))
        return RunResult(Path("run"), cast("Any", summary), tuple(verdicts))


_USUAL = Objective()


def found(objective: Objective = _USUAL, rate: float = 100.0, /, **made: float) -> tuple[Knee, list[float]]:
    tried: list[float] = []
    lab = Made(**made)

    def run(at: float) -> RunResult:
        tried.append(at)
        return lab.run(at)

    return find_knee(run, rate, objective, highest=1_000), tried


def test_rates_rise_until_one_breaks_and_then_halve_what_is_left() -> None:
    knee, tried = found(fast_to=300)

    assert tried == [100, 150, 225, 337.5, 281.25, 309.375]
    assert knee.holds == 281.25
    assert knee.first_broken is not None
    assert knee.first_broken.rate == 309.375


@pytest.mark.parametrize(
    ("made", "broken", "outcome", "because"),
    [
        ({"fast_to": 300}, Broken.SLO, Outcome.VALID, "p99 200.0 ms, bound 50.0 ms"),
        ({"answers_to": 300}, Broken.SLO, Outcome.VALID, "99.00% answered, of at least 99.90%"),
        ({"punctual_to": 300}, Broken.DRIVER, Outcome.UNKNOWN, "the driver missed its rate"),
        # Neither the latencies nor the failures of a late driver say anything of the lab.
        ({"punctual_to": 300, "fast_to": 300}, Broken.DRIVER, Outcome.UNKNOWN, "the driver missed its rate"),
        ({"punctual_to": 300, "answers_to": 300}, Broken.DRIVER, Outcome.UNKNOWN, "the driver missed its rate"),
        (
            {"right_to": 300, "answers_to": 300},
            Broken.ROUTING,
            Outcome.INVALID,
            "says the checker routing: 3 misrouted",
        ),
    ],
)
def test_it_says_what_breaks_first(made: Mapping[str, float], broken: Broken, outcome: Outcome, because: str) -> None:
    knee, _ = found(**made)

    assert knee.first_broken is not None
    assert (knee.first_broken.broken, knee.outcome) == (broken, outcome)
    assert knee.first_broken.because == because
    assert because in knee.sentence


@pytest.mark.parametrize(
    ("objective", "made", "holds"),
    [
        (Objective(answered=0.98), {"answers_to": 300}, 1_000),
        (Objective(p99_ms=9.0), {}, 0),
        (Objective(p99_ms=11.0), {"fast_to": 300}, 281.25),
        (Objective(p99_ms=201.0), {"fast_to": 300}, 1_000),
    ],
)
def test_an_objective_that_is_given_counts(objective: Objective, made: Mapping[str, float], holds: float) -> None:
    knee, _ = found(objective, **made)

    assert knee.holds == holds


def test_nothing_that_breaks_is_no_knee() -> None:
    knee, tried = found()

    assert (knee.outcome, knee.holds, tried[-1]) == (Outcome.UNKNOWN, 1_000, 1_000)
    assert knee.sentence == "Nothing breaks up to 1000 rps; start higher: `--rate 1000`."


def test_below_a_first_rate_that_breaks_rates_are_lowered_until_one_holds() -> None:
    knee, tried = found(answers_to=30)

    assert (knee.holds, tried) == (25, [100, 50, 25, 37.5, 31.25])
    assert knee.sentence.startswith("25 rps hold, and 31.25 break the objective")


def test_the_p99_is_compared_with_that_of_the_first_rate_that_held() -> None:
    knee, _ = found(answers_to=60, fast_to=30)

    assert knee.steps[1].p99_ms == knee.steps[-1].p99_ms == 200
    assert (knee.holds, knee.first_broken) == (50, knee.steps[-1])


def test_five_lower_rates_are_tried() -> None:
    knee, tried = found(answers_to=1)

    assert (knee.holds, tried) == (0, [100, 50, 25, 12.5, 6.25, 3.125])
    assert knee.sentence.startswith("no rate holds, and 3.125 break the objective")


def test_wrong_answers_are_not_looked_for_at_lower_rates() -> None:
    knee, tried = found(right_to=30)

    assert (knee.outcome, tried) == (Outcome.INVALID, [100])


def test_each_step_is_reported_as_it_ends() -> None:
    seen: list[Step] = []

    knee = find_knee(Made(fast_to=300).run, 100, Objective(), seen.append)

    assert [step.rate for step in seen] == [step["rate"] for step in knee.to_document()["steps"]]
    assert knee.to_document() | {"steps": []} == {
        "holds_rps": 281.25,
        "breaks_rps": 309.375,
        "broken": "slo",
        "because": "p99 200.0 ms, bound 50.0 ms",
        "verdict": "valid",
        "steps": [],
    }
