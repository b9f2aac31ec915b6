from itertools import chain

import pytest

from lab import CHECKOUT
from tests.distribution import LONG_ONES_FIRST, SHARED_LABS, order_of, scope_of

TESTS = CHECKOUT / "tests"


def test_every_named_folder_and_module_exists() -> None:
    places = chain(LONG_ONES_FIRST, *SHARED_LABS.values())
    assert [name for name in places if not (TESTS / name).exists()] == []


@pytest.mark.parametrize(
    ("nodeid", "scope"),
    [
        ("tests/e2e/test_chain.py::test_it[mesh]", "the default lab"),
        ("tests/scenarios/test_framework.py::test_it", "the default lab"),
        ("tests/faults/test_plugin.py::test_it", "the small lab"),
        ("tests/extending/test_outside_engine.py::test_it", "the lab of two callers"),
        ("tests/e2e/test_roll.py::test_it[mesh]", "tests/e2e/test_roll.py"),
        ("tests/runtime/test_unit_operations.py::test_it[process]", "a lab to break, process"),
        ("tests/runtime/test_faults.py::test_it[compose-kill]", "a lab to break, compose"),
        ("tests/runtime/test_bundle.py::test_it", "tests/runtime/test_bundle.py"),
        ("tests/plugins/bench/test_blast_radius.py::test_it", "the benches' lab"),
        ("tests/plugins/bench/test_trust.py::test_it", "tests/plugins/bench/test_trust.py"),
        ("tests/notebooks/test_notebooks.py::test_it[4]", "tests/notebooks/test_notebooks.py::test_it[4]"),
    ],
)
def test_those_that_share_a_lab_go_together(nodeid: str, scope: str) -> None:
    assert scope_of(nodeid) == scope


def test_those_that_take_long_go_first() -> None:
    found = [
        "tests/routing/test_a.py::test_1",
        "tests/test_docs.py::test_2",
        "tests/e2e/test_b.py::test_3",
        "test_c.py",
    ]

    assert sorted(found, key=order_of) == [found[2], found[1], found[0], found[3]]


def test_those_that_share_a_lab_stand_together() -> None:
    found = [f"tests/e2e/test_{name}.py::test_it" for name in ("control_planes", "chain", "draining", "shadow")]

    assert sorted(found, key=order_of) == [found[1], found[3], found[0], found[2]]
