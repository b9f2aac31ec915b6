"""How long a rollout observes a step, and what it does if the evidence stays undecided."""

from __future__ import annotations

from typing import Any
from unittest.mock import MagicMock

import pytest

from lab.ops.roll import executor
from lab.ops.roll.conditions import PATIENCE, WINDOW_NS, Evidence, Figures, Standing, enough, parse_conditions
from lab.ops.roll.executor import Outcome, RollOptions, RollResult, execute
from lab.runs import LoadOptions
from tests.roll.test_figures import DOCUMENT


def rolled(
    monkeypatch: pytest.MonkeyPatch,
    evidence: Evidence,
    *,
    at_100: Evidence | None = None,
    force: bool = False,
    conditions: str = "error-rate>1%",
    steps: tuple[int, ...] = (50, 100),
) -> tuple[RollResult, list[float]]:
    """A rollout of which each probe of a step brings the same evidence; its result, and the seconds of each probe."""
    seconds: list[float] = []

    def probe(_roll: Any, percent: int, duration_s: float, _doing: str = "") -> tuple[Evidence, tuple[int, int]]:
        seconds.append(duration_s)
        more = evidence if percent < 100 or at_100 is None else at_100
        return more, (more.new.requests, more.old.requests)

    monkeypatch.setattr(executor._Roll, "_probe_once", probe)
    admin = MagicMock()
    admin.revision.return_value = MagicMock(document=DOCUMENT, revision=1)
    admin.status.return_value.replicas = [MagicMock(cluster="c")]
    admin.publish_change.return_value = admin.rollback.return_value = 2
    options = RollOptions(
        model="m",
        to="v2",
        steps=steps,
        hold_s=1.0,
        conditions=parse_conditions(conditions),
        use_case=None,
        force=force,
        probe=LoadOptions(topology="mesh", caller="homepage", rate=20),
    )
    given: dict[str, Any] = {"interrupts": MagicMock(received=False), "progress": lambda _: None, "load": MagicMock()}
    result = execute(options, admin=admin, author="me", callers=["homepage"], **given)
    return result, seconds


def test_a_step_lasts_until_enough_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    result, _ = rolled(monkeypatch, Evidence(new=Figures(10), old=Figures(10)))

    assert result.outcome is Outcome.COMPLETED
    assert all(enough(0.01) <= step.evidence.new.requests < enough(0.01) + 10 for step in result.steps)


@pytest.mark.parametrize("force", [False, True])
def test_an_undecided_step_is_taken_back_unless_forced(monkeypatch: pytest.MonkeyPatch, *, force: bool) -> None:
    result, _ = rolled(monkeypatch, Evidence(new=Figures(300, 4), old=Figures(300)), force=force)

    assert result.outcome is (Outcome.COMPLETED if force else Outcome.ABORTED)
    assert result.steps[0].evidence.new.requests >= PATIENCE * enough(0.01)
    why = "at 50 %: undecided: error-rate>1% (error rate of the new version 1.3 % > 1 %; n = "
    assert force or result.reason.startswith(why)


def test_a_version_without_any_request_is_not_waited_for_forever(monkeypatch: pytest.MonkeyPatch) -> None:
    result, seconds = rolled(monkeypatch, Evidence(old=Figures(300)))

    assert result.outcome is Outcome.ABORTED
    assert sum(seconds) >= PATIENCE


def answers(first: int, ms: float) -> Figures:
    """Twelve hundred answers in sixty windows, from a window on."""
    return Figures.of(0, [((first * 6 + number) * WINDOW_NS // 20, ms) for number in range(1_200)])


FAST, SLOW = answers(0, 10.0), answers(0, 100.0)
BEFORE = Evidence(new=FAST, old=FAST, other=FAST)


@pytest.mark.parametrize(
    ("other", "outcome", "warned"),
    [
        (FAST, Outcome.ABORTED, False),
        (SLOW, Outcome.COMPLETED, False),
        (Figures(), Outcome.COMPLETED, True),
    ],
    ids=["other use cases are fast", "other use cases are slow, too", "no other use case"],
)
def test_at_100_percent_the_new_version_is_compared_with_other_use_cases(
    monkeypatch: pytest.MonkeyPatch, other: Figures, outcome: Outcome, *, warned: bool
) -> None:
    at_100 = Evidence(new=SLOW, other=other)
    result, seconds = rolled(monkeypatch, BEFORE, at_100=at_100, conditions="p99>1.5x")

    assert result.outcome is outcome, result.reason
    last = result.steps[-1].judgements[0]
    assert warned == (last.standing is Standing.UNKNOWN), last
    assert not warned or len(seconds) == len(result.steps)  # one probe each: more would show nothing new


def test_the_last_two_steps_last_until_the_control_is_large_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    few = Figures.of(0, [(number * WINDOW_NS, 10.0) for number in range(20)])
    both = Evidence(new=FAST, old=FAST, other=few)
    result, seconds = rolled(monkeypatch, both, at_100=Evidence(new=FAST, other=few), conditions="p99>1.5x")

    assert result.outcome is Outcome.COMPLETED
    assert [step.judgements[0].standing for step in result.steps] == [Standing.NOT_MET] * 2
    assert all(len(step.evidence.other.latencies_ms) >= enough(0.01) for step in result.steps)
    assert len(seconds) < PATIENCE * enough(0.01) / 20


def test_a_roll_in_one_step_looks_at_the_old_version_until_the_control_is_large_enough(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    few = Figures.of(0, [(number * WINDOW_NS, 10.0) for number in range(20)])
    before = Evidence(old=FAST, other=few)
    result, _ = rolled(monkeypatch, before, at_100=Evidence(new=FAST, other=few), conditions="p99>1.5x", steps=(100,))

    assert [step.judgements[0].standing for step in result.steps] == [Standing.NOT_MET]


def test_with_nothing_to_compare_a_step_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    result, seconds = rolled(monkeypatch, Evidence(new=SLOW), conditions="p99>1.5x")

    assert result.reason.startswith("at 50 %: undecided: p99>1.5x (the old version answered only 0 requests")
    assert len(seconds) == 1


def test_what_a_checker_objects_to_takes_the_roll_back(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = Evidence(new=Figures(500), old=Figures(500), objections=("delivery: request #3 got another config",))

    result, seconds = rolled(monkeypatch, lost)

    assert result.outcome is Outcome.ABORTED
    assert result.reason == "at 50 %: the probes are invalid: delivery: request #3 got another config"
    assert len(seconds) == 1
    assert result.to_document()["steps"][0]["objections"] == list(lost.objections)
