"""From what became of each revision to when its answers are right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lab.checkers.revision_timeline import SETTLING_NS
from lab.client.admin_values import RevisionInfo
from lab.runs.documents import revisions_of
from lab.runs.evidence import revisions_in_force
from lab.runs.folder import RunFolder


def _revision(number: int, **steps: int) -> dict[str, Any]:
    return {
        "revision": number,
        "document": {"number": number},
        "steps": [{"phase": phase, "at_ns": at_ns, "detail": ""} for phase, at_ns in steps.items()],
    }


def _intervals(*revisions: dict[str, Any]) -> list[tuple[int, int, int | None]]:
    return [(each.revision, each.from_ns, each.until_ns) for each in revisions_in_force(revisions_of(revisions))]


def test_the_only_revision_is_in_force_from_when_it_went_out() -> None:
    assert _intervals(_revision(1, stored=1, loaded=5, endpoints=6, converged=7)) == [(1, 5, None)]


def test_while_a_revision_goes_out_it_and_the_one_before_are_in_force() -> None:
    found = _intervals(
        _revision(1, stored=1, loaded=5, converged=7), _revision(2, stored=20, loaded=25, converged=30, retired=40)
    )

    assert found == [(1, 5, 30 + SETTLING_NS), (2, 25, None)]


def test_a_revision_that_failed_on_its_way_out_is_in_force_until_it_was_put_back() -> None:
    found = _intervals(
        _revision(1, loaded=5, converged=7), _revision(2, loaded=25, failed=33), _revision(3, loaded=50, converged=60)
    )

    assert found == [(1, 5, 60 + SETTLING_NS), (2, 25, 33 + SETTLING_NS), (3, 50, None)]


def test_a_revision_whose_models_never_loaded_was_never_in_force() -> None:
    assert _intervals(_revision(1, loaded=5, converged=7), _revision(2, stored=25, failed=33)) == [(1, 5, None)]


def test_a_revision_that_is_still_going_out_is_in_force() -> None:
    assert _intervals(_revision(1, loaded=5, converged=7), _revision(2, loaded=25)) == [(1, 5, None), (2, 25, None)]


def test_when_a_revision_converged_is_known_of_those_that_did() -> None:
    revisions = [_revision(1, loaded=5, converged=7), _revision(2, loaded=25, failed=33), _revision(3, loaded=50)]
    found = revisions_in_force(revisions_of(revisions))

    assert [each.converged_ns for each in found] == [7, None, None]


def test_revisions_of_before_and_after_a_run_are_in_order_and_those_of_after_count(tmp_path: Path) -> None:
    def saved(*revisions: tuple[int, str]) -> list[tuple[int, str]]:
        infos = [
            RevisionInfo(number, "ada", comment, 0, in_force=True, steps=(), acknowledgements=(), document={})
            for number, comment in revisions
        ]
        numbers = run.add_revisions(infos)
        found = [(each.revision, each.comment) for each in run.revisions]
        assert numbers == [number for number, _ in found]
        return found

    run = RunFolder(tmp_path)
    run.revisions = []

    assert saved((2, "before")) == [(2, "before")]
    assert saved() == [(2, "before")]
    assert saved((3, ""), (1, ""), (2, "after")) == [(1, ""), (2, "after"), (3, "")]


def test_a_staged_revision_leaves_the_one_for_all_in_force_and_ends_with_the_next() -> None:
    staged = {**_revision(2, loaded=25, converged=30), "callers": ["homepage"]}
    wider = {**_revision(3, loaded=35, converged=40), "callers": ["homepage", "search"]}
    first, last = _revision(1, loaded=5, converged=7), _revision(4, loaded=50, converged=60)

    assert _intervals(first, staged) == [(1, 5, None), (2, 25, None)]
    assert _intervals(first, staged, wider, last) == [
        (1, 5, 60 + SETTLING_NS),
        (2, 25, 40 + SETTLING_NS),
        (3, 35, 60 + SETTLING_NS),
        (4, 50, None),
    ]
    found = revisions_in_force(revisions_of([first, staged, wider]))
    assert [sorted(each.callers) for each in found] == [[], ["homepage"], ["homepage", "search"]]
