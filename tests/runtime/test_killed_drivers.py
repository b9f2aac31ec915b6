"""Drivers that share a run are killed, one or all of them."""

from __future__ import annotations

import pytest

from lab.checkers import Outcome
from lab.errors import UnitError
from lab.lab import Lab
from lab.load.progress import Progress
from lab.runs import LoadOptions
from lab.runtime import make_runtime
from lab.runtime.state import LabState
from tests.labs import processes_of

OPTIONS = LoadOptions(topology="mesh", caller="homepage", rate=50, duration_s=60, drivers=2)


def test_all_drivers_of_a_run_are_killed(lab_to_break: Lab) -> None:
    lab = lab_to_break
    state = LabState.of(lab.folder)
    runtime = make_runtime(state.runtime, lab.folder, state.security)

    def kill(progress: Progress) -> None:
        if progress.done:
            runtime.kill_driver((lab.runs / "latest").resolve())

    with pytest.raises(UnitError, match="the driver ended with status"):
        lab.load(OPTIONS, progress=kill)

    assert processes_of(lab, "driver") == []


@pytest.mark.parametrize("lab_to_break", ["process"], indirect=True)  # containers: test_compose_drivers
def test_a_driver_that_is_killed_makes_the_verdict_unknown_and_is_named(lab_to_break: Lab) -> None:
    killed: list[int] = []

    def kill(progress: Progress) -> None:
        if progress.done and not killed:
            [second] = [each for each in processes_of(lab_to_break, "driver") if each.cmdline()[-1] == "1/2"]
            killed.append(second.pid)
            second.kill()

    result = lab_to_break.load(OPTIONS, progress=kill)

    [verdict] = [each for each in result.verdicts if each.checker == "drivers"]
    assert verdict.outcome == result.outcome == Outcome.UNKNOWN
    assert f"driver 2 of 2 (pid {killed[0]}) was killed by SIGKILL" in verdict.summary
