"""A page as a tree of calls, and who takes part in it."""

import pytest

from lab.page_call_tree import MAX_CALLS, callers_in, calls_of, including

PAGES = {
    "edge": [["homepage"]],
    "homepage": [["Rows", "search"], ["search"]],
    "search": [["Ranking", "Ranking"]],
    "payments": [["Fraud"]],
}


def test_each_call_has_its_caller_and_its_place() -> None:
    assert [tuple(each) for each in calls_of(PAGES, "edge")] == [
        ("homepage", "Rows", "0.0.0.0"),
        ("search", "Ranking", "0.0.0.1.0.0"),
        ("search", "Ranking", "0.0.0.1.0.1"),
        ("search", "Ranking", "0.0.1.0.0.0"),
        ("search", "Ranking", "0.0.1.0.0.1"),
    ]


def test_a_caller_that_makes_no_calls_of_models_takes_part_too() -> None:
    assert callers_in({**PAGES, "homepage": [["search"]]}, "edge") == ["edge", "homepage", "search"]
    assert callers_in(PAGES, "payments") == ["payments"]


def test_a_callers_page_is_a_part_of_those_above_it() -> None:
    assert including(PAGES, "search") == ["homepage", "edge"]
    assert including(PAGES, "edge") == []


def test_a_page_that_contains_itself_or_is_too_large_is_refused() -> None:
    with pytest.raises(ValueError, match="edge → homepage → edge"):
        calls_of({"edge": [["homepage"]], "homepage": [["edge"]]}, "edge")
    with pytest.raises(ValueError, match=f"more than {MAX_CALLS} calls"):
        calls_of({"edge": [["Rows"] * 1_001]}, "edge")
