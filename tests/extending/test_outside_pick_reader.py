"""A file outside the project adds a picker that chooses for each request, and a second reader that judges its picks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lab.lab import Lab
from lab.spec import SIZES
from tests.lab_command import json_of, run_lab

PICKER = """
from lab.pickers import Picker, at_gateway_only

class First:
    def pick(self, asked, seen):
        return min(range(len(seen)), key=lambda place: seen[place].address)

    def ended(self, asked, address):
        pass

PICKER = Picker(name="the-first", line="the first", places=at_gateway_only(First, "no"), skewed=True)
"""
RIGHT = """
from lab.plugins.pickers.readers import PickReader, Reader

class Theirs(Reader):
    def allowed(self, asked, seen):
        return {min(each["address"] for each in seen)}

READER = PickReader("the-first", Theirs)
"""
WRONG = RIGHT.replace("{min(", "{max(")
CHAT = ("--turns", "2", "--users", "9", "--streams", "100", "--rate", "20", "--duration", "2", "--topology", "gateway")


def test_its_reader_decides_whether_its_picks_are_valid(own_lab: Lab, tmp_path: Path) -> None:
    picker, right, wrong = (tmp_path / f"{name}.py" for name in ("picker", "right", "wrong"))
    for file, text in ((picker, PICKER), (right, RIGHT), (wrong, WRONG)):
        file.write_text(text)
    up = run_lab(own_lab, "up", "--spec", str(SIZES["tokens"]), "--picker", "the-first", "--plugin", str(picker))
    assert up.returncode == 0, up.stderr
    run = json_of(run_lab(own_lab, "load", *CHAT, "--json"), statuses=(0, 2))

    without, judged, objected = (_picks(own_lab, run["run_dir"], file) for file in (picker, right, wrong))

    assert without["outcome"] == "unknown"
    assert "picker the-first has no second reader" in without["summary"]
    assert judged["outcome"] == "valid", judged
    assert "picks by the-first" in judged["summary"]
    assert objected["outcome"] == "invalid"


def _picks(lab: Lab, run_dir: str, file: Path) -> dict[str, Any]:
    checked = json_of(run_lab(lab, "--plugin", str(file), "check", run_dir, "--json"), statuses=(0, 1, 2))
    [found] = [each for each in checked["verdicts"] if each["checker"] == "picks"]
    return dict(found)


def test_nobody_replaces_the_reader_of_one_of_the_labs_pickers(own_lab: Lab, tmp_path: Path) -> None:
    file = tmp_path / "whitewash.py"
    file.write_text(
        'from lab.plugins.pickers.readers import PickReader, Reader\nREADER = PickReader("prefix", Reader)\n'
    )
    run = run_lab(own_lab, "--plugin", str(file), "up", "--spec", str(SIZES["tokens"]), "--picker", "prefix")
    assert run.returncode == 0, run.stderr

    driven = json_of(run_lab(own_lab, "--plugin", str(file), "load", *CHAT, "--json"), statuses=(0, 2))
    found = _picks(own_lab, driven["run_dir"], file)

    assert found["outcome"] == "unknown"
    assert "second reader 'prefix' from outside has the name of one of the lab's" in found["summary"]
