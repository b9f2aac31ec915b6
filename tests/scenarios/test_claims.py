"""Scenarios ask for claims by name: a late driver costs the timing, and excuses nothing else."""

from __future__ import annotations

import ast
import re
from dataclasses import replace
from pathlib import Path

import pytest

from lab import CHECKOUT
from lab.checkers import Claim, Outcome, Verdict, Violation
from lab.history import write_parquet
from lab.load.summary import summarize
from lab.runs import RunResult
from lab.runs.folder import HISTORY
from scenarios.framework.steps import assert_all_answered_rightly, assert_rate_was_kept
from scenarios.framework.verdicts import LateError, UnknownError
from tests.checkers.builders import START_NS, make_record

SENT = 500
LATE = Verdict("driver", Outcome.UNKNOWN, "schedule delay p99 50 ms", claim=Claim.TIMING)
ON_TIME = Verdict("driver", Outcome.VALID, "on time", claim=Claim.TIMING)
RIGHT = Verdict("routing", Outcome.VALID, "all right")
WRONG = Verdict("routing", Outcome.INVALID, "1 wrong", (Violation("routing", 0, "r0", "misrouted"),))
LOST = Verdict("answered", Outcome.INVALID, "1 lost", (Violation("answered", 0, "r0", "lost"),), Claim.AVAILABILITY)
UNSHOWN = Verdict("answered", Outcome.UNKNOWN, "nothing was asked", claim=Claim.AVAILABILITY)


def _run(*verdicts: Verdict) -> RunResult:
    records = [make_record(number) for number in range(10)]
    return RunResult(Path("run"), summarize(records, None, came_due=10), verdicts)


def _driven(folder: Path, *, slower: float = 1.0, late_ns: int = 0) -> RunResult:
    """A run of 1,000 requests at 1,000 a second, of which the last 500 were never sent, as it was stopped."""
    records = [
        replace(each, sent_ns=START_NS + round((each.intended_ns - START_NS) * slower) + late_ns)
        if each.sequence < SENT
        else make_record(each.sequence, status="UNSENT")
        for each in map(make_record, range(2 * SENT))
    ]
    write_parquet(records, folder / HISTORY)
    return RunResult(folder, summarize(records, None, came_due=2 * SENT), (RIGHT, LATE))


def test_a_driver_that_missed_its_rate_fails_the_claim_of_a_rate_alone(tmp_path: Path) -> None:
    missed = _driven(tmp_path, slower=1.02)
    assert_all_answered_rightly(missed)
    with pytest.raises(LateError, match=r"due at 1000\.0 rps and sent at 980\.4"):
        assert_rate_was_kept(missed)


def test_a_rate_is_kept_also_by_a_driver_that_is_late_throughout_or_was_stopped(tmp_path: Path) -> None:
    assert_rate_was_kept(_driven(tmp_path, late_ns=20_000_000))


def test_what_else_was_not_done_in_time_is_late_like_the_driver(tmp_path: Path) -> None:
    with pytest.raises(LateError, match="90 changes, not 100"):
        assert_rate_was_kept(_driven(tmp_path), behind="90 changes, not 100")


def test_a_scenario_that_asks_for_its_timing_first_reruns_no_wrong_answer() -> None:
    with pytest.raises(AssertionError, match="1 wrong"):
        assert_rate_was_kept(_run(WRONG, LATE), behind="90 changes, not 100")


@pytest.mark.parametrize("verdict", [WRONG, LOST], ids=["misroute", "lost request"])
def test_a_late_driver_excuses_no_wrong_or_lost_request(verdict: Verdict) -> None:
    with pytest.raises(AssertionError, match=f"{verdict.summary}; first: {verdict.violations[0].message}"):
        assert_all_answered_rightly(_run(RIGHT, verdict, LATE))


def test_a_claim_that_is_not_shown_is_unknown() -> None:
    with pytest.raises(UnknownError, match="nothing was asked"):
        assert_all_answered_rightly(_run(RIGHT, UNSHOWN, ON_TIME))


def _compares_times(node: ast.AST) -> bool:
    """Whether an assertion compares an interval or a quantile of latencies."""
    return any(
        isinstance(each, ast.BinOp) and isinstance(each.op, ast.Sub) and _is_time(each.left) and _is_time(each.right)
        for each in ast.walk(node)
    ) or any(re.fullmatch(r"p\d\d+(_ms)?", each.attr) for each in ast.walk(node) if isinstance(each, ast.Attribute))


def _is_time(node: ast.AST) -> bool:
    name = getattr(node, "attr", getattr(node, "id", ""))
    return name.endswith(("_ns", "_ms", "_s"))


def _functions() -> list[ast.FunctionDef]:
    trees = [ast.parse(path.read_text()) for path in sorted((CHECKOUT / "scenarios").glob("test_*.py"))]
    return [each for tree in trees for each in ast.walk(tree) if isinstance(each, ast.FunctionDef)]


def _lines(function: ast.FunctionDef, name: str) -> list[int]:
    return [
        each.lineno
        for each in ast.walk(function)
        if isinstance(each, ast.Call) and getattr(each.func, "id", "") == name
    ]


def test_a_scenario_that_asserts_a_time_asks_for_the_timing_first() -> None:
    asserted = {
        function.name: min(each.lineno for each in times)
        for function in _functions()
        if (times := [each for each in ast.walk(function) if isinstance(each, ast.Assert) and _compares_times(each)])
    }
    asked = {
        function.name: min(lines) for function in _functions() if (lines := _lines(function, "assert_rate_was_kept"))
    }
    assert [name for name, line in asserted.items() if asked.get(name, line) >= line] == []
    assert {"test_a_killed_replica_leaves_rotation_within_a_second"} <= set(asserted)


def test_only_the_timing_makes_a_scenario_late() -> None:
    assert [function.name for function in _functions() if _lines(function, "LateError")] == []
