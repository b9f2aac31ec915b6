"""Folders of runs with devices, pipes or values of another kind in them are judged, or refused in one line."""

import json
import os
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from random import Random
from typing import Any

import pytest

from lab.checkers import coverage
from lab.errors import RunError
from lab.report.run import read_runs
from lab.runs import judge, runs_in
from lab.runs.evidence import planned_in
from lab.runs.folder import EVIDENCE, PLAN, RunFolder
from tests.hostile_files import FILES, put
from tests.report.builders import make_record, write_run

WRONG: tuple[Any, ...] = (None, True, -1, 2**63, 0.5, "text", [], {}, [None], {"a": None})
SAMPLE = int(os.environ.get("HOSTILE_VALUES", "20"))
READ_BEFORE_JUDGING = {PLAN, RunFolder.revisions.name, RunFolder.history.name}
MORE = {
    "driver.json": {"planned": 20},
    "window.json": {"from_ns": 1, "until_ns": 2},
    "spec.json": {"security": {"mode": "mtls"}, "receipt_key": ""},
    "probes.json": [["resolver", 1, 2, 1]],
    "registrations.json": {"asked_ns": 1, "before": [], "after": [{"since_ns": 1, "replicas": []}]},
    "published.json": {"1": [["r.yaml", "use_cases: {}\nmodels: {}\nclusters: {}\n"]]},
}


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """A value that is wrong for one of the requests that a checker draws by a run's plan is wrong for each."""
    monkeypatch.setattr(coverage, "DRAWN", 100)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with all kinds of evidence."""
    folder = write_run(tmp_path_factory.mktemp("run"), [make_record(each) for each in range(20)])
    for name, document in MORE.items():
        (folder / name).write_text(json.dumps(document))
    run = RunFolder(folder)
    planned = planned_in(run)
    assert planned
    run.planned = planned.requests
    judge(folder)
    return folder


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    """A copy of it, to damage."""
    folder = tmp_path / "runs" / "lab" / "run"
    folder.mkdir(parents=True)
    for file in run.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def tried(folder: Path, name: str) -> None:
    """Judges a run and reads it for a report; either may be refused, in one line that names a file.

    A report is refused before it judges the run only if its plan, revisions or history cannot be read.
    """
    alone = judge if name in READ_BEFORE_JUDGING else str
    for read in (lambda: [alone(each) for each in runs_in(folder)], lambda: read_runs([folder])):
        said = str(folder)
        try:
            read()
        except RunError as error:
            said = str(error)
        assert str(folder) in said
        assert "\n" not in said


@pytest.mark.parametrize("name", [*EVIDENCE, "seal.json"])
def test_no_file_of_a_run_hangs_its_judge(name: str, copy: Path) -> None:
    for kind in FILES:
        put(kind, copy / name)
        tried(copy, name)
        if (copy / name).is_dir():
            (copy / name).rmdir()


@pytest.mark.parametrize("name", ["plan.json", "revisions.json", "events.json", "versions.json", *MORE])
def test_any_value_in_a_run_may_be_something_else(name: str, copy: Path) -> None:
    document = json.loads((copy / name).read_text())
    (copy / RunFolder.planned.name).unlink()  # so that the plan is read again
    choices = list(product(_paths(document), WRONG))
    for path, wrong in Random(name).sample(choices, min(SAMPLE, len(choices))):  # noqa: S311 (no secret)
        (copy / name).write_text(json.dumps(_with(document, path, wrong)))
        tried(copy, name)


def test_a_refused_plan_and_revisions_are_named(copy: Path) -> None:
    revisions = RunFolder.revisions.name
    for name, content, says in (
        (PLAN, "/dev/zero", f"{copy / PLAN}: cannot be read: is not a regular file"),
        (revisions, "null", f"{copy / revisions}: no list of revisions"),
    ):
        before = (copy / name).read_bytes()
        (copy / name).unlink()
        if content.startswith("/"):
            (copy / name).symlink_to(content)
        else:
            (copy / name).write_text(content)
        with pytest.raises(RunError, match=says):
            judge(copy)
        (copy / name).unlink()
        (copy / name).write_bytes(before)


def _paths(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield at
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in inside:
        yield from _paths(child, (*at, key))


def _with(value: Any, path: tuple[Any, ...], wrong: Any) -> Any:
    if not path:
        return wrong
    copied = value.copy()
    copied[path[0]] = _with(value[path[0]], path[1:], wrong)
    return copied
