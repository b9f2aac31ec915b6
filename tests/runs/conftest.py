"""A run whose folder is sealed."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from lab.client import Endpoints
from lab.load.arrivals import Constant
from lab.load.plan import LoadPlan, UseCase
from lab.runs import judge
from lab.runs import seal as seals
from lab.runs.folder import DRIVER, RunFolder
from lab.runs.seal import provide_key, seal
from tests.report.builders import VERSIONS as SOME_VERSIONS
from tests.report.builders import make_record, make_revision


@pytest.fixture
def version(monkeypatch: pytest.MonkeyPatch) -> str:
    """Of the lab; git need not be asked."""
    monkeypatch.setattr(seals, "lab_version", lambda: "1.3.0 (1a2b3c4d5e6f)")
    return "1.3.0 (1a2b3c4d5e6f)"


@pytest.fixture
def key(tmp_path: Path) -> Ed25519PrivateKey:
    return provide_key(tmp_path)


@pytest.fixture
def run(tmp_path: Path, key: Ed25519PrivateKey, version: str) -> Path:
    """The folder of a good run of 400 requests, sealed."""
    del version
    folder = tmp_path / "runs" / "lab" / "20231114T221320.000000Z"
    folder.mkdir(parents=True)
    plan = LoadPlan(
        topology="mesh",
        caller="homepage",
        use_cases=(UseCase("Rows", "ranking.v1"),),
        arrivals=Constant(200, 2.0),
        endpoints=Endpoints(),
        spool=folder / "history.jsonl",
        summary=folder / DRIVER,
    )
    run = RunFolder(folder)
    run.plan, run.history = plan, [make_record(number) for number in range(400)]
    run.revisions, run.versions = [make_revision(1, loaded=1, converged=2)], SOME_VERSIONS
    run.summary = judge(folder).to_document()
    seal(run, key)
    return folder
