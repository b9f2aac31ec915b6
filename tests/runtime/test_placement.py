"""Which units would share a node."""

from __future__ import annotations

from pathlib import Path

from lab.roles import Plan, plan
from lab.routing.document import read_path
from lab.runtime.placement import spread
from lab.runtime.process.runtime import ProcessRuntime
from lab.spec import SIZES, read_spec


def planned(folder: Path) -> Plan:
    spec = read_spec(SIZES["default"])
    return plan(spec, read_path(spec.routes), ProcessRuntime(folder, "plaintext").site())


def test_every_unit_is_on_one_node_with_its_pod(tmp_path: Path) -> None:
    layout = planned(tmp_path)

    placed = spread(layout, 3)

    assert sorted(name for units in placed.values() for name in units) == sorted(unit.name for unit in layout.units)
    for units in placed.values():
        for pod in {layout.unit(name).pod for name in units}:
            assert {unit.name for unit in layout.units if unit.pod == pod} <= set(units)


def test_replicas_of_a_group_are_on_different_nodes_and_nodes_are_even(tmp_path: Path) -> None:
    layout = planned(tmp_path)

    placed = spread(layout, 2)

    for cluster in {unit.cluster for unit in layout.units if unit.cluster}:
        of_node = [[name for name in units if layout.unit(name).cluster == cluster] for units in placed.values()]
        assert [len(each) for each in of_node] == [1, 1], cluster
    pods = [len({layout.unit(name).pod for name in units}) for units in placed.values()]
    assert abs(pods[0] - pods[1]) <= 1


def test_one_node_has_everything(tmp_path: Path) -> None:
    layout = planned(tmp_path)

    assert spread(layout, 1) == {"node-1": [unit.name for unit in layout.units]}
