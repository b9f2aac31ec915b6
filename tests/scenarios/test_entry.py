"""Scenarios outside the project: suites of others stay as they are, and a folder of one's own runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab_command import refusal, run_lab

FOREIGN = """
import sys
import pytest

@pytest.fixture
def lab():
    return "a laboratory"

@pytest.fixture(params=["bus", "ring"])
def topology(request):
    return request.param

def test_z_comes_first(lab):
    assert lab == "a laboratory"

def test_a_network(topology):
    assert topology in ("bus", "ring")

def test_nothing_of_the_scenarios_is_imported():
    assert not [name for name in sys.modules if name.startswith("scenarios.framework")]
"""
MIXED = """
import pytest

@pytest.mark.scenario(takes_s=1)
def test_a_claim(scenario, lab, topology):
    pass

def test_plain():
    pass
"""


def run_pytest(folder: Path, *options: str) -> tuple[int, str]:
    """Status and output, without what differs between runs."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, str(folder)],
        cwd=folder,
        env={**os.environ, "LAB_HOME": str(folder / "home")},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    return done.returncode, re.sub(r"in [\d.]+s|(?m:^plugins: .*)", "", done.stdout + done.stderr)


@pytest.mark.parametrize("options", [("-v",), ("--collect-only",)], ids=["run", "collect"])
def test_a_suite_without_scenarios_is_as_it_was(options: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "test_foreign.py").write_text(FOREIGN)

    with_it = run_pytest(tmp_path, *options)

    assert with_it == run_pytest(tmp_path, "-p", "no:routing_lab", *options)
    assert with_it[0] == 0, with_it[1]


def test_a_test_beside_scenarios_gets_no_lab(tmp_path: Path) -> None:
    (tmp_path / "test_mixed.py").write_text(MIXED)

    status, output = run_pytest(tmp_path, "-k", "plain")
    listed = run_pytest(tmp_path, "--collect-only", "--lab-topology", "mesh,gateway")[1]

    assert (status, "1 passed" in output) == (0, True), output
    assert not (tmp_path / "home" / ".lab").exists()
    assert re.findall(r"::(\S+)", listed) == ["test_a_claim[mesh]", "test_a_claim[gateway]", "test_plain"]


def test_a_topology_that_scenarios_do_not_have_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "test_mixed.py").write_text(MIXED)

    status, output = run_pytest(tmp_path, "--lab-topology", "pigeon")

    assert status != 0
    assert "'pigeon' is not a topology of the scenarios; write some of" in output
    assert "Traceback" not in output


def test_a_new_folder_has_a_scenario_that_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "mine"

    written = run_lab(None, "new", "scenario", folder)
    files = sorted(path.name for path in folder.rglob("*") if path.is_file())
    listed = run_pytest(folder, "--collect-only", "--lab-topology", "mesh")[1]  # may leave bytecode there

    assert written.returncode == 0, written.stderr
    assert files == ["conftest.py", "scenarios.yaml", "test_moves.py"]
    assert "test_moves.py::test_publishing_the_same_table_disturbs_nobody[mesh]" in listed
    assert "is not empty; name a new folder" in refusal(run_lab(None, "new", "scenario", folder))
