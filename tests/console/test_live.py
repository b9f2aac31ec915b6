"""Interim verdicts take a tenth of the time, however many runs go on, and every run gets its turn."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from lab.console import Watcher, live
from lab.errors import RunError

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
