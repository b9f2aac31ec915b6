"""Every bucket of every draw and shadow in the suite's tables, edges above all: both interpreters put it alike."""

from collections.abc import Iterator
from functools import cache
from itertools import count
from typing import Any

import pytest

from lab import CHECKOUT
from lab.checkers.plain import decide, shadow_of
from lab.routing.buckets import BUCKETS, bucket, experiment_salt, is_shadowed, layout, shadow_salt, split_salt
from lab.routing.compiled import Router
from lab.routing.document import read_path

FOLDERS = ("lab", "tests", "docs", "scenarios", "notebooks")
TABLES = sorted(
    str(path.relative_to(CHECKOUT))
    for found in (CHECKOUT.glob("*routes.yaml"), *((CHECKOUT / each).rglob("*routes.yaml") for each in FOLDERS))
    for path in found
)


@cache
def document_of(table: str) -> Any:
    return read_path(CHECKOUT / table).document


def draws() -> Iterator[tuple[str, str, str]]:
    """Table, use case and rule of every split and experiment, each once however many tables have it."""
    seen = set()
    for table in TABLES:
        for use_case, entry in document_of(table)["use_cases"].items():
            for rule in entry.get("rules", ()):
                drawn = rule.get("split") or rule.get("experiment")
                if drawn and (key := (use_case, rule["name"], repr(drawn))) not in seen:
                    seen.add(key)
                    yield table, use_case, rule["name"]


def shadows() -> Iterator[tuple[str, str]]:
    return (
        (table, use_case)
        for table in TABLES
        for use_case, entry in document_of(table)["use_cases"].items()
        if "shadow" in entry
    )


@cache
def unit_of_each_bucket(salt: str) -> list[str]:
    """A value for each of the 10,000 buckets; its case, blanks and accents count."""
    units: dict[int, str] = {}
    for number in count():
        units.setdefault(bucket(salt, unit := f"Ü {number} "), unit)
        if len(units) == BUCKETS:
            return [units[place] for place in range(BUCKETS)]
    raise AssertionError


@pytest.mark.parametrize(("table", "use_case", "name"), list(draws()))
def test_every_bucket_of_a_draw_is_in_the_same_share(table: str, use_case: str, name: str) -> None:
    document = document_of(table)
    entry = document["use_cases"][use_case]
    [rule] = [dict(each) for each in entry["rules"] if each["name"] == name]
    rule.pop("when", None)  # conditions, and rules before this one, are not the subject
    alone = {**document, "use_cases": {use_case: {**entry, "rules": [rule]}}}
    router = Router.of_document(alone)
    if "split" in rule:
        salt, unit, weights = split_salt(use_case, name), rule["split"]["unit"], rule["split"]["weights"]
    else:
        drawn = rule["experiment"]
        salt, unit = experiment_salt(drawn["id"]), drawn["unit"]
        weights = {cell: arm["weight"] for cell, arm in drawn["cells"].items()}
    ends = []
    before = None
    for place, value in enumerate(unit_of_each_bucket(salt)):
        context = {"caller": entry["callers"][0], unit: value}
        choice, expected = router.resolve(use_case, context), decide(alone, use_case, context)
        assert (choice.model, choice.version, choice.bucket) == (expected.model, expected.version, place)
        if place and choice.share != before:
            ends.append(place)
        before = choice.share
    assert ends == [share.first for share in layout({str(each): weight for each, weight in weights.items()})[1:]]


@pytest.mark.parametrize(("table", "use_case"), list(shadows()))
def test_every_bucket_of_a_shadow_is_copied_alike(table: str, use_case: str) -> None:
    document = document_of(table)
    entry = document["use_cases"][use_case]
    percent = entry["shadow"]["percent"]
    context = {"caller": entry["callers"][0]}
    for place, request_id in enumerate(unit_of_each_bucket(shadow_salt(use_case))):
        copied = is_shadowed(use_case, request_id, percent)
        assert copied == bool(shadow_of(document, use_case, context, request_id)) == (place < percent * 100)


def test_the_tables_of_the_lab_and_of_its_tests_are_among_them() -> None:
    assert {"routes.yaml", "lab/specs/full.routes.yaml", "tests/routing/routes.yaml"} <= set(TABLES)
