"""Scenarios are ordered so that all workers end at about the same time."""

from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from lab import CHECKOUT
from scenarios.framework.catalogue import entries
from scenarios.framework.scheduling import balanced_order
from tests.sessions import run_pytest

SECONDS = st.lists(st.integers(min_value=0, max_value=300), max_size=60)


def _runs(order: list[Any], workers: int) -> list[list[Any]]:
    """What each worker begins with, as pytest-xdist deals a row."""
    runs, rest = [], order
    for left in range(workers, 0, -1):
        runs.append(rest[: len(rest) // left])
        rest = rest[len(rest) // left :]
    return runs


def _never(_: object) -> bool:
    return False


def _ordered(seconds: list[int], workers: int, alone: int = -1) -> list[int]:
    return balanced_order(seconds, workers, takes_s=float, alone=lambda item: item == alone)


@given(SECONDS, st.integers(min_value=1, max_value=4), st.integers(min_value=0, max_value=300))
def test_each_comes_once_and_exclusive_ones_come_last(seconds: list[int], workers: int, alone: int) -> None:
    order = _ordered(seconds, workers, alone)

    assert sorted(order) == sorted(seconds)
    assert order[len(seconds) - seconds.count(alone) :] == [alone] * seconds.count(alone)


def test_few_long_ones_and_many_short_ones_take_both_workers_as_long() -> None:
    long, short = [205] * 5 + [135] * 3 + [68] * 3 + [43] * 5 + [25] * 5, [6] * 30 + [1] * 30

    first, second = _runs(_ordered([*long, *short], 2), 2)

    assert abs(sum(first) - sum(second)) <= 43
    assert first[:5] == [205] * 5


def test_a_run_begins_with_the_longest_and_ends_with_the_shortest() -> None:
    for run in _runs(_ordered([1, 2, 3, 5, 8, 13, 21, 34, 55, 89] * 3, 3), 3):
        assert run == sorted(run, reverse=True)


def test_every_other_worker_takes_equally_long_ones_from_the_end() -> None:
    cases = [f"{name}[{topology}]" for name in ("roll", "outage") for topology in ("gateway", "mesh", "proxyless")]

    first, second = _runs(balanced_order(cases, 2, takes_s=lambda _: 2, alone=_never), 2)

    assert first == ["roll[gateway]", "roll[mesh]", "roll[proxyless]"]
    assert second == ["outage[proxyless]", "outage[mesh]", "outage[gateway]"]


def test_one_that_takes_longer_than_all_others_together_has_short_ones_behind_it() -> None:
    assert _runs(_ordered([1, 1, 1000, 2, 2, 3], 2), 2) == [[1000, 1, 1], [3, 2, 2]]


def test_only_selected_scenarios_are_ordered(tmp_path: Path) -> None:
    (tmp_path / "as_worker.py").write_text(
        "def pytest_configure(config):\n    config.workerinput = {'workercount': 2, 'workerid': 'gw0'}\n"
    )
    asked = [
        "-p",
        "as_worker",
        "--collect-only",
        "-q",
        "--runtime",
        "compose",
        "--long",
        "-m",
        "long",
        "--runs",
        tmp_path,
    ]
    collected = run_pytest("scenarios", *asked, "-p", "no:cacheprovider", cwd=CHECKOUT, imports=tmp_path)
    assert collected.returncode == 0, collected.stderr

    order = [line for line in collected.stdout.splitlines() if "::" in line]
    takes_s = {f"scenarios/{each.module}.py::{each.name}": each.takes_s for each in entries() if each.takes_s >= 15}
    first_s, second_s = (sum(takes_s.get(each.partition("[")[0], 0) for each in run) for run in _runs(order, 2))
    assert min(first_s, second_s) > 0
    assert abs(first_s - second_s) < max(takes_s.values())  # what takes less than 15 s is not counted
