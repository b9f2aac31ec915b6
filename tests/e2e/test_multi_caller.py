"""Several callers at the same time: one driver each, one folder for all, and what a fault did to whom."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from threading import Event
from time import monotonic

import pytest

from lab.errors import UnitError
from lab.lab import Lab
from lab.load.progress import Progress
from lab.measure.hit_requests import LEAST_REQUESTS
from lab.report import is_of_benches, read_runs, render
from lab.runs import LoadOptions, runs_in
from lab.runs.fault_rounds import parallel_runs
from lab.runs.folder import SPOOL
from lab.runtime.cancellation import CancelToken
from lab.waiting import eventually
from tests.lab_command import await_line, json_of, refusal, run_lab, start_lab
from tests.labs import processes_of

WITHIN_S = 40.0
RATE = 25.0
CALLERS = ("homepage", "search")


def options(*callers: str, duration_s: float) -> list[LoadOptions]:
    return [
        LoadOptions(topology="mesh", caller=each, rate=RATE, duration_s=duration_s, seed=place)
        for place, each in enumerate(callers)
    ]


class Done:
    """Waits until so many requests of each run are done."""

    def __init__(self, runs: int) -> None:
        self._runs, self._least, self._changed = runs, 0, Event()

    def __call__(self, seen: Mapping[str, Progress]) -> None:
        if len(seen) == self._runs:
            self._least = min(each.done for each in seen.values())
        self._changed.set()

    def wait(self, more: int) -> None:
        wanted, give_up = self._least + more, monotonic() + WITHIN_S
        while self._least < wanted:
            assert self._changed.wait(give_up - monotonic()), f"{self._least} of {wanted} requests"
            self._changed.clear()


def test_a_dead_sidecar_reaches_its_caller_alone_and_the_report_says_so(lab: Lab) -> None:
    cancel_token, done = CancelToken(), Done(len(CALLERS))
    with ThreadPoolExecutor(max_workers=1) as pool:
        run = pool.submit(
            lab.load_parallel, options(*CALLERS, duration_s=120), progress=done, cancel_token=cancel_token
        )
        try:
            done.wait(3 * LEAST_REQUESTS)
            lab.units.kill("homepage-sidecar")
            done.wait(3 * LEAST_REQUESTS)
            lab.units.start("homepage-sidecar")
            done.wait(6 * LEAST_REQUESTS)
        finally:
            cancel_token.cancel()
        result = run.result()

    assert [each.folder.name for each in result.runs] == ["mesh-homepage", "mesh-search"]
    assert [each.folder for each in result.runs] == runs_in(result.folder)
    assert not is_of_benches(result.folder)
    (found,) = parallel_runs(runs_in(result.folder)).radii()
    assert (found.fault, found.topology, found.unknown) == ("homepage-sidecar killed", "mesh", ())
    assert found.callers is not None
    assert (found.callers.values, found.of_callers) == ((1,), 2)
    html = render(read_runs(runs_in(result.folder)))
    assert 'id="blast"' in html
    assert ">1 of 2 callers</text>" in html


def test_the_command_drives_all_and_checks_all(lab: Lab) -> None:
    done = run_lab(lab, "load", "--caller", "all", "--rate", "20", "--duration", "2", "--json")

    document = json_of(done, statuses=(0, 2))
    assert len(lab.endpoints().callers) == len(document["runs"])
    assert all((each["failed"], each["misrouted"]) == (0, 0) and each["ok"] for each in document["runs"])
    again = run_lab(None, "check", document["run_dir"], "--json")
    assert document["verdict"] == json_of(again, statuses=(0, 2))["verdict"]
    shown = run_lab(None, "check", document["run_dir"])
    assert "all together: " in shown.stdout
    report = run_lab(None, "report", document["run_dir"])
    assert report.returncode == 0, report.stderr
    assert "5 runs" in (Path(document["run_dir"]) / "report.html").read_text()


@pytest.mark.parametrize(
    ("mistake", "remedy"),
    [
        (["--caller", "homepage,homepage"], "homepage is named twice; name each once"),
        (["--caller", ","], "names no caller; write one, several with commas, or all"),
        (["--caller", "homepage,nobody"], "'nobody' is not in this lab"),
        (["--caller", "all", "--use-case", "UpNext"], "leave it out, or name one caller"),
        (["--caller", "all", "--engine", "locust"], "locust drives one caller at a time"),
    ],
)
def test_a_mistake_is_one_line_and_drives_nothing(lab: Lab, mistake: list[str], remedy: str) -> None:
    before = sorted(lab.runs.glob("*"))

    assert remedy in refusal(run_lab(lab, "load", *mistake), status=3)
    assert sorted(lab.runs.glob("*")) == before


def test_ctrl_c_ends_all_and_keeps_all(lab: Lab) -> None:
    run = start_lab(lab, "load", "--caller", ",".join(CALLERS), "--rate", "20", "--duration", "90")
    await_line(run, " done, ")
    spools = [lab.runs / "latest" / f"mesh-{caller}" / SPOOL for caller in CALLERS]
    eventually("all send", lambda: all(each.exists() for each in spools), within=timedelta(seconds=WITHIN_S))
    run.send_signal(signal.SIGINT)
    output, _ = run.communicate(timeout=WITHIN_S)

    assert run.returncode in {0, 2}, output  # a caller may not have been answered yet
    assert len(CALLERS) == output.count("UNSENT")
    assert re.search(r"^run +right +wrong +failed .*verdict", output, re.MULTILINE)
    assert "all together: valid" in output or "all together: unknown" in output
    assert processes_of(lab, "driver") == []


def test_a_driver_that_dies_breaks_the_others_off(lab: Lab) -> None:
    done = Done(len(CALLERS))
    with ThreadPoolExecutor(max_workers=1) as pool:
        run = pool.submit(lab.load_parallel, options(*CALLERS, duration_s=90), progress=done)
        done.wait(LEAST_REQUESTS)
        os.kill(processes_of(lab, "driver")[0].pid, signal.SIGKILL)
        with pytest.raises(UnitError, match="the driver ended with status -9"):
            run.result(timeout=WITHIN_S)

    assert processes_of(lab, "driver") == []
