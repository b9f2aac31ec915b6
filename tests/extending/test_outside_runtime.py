"""One file outside the project adds a runtime."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from docs.examples import background
from lab.lab import Lab
from lab.ops.doctor import examine
from lab.registry import PLUGINS
from lab.runtime import RUNTIMES, choose
from tests.lab_command import json_of, run_lab

NAME, FILE = background.BackgroundRuntime.name, background.__file__


def test_a_lab_stands_on_it_and_later_commands_find_it(own_lab: Lab, mini_spec: Path) -> None:
    up = run_lab(own_lab, "up", "--spec", str(mini_spec), "--runtime", NAME, "--plugin", FILE)
    assert up.returncode == 0, up.stderr

    status = json_of(run_lab(own_lab, "status", "--json"))

    assert status["runtime"] == NAME
    assert {os.getpriority(os.PRIO_PROCESS, unit["pid"]) for unit in status["units"]} == {background.NICENESS}
    paused = run_lab(own_lab, "fault", "inject", "pause", "homepage", "--for", "1")
    assert paused.returncode == 0, paused.stderr
    assert run_lab(own_lab, "down", "--json").stdout.strip() == json.dumps({"ended": len(status["units"])}, indent=1)


def test_auto_takes_the_runtime_of_highest_priority_that_can_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PLUGINS, FILE)
    monkeypatch.setenv("LAB_RUNTIME", "auto")

    by_priority = sorted(RUNTIMES.values(), key=lambda kind: -kind.priority)
    assert RUNTIMES[NAME].priority == by_priority[-1].priority
    assert choose("auto")[0] == next(kind.name for kind in by_priority if not kind.obstacle())


def test_its_own_option_is_one_of_lab_up(own_lab: Lab, mini_spec: Path) -> None:
    shown = run_lab(None, "up", "--help", "--plugin", FILE)
    assert "--niceness" in shown.stdout
    assert "--niceness" not in run_lab(None, "up", "--help").stdout

    options = ("--spec", str(mini_spec), "--runtime", NAME, "--plugin", FILE)
    refused = run_lab(own_lab, "up", *options, "--niceness", "20")
    assert (refused.returncode, refused.stderr.splitlines()[-1]) == (
        1,
        "lab: --niceness: '20' is out of range: use 0 to 19",
    )
    others = run_lab(own_lab, "up", "--runtime", "process", "--plugin", FILE, "--niceness", "15")
    assert others.stderr.splitlines()[-1] == "lab: --niceness: is for --runtime background only"

    up = run_lab(own_lab, "up", *options, "--niceness", "15")
    assert up.returncode == 0, up.stderr
    units = json_of(run_lab(own_lab, "status", "--json"))["units"]
    assert {os.getpriority(os.PRIO_PROCESS, unit["pid"]) for unit in units} == {15}


def test_the_doctor_runs_its_checks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(PLUGINS, FILE)

    diagnosis = examine(tmp_path)

    assert [each.name for each in diagnosis.parts[NAME]] == ["niceness"]
    assert NAME in diagnosis.ready
