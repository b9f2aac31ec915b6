"""Checks take every right answer, however it is written, and say of a wrong one what to look at, not what to write."""

import copy
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lab import CHECKOUT
from lab.plugins.bench.harness.payloads import json_bytes, protobuf_bytes
from lab.plugins.bench.suites.decomposition import PARTS
from lab.plugins.capacity.costs import Costs
from lab.plugins.capacity.fleet import Demand
from lab.plugins.workshop import ExerciseResult
from lab.plugins.workshop.checks import (
    RANKING,
    check_bug,
    check_bytes,
    check_canary,
    check_causes,
    check_cheaper,
    check_headroom,
    check_phones_in_germany,
    check_remedies,
    check_who_moves_first,
    check_who_notices,
)
from lab.routing.document import read_path
from lab.topologies import TOPOLOGIES

CELLS = {1: {"weight": 95, "use": "cw-ranker@v1"}, 2: {"weight": 5, "use": "cw-ranker@v2"}}
PHONES_IN_GERMANY = {"device": ["phone"], "country": ["DE"]}


def table(*rules: Mapping[str, Any], at: int = 0) -> dict[str, Any]:
    """The default route table with more rules."""
    document = copy.deepcopy(read_path(CHECKOUT / "routes.yaml").document)
    document["use_cases"][RANKING]["rules"][at:at] = rules
    return document


def split(percent: int, unit: str = "user_id", **more: Any) -> dict[str, Any]:
    weights = {"cw-ranker@v1": 100 - percent, "cw-ranker@v2": percent}
    return {"name": "canary", "split": {"unit": unit, "weights": weights}, **more}


def is_hinted(result: ExerciseResult, *words: str) -> None:
    assert not result.right, result
    assert str(result).startswith("… Not yet."), result
    for word in words:
        assert word in result.words, result


@pytest.mark.parametrize("at", [0, 1, 2])
def test_phones_in_germany_may_stand_anywhere(at: int) -> None:
    assert check_phones_in_germany(table({"name": "x", "when": PHONES_IN_GERMANY, "use": "cw-ranker@v3"}, at=at)).right


@pytest.mark.parametrize(
    ("rule", "hint"),
    [
        ({"name": "x", "when": {"country": ["DE"]}, "use": "cw-ranker@v3"}, "a tv in DE"),
        ({"name": "x", "when": {"device": ["phone"]}, "use": "cw-ranker@v3"}, "a phone in US"),
        ({"name": "x", "when": PHONES_IN_GERMANY, "use": "cw-ranker@v2"}, "another version"),
        ({"name": "x", "when": PHONES_IN_GERMANY, "use": "cw-ranker@v1"}, "another version"),
        ({"name": "x", "when": PHONES_IN_GERMANY, "use": "cw-ranker@v9"}, "not valid"),
        ({"name": "x", "when": {"device": ["phone"], "country": ["Germany"]}, "use": "cw-ranker@v3"}, "No request"),
    ],
)
def test_other_rules_than_phones_in_germany_get_a_hint(rule: Mapping[str, Any], hint: str) -> None:
    is_hinted(check_phones_in_germany(table(rule)), hint)


def test_a_table_as_it_was_gets_a_hint() -> None:
    is_hinted(check_phones_in_germany(table()), "No request")
    is_hinted(check_canary(table()), "split")


def test_only_envoy_notices_a_move() -> None:
    assert check_who_notices({"Envoy"}).right
    is_hinted(check_who_notices(set()), "map")
    is_hinted(check_who_notices({"resolver"}), "map")
    is_hinted(check_who_notices({"envoy", "lease"}), "Fewer")
    is_hinted(check_who_notices({"dns"}), "'dns'")


def test_who_has_moved_survives_the_gateways() -> None:
    dead = {"gateway": ["homepage", "payments", "search"], "mesh": []}
    assert check_who_moves_first(["payments", "homepage"], dead).right
    is_hinted(check_who_moves_first(["homepage", "search"], dead), "payments")
    is_hinted(check_who_moves_first(["homepage", "payments", "search"], dead), "not 3")
    is_hinted(check_who_moves_first(["homepage", "homepage"], dead), "not 1")


def test_causes_are_those_of_the_bench() -> None:
    pairs = {part.name: (part.more, part.less) for part in PARTS if {part.more, part.less} <= set(TOPOLOGIES)}

    assert len(pairs) == 4
    assert check_causes(pairs).right
    assert check_causes({name: pair[::-1] for name, pair in pairs.items()}).right
    is_hinted(check_causes({}), "the pair")
    is_hinted(check_causes({**pairs, "resolve": (None, None)}), "resolve")
    is_hinted(check_causes({**pairs, "resolve": ("gateway", "mesh")}), "resolve", "gateway")
    is_hinted(check_causes({**pairs, "luck": ("gateway", "mesh")}), "luck")


@pytest.mark.parametrize(
    "document",
    [
        table(split(5), at=2),
        table(split(5, when={"not": {"segment": ["kids"]}}), at=2),
        table({"name": "x", "experiment": {"id": 7, "unit": "user_id", "cells": CELLS}}, at=2),
    ],
)
def test_a_canary_may_be_a_split_or_an_experiment(document: Mapping[str, Any]) -> None:
    result = check_canary(document)
    assert result.right, result


@pytest.mark.parametrize(
    ("document", "hint"),
    [
        (table(split(50), at=2), "50"),
        (table(split(5)), "Rules are tried in order"),
        (table(split(5), at=1), "Rules are tried in order"),
        (table(split(5, unit="country"), at=2), "v2"),
    ],
)
def test_other_rules_than_a_canary_get_a_hint(document: Mapping[str, Any], hint: str) -> None:
    is_hinted(check_canary(document), hint)


def run(*, ok: int, misrouted: int, failed: int = 0) -> Any:
    return SimpleNamespace(misrouted=misrouted, summary=SimpleNamespace(ok=ok, failed=failed))


def test_a_bug_is_to_be_found_and_to_be_small() -> None:
    assert check_bug(run(ok=600, misrouted=20)).right
    is_hinted(check_bug(run(ok=600, misrouted=0)), "Every answer was right")
    is_hinted(check_bug(run(ok=600, misrouted=60)), "10.0%")
    is_hinted(check_bug(run(ok=600, misrouted=6, failed=1)), "failed")
    is_hinted(check_bug(run(ok=0, misrouted=0)))


def test_bytes_are_counted_from_the_wire_format() -> None:
    assert check_bytes(json=json_bytes(), protobuf=protobuf_bytes()).right
    is_hinted(check_bytes(json=None, protobuf=None), "JSON")
    is_hinted(check_bytes(json=json_bytes() + 1, protobuf=None), "fewer")
    is_hinted(check_bytes(json=json_bytes(), protobuf=None), "protobuf")
    is_hinted(check_bytes(json=json_bytes(), protobuf=18), "more")


def test_ending_old_connections_is_a_remedy() -> None:
    remedies = {"VIP cuts old connections", "models end old connections", "callers reconnect now and then"}

    assert check_remedies(remedies).right
    is_hinted(check_remedies(set()), "L4")
    is_hinted(check_remedies(remedies - {"VIP cuts old connections"}), "more")
    is_hinted(check_remedies({*remedies, "a weight for the new replica"}), "does not help")


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        ({}, "one only"),
        ({"cross-zone": 0.1, "utilisation": 0.9}, "one only"),
        ({"gigabyte": 0.001}, "Prices"),
        ({"utilisation": 0.99}, "which is larger"),
        ({"cross-zone": 0.5}, "which is larger"),
        ({"cross-zone": 2}, "out of range"),
        ({"luck": 1}, "luck"),
    ],
)
def test_halving_the_cost_needs_a_change_of_its_largest_part(change: Mapping[str, float], hint: str) -> None:
    demand = Demand(rps=1e6, payload_bytes=30_000, callers=30, clusters=2_000, slots=4, service_s=0.02)
    costs = Costs({("gateway", part, 30_000): 0.0005 for part in ("caller", "gateway")}, "a test")

    is_hinted(check_cheaper(demand, costs, change), hint)
    assert check_cheaper(demand, costs, {"cross-zone": 0.1}).right


def test_room_for_a_zone_is_neither_too_much_nor_too_little() -> None:
    assert check_headroom(utilisation=0.6).right
    assert check_headroom(utilisation=0.55).right
    is_hinted(check_headroom(utilisation=0.8), "120%")
    is_hinted(check_headroom(utilisation=0.3), "expensive")
    is_hinted(check_headroom(utilisation=1.0), "below 1")


def test_no_notebook_has_the_solutions() -> None:
    text = "".join(path.read_text() for path in Path(CHECKOUT / "notebooks").glob("*.ipynb"))

    for solution in (
        'check_who_notices({\\"envoy\\"})',
        '(\\"gateway\\", \\"gateway-passthrough\\")',
        "ml-cluster-4-a",
        '\\"cross-zone\\":',
        '[\\"homepage\\", \\"payments\\"]',
    ):
        assert solution not in text
