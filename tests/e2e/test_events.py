"""A fault in a run is in its folder, and on its time line."""

from __future__ import annotations

from lab.lab import Lab
from lab.report import read_run, render
from lab.report.conditions import conditions
from lab.runs import LoadOptions, background_load
from lab.runs.folder import RunFolder


def test_a_kill_during_a_run_is_marked_where_it_happened(lab: Lab) -> None:
    replica = next(unit.name for unit in lab.status().units if unit.role == "model")
    options = LoadOptions(topology="mesh", caller="homepage", rate=50, duration_s=4)

    with background_load(lab.load, options) as (running,):
        lab.units.kill(replica)
        lab.units.start(replica)
    result = running.result()

    run = read_run(result.folder)
    assert [(event.kind, event.target) for event in run.events] == [("kill", replica), ("start", replica)]
    first, last = (int(end(run.history.numbers("intended_ns"))) for end in (min, max))
    assert first < run.events[0].from_ns < last
    assert f"{replica} killed" in render([run])
    assert f"{replica} kill" in conditions(run)["faults"]
    assert result.verdicts == run.result.verdicts
    known = RunFolder(result.folder).registrations
    assert known is not None
    left, back = (each for each in known.replicas if each.replica == replica)
    assert left.until_ns is not None
    assert run.events[0].from_ns < left.until_ns < back.from_ns
    assert (back.until_ns, known.gap_ns) == (None, None)


def test_a_run_after_that_has_no_marks(lab: Lab) -> None:
    result = lab.load(LoadOptions(topology="mesh", caller="homepage", rate=50, duration_s=1))

    assert tuple(read_run(result.folder).events) == ()
