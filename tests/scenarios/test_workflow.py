"""The workflow for users' own continuous integration is one that GitHub would take, and calls what there is."""

import re
import subprocess
import sys
from pathlib import Path

import yaml

from lab import CHECKOUT

WORKFLOWS = sorted((CHECKOUT / ".github" / "workflows").glob("*.yaml"))


def test_actionlint_finds_nothing() -> None:
    actionlint = Path(sys.executable).parent / "actionlint"

    result = subprocess.run([str(actionlint), *WORKFLOWS], capture_output=True, text=True, check=False, cwd=CHECKOUT)

    assert (result.returncode, result.stdout) == (0, ""), result.stdout + result.stderr
    assert WORKFLOWS


def test_it_smokes_both_runtimes_with_a_target_that_there_is() -> None:
    (job,) = yaml.safe_load((CHECKOUT / ".github" / "workflows" / "smoke.yaml").read_text())["jobs"].values()
    targets = set(re.findall(r"^([a-z0-9-]+):", (CHECKOUT / "Makefile").read_text(), re.MULTILINE))
    scripts = [step["run"] for step in job["steps"] if "run" in step]

    assert job["strategy"]["matrix"]["runtime"] == ["process", "compose"]
    assert {name for script in scripts for name in re.findall(r"\bmake ([a-z-]+)", script)} & targets == {"smoke"}
