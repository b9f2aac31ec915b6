"""A fault in a run is in its folder, and on its time line."""

from __future__ import annotations

from threading import Event, Thread
from typing import TYPE_CHECKING

from lab.report import read_run, render
from lab.report.conditions import conditions
from lab.runs import LoadOptions

if TYPE_CHECKING:
    from lab.lab import Lab
    from lab.load.progress import Progress
    from lab.runs import RunResult

WITHIN_S = 30.0


def test_a_kill_during_a_run_is_marked_where_it_happened(lab: Lab) -> None:
    replica = next(unit.name for unit in lab.status().units if unit.role == "model")
    under_way, results = Event(), []

    def drive() -> None:
        def tell(progress: Progress) -> None:
            if progress.done:
                under_way.set()

        options = LoadOptions(topology="mesh", caller="homepage", rate=50, duration_s=4)
        results.append(lab.load(options, progress=tell))

    driver = Thread(target=drive)
    driver.start()
    try:
        assert under_way.wait(WITHIN_S)
        lab.units.kill(replica)
    finally:
        lab.units.start(replica)
        driver.join(WITHIN_S)

    result: RunResult = results[0]
    run = read_run(result.folder)
    assert [(event.kind, event.target) for event in run.events] == [("kill", replica), ("start", replica)]
    first, last = (int(end(run.history.numbers("intended_ns"))) for end in (min, max))
    assert first < run.events[0].from_ns < last
    assert f"{replica} killed" in render([run])
    assert f"{replica} kill" in conditions(run)["faults"]
    assert not run.judged_now  # the verdicts are those of the run's end
    assert result.verdicts == run.result.verdicts


def test_a_run_after_that_has_no_marks(lab: Lab) -> None:
    result = lab.load(LoadOptions(topology="mesh", caller="homepage", rate=50, duration_s=1))

    assert tuple(read_run(result.folder).events) == ()
