"""The edge cases of a table: what they meet, by both interpreters, and what they leave alone."""

from collections.abc import Callable, Mapping
from typing import Any
from unicodedata import normalize

import pytest

from lab import CHECKOUT
from lab.checkers.plain import decide, passed
from lab.load.plan import EdgeCase
from lab.routing.compiled import Router
from lab.routing.document import read_path
from lab.runs.edge_cases import edge_cases, spelled_alike

TABLE = read_path(CHECKOUT / "tests" / "mutants" / "routes.yaml").document
USE_CASES = ("Ranking", "Rows", "Open")
CONTEXTS = {"device": ("tv", "phone"), "country": ("DE", "US"), "segment": ("kids", "adults")}
FORMS: dict[str, Callable[[str], str]] = {
    "case": str.lower,
    "blanks": str.strip,
    "ascii": lambda value: value.encode("ascii", "ignore").decode(),
    "composed": lambda value: normalize("NFC", value),
    "decomposed": lambda value: normalize("NFD", value),
}


def found(**changes: Any) -> tuple[EdgeCase, ...]:
    return edge_cases(TABLE, USE_CASES, "homepage", CONTEXTS, **changes)


def asked(case: EdgeCase) -> Mapping[str, str]:
    return {"device": "web", "country": "US", "segment": "adults", **case.context, "caller": "homepage"}


def test_they_meet_every_place_of_the_table() -> None:
    met = {place for case in found() for place in passed(TABLE, case.use_case, asked(case))}
    for edge in (*(f"{n} ({cell}) of rule cells" for n, cell in ((0, 2), (4_999, 2), (5_000, 10), (9_999, 10))),):
        assert f"edge bucket {edge} of Ranking" in met
    for edge in ("0 (ranker@v1)", "6999 (ranker@v1)", "7000 (ranker@v2)", "9999 (ranker@v2)"):
        assert f"edge bucket {edge} of rule canary of Ranking" in met
    for side in ("excludes", "lets pass"):
        assert f"negation that {side} in rule not-kids of Ranking" in met
    for rule, field in (("not-kids", "device"), ("cells", "country")):
        for side in ("holds", "fails"):
            assert f"condition {field} that {side} in rule {rule} of Ranking" in met


@pytest.mark.parametrize("form", FORMS)
def test_a_router_that_reads_another_form_of_a_value_decides_some_of_them_otherwise(form: str) -> None:
    router = Router.of_document(TABLE)
    units = conditions = 0
    for case in found():
        context, lost = asked(case), FORMS[form]
        right = decide(TABLE, case.use_case, context)
        for field in ("user_id", "device", "country", "segment"):
            choice = router.resolve(case.use_case, {**context, field: lost(context.get(field, ""))})
            other = (choice.model, choice.version, choice.share) != (
                right.model,
                right.version,
                router.resolve(case.use_case, context).share,
            )
            units += other and field == "user_id"
            conditions += other and field != "user_id"
    assert units
    assert conditions or form in ("composed", "decomposed")


def test_what_a_rule_reads_is_left_out_too() -> None:
    """A router that draws an absent unit, or lets an absent value pass, decides some of them otherwise."""
    left_out = {
        (field, decide(TABLE, case.use_case, asked(case)).version)
        for case in found()
        for field in ("user_id", "device", "country", "segment")
        if case.context.get(field) == ""
    }
    assert {field for field, _ in left_out} == {"user_id", "device", "country"}


def test_fixed_fields_stay_as_they_are_drawn() -> None:
    varied = {field for case in found(fixed=("country", "user_id")) for field in case.context}
    assert varied == {"device", "segment"}
    assert {field for case in found() for field in case.context} == {"device", "segment", "country", "user_id"}


def test_they_are_the_same_each_time() -> None:
    assert found() == found()


@pytest.mark.parametrize("value", ["tv", "DE", "Österreich", "O\u0308", "7", " "])
def test_values_spelled_alike_differ(value: str) -> None:
    assert value not in spelled_alike(value)
    assert len(set(spelled_alike(value))) == len(spelled_alike(value)) >= 2
