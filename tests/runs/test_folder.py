"""The files of a run's folder: what stands in for one that older runs lack, and what is said of a damaged one."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.checkers import ProbeAnswer
from lab.errors import RunError
from lab.runs import judge
from lab.runs.evidence import planned_in
from lab.runs.folder import EVIDENCE, FILES, RunFolder
from tests.report.builders import make_record, write_run

REQUIRED = {"plan.json", "history.parquet", "revisions.json"}
"""Files that a run of any release has, and no judge can do without."""

OTHER_SHAPES = {
    "arrivals.parquet": ["nonsense"],
    "copies.json": ["[]", '{"cw-ranker.v3": "r1"}', '{"cw-ranker.v3": [1]}', '{"rows.v3": [["r1"]]}', "{"],
    "driver.json": ["[]", "{}", '{"planned": "x"}'],
    "events.json": ["{", "{}x", '[{"kind": "kill"}]', '[{"target": "a-0"}]', "3", '["kill"]'],
    "missing.json": ["[1]", "null", "3"],
    "planned.parquet": ["nonsense"],
    "probes.json": ["3", "[[1, 2]]", '[["a", 1, 2, "x"]]'],
    "published.json": ["[]", '{"one": []}', '{"1": [["a"]]}', '{"1": [["a", "- b"]]}'],
    "questions.parquet": ["nonsense"],
    "registrations.json": ["[]", "{}", '{"asked_ns": 1, "before": [], "after": [{}]}'],
    "revisions.json": ["null", "[1]", '[{"revision": 1, "steps": []}]'],
    "spec.json": ["3", '{"security": 1}'],
    "together.json": ["[]", "{}", "[1]"],
    "units.json": ["[]", '{"gateway": "gateway-1"}', "3"],
    "versions.json": ["3", "[]"],
    "window.json": ["{}", '{"from_ns": 1}'],
}


def _content(run: RunFolder, name: str) -> object:
    [attribute] = [each for each, file in vars(RunFolder).items() if file is FILES[name]]
    return getattr(run, attribute)


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in OTHER_SHAPES.items() for text in texts])
def test_a_file_of_another_shape_is_named_in_one_line(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)

    with pytest.raises(RunError) as caught:
        _content(RunFolder(tmp_path), name)

    assert str(caught.value).startswith(str(tmp_path / name))
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run with every file that its judge reads."""
    run = RunFolder(write_run(tmp_path_factory.mktemp("run"), [make_record(each) for each in range(20)]))
    planned = planned_in(run)
    assert planned
    run.planned, run.probes, run.missing = planned.requests, [], {}
    run.driver, run.window = {"planned": 20}, {"from_ns": 1, "until_ns": 2}
    run.registrations = {"asked_ns": 1, "before": [], "after": []}
    run.copies, run.published, run.spec = {}, {}, {"security": {"mode": "plaintext"}}
    return run


@pytest.mark.parametrize("name", EVIDENCE)
def test_a_run_may_lack_what_older_releases_did_not_write(name: str, run: RunFolder, tmp_path: Path) -> None:
    for file in run.path.iterdir():
        if file.name != name:
            (tmp_path / file.name).symlink_to(file)

    if name in REQUIRED:
        with pytest.raises(RunError, match=name):
            judge(tmp_path)
    else:
        assert len(judge(tmp_path).verdicts) > 1


def test_answers_to_probes_are_read(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.probes = [ProbeAnswer("homepage-resolver", 5, 6, 1)]
    assert run.probes == [ProbeAnswer("homepage-resolver", 5, 6, 1)]


def test_copies_have_an_id_and_a_receipt_by_routing_key_and_older_files_no_receipt(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.copies = {"rows.v3": [["r1", "ab"], ["r1", "cd"]], "rows.v2": ["r2"], "x.v1": []}
    assert run.copies == {"rows.v3": [("r1", "ab"), ("r1", "cd")], "rows.v2": [("r2", "")], "x.v1": []}
