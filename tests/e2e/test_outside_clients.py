"""Clients that are none of the lab's route by themselves, with the bootstrap that ``lab endpoints`` prints."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lab import CHECKOUT
from lab.lab import Lab
from tests.lab_command import json_of, refusal, run_lab
from tests.missing import missing

EXAMPLES = CHECKOUT / "docs" / "examples"
PACKAGES = CHECKOUT / ".venv" / "grpc-js"
OURS, THEIRS = ("cw-ranker.v1", "ContinueWatchingRanking"), ("search-ranker.v1", "SearchRanking")


@pytest.fixture(scope="module")
def lab(two_callers_lab: Lab) -> Lab:
    """Two callers, each with its own model, and certificates."""
    return two_callers_lab


@pytest.fixture(params=["grpcio", "grpc-js"])
def client(request: pytest.FixtureRequest, tmp_path: Path) -> list[str]:
    """The command of the example in ``docs/clients.md``."""
    if request.param == "grpcio":
        return [sys.executable, str(EXAMPLES / "proxyless.py")]
    if not (PACKAGES / "node_modules").exists():
        missing("grpc-js is not installed: make grpc-js")
    shutil.copy(EXAMPLES / "grpc-js" / "proxyless.mjs", tmp_path)
    (tmp_path / "node_modules").symlink_to(PACKAGES / "node_modules")
    return ["node", str(tmp_path / "proxyless.mjs")]


def run(client: list[str], bootstrap: object, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    file = folder / "xds.json"
    file.write_text(json.dumps(bootstrap))
    return subprocess.run(
        [*client, *arguments],
        cwd=CHECKOUT,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(CHECKOUT), "GRPC_XDS_BOOTSTRAP": str(file)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_bootstrap_is_all_that_a_client_needs(lab: Lab, client: list[str], tmp_path: Path) -> None:
    bootstrap = json_of(run_lab(lab, "endpoints", "--bootstrap", "homepage"))

    answered = run(client, bootstrap, tmp_path, *OURS)

    assert (answered.stdout, answered.returncode) == ("cw-ranker.v1 ml-cluster-1-a\n", 0), answered.stderr


def test_a_client_is_sent_the_keys_of_its_caller_only(lab: Lab, client: list[str], tmp_path: Path) -> None:
    bootstrap = json_of(run_lab(lab, "endpoints", "--bootstrap", "homepage"))

    answered = run(client, bootstrap, tmp_path, *THEIRS)

    assert (answered.stdout, answered.returncode) == ("", 1)
    assert re.search("^UNAVAILABLE: ", answered.stderr, re.MULTILINE), answered.stderr


def test_a_client_cannot_be_another_caller_with_its_own_certificate(
    lab: Lab, client: list[str], tmp_path: Path
) -> None:
    bootstrap = json_of(run_lab(lab, "endpoints", "--bootstrap", "homepage"))
    bootstrap["node"] |= {"id": "search-proxyless-1", "cluster": "search"}

    answered = run(client, bootstrap, tmp_path, *THEIRS)

    assert (answered.stdout, answered.returncode) == ("", 1)
    assert re.search("^(UNAVAILABLE|DEADLINE_EXCEEDED): ", answered.stderr, re.MULTILINE), answered.stderr


def test_each_process_gets_a_node_of_its_own(lab: Lab) -> None:
    ids = {lab.xds_bootstrap("homepage")["node"]["id"] for _ in range(5)}

    assert len(ids) == 5


def test_an_unknown_caller_is_refused_in_one_line(lab: Lab) -> None:
    line = refusal(run_lab(lab, "endpoints", "--bootstrap", "nobody"))

    assert line == f"lab: caller 'nobody' is not in lab {lab.name}; write one of homepage, search"
