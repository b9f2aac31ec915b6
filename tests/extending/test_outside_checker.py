"""One file outside the project adds a checker with its own evidence, which is saved and sealed with the run."""

from __future__ import annotations

from pathlib import Path

from docs.examples import memory_budget
from lab.checkers import CHECKERS
from lab.lab import Lab
from tests.lab_command import json_of, run_lab

NAME, FILE = memory_budget.NAME, memory_budget.__file__
LOAD = ("load", "--topology", "mesh", "--rate", "20", "--duration", "1", "--json")


def outcome(document: dict[str, list[dict[str, str]]]) -> str:
    (found,) = [each["outcome"] for each in document["verdicts"] if each["checker"] == NAME]
    return found


def test_its_evidence_is_gathered_sealed_and_judged(small_lab: Lab, tmp_path: Path) -> None:
    run = json_of(run_lab(small_lab, *LOAD, "--plugin", FILE), statuses=(0, 2))
    folder = Path(run["run_dir"])
    assert outcome(run) == "valid"

    tight = tmp_path / "tight.py"
    tight.write_text(Path(FILE).read_text().replace("BUDGET_MB = 256.0", "BUDGET_MB = 1.0"))
    assert outcome(json_of(run_lab(None, "check", folder, "--plugin", tight, "--json"), statuses=(1,))) == "invalid"

    saved = folder / f"gathered-{NAME}.json"
    saved.write_text(saved.read_text().replace(":", ": 1", 1))
    edited = run_lab(None, "check", folder, "--plugin", FILE)
    assert edited.returncode == 3
    assert f"{saved}: was changed after the run was sealed" in edited.stderr
    saved.unlink()
    assert run_lab(None, "check", folder).returncode == 3


def test_a_run_without_it_is_unknown_and_what_cannot_be_gathered_is_named(small_lab: Lab, tmp_path: Path) -> None:
    plain = json_of(run_lab(small_lab, *LOAD), statuses=(0, 2))
    assert (
        outcome(json_of(run_lab(None, "check", plain["run_dir"], "--plugin", FILE, "--json"), statuses=(2,)))
        == "unknown"
    )
    assert NAME not in CHECKERS

    broken = tmp_path / "broken.py"
    broken.write_text(
        Path(FILE).read_text().replace("return context.runtime", "raise ValueError('no scale'); return context.runtime")
    )
    run = json_of(run_lab(small_lab, *LOAD, "--plugin", broken), statuses=(2,))
    assert outcome(run) == "unknown"
    assert "no scale" in (Path(run["run_dir"]) / "missing.json").read_text()
