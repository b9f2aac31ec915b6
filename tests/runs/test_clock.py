"""A run during which this machine's clock is set."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lab.checkers import Claim, Outcome
from lab.runs import judge
from lab.runs.documents import Began, Window, window_of
from lab.runs.folder import RunFolder
from tests.report.builders import make_record, write_run

HOUR_NS, RUN_NS = 3_600_000_000_000, 10_000_000_000


@pytest.mark.parametrize(
    ("jump_ns", "how"),
    [
        (HOUR_NS, "3,600.0 s ahead"),
        (-HOUR_NS, "3,600.0 s back"),
        (44_000_000, "44 ms ahead"),
        (-11_000_000, "11 ms back"),
    ],
)
def test_a_jump_is_said_in_seconds_or_milliseconds(jump_ns: int, how: str) -> None:
    assert how in Window(0, RUN_NS + jump_ns, jump_ns).clock_jump


def test_a_clock_that_is_kept_right_has_not_jumped() -> None:
    assert Window(0, RUN_NS, 4_000_000).clock_jump == ""
    assert Window(0, 100 * RUN_NS, -300_000_000).clock_jump == ""
    assert Window.since(Began.now()).clock_jump == ""


def test_a_wall_clock_that_is_set_bit_by_bit_has_jumped() -> None:
    assert "300 ms back" in Window(0, 100 * RUN_NS, -300_000_000, one_clock=False).clock_jump
    assert Window(0, 100 * RUN_NS, -4_000_000, one_clock=False).clock_jump == ""


def test_a_window_says_by_which_clock_it_is() -> None:
    document = {"from_ns": 1, "until_ns": 2}
    assert window_of(document) == Window(1, 2)
    assert window_of({**document, "clock_jump_ns": 3, "one_clock": True}) == Window(1, 2, 3, one_clock=True)
    with pytest.raises(TypeError):
        window_of({**document, "one_clock": "yes"})


@pytest.mark.parametrize("jump_ns", [HOUR_NS, -HOUR_NS])
def test_nothing_but_timing_is_judged_if_the_clock_was_set(tmp_path: Path, jump_ns: int) -> None:
    record = make_record(0)
    lost = replace(record, done_ns=record.sent_ns - 1)
    folder = write_run(tmp_path, [lost, *(make_record(each) for each in range(1, 20))])
    began_ns = record.intended_ns
    run = RunFolder(folder)
    run.window = Window(began_ns, began_ns + RUN_NS)
    steady = judge(folder)
    assert Outcome.INVALID in {each.outcome for each in steady.verdicts}
    run.window = Window(began_ns, began_ns + RUN_NS + jump_ns, jump_ns)

    result = judge(folder)

    timing = [each.claim is Claim.TIMING for each in steady.verdicts]
    pairs = zip(steady.verdicts, result.verdicts, timing, strict=True)
    assert all((now == before) if timed else now.outcome is Outcome.UNKNOWN for before, now, timed in pairs)
    assert "clock was stepped" in result.sentence
