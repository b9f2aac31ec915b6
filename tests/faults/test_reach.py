"""Whom a fault can reach, by the default lab's route table and the topologies."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from lab.faults.reach import callers_reached, reach_in_words
from lab.routing.document import read_path
from lab.runtime.state import LabState
from lab.spec import SIZES, read_spec
from lab.topologies import TOPOLOGIES

SPEC = read_spec(SIZES["default"])
DOCUMENT = read_path(SPEC.routes).document
CALLERS = tuple(SPEC.callers)
UNITS = (
    ("homepage", "caller", "homepage", ""),
    ("homepage-sidecar", "sidecar", "homepage", ""),
    ("homepage-resolver", "resolver", "homepage", ""),
    ("search-sidecar", "sidecar", "search", ""),
    ("gateway-1", "gateway", "gateway-1", ""),
    ("control-plane", "control-plane", "control-plane", ""),
    ("ml-cluster-1-a", "model", "ml-cluster-1-a", "ml-cluster-1"),
    ("ml-cluster-6-b", "model", "ml-cluster-6-b", "ml-cluster-6"),
)


def lab_of(*topologies: str) -> LabState:
    units = [SimpleNamespace(**dict(zip(("name", "role", "pod", "cluster"), each, strict=True))) for each in UNITS]
    plan: Any = SimpleNamespace(units=units, callers=dict.fromkeys(CALLERS))
    return cast("LabState", SimpleNamespace(topologies=topologies, plan=plan))


@pytest.mark.parametrize(
    ("units", "reached"),
    [
        (["ml-cluster-1-a"], ("homepage", "recommendations")),
        (["ml-cluster-6-b"], ("payments",)),
        (["ml-cluster-1-a", "ml-cluster-6-b"], ("homepage", "payments", "recommendations")),
        (["homepage-sidecar"], ("homepage",)),
        (["homepage-resolver"], ("homepage",)),
        (["homepage"], ("homepage",)),
        (["gateway-1"], CALLERS),
        (["control-plane"], ()),
        (["gone"], ()),
    ],
)
def test_it_names_the_callers_that_the_table_or_the_topologies_lead_there(
    units: list[str], reached: tuple[str, ...]
) -> None:
    found = callers_reached(lab_of("gateway", "mesh"), DOCUMENT, units)
    assert sorted(found) == sorted(reached)
    assert list(found) == [caller for caller in CALLERS if caller in found]


def test_a_unit_off_every_path_of_the_lab_reaches_nobody() -> None:
    assert "gateway" not in TOPOLOGIES["mesh"].roles
    assert callers_reached(lab_of("mesh"), DOCUMENT, ["gateway-1"]) == ()


def test_it_is_a_sentence() -> None:
    assert reach_in_words(("a", "b"), 5) == "reaches requests of 2 of 5 callers: a, b"
    assert reach_in_words((), 5) == "reaches no caller's requests"
