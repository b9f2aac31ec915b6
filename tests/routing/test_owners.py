"""A change keeps to what its publisher owns, or is refused field by field."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from lab.errors import NotOwnedError
from lab.routing.document import RouteTable
from lab.routing.owners import SECTIONS, changes, require_owned
from lab.routing.schema import Table

TABLE: dict[str, Any] = {
    "use_cases": {
        "Mine": {"callers": ["homepage"], "api": "ranking.v1", "default": "m@v1", "owner": "ads"},
        "Theirs": {"callers": ["homepage"], "api": "ranking.v1", "default": "t@v1", "owner": "kids"},
        "Nobodys": {"callers": ["homepage"], "api": "ranking.v1", "default": "t@v1"},
    },
    "models": {
        "m": {"versions": {"v1": {"cluster": "c"}}, "owner": "ads"},
        "t": {"versions": {"v1": {"cluster": "c"}}, "owner": "kids"},
    },
    "clusters": {"c": {"replicas": 2, "owner": "platform"}},
    "tenants": {"default": {"rate": 10}},
}


def changed(*edits: tuple[str, Any]) -> RouteTable:
    """The table with other values at these paths; None removes."""
    document = deepcopy(TABLE)
    for path, value in edits:
        *above, last = path.split(".")
        at = document
        for each in above:
            at = at[each]
        if value is None:
            del at[last]
        else:
            at[last] = value
    return RouteTable.from_document(document)


BEFORE = changed()
NEW = {"callers": ["homepage"], "api": "ranking.v1", "default": "m@v1"}


@pytest.mark.parametrize(
    "edits",
    [
        [("use_cases.Mine.timeout", "2s")],
        [("use_cases.Mine.callers", ["search"]), ("models.m.versions.v2", {"cluster": "c"})],
        [("use_cases.Mine", None)],
        [("use_cases.Another", {**NEW, "owner": "ads"})],
        [],
    ],
)
def test_an_owner_changes_what_is_theirs(edits: list[tuple[str, Any]]) -> None:
    require_owned("ads", BEFORE, changed(*edits))


@pytest.mark.parametrize(
    ("edits", "problem"),
    [
        ([("use_cases.Theirs.timeout", "2s")], "use_cases.Theirs.timeout: owned by kids, not by ads"),
        (
            [("use_cases.Theirs.timeout", "2s"), ("use_cases.Theirs.callers", ["search"])],
            "use_cases.Theirs.callers: owned by kids, not by ads; use_cases.Theirs.timeout: owned by kids, not by ads",
        ),
        ([("use_cases.Theirs", None)], "use_cases.Theirs: owned by kids, not by ads"),
        ([("use_cases.Theirs.owner", "ads")], "use_cases.Theirs.owner: owned by kids, not by ads"),
        ([("use_cases.Nobodys.timeout", "2s")], "use_cases.Nobodys.timeout: nobody owns it, so only the operator"),
        ([("use_cases.Nobodys.owner", "ads")], "use_cases.Nobodys.owner: nobody owns it, so only the operator"),
        ([("use_cases.Mine.owner", "kids")], "use_cases.Mine.owner: only the operator may give it to kids"),
        ([("use_cases.Mine.owner", None)], "use_cases.Mine.owner: only the operator may give it to nobody"),
        ([("use_cases.Another", NEW)], "use_cases.Another.owner: a new entry must be your own; write owner: ads"),
        ([("models.t.versions.v1.config", {"k": 1})], "models.t.versions: owned by kids, not by ads"),
        ([("clusters.c.replicas", 3)], "clusters.c.replicas: owned by platform, not by ads"),
        ([("tenants.default.rate", 20)], "tenants: only the operator may change it"),
        ([("tenants", None)], "tenants: only the operator may change it"),
        # One own change hides no other's.
        ([("use_cases.Mine.timeout", "2s"), ("clusters.c.replicas", 3)], "clusters.c.replicas: owned by platform"),
    ],
)
def test_all_else_is_refused_field_by_field(edits: list[tuple[str, Any]], problem: str) -> None:
    with pytest.raises(NotOwnedError) as refused:
        require_owned("ads", BEFORE, changed(*edits))
    assert str(refused.value).startswith(problem)


def test_a_refusal_of_many_fields_is_short() -> None:
    document = deepcopy(TABLE)
    document["use_cases"] = {f"U{number}": {**NEW, "owner": "kids"} for number in range(30)}
    before = RouteTable.from_document(document)
    for each in document["use_cases"].values():
        each["timeout"] = "3s"
    with pytest.raises(NotOwnedError, match=r"and 20 more$"):
        require_owned("ads", before, RouteTable.from_document(document))


def test_a_change_names_its_owner() -> None:
    after = changed(("use_cases.Theirs.timeout", "2s"), ("use_cases.Mine", None), ("tenants.default.rate", 5))
    assert [(each.entry, each.owner) for each in changes(BEFORE, after)] == [
        ("use_cases.Mine", "ads"),
        ("use_cases.Theirs", "kids"),
        ("tenants", ""),
    ]


def test_every_section_has_owners_or_is_the_operators() -> None:
    """A section that is added to route tables is refused to owners until it is listed."""
    assert {*SECTIONS} <= Table.model_fields.keys()
    for name in Table.model_fields.keys() - {*SECTIONS, "tenants"}:
        pytest.fail(f"{name}: may owners change it?")
