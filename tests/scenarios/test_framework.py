"""What a scenario leaves: steps, marks, JUnit, a run folder, and a message that tells the whole story."""

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from lab import CHECKOUT
from lab.lab import Lab
from tests.labs import states
from tests.sessions import run_pytest

MODULE = """
import pytest
from datetime import timedelta
from lab.runs import LoadOptions
from lab.waiting import eventually
from scenarios.framework.steps import (
    GONE_WITHIN,
    assert_all_answered_rightly,
    is_gone,
    records_of,
    registered,
    under_load,
)

VICTIM = "ml-cluster-1-a"

pytestmark = pytest.mark.scenario(takes_s=1)

def test_fine(scenario, lab, topology):
    with scenario.step("Drive some load"):
        lab.load(LoadOptions(topology=topology, caller="homepage", rate=50, duration_s=1))
    scenario.figure("answered", "all")

def test_wrong(scenario, lab):
    with scenario.step("Kill one"):
        lab.units.kill(VICTIM)
        scenario.see("it is gone", lambda: is_gone(lab, VICTIM), within=GONE_WITHIN)
    with scenario.step("Claim too much"):
        assert VICTIM in registered(lab)

@pytest.mark.scenario(topologies=("gateway-nginx",))
def test_on_a_topology_that_was_not_asked_for(scenario, lab, topology):
    raise AssertionError

def test_unseen(scenario, lab):
    lab.units.kill("ml-cluster-2-a")
    lab.units.start("ml-cluster-2-a")

def test_without_effect(scenario, lab):
    scenario.see("pigs fly", lambda: False, within=timedelta(milliseconds=50))

def test_untidy(scenario, lab):
    lab.units.kill(VICTIM)
    scenario.saw()

def test_fault_under_load(scenario, lab, topology):
    load = LoadOptions(topology=topology, caller="homepage", rate=50, duration_s=60)
    with under_load(lab, load) as run:
        with scenario.fault("error", "ml-cluster-6", rate=1):
            pass
        scenario.kill("payments-resolver").heal()
    assert_all_answered_rightly(run.result())
    assert 0 < len(records_of(run.result())) < 50 * 30

def test_fault_that_nobody_can_see(scenario, lab, monkeypatch):
    monkeypatch.setattr("scenarios.framework.scenario.SEEN_WITHIN", timedelta(milliseconds=50))
    fault = lab.faults.inject("error", "ml-cluster-6")
    fault.heal()
    scenario.see_fault(fault)

def test_fine_again(scenario, lab):
    eventually("it is back", lambda: VICTIM in registered(lab), within=GONE_WITHIN)
"""


@pytest.fixture(scope="module")
def session(default_lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """One session of some scenarios, good and bad: what it printed, and where it left things."""
    folder = tmp_path_factory.mktemp("session")
    (folder / "test_some.py").write_text(MODULE)
    (folder / "pytest.ini").write_text("[pytest]\naddopts = --import-mode=importlib\ntimeout = 60\n")
    options = ["-v", folder, "--lab-topology=mesh", f"--lab-name={default_lab.name}"]
    options += [f"--lab-runs={folder / 'runs'}", f"--junitxml={folder / 'junit.xml'}"]
    home = str(default_lab.folder.parent.parent)
    result = run_pytest(*options, cwd=CHECKOUT, imports=CHECKOUT, timeout_s=110, LAB_HOME=home)
    for unit, state in states(default_lab).items():
        if state == "exited":  # by a scenario that is to be found untidy
            default_lab.units.start(unit)
    assert result.returncode == 1, result.stdout + result.stderr
    return result.stdout, folder


def _properties(session: tuple[str, Path], name: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for case in ET.parse(session[1] / "junit.xml").iter("testcase"):  # noqa: S314 (our own file)
        if case.attrib["name"].partition("[")[0] == name:
            for each in case.iter("property"):
                found.setdefault(each.attrib["name"], []).append(each.attrib["value"])
    return found


@pytest.mark.parametrize(
    ("name", "verdict"),
    [
        ("test_fine", "valid"),
        ("test_wrong", "invalid"),
        ("test_unseen", "unknown"),
        ("test_without_effect", "unknown"),
        ("test_untidy", "invalid"),
        ("test_fault_under_load", "valid"),
        ("test_fault_that_nobody_can_see", "unknown"),
        ("test_fine_again", "valid"),
    ],
)
def test_junit_tells_valid_invalid_and_unknown_apart(session: tuple[str, Path], name: str, verdict: str) -> None:
    assert _properties(session, name)["verdict"] == [verdict]


def test_junit_has_steps_figures_and_the_run_folder(session: tuple[str, Path]) -> None:
    found = _properties(session, "test_fine")

    assert [step.partition(" (")[0] for step in found["step"]] == ["1. Drive some load"]
    assert found["answered"] == ["all"]
    (run,) = found["run_dir"]
    events = json.loads((Path(run) / "events.json").read_text())
    assert tuple(events[0][name] for name in ("kind", "target", "detail")) == ("step", "1.", "Drive some load")


def test_a_scenario_on_other_topologies_is_left_out(session: tuple[str, Path]) -> None:
    assert "1 deselected" in session[0]
    assert "skipped" not in session[0]


def test_steps_are_shown_as_they_go(session: tuple[str, Path]) -> None:
    text = session[0]

    assert text.index("  1. Kill one") < text.index("  2. Claim too much")


def test_a_failure_says_how_units_were_what_they_said_last_and_where_to_look(session: tuple[str, Path]) -> None:
    text, folder = session

    assert re.search(r"2\. Claim too much \(\d+\.\d s\): invalid", text)
    for part in ("ml-cluster-1-a: exited", "log of control-plane", str(folder)):
        assert part in text, part
    assert "ml-cluster-1-a registered" in text or "replica ml-cluster-1-a" in text


def test_an_unknown_says_so_and_why(session: tuple[str, Path]) -> None:
    assert "UNKNOWN: no effect of kill ml-cluster-2-a was seen" in session[0]
    assert "UNKNOWN: the fault had no visible effect: pigs fly" in session[0]


def test_state_that_a_scenario_leaves_is_its_error_and_is_undone(session: tuple[str, Path]) -> None:
    assert "ml-cluster-1-a is exited" in session[0]
    assert "it was undone" in session[0]


def test_the_result_of_each_is_kept_in_one_folder_a_session(session: tuple[str, Path]) -> None:
    results = [json.loads(path.read_text()) for path in (session[1] / "runs" / "latest").glob("some/*/scenario.json")]

    assert {each["name"]: each["topology"] for each in results} == {
        **dict.fromkeys(["test_fine", "test_fault_under_load"], "mesh"),
        **dict.fromkeys(["test_wrong", "test_unseen", "test_without_effect", "test_untidy"], ""),
        **dict.fromkeys(["test_fault_that_nobody_can_see", "test_fine_again"], ""),
    }
    assert {each["runtime"] for each in results} == {"process"}
