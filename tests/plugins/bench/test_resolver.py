from dataclasses import replace
from typing import Any

import pytest

from lab.plugins.bench.harness.environment import Environment
from lab.plugins.bench.harness.result import BenchResult
from lab.plugins.bench.suites import resolver
from lab.plugins.bench.suites.resolver import (
    AGAIN,
    BUSY_VARIANTS,
    BY_USER,
    LEASED,
    ONCE,
    SHARED_UNLEASED,
    UNLEASED,
    VARIANTS,
    Round,
    result,
)

ROUNDS = 10
ASKED = (0.5,) * 100
QUICK = Round(p50=2.0, questions=(), requests=100)
SLOW = Round(p50=3.0, questions=ASKED, requests=100)
GOOD = dict.fromkeys(VARIANTS, SLOW) | {ONCE: QUICK, LEASED: Round(p50=2.1, questions=(0.5,), requests=100)}
GOOD_CPU = dict.fromkeys(BUSY_VARIANTS, 400.0) | {LEASED: 10.0}


def found(variant: str = "", *, cpu: float | None = None, **change: Any) -> BenchResult:
    seen = {each: [replace(taken, **change) if each == variant else taken] * ROUNDS for each, taken in GOOD.items()}
    spent = {each: [ms if each != variant or cpu is None else cpu] * ROUNDS for each, ms in GOOD_CPU.items()}
    return result(seen, spent)


def broken(variant: str, **change: Any) -> list[str]:
    return [claim.text for claim in found(variant, **change).claims if not claim.holds]


def test_figures_within_all_bounds_are_in_the_table() -> None:
    assert broken("") == []
    [table] = found().tables
    rows = {row[0]: row[1:] for row in table.written()}
    assert rows[ONCE] == ["2.000", "0.000", "0.000 to 0.000", "none", "none", "100.0 %", ""]
    assert rows[LEASED][-2:] == ["99.0 %", "10.000"]
    assert rows[UNLEASED] == ["3.000", "1.000", "1.000 to 1.000", "0.500", "0.500", "0.0 %", "400.000"]


@pytest.mark.parametrize(
    ("variant", "change", "claims"),
    [
        (LEASED, {"p50": 2.9}, ["what leased calls add"]),
        (LEASED, {"cpu": 300.0}, ["processor time"]),
        (LEASED, {"questions": ASKED}, ["share of calls"]),
        (SHARED_UNLEASED, {"p50": 4.0}, ["what unleased calls add, shared"]),
        # What adds nothing over a call decided beforehand has no room for leases to save any.
        (UNLEASED, {"p50": 2.0}, ["what leased calls add", "what unleased calls add, shared"]),
        (UNLEASED, {"cpu": 0.0}, ["processor time"]),
    ],
)
def test_each_claim_can_fail(variant: str, change: dict[str, Any], claims: list[str]) -> None:
    texts = broken(variant, **change)
    assert [text[: len(start)] for text, start in zip(texts, claims, strict=True)] == claims


def test_where_the_same_arm_differs_from_itself_its_figures_are_in_doubt() -> None:
    measured = found(AGAIN, p50=3.5)
    assert [control.agrees for control in measured.controls] == [False]
    doubted = [claim.text[:16] for claim in measured.claims if claim.doubts]
    assert doubted == ["what leased call", "what unleased ca"]


@pytest.mark.timeout(120)
def test_the_bench_asks_as_often_as_its_arms_say(monkeypatch: pytest.MonkeyPatch, environment: Environment) -> None:
    monkeypatch.setattr(resolver, "REQUESTS", 5)
    monkeypatch.setattr(resolver, "BUSY_REQUESTS", 10)
    measured = resolver.run(environment, 3)

    [table] = measured.tables
    not_asked = {row[0]: float(row[-2].removesuffix(" %")) for row in table.written()}
    assert not_asked[UNLEASED] == not_asked[AGAIN] == not_asked[SHARED_UNLEASED] == not_asked[BY_USER] == 0
    assert not_asked[ONCE] == 100
    assert not_asked[LEASED] > 50  # on a very slow machine leases may have ended meanwhile
    assert {len(values) for values in measured.samples.values()} == {3}
