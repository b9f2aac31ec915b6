"""A fault from one file outside the lab: commands know it, and its run's time line shows it to readers without it."""

from __future__ import annotations

from pathlib import Path

from docs.examples import bounce
from lab.lab import Lab
from lab.report import read_run, render
from lab.runs import LoadOptions, background_load
from lab.runs.events import faults_in, lab_events
from tests.lab_command import json_of, refusal, run_lab

A = "ml-cluster-1-a"
MOST_LINES = 60


def test_a_fault_from_one_file_is_listed_injected_healed_and_on_the_time_line(lab: Lab) -> None:
    plugin = ("--plugin", bounce.__file__)
    options = LoadOptions(topology="mesh", caller="homepage", rate=50, duration_s=6)

    with background_load(lab.load, options) as (running,):
        injected = json_of(run_lab(lab, "fault", "inject", "bounce", A, "--for", "0.5", "--json", *plugin))
    run = read_run(running.result().folder)

    kinds = json_of(run_lab(lab, "fault", "list", "--json", *plugin))["kinds"]
    assert "bounce" in [kind["kind"] for kind in kinds]
    assert injected["observed"]["visible"] == "yes"
    assert injected["healed"]
    assert [event.text for event in lab_events(lab.folder)[-2:]] == [f"{A} bounced", f"{A} healed"]
    assert f"{A} bounced" in render([run])
    end_ns = int(run.history.numbers("intended_ns").max())
    assert [fault.name for fault in faults_in(run.events, from_ns=run.start_ns, until_ns=end_ns)] == [f"{A} bounced"]


def test_a_command_without_the_file_does_not_know_the_fault(lab: Lab) -> None:
    refused = refusal(run_lab(lab, "fault", "inject", "bounce", A))

    assert refused.startswith("lab: fault 'bounce' is not known; there are bad-push, ")


def test_one_file_of_at_most_60_lines_is_enough() -> None:
    assert len(Path(bounce.__file__).read_text().splitlines()) <= MOST_LINES
