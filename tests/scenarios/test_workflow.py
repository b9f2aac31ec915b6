"""The workflows for users' own continuous integration are such that GitHub would take, and call what there is."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab import CHECKOUT

WORKFLOWS = sorted((CHECKOUT / ".github" / "workflows").glob("*.yaml"))
SCRIPTS = [path for path in (CHECKOUT / ".ci").iterdir() if path.name in {"run", "nightly", "in-debian"}]
TARGETS = set(re.findall(r"^([a-z0-9-]+):", (CHECKOUT / "Makefile").read_text(), re.MULTILINE))


def commands(workflow: Path) -> Iterator[str]:
    """All that the workflow's jobs run, with the values of their matrix."""
    for job in yaml.safe_load(workflow.read_text())["jobs"].values():
        matrix: dict[str, Any] = job.get("strategy", {}).get("matrix", {})
        combinations = matrix.get("include") or [{name: each} for name, values in matrix.items() for each in values]
        for step in job["steps"]:
            for values in combinations or [{}]:
                command = step.get("run", "")
                for name, value in values.items():
                    command = command.replace(f"${{{{ matrix.{name} }}}}", str(value))
                yield command


def called(script: str) -> tuple[set[str], set[str]]:
    """Targets of make, and files of the checkout, that a script calls."""
    lines = re.sub(r"\\\n|^ *#.*$", "", script, flags=re.MULTILINE).splitlines()
    makes = (re.findall(r"\bmake ((?:[a-z0-9-]+ ?)+)", line) for line in lines if "make" in line)
    files = re.findall(r"(?<![\w/.$])(\.ci/[\w-]+)", "\n".join(lines))
    return {name for words in chain.from_iterable(makes) for name in words.split()}, set(files)


def test_actionlint_finds_nothing() -> None:
    actionlint = Path(sys.executable).parent / "actionlint"

    result = subprocess.run([str(actionlint), *WORKFLOWS], capture_output=True, text=True, check=False, cwd=CHECKOUT)

    assert (result.returncode, result.stdout) == (0, ""), result.stdout + result.stderr
    assert WORKFLOWS


@pytest.mark.parametrize("path", [*WORKFLOWS, *SCRIPTS], ids=lambda path: path.name)
def test_what_they_call_exists(path: Path) -> None:
    targets, files = called("\n".join(commands(path)) if path in WORKFLOWS else path.read_text())

    assert targets - TARGETS == set()
    assert [each for each in files if not (CHECKOUT / each).stat().st_mode & 0o100] == []


def test_together_they_run_the_whole_suite_and_each_part_of_the_nightly() -> None:
    every = json.dumps([*chain.from_iterable(map(commands, WORKFLOWS))])
    [parts] = re.findall(r"\|\| set -- (.*)", (CHECKOUT / ".ci" / "nightly").read_text())

    assert len(parts.split()) >= 5
    for command in ("make test-unit", ".ci/run", *(f".ci/nightly {part}" for part in parts.split())):
        assert command in every
    assert "test-all" in called((CHECKOUT / ".ci" / "run").read_text())[0]


def test_it_smokes_both_runtimes_with_a_target_that_there_is() -> None:
    (job,) = yaml.safe_load((CHECKOUT / ".github" / "workflows" / "smoke.yaml").read_text())["jobs"].values()

    assert job["strategy"]["matrix"]["runtime"] == ["process", "compose"]
    assert set().union(*(called(each)[0] for each in commands(CHECKOUT / ".github/workflows/smoke.yaml"))) == {"smoke"}
