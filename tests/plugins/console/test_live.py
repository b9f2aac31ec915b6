"""Interim verdicts take a tenth of the time, however many runs go on, and every run gets its turn."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import MagicMock

import pytest

from lab.errors import LabNotRunningError, RunError
from lab.plugins.console import Watcher, live

TOOK_S = 0.1


def test_judging_many_runs_takes_a_tenth_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 1000.0
    judged: Counter[Path] = Counter()

    def judge_so_far(folder: Path) -> None:
        nonlocal now_s
        now_s += TOOK_S
        judged[folder] += 1
        raise RunError("no record yet")

    monkeypatch.setattr(live, "time", SimpleNamespace(monotonic=lambda: now_s))
    watcher = Watcher(cast("Any", SimpleNamespace(judge_so_far=judge_so_far)))
    runs = [Path(f"mesh-{number}") for number in range(30)]
    watcher._runs = {each: live._Run(each, each.name, cast("Any", None)) for each in runs}
    until_s = now_s + 100
    while now_s < until_s:
        watcher._judge()
        now_s += live.POLL_S
    assert judged.total() * TOOK_S <= 100 / live.IDLE_SHARE
    assert min(judged[each] for each in runs) >= max(judged.values()) - 1 > 0


def test_the_units_of_a_lab_that_was_taken_down_are_shown_as_ended(tmp_path: Path) -> None:
    unit = SimpleNamespace(name="gateway-1", role="gateway", state="running")
    status = SimpleNamespace(units=[unit], name="x", runtime="process", control_plane=None)
    lab = MagicMock(folder=tmp_path, runs=tmp_path)
    lab.status.side_effect = [status, LabNotRunningError("lab x is not up")]
    lab.faults.active.return_value = []
    watcher = Watcher(lab)
    watcher._look()
    shown = json.loads(watcher.board.everything())
    assert shown["set"]["unit"] == {"gateway-1": {"role": "gateway", "state": "running"}}
    assert "partition" not in shown["set"]["lab"]["kinds"]

    with pytest.raises(LabNotRunningError):
        watcher._look()
    assert json.loads(watcher.board.everything())["set"]["unit"]["gateway-1"]["state"] == "exited"
