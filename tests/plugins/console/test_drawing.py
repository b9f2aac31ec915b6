from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lab.plugins.console.drawing import Drawing, DrawnUnit, Hops
from tests.checkers.builders import make_record, two_versions

UNITS = [
    DrawnUnit("homepage", "caller", "homepage"),
    DrawnUnit("homepage-resolver", "resolver", "homepage"),
    DrawnUnit("homepage-sidecar", "sidecar", "homepage"),
    DrawnUnit("gateway-1", "gateway", "gateway-1"),
    DrawnUnit("gateway-2", "gateway", "gateway-2"),
    DrawnUnit("a-0", "model", "a-0"),
]
REFUSED = "Rows (rows.v1): failed to connect to all addresses; last error: UNKNOWN: connect failed"
BEHIND = "routing key 'rows.v1': upstream connect error: connection reset"


def drawing(topology: str) -> Drawing:
    return Drawing(topology, ["homepage"], UNITS, two_versions())


@pytest.mark.parametrize(
    ("topology", "changes", "hops"),
    [
        ("mesh", {}, Hops(("homepage>homepage-sidecar", "homepage-sidecar>a"))),
        ("gateway", {}, Hops(("homepage>gateway", "gateway>a"))),
        ("direct", {}, Hops(("homepage>a",))),
        ("mesh", {"cluster": "b"}, Hops(("homepage>homepage-sidecar", "homepage-sidecar>b"), "homepage-sidecar>a")),
        (
            "mesh",
            {"shadow": "rows.v2"},
            Hops(("homepage>homepage-sidecar", "homepage-sidecar>a"), copy="homepage-sidecar>b"),
        ),
        ("proxyless", {"shadow": "rows.v2"}, Hops(("homepage>a",), copy="homepage>b")),
        ("mesh", {"source": "default", "cluster": ""}, Hops(("homepage>homepage-sidecar",))),
    ],
)
def test_an_answered_request_takes_the_path_of_its_topology(topology: str, changes: dict[str, Any], hops: Hops) -> None:
    assert drawing(topology).hops(make_record(**changes)) == hops


@pytest.mark.parametrize(
    ("topology", "changes", "failed_at"),
    [
        ("mesh", {"message": REFUSED, "routing_key": "rows.v1"}, "homepage>homepage-sidecar"),
        (
            "mesh",
            {"message": "routing key 'rows.v1': Connection reset", "routing_key": "rows.v1"},
            "homepage-sidecar>a",
        ),
        ("mesh", {"message": "no resolver answered"}, "homepage>homepage-resolver"),
        ("gateway", {"message": "Rows: Stream removed (Socket closed)"}, "homepage>gateway"),
        ("gateway", {"message": REFUSED, "routing_key": "rows.v1"}, "gateway>a"),
        ("gateway", {"message": "Rows: no such use case", "status": "NOT_FOUND"}, "homepage>gateway"),
    ],
)
def test_a_failure_is_drawn_where_its_message_says(topology: str, changes: dict[str, Any], failed_at: str) -> None:
    record = replace(make_record(status="UNAVAILABLE"), **changes)

    assert drawing(topology).hops(record).taken[-1] == failed_at


def test_a_silent_place_takes_the_blame_once_all_its_units_are_down() -> None:
    late = make_record(status="DEADLINE_EXCEEDED", message="Rows: too late")
    gateway = drawing("gateway")

    assert gateway.hops(late, ["gateway-1", "gateway-2"]).taken == ("homepage>gateway",)
    assert drawing("mesh").hops(late, ["homepage-resolver"]).taken == ("homepage>homepage-resolver",)


def test_the_document_has_a_column_for_each_role_and_an_edge_for_each_way_that_the_table_allows() -> None:
    document = drawing("mesh").to_document()

    assert [[place["name"] for place in column] for column in document["columns"]] == [
        ["homepage", "homepage-resolver"],
        ["homepage-sidecar"],
        ["a", "b"],
    ]
    assert document["edges"] == {
        "homepage>homepage-resolver": "asks",
        "homepage>homepage-sidecar": "payload",
        "homepage-sidecar>a": "payload",
        "homepage-sidecar>b": "payload",
    }
    assert document["columns"][2][0] == {"name": "a", "role": "model", "units": ["a-0"], "versions": ["rows.v1"]}


def test_units_that_callers_share_are_one_place() -> None:
    document = drawing("gateway").to_document()

    assert document["columns"][1] == [{"name": "gateway", "role": "gateway", "units": ["gateway-1", "gateway-2"]}]


def test_units_of_a_saved_run_are_named_by_their_roles() -> None:
    saved = Drawing("mesh", ["homepage"], [], two_versions())

    assert saved.hops(make_record()) == Hops(("homepage>homepage-sidecar", "homepage-sidecar>a"))
