"""Progress of a run that is true: the last tick is the result, and one table or line shows all callers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console
from rich.live import Live

from lab.cli.progress import LoadProgress, load_shown, sparkline
from lab.load.progress import Progress
from lab.load.summary import RunSummary

TICK = Progress(
    elapsed_s=2.0,
    sent=110,
    done=108,
    ok=108,
    failed=0,
    in_flight=2,
    rate=563.2,
    p50_ms=15.47,
    p99_ms=99.0,
    remaining_s=6.0,
)
LAST = replace(TICK, elapsed_s=8.0, sent=1552, done=1552, ok=1550, failed=2, in_flight=0, remaining_s=0.0)


def summary(**changes: Any) -> RunSummary:
    values: dict[str, Any] = {
        "planned": 1552,
        "offered": 194.0,
        "achieved_rate": 194.0,
        "ok": 1550,
        "failed": 2,
        "missing": 0,
        "by_status": {},
        "p50_ms": 4.47,
        "p90_ms": 9.0,
        "p99_ms": 20.5,
        "p999_ms": 30.0,
        "max_ms": 31.0,
        "schedule_delay_p99_ms": 1.0,
        "by_tenant": {},
    }
    return RunSummary(**{**values, **changes})


def table_of(progress: LoadProgress, width: int = 130) -> list[str]:
    console = Console(width=width)
    with console.capture() as capture:
        console.print(progress.rendered())
    return capture.get().splitlines()


def test_the_last_line_is_the_result(capsys: pytest.CaptureFixture[str]) -> None:
    with load_shown() as progress:
        for tick in (TICK, LAST):
            progress.take({"homepage": tick})
        progress.finish({"homepage": summary()})

    *ticks, last = capsys.readouterr().err.splitlines()
    assert [line.split()[0] for line in ticks] == ["2"]
    assert last.split() == [
        "ended",
        "194.0",
        "rps",
        "1552",
        "done,",
        "2",
        "failed",
        "p50",
        "4.47",
        "ms",
        "p99",
        "20.50",
        "ms",
    ]


def test_several_callers_share_one_line_a_second(capsys: pytest.CaptureFixture[str]) -> None:
    callers = [f"mesh-{name}" for name in "abcde"]
    with load_shown() as progress:
        for second in (1.0, 2.0):
            for number in range(len(callers)):
                seen = {name: replace(TICK, elapsed_s=second) for name in callers[: number + 1]}
                progress.take(seen)

    assert len(capsys.readouterr().err.splitlines()) == 2


def test_the_live_table_has_a_row_for_each_caller_that_ends_with_its_result() -> None:
    progress = LoadProgress()
    progress.live = Live()
    progress.take({"mesh-a": TICK, "mesh-b": LAST})

    heading, a, b = table_of(progress)
    assert heading.split()[:2] == ["caller", "left"]
    assert a.split()[:3] == ["mesh-a", "━" * 3 + "╌" * 9, "6"]
    assert b.split()[:3] == ["mesh-b", "━" * 12, "judging"]

    progress.finish({"mesh-a": summary(), "mesh-b": summary(p50_ms=5.5)})
    _, a, b = table_of(progress)
    assert a.split()[2:] == ["ended", "1552", "2", "0", "194.0", "4.47", "20.50", "█"]
    assert b.split()[7] == "5.50"


def test_a_second_without_an_answer_has_no_latency(capsys: pytest.CaptureFixture[str]) -> None:
    silent = replace(TICK, elapsed_s=3.0, done=150, failed=42, p50_ms=0.0, p99_ms=0.0)
    with load_shown() as progress:
        progress.take({"homepage": silent})
    assert "42 failed, 2 in flight  p50 – ms  p99 – ms" in capsys.readouterr().err

    progress.live = Live()
    progress.take({"homepage": TICK})
    progress.take({"homepage": silent})
    assert table_of(progress)[1].split()[-3:] == ["–", "–", "█"]


def test_a_run_that_people_steer_has_no_time_left() -> None:
    progress = LoadProgress()
    progress.live = Live()
    progress.take({"homepage": replace(TICK, remaining_s=None)})

    assert "Ctrl-C" in table_of(progress)[1]


def test_the_live_table_fits_a_narrow_window() -> None:
    progress = LoadProgress()
    progress.live = Live()
    for tick in range(20):
        progress.take(
            {f"gateway-{name}": replace(TICK, p50_ms=tick + 1234.5) for name in ("homepage", "recommendations")}
        )

    lines = table_of(progress, 80)
    assert max(map(len, lines)) <= 80
    assert sum("1253.50" in line for line in lines) == 2


def test_a_sparkline_runs_from_zero_to_the_highest() -> None:
    assert sparkline([]) == ""
    assert sparkline([0.0, 0.0]) == "▁▁"
    assert sparkline([1.0, 2.0, 4.0, 8.0]) == "▂▃▅█"
    assert len(sparkline([1.0] * 99)) == 12
