"""Neither a trial that fails nor an interrupt loses what else was measured."""

import math
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from unittest.mock import MagicMock

import grpc
import pytest

from lab.errors import LabError, UnitError
from lab.plugins.bench.harness import driver_client
from lab.plugins.bench.harness.driver_client import Driver
from lab.plugins.bench.harness.environment import Environment
from lab.plugins.bench.harness.trials import Trials, interruptible
from lab.plugins.bench.harness.variant import LoadPoint, Variant
from tests.checkers.builders import make_evidence, make_record

CELLS = ("direct", "mesh")


def an_environment() -> Environment:
    return Environment(cast("Any", None), lambda _: None)


def run(trials: Trials[str], *, failing: tuple[tuple[str, int], ...] = (), interrupted_at: int = -1) -> None:
    """Measures 10 × the round's number; interrupts at a trial counted from 0."""
    for count, trial in enumerate(trials):
        if count == interrupted_at:
            trials.environment.interrupt()
        with trial:
            if (trial.cell, trial.number) in failing:
                raise UnitError("a wrong answer")
            trial.keep(p50=10.0 * trial.number)


def test_every_round_of_every_cell_is_kept_but_warm_up() -> None:
    trials = Trials(an_environment(), [CELLS, CELLS[::-1]], warm_up=CELLS)
    run(trials)

    assert trials.samples == {("direct", "p50"): [10.0, 20.0], ("mesh", "p50"): [10.0, 20.0]}
    assert trials.environment.missing == []


def test_a_cell_that_fails_leaves_a_gap_and_its_reason() -> None:
    trials = Trials(an_environment(), [CELLS] * 3, warm_up=CELLS)
    run(trials, failing=(("mesh", 0), ("mesh", 2)))

    assert trials.samples["direct", "p50"] == [10.0, 20.0, 30.0]
    first, gap, last = trials.samples["mesh", "p50"]
    assert (first, math.isnan(gap), last) == (10.0, True, 30.0)
    assert trials.environment.missing == ["warm-up, mesh: a wrong answer", "round 2, mesh: a wrong answer"]


def test_a_target_that_fails_half_of_its_requests_leaves_gaps_with_the_reason_and_the_bench_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    said: list[str] = []
    environment = Environment(MagicMock(), said.append)
    monkeypatch.setattr(Environment, "state", MagicMock(**{"spec.receipt_key": ""}))
    driver = Driver(MagicMock(), tmp_path, environment)
    good = [make_record(number) for number in range(265)]
    failed = [replace(each, status="UNAVAILABLE", message="no healthy replica") for each in good]
    half = failed[:142] + good[142:]
    carried_out = {"direct": (1.0, good, None), "mesh": (1.0, half, None)}
    monkeypatch.setattr(driver, "_carry_out", lambda variant, *_, **__: carried_out[variant.name])
    monkeypatch.setattr(driver, "_known_of", lambda _: make_evidence([]))
    monkeypatch.setattr(driver_client, "check", lambda *_: [])  # what the checkers make of it is theirs

    trials = Trials(environment, [CELLS] * 3)
    for trial in trials:
        with trial:
            variant = Variant(trial.cell, trial.cell, MagicMock())
            took_s, records = driver.run_closed_loop(variant, payload_bytes=400, seconds=1, in_flight=1, seed=0)
            trial.keep(rps=len(records) / took_s)

    assert trials.samples["direct", "rps"] == [265.0] * 3
    assert all(map(math.isnan, trials.samples["mesh", "rps"]))
    reason = (
        "not every request was answered rightly: 142 of 265 failed (142 UNAVAILABLE); the first: no healthy replica"
    )
    assert environment.missing == [f"round {number}, mesh: mesh: {reason}" for number in (1, 2, 3)]
    assert said[0] == "round 1 of 3: 2 trials"
    assert all(" left" in each for each in said[1:])


def test_a_gap_names_each_part_of_its_cell() -> None:
    cell = ("mesh", LoadPoint(2_000_000, rate=10.0, requests=4))
    trials = Trials(an_environment(), [[cell]])
    for trial in trials:
        with trial:
            raise UnitError("a wrong answer")

    assert trials.environment.missing == ["round 1, mesh, 2 MB, 10 rps: a wrong answer"]


def test_a_cell_that_always_fails_is_there_without_a_value() -> None:
    trials = Trials(an_environment(), [CELLS] * 2)
    run(trials, failing=(("mesh", 1), ("mesh", 2)))

    assert all(map(math.isnan, trials.samples["mesh", "p50"]))


@pytest.mark.parametrize(
    ("at", "direct", "mesh"),
    [
        (0, [10.0], [10.0]),  # in the first round, which is completed
        (2, [10.0, 20.0], [10.0]),  # in the second: the trial that runs is
        (3, [10.0, 20.0], [10.0, 20.0]),
    ],
)
def test_an_interrupt_keeps_what_was_measured(at: int, direct: list[float], mesh: list[float]) -> None:
    trials = Trials(an_environment(), [CELLS] * 3)
    run(trials, interrupted_at=at)

    measured = {cell: [each for each in values if not math.isnan(each)] for (cell, _), values in trials.samples.items()}
    assert measured == {"direct": direct, "mesh": mesh}
    [missing] = trials.environment.missing
    assert missing.startswith("interrupted in round ")


@pytest.mark.parametrize("error", [LabError("x"), ConnectionError("x"), TimeoutError("x"), grpc.RpcError("x")])
def test_what_a_lab_can_do_wrong_is_a_gap(error: Exception) -> None:
    trials = Trials(an_environment(), [CELLS])
    for trial in trials:
        with trial:
            if trial.cell == "mesh":
                raise error
            trial.keep(p50=1.0)

    assert trials.environment.missing == ["round 1, mesh: x"]


def test_an_error_of_the_bench_itself_is_none() -> None:
    [trial] = Trials(an_environment(), [["direct"]])

    with pytest.raises(ZeroDivisionError), trial:
        trial.keep(p50=1 / 0)


def test_without_any_trial_there_is_no_result() -> None:
    trials = Trials(an_environment(), [CELLS])
    run(trials, failing=tuple((cell, 1) for cell in CELLS))

    with pytest.raises(UnitError, match="nothing was measured: round 1, direct: a wrong answer"):
        _ = trials.samples


@pytest.fixture
def restored() -> Iterator[Any]:
    before = signal.getsignal(signal.SIGINT)
    yield before
    signal.signal(signal.SIGINT, before)


def test_the_first_ctrl_c_asks_to_end_and_the_second_ends(restored: Any) -> None:
    environment = an_environment()
    with interruptible(environment):
        os.kill(os.getpid(), signal.SIGINT)
        assert environment.interrupted
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) == restored


def test_the_time_left_follows_from_the_trials_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    now, said = 0.0, list[str]()
    monkeypatch.setattr("lab.plugins.bench.harness.trials.time.monotonic", lambda: now)
    trials = Trials(Environment(cast("Any", None), said.append), [CELLS] * 40, warm_up=CELLS)

    for trial in trials:
        now += 2.0 if trial.number else 100.0  # warm-up does not count

    assert said[:3] == ["warming up", "round 1 of 40: 2 trials", "round 2 of 40: 2 trials, about 3 min left"]
    assert said[-1] == "round 40 of 40: 2 trials, about 4 s left"
