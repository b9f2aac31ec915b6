"""How `lab logs` and `lab runs` look."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lab.cli import app
from lab.lab import Lab
from lab.ops.inspect import LogLine

CALLER = LogLine("homepage", "caller", {"time": 1000.040, "request_id": "r", "status": "OK", "ms": 40.0441})
SIDECAR = LogLine(
    "homepage-sidecar",
    "sidecar",
    {"at": "1970-01-01T00:16:40.010Z", "request_id": "r", "status": "OK", "ms": 20, "copy": None, "upstream": "a:1"},
)


def logs_of(lines: list[LogLine], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> list[str]:
    monkeypatch.setattr(Lab, "logs", lambda *_: lines)
    app(["logs", "r", "--name", "mine"], standalone_mode=False)
    return capsys.readouterr().out.splitlines()


def test_a_waterfall_says_when_each_unit_worked_on_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = logs_of([CALLER, SIDECAR], monkeypatch, capsys)

    assert seen[0].split() == ["unit", "role", "at", "ms", "ms", "status"]
    assert seen[1].split() == ["homepage", "caller", "0.0", "40.0", "OK", "█" * 30]
    assert seen[2].split() == ["homepage-sidecar", "sidecar", "10.0", "20", "OK", "█" * 15]
    assert seen[2].index("█") - seen[1].index("█") == 8
    assert "homepage-sidecar: upstream a:1" in seen
    assert "log-requests" not in seen[-1]


def test_without_the_callers_line_it_says_how_to_get_more(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = logs_of([SIDECAR], monkeypatch, capsys)

    assert "█" * 30 in seen[1]
    assert seen[-1].endswith("lab down --name mine && lab up --log-requests --name mine")


def save_run(folder: Path, *, verdict: str = "") -> None:
    folder.mkdir(parents=True)
    (folder / "plan.json").write_text(json.dumps({"topology": "mesh", "caller": folder.name}))
    if verdict:
        claims = dict.fromkeys(("correctness", "availability", "timing"), verdict)
        summary = {"planned": 7, "failed": 1, "p50_ms": 1.234, "p99_ms": 5.678, "claims": claims}
        (folder / "summary.json").write_text(json.dumps(summary))


def test_runs_are_listed_newest_first_with_their_verdicts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LAB_HOME", str(tmp_path))
    of = tmp_path / "runs" / "mine"
    save_run(of / "20260101T000000.000000Z", verdict="valid")
    save_run(of / "20260103T000000.000000Z")
    together = of / "20260102T000000.000000Z"
    save_run(together / "a", verdict="invalid")
    save_run(together / "b", verdict="unknown")
    (together / "together.json").write_text('["a", "b"]')
    (of / "latest").symlink_to(together)
    (of / "none").mkdir()

    app(["runs", "--name", "mine", "--last", "3"], standalone_mode=False)

    _, newest, first, second, more, *_ = capsys.readouterr().out.splitlines()
    assert newest.split()[:3] == ["20260103T000000.000000Z", "mesh", "20260103T000000.000000Z"]
    assert newest.split()[3:] == ["not", "judged"] * 3
    assert first.split() == [f"{together.name}/a", "mesh", "a", "7", "1", "1.23", "5.68", *["invalid"] * 3]
    assert second.split()[-3:] == ["unknown"] * 3
    assert more == "1 more: lab runs --last 0"


def test_a_lab_without_runs_names_labs_that_have_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LAB_HOME", str(tmp_path))
    save_run(tmp_path / "runs" / "yours" / "20260101T000000.000000Z")

    app(["runs", "--name", "mine"], standalone_mode=False)

    assert capsys.readouterr().out.splitlines() == [
        "lab mine has no runs; `lab load` makes one",
        "labs with runs: yours (name one with --name)",
    ]
