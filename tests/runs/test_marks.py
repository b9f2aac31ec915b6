"""What was done to units: which of it a run has to do with, and that it can be read back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lab.errors import RunError
from lab.runs.events import ACTS, MARKS, STEADY_NS, Act, faults_of, keep_marks, read_marks, undone_ns, write_act

if TYPE_CHECKING:
    from pathlib import Path


def _act(kind: str, at_ns: int, target: str = "a-0") -> Act:
    return Act(kind=kind, target=target, from_ns=at_ns, until_ns=at_ns + 1)


BEFORE = [_act("kill", 1), _act("start", 3), _act("pause", 5, "b-0"), _act("kill", 6, "c-0"), _act("scale", 7, "c")]
DURING = [_act("resume", 20, "b-0"), _act("kill", 25)]


def test_a_run_keeps_what_was_done_meanwhile_and_what_had_not_been_undone(tmp_path: Path) -> None:
    lab, run = tmp_path / "lab", tmp_path / "run"
    lab.mkdir()
    run.mkdir()
    for act in (*BEFORE, *DURING):
        write_act(lab, act)

    keep_marks(run, lab, from_ns=10)

    assert [("pause", "b-0"), ("kill", "c-0"), ("resume", "b-0"), ("kill", "a-0")] == [
        (act.kind, act.target) for act in read_marks(run)
    ]


def test_an_act_is_undone_by_the_next_that_undoes_it_on_the_same_unit() -> None:
    acts = [*BEFORE, *DURING, _act("start", 40)]

    assert [4, None, 21, None, None] == [undone_ns(act, acts) for act in BEFORE]
    assert 41 == undone_ns(DURING[1], acts)


def test_a_lab_to_which_nothing_was_done_leaves_no_marks(tmp_path: Path) -> None:
    keep_marks(tmp_path, tmp_path / "lab", from_ns=10)

    assert (tmp_path / MARKS).exists()
    assert [] == read_marks(tmp_path)
    assert not (tmp_path / ACTS).exists()


def test_a_run_from_before_marks_were_kept_has_none(tmp_path: Path) -> None:
    assert [] == read_marks(tmp_path)


@pytest.mark.parametrize("content", ["{", "{}x", '[{"kind": "kill"}]', "3"])
def test_broken_marks_are_one_line(content: str, tmp_path: Path) -> None:
    (tmp_path / MARKS).write_text(content)

    with pytest.raises(RunError, match=MARKS) as caught:
        read_marks(tmp_path)

    assert "\n" not in str(caught.value)


def test_an_act_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    (tmp_path / MARKS).write_text('[{"kind": "tickle", "target": "a", "from_ns": 1, "until_ns": 2}]')

    with pytest.raises(RunError, match="tickle"):
        read_marks(tmp_path)


def test_what_is_done_at_the_same_time_is_one_fault() -> None:
    acts = [
        _act("kill", 30, "gateway-1"),
        _act("kill", 32, "gateway-2"),
        _act("scale", 35, "ml-cluster-1"),
        _act("start", 40, "gateway-1"),
        _act("start", 42, "gateway-2"),
        _act("pause", 50, "ml-cluster-1-a"),
    ]

    both, paused = faults_of(acts, from_ns=10, until_ns=60)

    assert ("gateway-1, gateway-2 killed", "ml-cluster-1-a paused") == (both.name, paused.name)
    assert (10, 30, 40, 50) == (both.steady_ns, both.inject_ns, both.heal_ns, both.until_ns)
    assert (43, 50, 60, 60) == (paused.steady_ns, paused.inject_ns, paused.heal_ns, paused.until_ns)
    assert [] == faults_of(acts, from_ns=70, until_ns=80)


def test_what_is_taken_for_steady_is_never_longer_than_it_need_be() -> None:
    (fault,) = faults_of([_act("kill", 10 * STEADY_NS)], from_ns=0, until_ns=20 * STEADY_NS)
    assert 9 * STEADY_NS == fault.steady_ns
