from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.controlplane.registry.table_diff import apply_diff, diff

ENTRIES = st.dictionaries(st.sampled_from("abcd"), st.dictionaries(st.sampled_from("xy"), st.integers(0, 2)))
DOCUMENTS = st.fixed_dictionaries(dict.fromkeys(("use_cases", "models", "clusters"), ENTRIES))


@given(DOCUMENTS, DOCUMENTS)
def test_a_difference_makes_the_one_of_the_other(
    before: dict[str, dict[str, dict[str, int]]], after: dict[str, dict[str, dict[str, int]]]
) -> None:
    assert apply_diff(before, diff(before, after)) == after


@given(DOCUMENTS)
def test_equal_documents_differ_in_nothing(document: dict[str, dict[str, dict[str, int]]]) -> None:
    assert diff(document, {section: dict(entries) for section, entries in document.items()}) == {}


def test_only_changed_entries_are_named() -> None:
    before = {"use_cases": {"A": {"default": 1}, "B": {}, "C": {}}}
    after = {"use_cases": {"A": {"default": 2}, "B": {}}}

    assert diff(before, after) == {"use_cases": {"A": {"default": 2}, "C": None}}


@pytest.mark.parametrize("other", [1.0, True])
def test_what_python_takes_for_equal_and_a_model_does_not_is_a_change(other: object) -> None:
    before = {"models": {"rows": {"versions": {"v1": {"config": {"boost": 1}}}}}}
    after = {"models": {"rows": {"versions": {"v1": {"config": {"boost": other}}}}}}

    assert diff(before, after) == after
