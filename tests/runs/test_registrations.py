"""What the control plane knew before and after a run, put together."""

from __future__ import annotations

from pathlib import Path

from lab.checkers import Registration, Registrations
from lab.client import admin_values
from lab.runs.folder import RunFolder

ASKED_NS = 100


def _known(since_ns: int, *replicas: tuple[str, int, int | None]) -> admin_values.Registrations:
    return admin_values.Registrations(
        since_ns, tuple(admin_values.Registration("a", name, began, ended) for name, began, ended in replicas)
    )


def _saved(folder: Path, before: list[admin_values.Registrations], after: list[admin_values.Registrations]) -> object:
    run = RunFolder(folder)
    run.registrations = {"asked_ns": ASKED_NS, "before": before, "after": after}
    return run.registrations


def test_a_control_plane_that_lived_on_knows_all(tmp_path: Path) -> None:
    found = _saved(
        tmp_path,
        [_known(1, ("a-0", 5, None))],
        [_known(1, ("a-0", 5, 150), ("a-1", 120, None))],
    )
    assert found == Registrations([Registration("a", "a-0", 5, 150), Registration("a", "a-1", 120, None)])


def test_one_that_was_restarted_leaves_a_gap(tmp_path: Path) -> None:
    found = _saved(tmp_path, [_known(1, ("a-0", 5, None))], [_known(140, ("a-0", 141, None))])
    assert found == Registrations(
        [Registration("a", "a-0", 5, 140), Registration("a", "a-0", 141, None)], (ASKED_NS, 140)
    )


def test_one_that_did_not_answer_before_knows_nothing_of_that(tmp_path: Path) -> None:
    found = _saved(tmp_path, [], [_known(140, ("a-0", 141, None))])
    assert found == Registrations([Registration("a", "a-0", 141, None)], (0, 140))


def test_of_several_the_youngest_bounds_what_is_known(tmp_path: Path) -> None:
    found = _saved(tmp_path, [_known(1)], [_known(1, ("a-0", 5, None)), _known(130, ("a-1", 131, None))])
    assert found == Registrations(
        [Registration("a", "a-0", 5, None), Registration("a", "a-1", 131, None)], (ASKED_NS, 130)
    )


def test_without_an_answer_or_a_file_nothing_is_known(tmp_path: Path) -> None:
    assert RunFolder(tmp_path).registrations is None
    assert _saved(tmp_path, [_known(1)], []) is None
