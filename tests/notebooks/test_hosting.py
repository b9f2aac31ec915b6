"""Codespaces and Binder install what `make notebooks` does: from the lock, by targets that exist."""

from __future__ import annotations

import json
import os
import re
import subprocess

import pytest

from lab import CHECKOUT

BINDER = CHECKOUT / "binder"
COMMENTED = (CHECKOUT / ".devcontainer" / "devcontainer.json").read_text()
DEVCONTAINER = re.sub(r"^\s*//.*$", "", COMMENTED, flags=re.MULTILINE)
COMMANDS = {"codespaces": json.loads(DEVCONTAINER)["postCreateCommand"], "binder": (BINDER / "postBuild").read_text()}


@pytest.mark.parametrize("host", COMMANDS)
def test_a_host_installs_by_make_alone(host: str) -> None:
    [target] = re.findall(r"^make (\S+)", COMMANDS[host], re.MULTILINE)
    command = ["make", "--dry-run", "--old-file=.venv/ready", target]
    plan = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout

    assert target == ".venv/with-notebooks"
    assert ".ci/install.sh .venv/bin/python notebooks" in plan or "is up to date" in plan
    assert "pip install" not in COMMANDS[host]


def test_binder_can_run_its_script_on_a_python_that_the_lab_supports() -> None:
    assert os.access(BINDER / "postBuild", os.X_OK)
    subprocess.run(["bash", "-n", str(BINDER / "postBuild")], check=True)
    assert "make" in (BINDER / "apt.txt").read_text().split()
    version = (BINDER / "runtime.txt").read_text().strip().removeprefix("python-")
    assert tuple(map(int, version.split("."))) >= (3, 11)
