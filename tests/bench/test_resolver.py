from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lab.bench import resolver
from lab.bench.resolver import (
    AGAIN,
    ARMS,
    BY_USER,
    LEASED,
    ONCE,
    REQUESTS,
    SHARED_UNLEASED,
    UNLEASED,
    Slice,
    result,
)
from lab.bench.setting import setting

ASKED = (0.5,) * 100
QUICK = Slice(p50=2.0, cpu=0.0, questions=(), requests=100)
SLOW = Slice(p50=3.0, cpu=400.0, questions=ASKED, requests=100)
GOOD = dict.fromkeys(ARMS, SLOW) | {ONCE: QUICK, LEASED: replace(QUICK, p50=2.1, cpu=10.0, questions=(0.5,))}


def broken(**change: Any) -> list[str]:
    arm = change.pop("arm")
    seen = {each: [taken] * 3 for each, taken in GOOD.items()}
    seen[arm] = [replace(GOOD[arm], **change)] * 3
    return [claim.text for claim in result(seen).claims if not claim.holds]


def test_what_keeps_all_bounds_is_told_with_its_figures() -> None:
    found = result({arm: [taken] * 3 for arm, taken in GOOD.items()})

    assert [claim.text for claim in found.claims if not claim.holds] == []
    [table] = found.tables
    rows = {row[0]: row[1:] for row in table.written()}
    assert rows[ONCE] == ["2.000", "0.000", "0.000 to 0.000", "none", "none", "100.0 %", "0.000"]
    assert rows[LEASED][-2:] == ["99.0 %", "10.000"]
    assert rows[UNLEASED] == ["3.000", "1.000", "1.000 to 1.000", "0.500", "0.500", "0.0 %", "400.000"]


@pytest.mark.parametrize(
    ("change", "claims"),
    [
        ({"arm": LEASED, "p50": 2.9}, ["what leased calls add"]),
        ({"arm": LEASED, "cpu": 300.0}, ["processor time"]),
        ({"arm": LEASED, "questions": ASKED}, ["share of calls"]),
        ({"arm": SHARED_UNLEASED, "p50": 4.0}, ["what unleased calls add, shared"]),
        ({"arm": AGAIN, "p50": 3.5}, ["A/A control"]),
        # What adds nothing over a call decided beforehand has no room for leases to save any.
        ({"arm": UNLEASED, "p50": 2.0}, ["what leased calls add", "what unleased calls add, shared", "A/A control"]),
        ({"arm": UNLEASED, "cpu": 0.0}, ["processor time"]),
    ],
)
def test_each_claim_can_fail(change: dict[str, Any], claims: list[str]) -> None:
    found = broken(**change)
    assert [text[: len(start)] for text, start in zip(found, claims, strict=True)] == claims


@pytest.mark.timeout(120)
def test_the_bench_asks_as_often_as_its_arms_say(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("LAB_HOME", str(tmp_path))
    monkeypatch.setattr(resolver, "REQUESTS", 10)
    assert REQUESTS > 10
    with setting(lambda _: None) as lab:
        found = resolver.run(lab, 3)

    [table] = found.tables
    not_asked = {row[0]: float(row[-2].removesuffix(" %")) for row in table.written()}
    assert not_asked[UNLEASED] == not_asked[AGAIN] == not_asked[SHARED_UNLEASED] == not_asked[BY_USER] == 0
    assert not_asked[LEASED] > 0
    assert {len(values) for values in found.arms.values()} == {3}
    # That of the shared resolver shows that it was the one asked.
    assert found.medians()[f"{SHARED_UNLEASED}, p50, ms"] > 0
